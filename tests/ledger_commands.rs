//! `ledger show|forget`: what became of a webhook, while the bridge runs and without it.

mod support;

use std::time::Duration;

use support::brokers::{Broker, Kind};
use support::program::Program;
use support::sender::{answer, body, client, post, request};
use support::site::Site;
use support::wait::until;

const SOON: Duration = Duration::from_secs(60);
const FILES: &str = "destinations: {files: {url: 'file:DIR/events'}}";

#[tokio::test(flavor = "multi_thread")]
async fn state_and_targets_of_an_id_are_shown() {
    let routes = "routes: [{match: 'file.upload.**', to: []}, {match: '**', to: [files]}]";
    let site = Site::new(&format!("{FILES}\n{routes}"));
    let mut program = site.serve();
    let url = program.url("videogen");
    assert_eq!(post(&url, "good", &body("file.playback_ready", "f")).await.word(), "200 accepted");
    assert_eq!(post(&url, "none", &body("file.upload.failed", "f")).await.word(), "200 ignored");
    assert_eq!(post(&url, "bad", "not json").await.word(), "200 dead-lettered");
    let check = |program: Option<&Program>| {
        for (id, state) in [("good", "delivered"), ("none", "ignored"), ("bad", "dead-lettered")] {
            let shown = site.json(program, &["ledger", "show", id]);
            assert_eq!((&shown["state"], &shown["webhook_id"]), (&state.into(), &id.into()), "{shown}");
            assert!(shown["body_hash"].is_string(), "{shown}");
            assert!(shown.get("changed").is_none(), "the store does not know the wall time: {shown}");
            let dead = &shown["targets"][0];
            assert!(id != "bad" || (dead["reason"] == "not_json" && dead["dead_letter"].is_u64()), "{shown}");
        }
        let (code, out, err) = site.command(program, &["ledger", "show", "bad"]);
        assert!(
            code == 0 && out.contains("dead-lettered") && out.contains("dead: not_json, dead letter"),
            "{out}{err}"
        );
        for unknown in [&["show", "never"][..], &["show", "bad", "--source", "stage"], &["forget", "never"]] {
            let (code, _, err) = site.command(program, &[&["ledger"], unknown].concat());
            assert!(code == 1 && err.contains("nothing is known of this id"), "{unknown:?}: {err}");
        }
    };
    check(Some(&program));
    assert!(program.term().success());
    check(None);
}

/// The sender's manual resend of an id is published again once the id was forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn forgotten_ids_are_published_again() {
    let site = Site::new(FILES);
    let mut program = site.serve();
    let event = body("file.playback_ready", "f");
    assert_eq!(post(&program.url("videogen"), "a", &event).await.word(), "200 accepted");
    assert_eq!(post(&program.url("videogen"), "bad", "not json").await.word(), "200 dead-lettered");
    assert_eq!(program.metric("hookbridge_ledger_ids").await, 2.0);
    let (code, out, err) = site.command(Some(&program), &["ledger", "forget", "a"]);
    assert!(code == 0 && out.contains("a forgotten"), "{out}{err}");
    program.logged("id forgotten");
    assert_eq!(program.metric("hookbridge_ledger_ids").await, 1.0);
    assert_eq!(post(&program.url("videogen"), "a", &event).await.word(), "200 accepted");
    assert_eq!(post(&program.url("videogen"), "a", &event).await.word(), "200 duplicate");
    let (code, out, err) = site.command(Some(&program), &["ledger", "forget", "bad"]);
    assert!(code == 0 && out.contains("its dead letters stay (1)"), "{out}{err}");
    assert_eq!(site.json(Some(&program), &["ledger", "show", "bad"])["state"], "forgotten");
    program.kill();
    let (code, out, err) = site.command(None, &["ledger", "forget", "a"]);
    assert!(code == 0 && out.contains("a forgotten"), "{out}{err}");
    let program = site.serve();
    assert_eq!(post(&program.url("videogen"), "a", &event).await.word(), "200 accepted");
    assert_eq!(site.ids("events", "file.playback_ready"), ["a", "a", "a"]);
}

/// Forgetting an id that a task publishes would let a second copy through.
#[tokio::test(flavor = "multi_thread")]
async fn ids_in_flight_are_not_forgotten() {
    let nats = Broker::start(Kind::Nats);
    let site = Site::new(&format!("destinations: {{stream: {{url: '{}'}}}}", nats.url()));
    let program = site.serve();
    program.ready().await;
    let event = body("file.playback_ready", "f");
    assert_eq!(post(&program.url("videogen"), "warm", &event).await.word(), "200 accepted");
    nats.pause();
    let waiting = tokio::spawn({
        let (url, event) = (program.url("videogen"), event.clone());
        async move { answer(request(&client(), &url, "a", event.as_bytes())).await.expect("an answer").word() }
    });
    until("in flight", SOON, async || {
        let shown = site.command(Some(&program), &["ledger", "show", "a"]);
        shown.1.contains("in-flight").then_some(())
    })
    .await;
    let (code, _, err) = site.command(Some(&program), &["ledger", "forget", "a"]);
    assert!(code == 1 && err.contains("cannot be forgotten"), "{err}");
    nats.resume();
    let word = waiting.await.expect("no panic");
    assert!(word == "200 accepted" || word.starts_with("503"), "{word}");
    until("delivered", SOON, async || {
        let word = post(&program.url("videogen"), "a", &event).await.word();
        (word == "200 duplicate" || word == "200 accepted").then_some(())
    })
    .await;
    assert_eq!(site.json(Some(&program), &["ledger", "show", "a"])["state"], "delivered");
}

/// An event that waits in the spool would be published beside its resend.
#[tokio::test(flavor = "multi_thread")]
async fn events_in_the_spool_are_shown_and_not_forgotten() {
    let two = "destinations: {files: {url: 'file:DIR/events'}, d: {url: 'nats://127.0.0.1:1'}}\nroutes: [{match: '**', to: [files, d]}]";
    let site = Site::new(&format!("{two}\nack: stored"));
    let mut program = site.serve_with(&["--ephemeral"]);
    assert_eq!(post(&program.url("videogen"), "a", &body("file.playback_ready", "f")).await.word(), "200 accepted");
    until("one is published", SOON, async || {
        let shown = site.json(Some(&program), &["ledger", "show", "a"]);
        (shown["targets"] == serde_json::json!([{"target": "d/file.playback_ready", "state": "waiting"}])).then_some(())
    })
    .await;
    assert_eq!(site.json(Some(&program), &["ledger", "show", "a"])["state"], "stored");
    let (code, _, err) = site.command(Some(&program), &["ledger", "forget", "a"]);
    assert!(code == 1 && err.contains("waits in the spool"), "{err}");
    program.kill();
    let (code, _, err) = site.command(None, &["ledger", "forget", "a"]);
    assert!(code == 1 && err.contains("waits in the spool"), "{err}");
}

/// The sender's manual resend, and a replay of the dead letter from before: the event is published once.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_was_sent_again_leaves_no_dead_letter() {
    for ack in ["published", "stored"] {
        let route =
            |to: &str| format!("{FILES}\nack: {ack}\nunrouted: dead-letter\nroutes: [{{match: '{to}', to: [files]}}]");
        let site = Site::new(&route("workflow_run.**"));
        let mut program = site.serve_with(&["--ephemeral"]);
        let event = body("file.playback_ready", "f");
        assert_eq!(post(&program.url("videogen"), "a", &event).await.word(), "200 dead-lettered");
        assert!(program.term().success());
        site.configure(&route("**"));
        let program = site.serve_with(&["--ephemeral"]);
        let (code, out, err) = site.command(Some(&program), &["ledger", "forget", "a"]);
        assert_eq!(code, 0, "{out}{err}");
        assert_eq!(post(&program.url("videogen"), "a", &event).await.word(), "200 accepted");
        let (code, out, err) = site.command(Some(&program), &["dead-letters", "replay", "--all"]);
        assert!(code == 0 && out.contains("no dead letter matches"), "{ack}: {out}{err}");
        let published = async || (site.ids("events", "file.playback_ready") == ["a"]).then_some(());
        until("it is published", SOON, published).await;
        assert_eq!(program.metric("hookbridge_dead_letters_bytes").await, 0.0);
    }
}

const OPTIONAL: &str = "routes: [{match: '**', to: [files, {destination: second, required: false}]}]";

fn with_second(url: &str) -> String {
    FILES.replace("}}", &format!("}}, second: {{url: '{url}'}}}}"))
}

/// A delivery of `a` whose event `second` has missed, as it was down: its dead letter is kept, and its id forgotten.
async fn missed_and_forgotten() -> Site {
    let site = Site::new(&format!("{}\n{OPTIONAL}", with_second("nats://127.0.0.1:1")));
    let mut program = site.serve_with(&["--ephemeral"]);
    let answer = post(&program.url("videogen"), "a", &body("file.playback_ready", "f")).await;
    assert_eq!(answer.word(), "200 dead-lettered");
    let (code, _, err) = site.command(Some(&program), &["ledger", "forget", "a"]);
    assert_eq!(code, 0, "{err}");
    assert!(program.term().success());
    site
}

/// An unknown event has no topic on `files`, and `stream` is down. The ledger forgets the id while the delivery is open, as
/// after `dedup.window`: a replay of the dead letter must not end it.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_a_forgotten_id_leaves_other_targets_to_the_resend() {
    let both = |stream: &str, unrouted: &str| {
        format!(
            "destinations: {{files: {{url: 'file:DIR/events'}}, stream: {{url: '{stream}'}}}}\nunrouted: {unrouted}\n\
             routes: [{{match: '**', to: [files, {{destination: stream, topic: all}}]}}]"
        )
    };
    let site = Site::new(&both("nats://127.0.0.1:1", "dead-letter"));
    let mut program = site.serve_with(&["--ephemeral"]);
    let event = body("unheard.of", "f");
    let word = post(&program.url("videogen"), "a", &event).await.word();
    assert!(word.starts_with("503"), "{word}");
    assert_eq!(site.json(Some(&program), &["ledger", "show", "a"])["state"], "open");
    let (code, out, err) = site.command(Some(&program), &["ledger", "forget", "a"]);
    assert!(code == 0 && out.contains("its dead letters stay (1)"), "{out}{err}");
    assert!(program.term().success());
    site.configure(&both("file:DIR/stream", "rest"));
    let program = site.serve_with(&["--ephemeral"]);
    let (code, out, err) = site.command(Some(&program), &["dead-letters", "replay", "--all"]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(post(&program.url("videogen"), "a", &event).await.word(), "200 accepted");
    assert_eq!(site.ids("stream", "all"), ["a"], "no broker had it");
    assert_eq!(site.ids("events", "rest"), ["a"], "the replay is remembered");
    assert_eq!(site.json(Some(&program), &["ledger", "show", "a"])["state"], "delivered");
}

/// The same where no route takes the event any more: the resend has a dead letter of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_a_forgotten_id_leaves_an_unrouted_resend_its_dead_letter() {
    let (site, event) = (missed_and_forgotten().await, body("file.playback_ready", "f"));
    let routes = "unrouted: dead-letter\nroutes: [{match: 'workflow_run.**', to: [files]}]";
    site.configure(&format!("{}\n{routes}", with_second("file:DIR/second")));
    let program = site.serve_with(&["--ephemeral"]);
    let (code, out, err) = site.command(Some(&program), &["dead-letters", "replay", "--all"]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(site.ids("second", "file.playback_ready"), ["a"]);
    assert_eq!(post(&program.url("videogen"), "a", &event).await.word(), "200 dead-lettered");
    let letters = site.json(Some(&program), &["dead-letters", "list"]);
    assert_eq!(letters[0]["reason"], "unrouted", "{letters}");
}

/// An unknown event has one topic on `files`, and is dead for another.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_without_a_topic_repeats_no_other_topic_of_its_destination() {
    let routes = "unrouted: dead-letter\nroutes: [{match: '**', to: [files, {destination: files, topic: all}]}]";
    let site = Site::new(&format!("{FILES}\n{routes}"));
    let program = site.serve();
    assert_eq!(post(&program.url("videogen"), "a", &body("unheard.of", "f")).await.word(), "200 dead-lettered");
    let (code, out, err) = site.command(Some(&program), &["dead-letters", "replay", "--all"]);
    assert_eq!(code, 1, "it still has no topic: {out}{err}");
    assert_eq!(site.ids("events", "all"), ["a"]);
    let letters = site.json(Some(&program), &["dead-letters", "list"]);
    assert_eq!(letters.as_array().map(Vec::len), Some(1), "{letters}");
}

/// A dead letter for a target that a resend was not routed to any more: the delivery has ended without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivered_event_is_not_replayed() {
    let (site, event) = (missed_and_forgotten().await, body("file.playback_ready", "f"));
    site.configure(&format!("{}\nroutes: [{{match: '**', to: [files]}}]", with_second("file:DIR/second")));
    let program = site.serve_with(&["--ephemeral"]);
    assert_eq!(post(&program.url("videogen"), "a", &event).await.word(), "200 accepted");
    let (code, out, err) = site.command(Some(&program), &["dead-letters", "replay", "--all"]);
    assert!(code == 1 && (out.clone() + &err).contains("was delivered"), "{out}{err}");
    assert!(site.ids("second", "file.playback_ready").is_empty());
    let (code, _, err) = site.command(Some(&program), &["ledger", "forget", "a"]);
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = site.command(Some(&program), &["dead-letters", "replay", "--all"]);
    assert_eq!(code, 0, "the operator wants it: {out}{err}");
    assert_eq!(site.ids("second", "file.playback_ready"), ["a"]);
}
