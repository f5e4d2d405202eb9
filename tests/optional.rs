//! Optional targets (`required: false`): their outage reaches no sender, and what they missed is a dead letter, which a replay
//! publishes once. A new broker is one line at the end.

#[path = "destinations/mod.rs"]
mod suite;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use suite::Subject;
use suite::place::Place;
use support::brokers::{Broker, Kind};
use support::program::{Program, SECRET};
use support::sender::{answer, body, client, deliver, post, request};
use support::site::Site;
use support::wait::until;
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(120);
const TOPIC: &str = "file.playback_ready";
/// A request is answered within 10 s. VideoGen gives up after 15 s.
const IN_TIME: Duration = Duration::from_secs(11);

/// A required directory, and a broker that is optional.
fn site<S: Subject>(place: &Place<S>, more: &str) -> Site {
    Site::new(&format!(
        "destinations: {{files: {{url: 'file:DIR/events'}}, broker: {{url: '{}'}}}}\n\
         routes: [{{match: '**', to: [files, {{destination: broker, required: false}}]}}]\n{more}",
        place.url()
    ))
}

/// Sends `count` deliveries of each of 8 senders. Every answer is 200 and in time; returns the words, and the slowest answer.
async fn send(program: &Program, tag: &str, count: usize) -> (BTreeMap<String, String>, Duration) {
    let senders = (0..8).map(|sender| {
        let (url, tag) = (program.url("videogen"), tag.to_owned());
        tokio::spawn(async move {
            let (client, mut answers) = (client(), Vec::new());
            for number in 0..count {
                let (id, started) = (format!("{tag}_{sender}_{number}"), Instant::now());
                let body = body(TOPIC, &format!("f{sender}"));
                let answer = answer(request(&client, &url, &id, body.as_bytes())).await.expect("an answer");
                answers.push((id, answer.word(), started.elapsed()));
            }
            answers
        })
    });
    let (mut words, mut slowest) = (BTreeMap::new(), Duration::ZERO);
    for sender in senders.collect::<Vec<_>>() {
        for (id, word, took) in sender.await.expect("no panic") {
            assert!(word == "200 accepted" || word == "200 dead-lettered", "{id}: {word}");
            slowest = slowest.max(took);
            words.insert(id, word);
        }
    }
    println!("{tag}: {} deliveries, the slowest answer took {slowest:?}", words.len());
    assert!(slowest < IN_TIME, "{slowest:?}");
    (words, slowest)
}

fn letters(site: &Site, program: &Program) -> BTreeSet<String> {
    let all = site.json(Some(program), &["dead-letters", "list", "--limit", "1000"]);
    all.as_array().expect("a list").iter().map(|it| it["webhook_id"].as_str().expect("an id").to_owned()).collect()
}

/// Replays until nothing is dead: a publish may still be in flight, and a broker that was started not be reached yet.
async fn replay_all(site: &Site, program: &Program) {
    until("all replayed", SOON, async || {
        site.command(Some(program), &["dead-letters", "replay", "--all"]);
        letters(site, program).is_empty().then_some(())
    })
    .await;
}

/// Publishes one event. On a slow machine, its confirm may come after the answer.
async fn warm(site: &Site, program: &Program) {
    assert_eq!(post(&program.url("videogen"), "warm", &body(TOPIC, "f")).await.status, 200);
    until("confirmed", SOON, async || letters(site, program).is_empty().then_some(())).await;
}

async fn in_flight_or_unknown(program: &Program) -> usize {
    let (_, page) = program.get("/metrics").await;
    let counts = |line: &&str| {
        line.starts_with("hookbridge_publishes_in_flight{destination=\"broker\"")
            || (line.starts_with("hookbridge_publishes_total{destination=\"broker\"") && line.contains("\"unknown\""))
    };
    page.lines().filter(counts).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as usize
}

/// Every id is in both targets; once, except for the copies of publishes that were in doubt.
async fn check<S: Subject>(site: &Site, place: &Place<S>, ids: impl Iterator<Item = &String>, doubtful: usize) {
    let (counts, files) = (place.counts(TOPIC).await, site.ids("events", TOPIC));
    let mut doubled = 0;
    let mut sent = 0;
    for id in ids {
        sent += 1;
        doubled += counts.get(id).unwrap_or_else(|| panic!("{id} is lost")) - 1;
    }
    assert_eq!((files.len(), files.iter().collect::<BTreeSet<_>>().len()), (sent, sent), "the required target");
    let allowed = if S::DIFFERENCES.dedups { 0 } else { doubtful };
    assert!(doubled <= allowed, "{doubled} copies, {doubtful} publishes were in doubt");
}

async fn an_outage_reaches_no_sender<S: Subject>(place: Place<S>) {
    let site = site(&place, "");
    let mut program = site.serve();
    program.ready().await;
    warm(&site, &program).await;
    // The broker is killed under load.
    let killing = async {
        until("under load", SOON, async || {
            let mut answered = 0.0;
            for outcome in ["accepted", "dead-lettered"] {
                let metric = format!("hookbridge_deliveries_total{{source=\"videogen\",outcome=\"{outcome}\"}}");
                answered += program.metric(&metric).await;
            }
            (answered >= 100.0).then_some(())
        })
        .await;
        place.subject.kill().await;
    };
    let ((mut words, _), ()) = tokio::join!(send(&program, "killed", 60), killing);
    words.extend(send(&program, "down", 10).await.0);
    assert!(words.iter().filter(|(id, _)| id.starts_with("down")).all(|(_, word)| word == "200 dead-lettered"));
    let (_, page) = program.get("/readyz").await;
    assert!(page.contains("\"status\":\"ready\"") && page.contains("\"optional\":true"), "{page}");
    let kept = letters(&site, &program);
    // A late confirm has withdrawn others.
    assert!(words.keys().filter(|id| id.starts_with("down")).all(|id| kept.contains(id)), "{kept:?}");
    let doubtful = in_flight_or_unknown(&program).await;
    // What was answered 200 outlives the process, and is not published again.
    program.kill();
    let program = site.serve();
    program.ready().await;
    assert_eq!(letters(&site, &program), kept);
    for id in ["down_0_0", "down_7_9", "killed_0_0"] {
        assert_eq!(post(&program.url("videogen"), id, &body(TOPIC, "f0")).await.word(), "200 duplicate");
    }
    words.extend(send(&program, "restarted", 3).await.0);
    place.subject.start_again().await;
    let in_broker: BTreeSet<String> = place.counts(TOPIC).await.into_keys().collect();
    let kept = letters(&site, &program);
    let lost: Vec<&String> = words.keys().filter(|id| !in_broker.contains(*id) && !kept.contains(*id)).collect();
    assert!(lost.is_empty(), "neither published nor a dead letter: {lost:?}");
    replay_all(&site, &program).await;
    assert_eq!(post(&program.url("videogen"), "down_0_0", &body(TOPIC, "f0")).await.word(), "200 duplicate");
    words.insert("warm".into(), String::new());
    check(&site, &place, words.keys(), doubtful + in_flight_or_unknown(&program).await).await;
}

async fn a_frozen_broker_delays_answers_briefly<S: Subject>(place: Place<S>) {
    let site = site(&place, "");
    let program = site.serve();
    program.ready().await;
    let url = program.url("videogen");
    warm(&site, &program).await;
    place.subject.pause().await;
    // Its confirm comes late: then it is dead no more.
    let started = Instant::now();
    assert_eq!(post(&url, "late", &body(TOPIC, "f")).await.word(), "200 dead-lettered");
    assert!(started.elapsed() >= Duration::from_secs(2), "answered without waiting for the confirm");
    assert_eq!(letters(&site, &program), BTreeSet::from(["late".to_owned()]));
    assert_eq!(post(&url, "late", &body(TOPIC, "f")).await.word(), "200 duplicate");
    let (code, out, err) = site.command(Some(&program), &["dead-letters", "replay", "--all"]);
    assert!(code == 1 && out.contains("in flight"), "its first publish may still be confirmed: {out}{err}");
    place.subject.resume().await;
    until("confirmed after all", SOON, async || {
        (letters(&site, &program).is_empty() || in_flight_or_unknown(&program).await > 0).then_some(())
    })
    .await;
    if letters(&site, &program).is_empty() {
        assert_eq!(site.json(Some(&program), &["ledger", "show", "late"])["state"], "resolved");
    }
    // Under load, and for longer than the bridge waits for a silent topic.
    place.subject.pause().await;
    let (mut words, _) = send(&program, "frozen", 10).await;
    assert!(words.values().all(|word| word == "200 dead-lettered"), "{words:?}");
    let kept = letters(&site, &program);
    assert!(words.keys().all(|id| kept.contains(id)), "{kept:?}");
    place.subject.resume().await;
    replay_all(&site, &program).await;
    words.insert("warm".into(), String::new());
    words.insert("late".into(), String::new());
    check(&site, &place, words.keys(), in_flight_or_unknown(&program).await).await;
}

/// `--ack stored`: what is optional waits in its lane like the rest.
async fn with_ack_stored_it_waits<S: Subject>(place: Place<S>) {
    let site = site(&place, "ack: stored");
    let program = site.serve_with(&["--ephemeral"]);
    program.ready().await;
    deliver(&client(), &program.url("videogen"), "warm", &body(TOPIC, "f0")).await;
    let waiting = "hookbridge_spool_events{destination=\"broker\"}";
    until("drained", SOON, async || (program.metric(waiting).await == 0.0).then_some(())).await;
    place.subject.kill().await;
    let (mut words, _) = send(&program, "stored", 5).await;
    assert!(words.values().all(|word| word == "200 accepted"), "{words:?}");
    until("published", SOON, async || (site.ids("events", TOPIC).len() == 41).then_some(())).await;
    assert_eq!(program.metric(waiting).await, 40.0);
    place.subject.start_again().await;
    until("drained", SOON, async || (program.metric(waiting).await == 0.0).then_some(())).await;
    assert!(letters(&site, &program).is_empty());
    words.insert("warm".into(), String::new());
    check(&site, &place, words.keys(), in_flight_or_unknown(&program).await).await;
}

suite::place::whole_program! {
    { an_outage_reaches_no_sender a_frozen_broker_delays_answers_briefly with_ack_stored_it_waits };
    nats: suite::nats::Nats;
    kafka: suite::kafka::Kafka;
    rabbitmq: suite::rabbitmq::Rabbitmq;
}

/// Nobody listens there.
const DOWN: &str = "nats://127.0.0.1:1";

fn reasons(site: &Site, program: &Program) -> Vec<(String, String)> {
    let text = |it: &Value| it.as_str().expect("a text").to_owned();
    let all = site.json(Some(program), &["dead-letters", "list", "--limit", "1000"]);
    all.as_array().expect("a list").iter().map(|it| (text(&it["targets"][0]), text(&it["reason"]))).collect()
}

/// A delivery that is answered 503 has no dead letter: its retry publishes to the optional target too.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_dead_before_every_required_target_has_confirmed() {
    let site = Site::new(&format!(
        "destinations: {{files: {{url: 'file:DIR/events'}}, second: {{url: 'file:DIR/second'}}, down: {{url: '{DOWN}'}}}}\n\
         routes: [{{match: '**', to: [files, {{destination: second, required: false}}, {{destination: down, required: false}}]}}]"
    ));
    let blocked = |directory: &str| site.path().join(directory).join(format!("{TOPIC}.ndjson"));
    std::fs::create_dir_all(blocked("events")).expect("created");
    std::fs::create_dir_all(blocked("second")).expect("created");
    let program = site.serve();
    program.ready().await;
    let (url, event) = (program.url("videogen"), body(TOPIC, "f"));
    assert_eq!(post(&url, "a", &event).await.status, 503);
    assert_eq!(reasons(&site, &program), []);
    std::fs::remove_dir(blocked("second")).expect("removed");
    std::fs::remove_dir(blocked("events")).expect("removed");
    until("200", SOON, async || (post(&url, "a", &event).await.word() == "200 dead-lettered").then_some(())).await;
    let of_down = (format!("down/{TOPIC}"), "unreachable".to_owned());
    until("only that one", SOON, async || (reasons(&site, &program) == [of_down.clone()]).then_some(())).await;
    assert_eq!((site.ids("events", TOPIC), site.ids("second", TOPIC)), (vec!["a".into()], vec!["a".into()]));
    assert_eq!(post(&url, "a", &event).await.word(), "200 duplicate");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_target_optional_and_down_each_has_a_dead_letter() {
    let site = Site::new(&format!(
        "destinations: {{one: {{url: '{DOWN}'}}, two: {{url: 'kafka://127.0.0.1:1'}}}}\n\
         routes: [{{match: '**', to: [{{destination: one, required: false}}, {{destination: two, required: false}}]}}]"
    ));
    let (code, _, err) = site.command(None, &["check", "--secret", SECRET]);
    assert!(code == 0 && err.contains("every target of this route is optional"), "{err}");
    let program = site.serve();
    program.ready().await;
    assert_eq!(post(&program.url("videogen"), "a", &body(TOPIC, "f")).await.word(), "200 dead-lettered");
    let expected = ["one", "two"].map(|name| (format!("{name}/{TOPIC}"), "unreachable".to_owned()));
    let mut kept = reasons(&site, &program);
    kept.sort();
    assert_eq!(kept, expected);
    // Each says why its own target did not take it.
    let all = site.json(Some(&program), &["dead-letters", "list", "--limit", "1000"]);
    assert_ne!(all[0]["detail"], all[1]["detail"], "{all}");
}

/// Nothing is dropped silently.
#[tokio::test(flavor = "multi_thread")]
async fn where_no_dead_letter_can_be_kept_the_answer_is_503() {
    let two = |more: &str| {
        format!(
            "destinations: {{files: {{url: 'file:DIR/events'}}, down: {{url: '{DOWN}'}}}}\n\
             routes: [{{match: '**', to: [files, {{destination: down, required: false}}]}}]\n{more}"
        )
    };
    let event = body(TOPIC, "f");
    let site = Site::new(&two("store: memory"));
    let (code, _, err) = site.command(None, &["check", "--secret", SECRET]);
    assert!(code == 0 && err.contains("keeps no dead letters"), "{err}");
    let mut program = site.serve();
    program.ready().await;
    assert_eq!(post(&program.url("videogen"), "a", &event).await.word(), "503 no_dead_letters");
    program.kill();
    site.configure(&two("store: memory\ndead_letters: {to: files}"));
    let mut program = site.serve();
    program.ready().await;
    assert_eq!(post(&program.url("videogen"), "b", &event).await.word(), "200 dead-lettered");
    assert_eq!(site.ids("events", "dead-letters"), [format!("b:down/{TOPIC}")]);
    program.kill();

    site.configure(&two("dead_letters: {max_bytes: 1MiB}"));
    let program = site.serve();
    program.ready().await;
    let (url, large) = (program.url("videogen"), format!("{event}{}", " ".repeat(600 << 10)));
    assert_eq!(post(&url, "c", &large).await.word(), "200 dead-lettered");
    assert_eq!(post(&url, "d", &large).await.word(), "503 dead_letters_full");
    assert_eq!(site.command(Some(&program), &["dead-letters", "discard", "--all", "--yes"]).0, 0);
    assert_eq!(post(&url, "d", &large).await.word(), "200 dead-lettered");
    assert_eq!(site.ids("events", TOPIC), ["a", "b", "c", "d"], "the required target has each once");
}

/// A key with events in the spool goes behind them; the required target does not wait for that.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_an_optional_target_in_the_spool_delay_no_required_one() {
    let nats = Broker::start(Kind::Nats);
    let configuration = |more: &str| {
        format!(
            "destinations: {{files: {{url: 'file:DIR/events'}}, stream: {{url: '{}'}}}}\n\
             routes: [{{match: '**', to: [files, {{destination: stream, required: false}}]}}]\n{more}",
            nats.url()
        )
    };
    let site = Site::new(&configuration("ack: stored"));
    let mut program = site.serve_with(&["--ephemeral"]);
    program.ready().await;
    nats.kill();
    deliver(&client(), &program.url("videogen"), "old", &body(TOPIC, "f")).await;
    until("published", SOON, async || (site.ids("events", TOPIC).len() == 1).then_some(())).await;
    assert!(program.term().success());
    site.configure(&configuration(""));
    let program = site.serve();
    program.ready().await;
    let url = program.url("videogen");
    let answers = join_all(["same", "other"].map(|key| {
        let (url, event) = (url.clone(), body(TOPIC, if key == "same" { "f" } else { "g" }));
        async move { post(&url, key, &event).await.word() }
    }));
    assert_eq!(answers.await, ["200 dead-lettered", "200 dead-lettered"]);
    let mut why: Vec<String> = reasons(&site, &program).into_iter().map(|(_, reason)| reason).collect();
    why.sort();
    assert_eq!(why, ["behind", "unreachable"]);
    nats.start_again();
    let waiting = "hookbridge_spool_events{destination=\"stream\"}";
    until("drained", SOON, async || (program.metric(waiting).await == 0.0).then_some(())).await;
    replay_all(&site, &program).await;
    let client = async_nats::connect(nats.url()).await.expect("a connection");
    let stream = async_nats::jetstream::new(client).get_stream("EVENTS").await.expect("the stream");
    assert_eq!(stream.get_info().await.expect("its state").state.messages, 3);
}

/// A destination that refuses us stops a roll-out only if deliveries need it.
#[tokio::test(flavor = "multi_thread")]
async fn an_optional_destination_that_refuses_us_does_not_affect_readiness() {
    let nats = Broker::start(Kind::Nats);
    let site = Site::new(&format!(
        "destinations: {{files: {{url: 'file:DIR/events'}}, stream: {{url: '{}', topology: verify}}}}\n\
         routes: [{{match: '**', to: [files, {{destination: stream, required: false}}]}}]",
        nats.url()
    ));
    let program = site.serve();
    program.ready().await;
    let page = until("the refusal", SOON, async || {
        let (status, page) = program.get("/readyz").await;
        assert!(status == 200 || page.contains("starting"), "{page}");
        page.contains("\"topology\"").then_some(page)
    })
    .await;
    assert!(page.contains("\"optional\":true"), "{page}");
    assert_eq!(post(&program.url("videogen"), "a", &body(TOPIC, "f")).await.word(), "200 dead-lettered");
    assert_eq!(reasons(&site, &program), [(format!("stream/{TOPIC}"), "unroutable".to_owned())]);
}
