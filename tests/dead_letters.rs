//! Dead letters: listed, shown, replayed and discarded, while the bridge runs and without it.

mod support;

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use support::brokers::{Broker, Kind, With};
use support::command::run;
use support::program::Program;
use support::sender::{body, client, deliver, post};
use support::site::Site;
use support::wait::until;

const SOON: Duration = Duration::from_secs(60);
const FILES: &str = "destinations: {files: {url: 'file:DIR/events'}}";
/// Nobody listens there.
const TWO: &str = "destinations: {files: {url: 'file:DIR/events'}, second: {url: 'nats://127.0.0.1:1'}}";

fn ids(letters: &Value) -> Vec<&str> {
    letters.as_array().expect("a list").iter().map(|letter| letter["webhook_id"].as_str().expect("an id")).collect()
}

/// An event of 1.3 MB: the analysis of two hours of speech.
fn large() -> String {
    let event = body("file.analysis_completed", "f");
    event.replacen('{', &format!("{{\"text\":\"{}\",", "x".repeat(1_300_000)), 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_and_discarded_while_the_bridge_runs() {
    let site = Site::new(FILES);
    let program = site.serve();
    let url = program.url("videogen");
    assert_eq!(site.json(Some(&program), &["dead-letters", "list"]), Value::Array(Vec::new()));
    for (id, bad) in [("text", "not json"), ("url", r#"["https://h/f.mp4?sig=hidden"]"#), ("bytes", "also no json")] {
        assert_eq!(post(&url, id, bad).await.word(), "200 dead-lettered");
    }
    assert_eq!(post(&url, "good", &body("file.playback_ready", "f")).await.word(), "200 accepted");

    let all = site.json(Some(&program), &["dead-letters", "list"]);
    assert_eq!(ids(&all), ["text", "url", "bytes"], "oldest first");
    let first = &all[0];
    for (name, value) in [("source", "videogen"), ("reason", "not_json")] {
        assert_eq!(first[name], value, "{first}");
    }
    assert!(first["id"].is_u64() && first["event"].is_null() && first["targets"].is_array(), "{first}");
    assert!(first["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{first}");
    assert!(first.get("body").is_none() && first.get("headers").is_none(), "{first}");

    let filtered = |arguments: &[&str]| {
        let all = site.json(Some(&program), &[&["dead-letters", "list"], arguments].concat());
        ids(&all).iter().map(|id| (*id).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(filtered(&["--reason", "not_an_object"]), ["url"]);
    assert_eq!(filtered(&["--source", "videogen", "--since", "1h"]), ["text", "url", "bytes"]);
    assert!(filtered(&["--until", "1h"]).is_empty() && filtered(&["--event", "**"]).is_empty());
    assert!(filtered(&["--destination", "files"]).is_empty());
    assert_eq!(filtered(&["--limit", "2"]), ["text", "url"]);
    let (code, _, err) = site.command(Some(&program), &["dead-letters", "list", "--limit", "2"]);
    let second = all[1]["id"].to_string();
    assert!(code == 0 && err.contains(&format!("--after {second}")), "{err}");
    assert_eq!(filtered(&["--after", &second]), ["bytes"]);

    let shown = site.json(Some(&program), &["dead-letters", "show", &second]);
    assert_eq!(shown["body"], "[\"https://h/f.mp4?…\"]");
    assert!(shown["headers"].to_string().contains("webhook-signature"), "{shown}");
    let shown = site.json(Some(&program), &["dead-letters", "show", &second, "--urls"]);
    assert_eq!(shown["body"], r#"["https://h/f.mp4?sig=hidden"]"#);
    let (code, out, _) = site.command(Some(&program), &["dead-letters", "show", &second]);
    assert!(code == 0 && out.contains("not_an_object") && out.contains("https://h/f.mp4?…"), "{out}");

    let metric = "hookbridge_dead_letters{source=\"videogen\",reason=\"not_an_object\"}";
    assert_eq!(program.metric(metric).await, 1.0);
    let bytes = program.metric("hookbridge_dead_letters_bytes").await;
    let (code, _, err) = site.command(Some(&program), &["dead-letters", "discard", &second]);
    assert!(code == 2 && err.contains("--yes"), "{code} {err}");
    let (code, _, err) = site.command(Some(&program), &["dead-letters", "discard", &second, "--yes"]);
    assert_eq!(code, 0, "{err}");
    program.logged("dead letter discarded");
    assert_eq!(program.metric(metric).await, 0.0);
    assert!(program.metric("hookbridge_dead_letters_bytes").await < bytes && bytes > 0.0);
    assert_eq!(filtered(&[]), ["text", "bytes"]);
    for command in [&["discard", &second, "--yes"][..], &["show", &second], &["replay", &second]] {
        let (code, out, err) = site.command(Some(&program), &[&["dead-letters"], command].concat());
        assert!(code == 1 && (out + &err).contains("there is no dead letter"), "{command:?}: {code} {err}");
    }
    // A number is not given again.
    let (code, _, err) = site.command(Some(&program), &["dead-letters", "discard", "--all", "--yes"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(post(&url, "later", "not json").await.word(), "200 dead-lettered");
    let later = site.json(Some(&program), &["dead-letters", "list"]);
    assert!(later[0]["id"].as_u64() > all[2]["id"].as_u64(), "{later}");
}

/// What the routes of another day can publish is published with its id, and only where it is dead.
#[tokio::test(flavor = "multi_thread")]
async fn whole_deliveries_are_replayed_by_the_routes_of_today() {
    let file = |routes: &str| format!("{TWO}\nunrouted: dead-letter\nroutes: [{routes}]");
    let site = Site::new(&file("{match: 'file.**', to: [files]}"));
    let mut program = site.serve();
    let event = body("workflow_run.cancelled", "w");
    assert_eq!(post(&program.url("videogen"), "run", &event).await.word(), "200 dead-lettered");
    let replay = ["dead-letters", "replay", "--reason", "unrouted"];
    let (code, out, err) = site.command(Some(&program), &replay);
    assert!(code == 1 && out.contains("unrouted"), "{out}{err}");
    assert_eq!(ids(&site.json(Some(&program), &["dead-letters", "list"])), ["run"]);
    assert!(program.term().success());

    // One of two targets cannot be reached: it keeps a dead letter of its own.
    site.configure(&file("{match: '**', to: [files, second]}"));
    let mut program = site.serve();
    let (code, out, err) = site.command(Some(&program), &replay);
    assert!(code == 1 && out.contains("second/workflow_run.cancelled again (unreachable"), "{out}{err}");
    assert_eq!(site.ids("events", "workflow_run.cancelled"), ["run"]);
    let left = site.json(Some(&program), &["dead-letters", "list"]);
    assert_eq!(left[0]["targets"], serde_json::json!(["second/workflow_run.cancelled"]), "{left}");
    assert_eq!(left.as_array().map(Vec::len), Some(1), "{left}");
    assert!(program.term().success());

    site.configure(&file("{match: '**', to: [files, second]}").replace("nats://127.0.0.1:1", "file:DIR/second"));
    let program = site.serve();
    let (code, out, err) = site.command(Some(&program), &["dead-letters", "replay", "--destination", "second"]);
    assert!(code == 0 && out.contains("replayed"), "{out}{err}");
    program.logged("dead letter replayed");
    assert_eq!(site.ids("second", "workflow_run.cancelled"), ["run"]);
    assert_eq!(site.ids("events", "workflow_run.cancelled"), ["run"], "it had confirmed before");
    assert_eq!(site.json(Some(&program), &["dead-letters", "list"]), Value::Array(Vec::new()));
    assert_eq!(site.json(Some(&program), &["ledger", "show", "run"])["state"], "resolved");
    assert_eq!(post(&program.url("videogen"), "run", &event).await.word(), "200 duplicate");
    assert_eq!(program.metric("hookbridge_dead_letters_bytes").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn replays_at_the_same_time_publish_once() {
    let site = Site::new(&format!("{FILES}\nunrouted: dead-letter\nroutes: [{{match: 'file.**', to: [files]}}]"));
    let mut program = site.serve();
    for number in 0..5 {
        let event = body("workflow_run.failed", "w");
        assert_eq!(post(&program.url("videogen"), &format!("run_{number}"), &event).await.word(), "200 dead-lettered");
    }
    assert!(program.term().success());
    site.configure(FILES);
    let program = site.serve();
    let letters = site.json(Some(&program), &["dead-letters", "list"]);
    let client = client();
    let replays = letters.as_array().expect("a list").iter().flat_map(|letter| {
        let url = format!("http://{}/api/v1/dead-letters/{}/replay", program.admin, letter["id"]);
        (0..8).map(|_| client.post(&url).header("content-type", "application/json").send()).collect::<Vec<_>>()
    });
    let mut answers: Vec<u16> = Vec::new();
    for answer in join_all(replays).await {
        answers.push(answer.expect("an answer").status().as_u16());
    }
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 5, "{answers:?}");
    assert!(answers.iter().all(|status| matches!(status, 200 | 404 | 409)), "{answers:?}");
    let mut published = site.ids("events", "workflow_run.failed");
    published.sort();
    let mut expected: Vec<String> = (0..5).map(|number| format!("run_{number}")).collect();
    expected.sort();
    assert_eq!(published, expected);
}

/// What NATS's `max_payload` refuses today can be published once it was raised; whatever is killed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_too_large_is_published_after_all() {
    let nats = Broker::start_with(Kind::Nats, With { conf: "max_payload: 1MB\n", ..With::default() });
    let configuration = format!("destinations: {{stream: {{url: '{}'}}}}", nats.url());
    let site = Site::new(&configuration);
    let mut program = site.serve();
    program.ready().await;
    assert_eq!(post(&program.url("videogen"), "speech", &large()).await.word(), "200 dead-lettered");
    let letters = site.json(Some(&program), &["dead-letters", "list"]);
    assert_eq!((&letters[0]["reason"], &letters[0]["event"]), (&"too_large".into(), &"file.analysis_completed".into()));
    let (code, out, _) = site.command(Some(&program), &["dead-letters", "replay", "--reason", "too_large"]);
    assert!(code == 1 && out.contains("stream/file.analysis_completed never (too_large"), "{out}");

    nats.restart_with("max_payload: 8MB\n");
    until("connected again", SOON, async || {
        (program.metric("hookbridge_destination_connects_total{destination=\"stream\"}").await >= 2.0).then_some(())
    })
    .await;
    // The process is killed while the broker has the event and does not answer.
    nats.pause();
    let (client, id) = (client(), letters[0]["id"].to_string());
    let url = format!("http://{}/api/v1/dead-letters/{id}/replay", program.admin);
    let replaying = tokio::spawn(client.post(&url).header("content-type", "application/json").send());
    until("in flight", SOON, async || {
        (program.metric("hookbridge_publishes_in_flight{destination=\"stream\"}").await == 1.0).then_some(())
    })
    .await;
    let (code, out, err) = site.command(Some(&program), &["dead-letters", "discard", &id, "--yes"]);
    assert!(code == 1 && err.contains("being replayed"), "{out}{err}");
    program.kill();
    assert!(replaying.await.expect("no panic").is_err());
    nats.resume();

    let kept = site.json(None, &["dead-letters", "list"]);
    assert_eq!(ids(&kept), ["speech"], "nothing is lost");
    let program = site.serve();
    program.ready().await;
    let (code, out, err) = site.command(Some(&program), &["dead-letters", "replay", &id]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(site.json(Some(&program), &["dead-letters", "list"]), Value::Array(Vec::new()));
    let client = async_nats::connect(nats.url()).await.expect("a connection");
    let stream = async_nats::jetstream::new(client).get_stream("EVENTS").await.expect("the stream");
    let stored = stream.get_last_raw_message_by_subject("file.analysis_completed").await.expect("a message");
    assert_eq!(stored.headers.get("ce-id").map(ToString::to_string).as_deref(), Some("speech"));
    assert_eq!(stream.get_info().await.expect("its state").state.messages, 1, "exactly one");
}

/// One target is dead, the other still open: a replay of the first must not end the delivery, nor publish to the second.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_leaves_the_open_targets_to_the_sender() {
    let nats = Broker::start_with(Kind::Nats, With { conf: "max_payload: 1MB\n", ..With::default() });
    let destinations = format!("{{files: {{url: 'file:DIR/events'}}, stream: {{url: '{}'}}}}", nats.url());
    let site = Site::new(&format!("destinations: {destinations}\nroutes: [{{match: '**', to: [files, stream]}}]"));
    let blocked = site.path().join("events/file.analysis_completed.ndjson");
    std::fs::create_dir_all(&blocked).expect("created");
    let program = site.serve();
    program.ready().await;
    let (url, event) = (program.url("videogen"), large());
    assert_eq!(post(&url, "speech", &event).await.status, 503, "the file cannot be written");
    let letters = site.json(Some(&program), &["dead-letters", "list"]);
    assert_eq!(letters[0]["targets"], serde_json::json!(["stream/file.analysis_completed"]), "{letters}");
    nats.restart_with("max_payload: 8MB\n");
    until("connected again", SOON, async || {
        (program.metric("hookbridge_destination_connects_total{destination=\"stream\"}").await >= 2.0).then_some(())
    })
    .await;
    until("replayed", SOON, async || {
        // The delivery's own publish may be in flight until the file's time is over.
        (site.command(Some(&program), &["dead-letters", "replay", "--all"]).0 == 0).then_some(())
    })
    .await;
    let shown = site.json(Some(&program), &["ledger", "show", "speech"]);
    assert_eq!(shown["state"], "open", "{shown}");
    let expected = serde_json::json!([
        {"target": "stream/file.analysis_completed", "state": "confirmed"},
        {"target": "files/file.analysis_completed", "state": "open"},
    ]);
    assert_eq!(shown["targets"], expected);
    std::fs::remove_dir(&blocked).expect("removed");
    deliver(&client(), &url, "speech", &event).await;
    assert_eq!(site.ids("events", "file.analysis_completed"), ["speech"]);
    assert_eq!(post(&url, "speech", &event).await.word(), "200 duplicate");
    let client = async_nats::connect(nats.url()).await.expect("a connection");
    let stream = async_nats::jetstream::new(client).get_stream("EVENTS").await.expect("the stream");
    assert_eq!(stream.get_info().await.expect("its state").state.messages, 1);
    assert_eq!(site.json(Some(&program), &["ledger", "show", "speech"])["state"], "delivered");
}

/// Without a bridge, the commands use the directory; `replay` opens the destinations itself.
#[tokio::test(flavor = "multi_thread")]
async fn commands_work_on_the_directory_of_a_bridge_that_does_not_run() {
    let before = format!("{FILES}\nunrouted: dead-letter\nroutes: [{{match: 'file.**', to: [files]}}]");
    let site = Site::new(&before);
    let mut program = site.serve();
    for (id, event) in [("run", body("workflow_run.failed", "w")), ("bad", "not json".into())] {
        assert_eq!(post(&program.url("videogen"), id, &event).await.word(), "200 dead-lettered");
    }
    // A process has the directory, and nobody answers at the address.
    let (code, _, err) = site.command(None, &["dead-letters", "list"]);
    assert!(code == 1 && err.contains("another process uses") && err.contains("--admin"), "{err}");
    program.kill();
    site.configure(FILES);
    let (code, out, err) = site.command(None, &["dead-letters", "list"]);
    assert!(code == 0 && out.contains("run") && out.contains("bad") && err.contains("no bridge answers"), "{out}{err}");
    let data = site.data().display().to_string();
    let (code, out, err) = run(&["dead-letters", "list", "--data", &data, "--json"], &[], "");
    assert!(code == 0 && ids(&serde_json::from_str(&out).expect("JSON")) == ["run", "bad"], "{out}{err}");
    let (code, out, err) = site.command(None, &["dead-letters", "replay", "--all"]);
    assert!(code == 1 && out.contains("replayed: files/workflow_run.failed") && out.contains("not_json"), "{out}{err}");
    assert_eq!(site.ids("events", "workflow_run.failed"), ["run"]);
    let (code, _, err) = site.command(None, &["dead-letters", "discard", "--reason", "not_json", "--yes"]);
    assert_eq!(code, 0, "{err}");
    let program = site.serve();
    assert_eq!(site.json(Some(&program), &["dead-letters", "list"]), Value::Array(Vec::new()));
    assert_eq!(program.metric("hookbridge_dead_letters_bytes").await, 0.0);
    let nowhere = site.path().join("nothing").display().to_string();
    let (code, _, err) = run(&["dead-letters", "list", "--admin", "127.0.0.1:1", "--data", &nowhere], &[], "");
    assert!(code == 1 && err.contains("there is no store"), "{err}");
    assert!(!site.path().join("nothing").exists(), "a look creates nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_configured_is_named() {
    let unrouted = "unrouted: dead-letter\nroutes: [{match: 'file.**', to: [files]}]";
    let stage = "sources: {videogen: {}, stage: {secrets: 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD', uri: 'urn:stage'}}";
    let site = Site::new(&format!("{FILES}\n{stage}\n{unrouted}"));
    let mut program = site.serve();
    let event = body("workflow_run.failed", "w");
    assert_eq!(post(&program.url("stage"), "staged", &event).await.word(), "200 dead-lettered");
    assert_eq!(post(&program.url("videogen"), "run", &event).await.word(), "200 dead-lettered");
    assert!(program.term().success());
    site.configure(&format!("{FILES}\nroutes: [{{match: '**', to: []}}]"));
    let mut program = site.serve();
    let (code, out, _) = site.command(Some(&program), &["dead-letters", "replay", "--all"]);
    assert!(code == 1 && out.contains("the source `stage` is not configured any more"), "{out}");
    assert!(out.contains("the routes do not send this event anywhere"), "{out}");
    assert_eq!(ids(&site.json(Some(&program), &["dead-letters", "list"])), ["staged", "run"]);
    assert!(program.term().success());
    // A letter for a destination that is gone.
    site.configure(&format!("{TWO}\nroutes: [{{match: '**', to: [files, second]}}]"));
    let mut program = site.serve();
    let (code, ..) = site.command(Some(&program), &["dead-letters", "replay", "--source", "videogen"]);
    assert_eq!(code, 1, "one target is out of reach");
    assert!(program.term().success());
    site.configure(FILES);
    let program = site.serve();
    let (code, out, _) = site.command(Some(&program), &["dead-letters", "replay", "--destination", "second"]);
    assert!(code == 1 && out.contains("the destination `second` is not configured any more"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_a_dead_letter_is_answered_503() {
    let site = Site::new(&format!("{FILES}\ndead_letters: {{max_bytes: 1MiB}}"));
    let program = site.serve();
    let (url, bad) = (program.url("videogen"), "x".repeat(600 << 10));
    assert_eq!(post(&url, "first", &bad).await.word(), "200 dead-lettered");
    for _ in 0..2 {
        let answer = post(&url, "second", &bad).await;
        assert_eq!((answer.word().as_str(), answer.retry_after.is_some()), ("503 dead_letters_full", true));
    }
    assert_eq!(post(&url, "good", &body("file.playback_ready", "f")).await.word(), "200 accepted");
    program.logged("dead letter not kept");
    assert_eq!(ids(&site.json(Some(&program), &["dead-letters", "list"])), ["first"]);
    let (code, _, err) = site.command(Some(&program), &["dead-letters", "discard", "--all", "--yes"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(post(&url, "second", &bad).await.word(), "200 dead-lettered");
}

/// What is not committed yet counts too.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_at_the_same_time_stay_within_their_room() {
    let site = Site::new(&format!("{FILES}\ndead_letters: {{max_bytes: 1MiB}}"));
    let program = site.serve();
    let (url, bad) = (program.url("videogen"), "x".repeat(600 << 10));
    let sent = (0..6).map(|number| {
        let (url, bad) = (url.clone(), bad.clone());
        async move { post(&url, &format!("bad_{number}"), &bad).await.word() }
    });
    let mut words = join_all(sent).await;
    words.sort();
    assert_eq!(words[0], "200 dead-lettered");
    assert!(words[1..].iter().all(|word| word == "503 dead_letters_full"), "{words:?}");
    assert!(program.metric("hookbridge_dead_letters_bytes").await <= f64::from(1 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_dead_letters_are_deleted_and_counted() {
    let site = Site::new(&format!("{FILES}\ndead_letters: {{max_age: 1s}}"));
    let program = site.serve();
    for id in ["one", "two"] {
        assert_eq!(post(&program.url("videogen"), id, "not json").await.word(), "200 dead-lettered");
    }
    program.logged("older than dead_letters.max_age");
    until("all gone", SOON, async || (program.metric("hookbridge_dead_letters_bytes").await == 0.0).then_some(()))
        .await;
    let log = program.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let deleted: u64 = lines.filter_map(|line| line["deleted"].as_u64()).sum();
    assert_eq!(deleted, 2, "{log}");
    assert_eq!(post(&program.url("videogen"), "one", "not json").await.word(), "200 duplicate");
}

async fn status(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = request.send().await.expect("an answer");
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
    let authenticate = answer.headers().contains_key("www-authenticate");
    let status = answer.status().as_u16();
    assert!(status == 200 || kind == "application/problem+json", "{status} {kind}");
    assert!(answer.headers().contains_key("x-request-id"));
    assert_eq!(authenticate, status == 401);
    (status, answer.text().await.expect("a body"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_for_this_machine_or_for_the_token() {
    const TOKEN: &str = "correct-horse-battery";
    let site = Site::new(FILES);
    let (client, token) = (client(), site.path().join("token"));
    std::fs::write(&token, format!("{TOKEN}\n")).expect("written");
    let config = site.config();
    let start = |admin: &str, token: Option<&str>| {
        let mut all = vec!["serve", "--listen", "127.0.0.1:0", "--admin", admin, "--config", &config];
        all.extend(["--secret", support::program::SECRET]);
        all.extend(token.into_iter().flat_map(|token| ["--admin-token-file", token]));
        Program::start(&all)
    };
    let url = |program: &Program, path: &str| {
        format!("http://127.0.0.1:{}{path}", program.admin.rsplit(':').next().expect("a port"))
    };
    let list = "/api/v1/dead-letters";

    // On loopback.
    let mut program = start("127.0.0.1:0", None);
    assert_eq!(status(client.get(url(&program, list))).await.0, 200);
    for host in ["evil.example", "evil.example:9464", "192.0.2.1"] {
        assert_eq!(status(client.get(url(&program, list)).header("host", host)).await.0, 403, "{host}");
    }
    assert_eq!(status(client.get(url(&program, list)).header("origin", "http://evil.example")).await.0, 403);
    let replay = || client.post(url(&program, "/api/v1/dead-letters/1/replay"));
    assert_eq!(status(replay()).await.0, 415);
    assert_eq!(status(replay().header("content-type", "text/plain").body("{}")).await.0, 415);
    assert_eq!(
        status(replay().header("content-type", "application/json")).await.0,
        404,
        "there is no such dead letter"
    );
    assert_eq!(status(client.get(url(&program, "/api/v1/dead-letters?reasn=x"))).await.0, 400);
    assert_eq!(status(client.get(url(&program, "/api/v1/nope"))).await.0, 404);
    assert_eq!(status(client.put(url(&program, list)).header("content-type", "application/json")).await.0, 405);
    // Every call of the description is served.
    let (_, description) = status(client.get(url(&program, "/api/v1/openapi.json"))).await;
    let description: Value = serde_json::from_str(&description).expect("JSON");
    for (path, calls) in description["paths"].as_object().expect("paths") {
        for method in calls.as_object().expect("calls").keys().filter(|name| *name != "parameters") {
            let method = reqwest::Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            let request = client.request(method.clone(), url(&program, &path.replace("{id}", "7")));
            let (status, page) = status(request.header("content-type", "application/json")).await;
            assert!(status != 405 && !page.contains("there is no such call"), "{method} {path}: {status} {page}");
        }
    }
    program.kill();

    // Off loopback without a token.
    let mut program = start("0.0.0.0:0", None);
    assert_eq!(status(client.get(url(&program, list))).await.0, 404);
    for open in ["/livez", "/metrics"] {
        let answer = client.get(url(&program, open)).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 200, "{open}");
    }
    let (code, _, err) = site.command(Some(&program), &["dead-letters", "list"]);
    assert!(code == 1 && err.contains("--admin-token-file"), "{err}");
    program.kill();

    // With a token, on loopback too.
    for admin in ["0.0.0.0:0", "127.0.0.1:0"] {
        let mut program = start(admin, token.to_str());
        let get = |value: &str| client.get(url(&program, list)).header("authorization", value.to_owned());
        assert_eq!(status(client.get(url(&program, list))).await.0, 401);
        assert_eq!(status(get("Bearer wrong")).await.0, 401);
        assert_eq!(status(get(&format!("Bearer {TOKEN}"))).await.0, 200);
        let answer = client.get(url(&program, "/metrics")).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 200);
        let (code, _, err) = site.command(Some(&program), &["dead-letters", "list"]);
        assert!(code == 1 && err.contains("refuses the admin token"), "{err}");
        let (code, _, err) =
            run(&["dead-letters", "list", "--admin", &program.admin], &[("HOOKBRIDGE_ADMIN_TOKEN", TOKEN)], "");
        assert_eq!(code, 0, "{err}");
        let with_file = ["dead-letters", "list", "--admin-token-file", token.to_str().expect("UTF-8")];
        assert_eq!(site.command(Some(&program), &with_file).0, 0);
        assert!(!program.log().contains(TOKEN));
        program.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_none_and_says_so() {
    let site = Site::new(&format!("{FILES}\nstore: memory"));
    let mut program = site.serve();
    let (code, _, err) = site.command(Some(&program), &["dead-letters", "list"]);
    assert!(code == 1 && err.contains("keeps no dead letters"), "{err}");
    program.kill();
    let (code, _, err) = site.command(None, &["dead-letters", "list"]);
    assert!(code == 1 && err.contains("the store `memory` is gone with its bridge"), "{err}");
}

#[test]
fn wrong_usage_is_refused() {
    for (arguments, expected) in [
        (&["replay"][..], "give ids, a condition such as --reason, or --all"),
        (&["discard", "--yes"], "give ids, a condition such as --reason, or --all"),
        (&["replay", "7", "--all"], "cannot be used with"),
        (&["list", "--reason", "too_larg"], "did you mean `too_large`?"),
        (&["list", "--since", "yesterday"], "expected a time"),
        (&["list", "--event", "a*"], "mixes text"),
        (&["show", "seven"], "invalid"),
    ] {
        let (code, out, err) = run(&[&["dead-letters"], arguments].concat(), &[], "");
        assert!(code == 2 && err.contains(expected) && out.is_empty(), "{arguments:?}: {code}\n{out}{err}");
    }
}

/// A dead letter of the spool, whose id has ended for its sender long before.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_of_the_spool_are_replayed() {
    let nats = Broker::start_with(Kind::Nats, With { conf: "max_payload: 1MB\n", ..With::default() });
    let configuration = format!("destinations: {{stream: {{url: '{}'}}}}\nack: stored", nats.url());
    let site = Site::new(&configuration);
    let program = site.serve_with(&["--ephemeral"]);
    deliver(&client(), &program.url("videogen"), "speech", &large()).await;
    until("a dead letter", SOON, async || {
        (!site.json(Some(&program), &["dead-letters", "list"]).as_array().expect("a list").is_empty()).then_some(())
    })
    .await;
    nats.restart_with("max_payload: 8MB\n");
    until("connected again", SOON, async || {
        (program.metric("hookbridge_destination_connects_total{destination=\"stream\"}").await >= 2.0).then_some(())
    })
    .await;
    let (code, out, err) = site.command(Some(&program), &["dead-letters", "replay", "--all"]);
    assert_eq!(code, 0, "{out}{err}");
    let client = async_nats::connect(nats.url()).await.expect("a connection");
    let stream = async_nats::jetstream::new(client).get_stream("EVENTS").await.expect("the stream");
    assert_eq!(stream.get_info().await.expect("its state").state.messages, 1);
}

/// With full dead letters, the event stays where it is safe.
#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_its_dead_letter_an_event_waits_in_the_spool() {
    let nats = Broker::start_with(Kind::Nats, With { conf: "max_payload: 65536\n", ..With::default() });
    let more = "ack: stored\ndead_letters: {max_bytes: 2MiB}";
    let site = Site::new(&format!("destinations: {{stream: {{url: '{}'}}}}\n{more}", nats.url()));
    let program = site.serve_with(&["--ephemeral"]);
    let waiting = "hookbridge_spool_events{destination=\"stream\"}";
    for (id, left) in [("first", 0.0), ("second", 1.0)] {
        deliver(&client(), &program.url("videogen"), id, &large()).await;
        if left == 1.0 {
            program.logged("dead letter not kept");
        }
        until("settled", SOON, async || (program.metric(waiting).await == left).then_some(())).await;
    }
    assert_eq!(ids(&site.json(Some(&program), &["dead-letters", "list"])), ["first"]);
    let (code, _, err) = site.command(Some(&program), &["dead-letters", "discard", "--all", "--yes"]);
    assert_eq!(code, 0, "{err}");
    until("settled", SOON, async || (program.metric(waiting).await == 0.0).then_some(())).await;
    assert_eq!(ids(&site.json(Some(&program), &["dead-letters", "list"])), ["second"]);
}

/// A caller that gives up does not make the outcome unknown.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_outlives_its_caller() {
    let nats = Broker::start_with(Kind::Nats, With { conf: "max_payload: 1MB\n", ..With::default() });
    let site = Site::new(&format!("destinations: {{stream: {{url: '{}'}}}}", nats.url()));
    let program = site.serve();
    program.ready().await;
    assert_eq!(post(&program.url("videogen"), "speech", &large()).await.word(), "200 dead-lettered");
    nats.restart_with("max_payload: 8MB\n");
    until("connected again", SOON, async || {
        (program.metric("hookbridge_destination_connects_total{destination=\"stream\"}").await >= 2.0).then_some(())
    })
    .await;
    nats.pause();
    let url = format!("http://{}/api/v1/dead-letters/1/replay", program.admin);
    // With HTTP/2, a request that its client resets is dropped at once.
    hookbridge::tls::install_provider();
    let client = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
    let replaying = tokio::spawn(client.post(&url).header("content-type", "application/json").send());
    let in_flight = "hookbridge_publishes_in_flight{destination=\"stream\"}";
    until("in flight", SOON, async || (program.metric(in_flight).await == 1.0).then_some(())).await;
    replaying.abort();
    assert!(replaying.await.is_err());
    let (code, out, _) = site.command(Some(&program), &["dead-letters", "replay", "1"]);
    assert!(code == 1 && out.contains("it is being replayed"), "{out}");
    nats.resume();
    program.logged("dead letter replayed");
    assert_eq!(site.json(Some(&program), &["dead-letters", "list"]), Value::Array(Vec::new()));
}

/// What the destination does not confirm is kept in the store.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_go_to_a_destination_instead_of_the_store() {
    for ack in ["published", "stored"] {
        let two = |url: &str, to: &str| {
            let other = format!("other: {{url: '{url}'}}");
            let files = FILES.replace("}}", &format!("}}, {other}}}"));
            format!("{files}\nack: {ack}\ndead_letters: {{to: {to}}}\nroutes: [{{match: '**', to: [files]}}]")
        };
        let site = Site::new(&two("file:DIR/other", "other"));
        let mut program = site.serve_with(&["--ephemeral"]);
        assert_eq!(post(&program.url("videogen"), "a", "not json").await.word(), "200 dead-lettered");
        assert_eq!(post(&program.url("videogen"), "a", "not json").await.word(), "200 duplicate");
        assert_eq!(site.ids("other", "dead-letters").len(), 1, "{ack}");
        assert_eq!(site.json(Some(&program), &["dead-letters", "list"]), Value::Array(Vec::new()));
        assert!(program.term().success());

        site.configure(&two("nats://127.0.0.1:1", "other"));
        let program = site.serve_with(&["--ephemeral"]);
        assert_eq!(post(&program.url("videogen"), "b", "not json").await.word(), "200 dead-lettered");
        assert_eq!(ids(&site.json(Some(&program), &["dead-letters", "list"])), ["b"], "{ack}");
    }
}
