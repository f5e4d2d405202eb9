//! Sources, routes and templates with the whole program: events go where the configuration says.

#[path = "destinations/mod.rs"]
mod suite;
mod support;

use hookbridge::template::partition;
use serde_json::{Value, json};
use suite::Subject;
use suite::place::Place;
use support::bridge::Bridge;
use support::program::SECRET;
use support::sender::{body, post};

fn tool(kind: &str) -> String {
    json!({"event": "tool_execution.succeeded", "toolExecutionId": "vg_tool_1", "occurredAt": 1, "toolType": kind})
        .to_string()
}

#[tokio::test]
async fn the_first_route_that_matches_takes_the_event() {
    let bridge = Bridge::serve(&format!(
        "sources:
  videogen: {{attributes: {{env: prod, tenant: 'größe 1'}}}}
  shop: {{secrets: ['{SECRET}'], payload: standard, events: [invoice.paid], uri: 'https://shop.example', fields: {{subject: [/data/number]}}}}
routes:
  - {{match: 'tool_execution.**', when: {{pointer: /toolType, in: [GENERATE_IMAGE]}}, to: [{{destination: files, topic: images}}]}}
  - match: tool_execution.succeeded
    to: [{{destination: files, topic: tools}}, {{destination: files, topic: 'all.{{type}}'}}]
  - {{match: workflow_run.cancelled, to: []}}
  - {{match: 'file.*', to: [files]}}
  - {{match: 'invoice.**', to: [{{destination: files, topic: '{{source}}.{{event}}'}}]}}
unrouted: left
"
    ));
    let url = bridge.url("videogen");
    assert_eq!(post(&url, "image", &tool("GENERATE_IMAGE")).await.word(), "200 accepted");
    assert_eq!(post(&url, "speech", &tool("TEXT_TO_SPEECH")).await.word(), "200 accepted");
    assert_eq!((bridge.ids("images"), bridge.ids("tools")), (vec!["image".into()], vec!["speech".into()]));
    assert_eq!(bridge.ids("all.io.videogen.tool_execution.succeeded"), ["speech"]);

    // An empty list of targets: acknowledged and counted, but not published.
    for word in ["200 ignored", "200 duplicate"] {
        assert_eq!(post(&url, "cancelled", &body("workflow_run.cancelled", "f")).await.word(), word);
    }
    let ignored = "hookbridge_deliveries_total{source=\"videogen\",outcome=\"ignored\"}";
    assert_eq!(bridge.program.metric(ignored).await, 1.0);

    // `*` matches one part. A name that the source does not list never becomes a topic.
    for (id, event) in [("two", "file.playback_ready"), ("three", "file.upload.completed"), ("new", "file.invented")] {
        assert_eq!(post(&url, id, &body(event, "f")).await.word(), "200 accepted");
    }
    assert_eq!(bridge.ids("file.playback_ready"), ["two"]);
    assert_eq!(bridge.ids("left"), ["three", "new"]);
    let event = &bridge.events("file.playback_ready")[0];
    assert_eq!((&event["env"], &event["tenant"]), (&json!("prod"), &json!("größe 1")));

    // A sender with the payload that Standard Webhooks recommends.
    let paid = r#"{"type":"invoice.paid","timestamp":"2026-11-24T10:00:00+01:00","data":{"number":"R-7"}}"#;
    assert_eq!(post(&bridge.url("shop"), "two", paid).await.word(), "200 accepted", "ids are per source");
    let event = &bridge.events("shop.invoice.paid")[0];
    for (name, value) in [
        ("type", "shop.invoice.paid"),
        ("source", "https://shop.example"),
        ("subject", "R-7"),
        ("time", "2026-11-24T09:00:00Z"),
    ] {
        assert_eq!(event[name], value, "{name}");
    }
    assert_eq!(event["data"], serde_json::from_str::<Value>(paid).expect("JSON"));
    assert_eq!(event.get("env"), None, "static attributes belong to one source");
}

/// A second account of the sender has a name of its own, and sends the same payload.
#[tokio::test]
async fn a_second_source_sends_what_the_first_sends() {
    let bridge = Bridge::serve(&format!(
        "sources:
  videogen: {{}}
  stage: {{secrets: ['{SECRET}'], uri: 'urn:stage'}}
  shop: {{secrets: ['{SECRET}']}}
  till: {{secrets: ['{SECRET}']}}
routes:
  - {{match: '**', source: stage, to: {{destination: files, topic: 'stage.{{event}}'}}}}
  - {{match: '**', to: files}}
"
    ));
    for source in ["videogen", "stage"] {
        let answer = post(&bridge.url(source), "one", &body("file.playback_ready", "f")).await;
        assert_eq!(answer.word(), "200 accepted", "{source}");
    }
    let (first, stage) = (&bridge.events("file.playback_ready")[0], &bridge.events("stage.file.playback_ready")[0]);
    assert_eq!((&first["type"], &first["subject"]), (&stage["type"], &stage["subject"]));
    assert_eq!((&first["source"], &stage["source"]), (&json!("https://api.videogen.io"), &json!("urn:stage")));

    // The first dead letter of each source says what to set.
    for source in ["shop", "till"] {
        let answer = post(&bridge.url(source), "other", r#"{"type":"invoice.paid","data":{}}"#).await;
        assert_eq!(answer.word(), "200 dead-lettered", "{source}");
        let line = bridge.program.logged(&format!("set `payload: standard` for the source `{source}`"));
        assert!(line.contains("dead letter"), "{line}");
    }
}

#[tokio::test]
async fn unrouted_events_are_ignored_or_dead_lettered() {
    for (unrouted, answer) in [("ignore", "200 ignored"), ("dead-letter", "200 dead-lettered")] {
        let bridge = Bridge::serve(&format!("unrouted: {unrouted}\nroutes: [{{match: 'file.**', to: [files]}}]\n"));
        for event in ["tool_execution.failed", "file.invented"] {
            assert_eq!(
                post(&bridge.url("videogen"), event.replace('.', "-").as_str(), &body(event, "f")).await.word(),
                answer
            );
        }
        assert_eq!(
            post(&bridge.url("videogen"), "known", &body("file.playback_ready", "f")).await.word(),
            "200 accepted"
        );
        assert_eq!(bridge.events("unrouted"), Vec::<Value>::new());
    }
}

/// Names from payloads never reach a broker as a path, a wildcard or an empty part.
#[tokio::test]
async fn hostile_names_are_unrouted_or_dead_lettered() {
    let bridge = Bridge::serve("");
    for (number, name) in
        ["../../escape", "a/b", "file.*", ".hidden", "file..x", "ünlaut", "{event}", "a b"].iter().enumerate()
    {
        let answer = post(&bridge.url("videogen"), &format!("n{number}"), &body(name, "f")).await;
        assert_eq!(answer.word(), "200 accepted", "{name}");
    }
    assert_eq!(bridge.ids("unrouted").len(), 8);
    for (number, name) in [&*"x".repeat(64 << 10), "a\\nb", "a\\u0000b", ""].iter().enumerate() {
        let answer = post(&bridge.url("videogen"), &format!("d{number}"), &body(name, "f")).await;
        assert_eq!(answer.word(), "200 dead-lettered", "{number}");
    }
    assert!(bridge.program.log().lines().all(|line| line.len() < 4096), "a log line contains such a name");
}

/// `{partition:N}` spreads keys over N subjects or routing keys. The same key always gets the same one.
async fn a_key_stays_on_its_partition<S: Subject>(place: Place<S>) {
    let routes = "[{match: 'file.*', to: [{destination: broker, topic: 'shard.{partition:4}'}]}]";
    let program = place.serve_routes(routes).await;
    let files: Vec<String> = (0..24).map(|number| format!("vg_file_{number}")).collect();
    for (number, file) in files.iter().enumerate() {
        for copy in 0..2 {
            let (id, body) = (format!("m{number}_{copy}"), body("file.playback_ready", file));
            assert_eq!(post(&program.url("videogen"), &id, &body).await.word(), "200 accepted");
        }
    }
    let mut all = 0;
    for shard in 0..4 {
        let stored = place.stored(&format!("shard.{shard}")).await;
        all += stored.len();
        assert!(!stored.is_empty(), "{shard}");
        for stored in stored {
            let subject = stored.event().0.remove("subject").expect("a subject");
            assert_eq!(partition(subject.as_bytes(), 4), shard, "{subject}");
        }
    }
    assert_eq!(all, 48);
}

/// `{subject}` in a NATS subject must be one legal part; otherwise the event becomes a dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn an_illegal_subject_from_the_payload_is_a_dead_letter() {
    let place = Place::<suite::nats::Nats>::new().await;
    let program = place.serve_routes("[{match: '**', to: [{destination: broker, topic: 'by.{subject}'}]}]").await;
    let long = "x".repeat(300);
    for (number, (subject, word)) in [
        ("vg_file_1", "200 accepted"),
        ("*", "200 dead-lettered"),
        (">", "200 dead-lettered"),
        ("a.b", "200 dead-lettered"),
        ("a b", "200 dead-lettered"),
        ("é", "200 dead-lettered"),
        (&long, "200 dead-lettered"),
        ("", "200 accepted"), // counts as absent
    ]
    .iter()
    .enumerate()
    {
        let answer = post(&program.url("videogen"), &format!("m{number}"), &body("file.playback_ready", subject)).await;
        assert_eq!(answer.word(), *word, "{subject}");
    }
    assert_eq!(place.counts("by.*").await.len(), 2);
    assert_eq!(place.counts("by.vg_file_1").await.len(), 1);
}

suite::place::whole_program! {
    { a_key_stays_on_its_partition };
    nats: suite::nats::Nats;
    rabbitmq: suite::rabbitmq::Rabbitmq;
}
