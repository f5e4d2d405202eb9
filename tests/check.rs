//! `check`: which event goes where, and what would become of one delivery.

mod support;

use serde_json::Value;
use support::bridge::Bridge;
use support::command::run;
use support::program::SECRET;
use support::sender::{body, post};

/// Writes a configuration of its own for a test, and runs `check` with it.
fn check(configuration: &str, arguments: &[&str], input: &str) -> (i32, String, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("hookbridge.yaml");
    std::fs::write(&path, configuration).expect("written");
    let path = path.to_str().expect("UTF-8");
    let (code, out, err) = run(&[&["check", "--config", path, "--secret", SECRET], arguments].concat(), &[], input);
    (code, out, err.replace(path, "f"))
}

/// Two destinations, a condition, and a pattern that is too narrow.
const ROUTED: &str = "destinations: {stream: {url: 'nats://h'}, kafka: {url: 'kafka://h'}}
sources:
  videogen: {}
  shop: {secrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw], payload: standard, events: [order.paid]}
routes:
  - {match: 'file.*', to: [stream, {destination: kafka, topic: 'videogen.{event}', key: '{type}'}]}
  - {match: 'tool_execution.**', when: {pointer: /toolType, in: [GENERATE_IMAGE]}, to: {destination: stream, topic: 'images.{partition:2}'}}
  - {match: 'workflow_run.cancelled', source: videogen, to: []}
  - {match: '**', to: kafka}
";

#[test]
fn table_shows_where_every_event_goes() {
    let (code, out, err) = check(ROUTED, &[], "");
    assert_eq!(code, 0, "{err}");
    let row = |event: &str| {
        let mut lines = out.lines().skip_while(|line| !line.trim_start().starts_with(event));
        let first = lines.next().unwrap_or_else(|| panic!("{event}\n{out}"));
        let more = lines.take_while(|line| line.trim_start().starts_with('→'));
        std::iter::once(first).chain(more).map(|line| line.split_once("→ ").expect("an arrow").1).collect::<Vec<_>>()
    };
    assert_eq!(row("file.playback_ready"), ["stream: file.playback_ready, kafka: videogen.file.playback_ready"]);
    assert_eq!(row("file.upload.failed"), ["kafka: file.upload.failed"]);
    let image = "stream: images.{partition:2}  when /toolType is \"GENERATE_IMAGE\"";
    assert_eq!(row("tool_execution.failed"), [image, "kafka: tool_execution.failed  otherwise"]);
    assert_eq!(row("workflow_run.cancelled"), ["ignored"]);
    assert_eq!(row("any other name"), ["kafka: unrouted"]);
    assert_eq!(row("order.paid"), ["kafka: order.paid"]);
    for event in hookbridge::source::VIDEOGEN_EVENTS {
        row(event);
    }
    assert_eq!(
        err,
        "warning: f:6:13: `file.*` does not match `file.upload.completed`, `file.upload.failed`: `*` is one part; `file.**` takes them too\n"
    );
    let (code, out, _) = check(ROUTED, &["--json"], "");
    let table: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &table[1]["events"][0]["goes"]), (0, &"kafka: order.paid".into()));
}

#[test]
fn optional_targets_are_shown() {
    let to = "[stream, {destination: kafka, required: false}]";
    let configuration = format!(
        "destinations: {{stream: {{url: 'nats://h'}}, kafka: {{url: 'kafka://h'}}}}\nroutes: [{{match: '**', to: {to}}}]"
    );
    let event = "file.playback_ready";
    let (code, out, _) = check(&configuration, &[], "");
    assert!(code == 0 && out.contains(&format!("stream: {event}, kafka: {event} (optional)")), "{out}");
    let (code, out, _) = check(&configuration, &["--event", event], "");
    assert!(code == 0 && out.contains(&format!("→ kafka: {event}, key `vg_file_00000001`, optional")), "{out}");
    let (_, out, _) = check(&configuration, &["--event", event, "--json"], "");
    let run: Value = serde_json::from_str(&out).expect("JSON");
    let targets = run["targets"].as_array().expect("a list");
    assert_eq!((targets[0].get("required"), targets[1].get("required")), (None, Some(&false.into())));
}

#[test]
fn known_events_without_a_route_are_one_line_each() {
    let configuration = "destinations: {stream: {url: 'nats://h'}}\nroutes: [{match: 'file.**', to: stream}]";
    let (code, _, err) = check(configuration, &[], "");
    assert_eq!((code, err.lines().count()), (0, 12), "{err}");
    let expected =
        "no route takes the event `assistant_message.cancelled` of the source `videogen`, so it goes to `unrouted`";
    assert!(err.lines().all(|line| line.starts_with("warning: f:2:18: ")) && err.contains(expected), "{err}");
}

#[test]
fn dry_run_shows_event_targets_and_reasons() {
    let (code, out, _) = check(ROUTED, &["--event", "file.playback_ready"], "");
    let mut lines = out.lines();
    let event: Value = serde_json::from_str(lines.next().expect("a line")).expect("JSON");
    assert_eq!((code, &event["type"]), (0, &"io.videogen.file.playback_ready".into()));
    assert_eq!(event["data"]["file"]["hlsSource"]["url"], "https://cdn.videogen.invalid/vg_file_00000001/video.m3u8?…");
    assert!(!out.contains("signature"), "{out}");
    for expected in [
        "outcome: accepted",
        "→ stream: file.playback_ready, key `vg_file_00000001`",
        "→ kafka: videogen.file.playback_ready, key `io.videogen.file.playback_ready`",
        "route 1 (`file.*`) is the first that matches",
    ] {
        assert!(out.contains(expected), "{expected}\n{out}");
    }
    let tool = r#"{"event":"tool_execution.succeeded","toolExecutionId":"t","toolType":"TEXT_TO_SPEECH"}"#;
    let (code, out, _) = check(ROUTED, &["--body", "-", "--json"], tool);
    let run: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &run["event"]["subject"]), (0, &"t".into()));
    assert_eq!(
        run["targets"],
        serde_json::json!([{"destination": "kafka", "topic": "tool_execution.succeeded", "key": "t"}])
    );
    let why = [
        "route 2 (`tool_execution.**` when /toolType is \"GENERATE_IMAGE\") does not hold",
        "route 4 (`**`) is the first that matches",
    ];
    assert_eq!(run["why"], serde_json::json!(why));

    let paid = r#"{"type":"order.paid","data":{"id":"o"}}"#;
    let (code, out, _) = check(ROUTED, &["--body", "-", "--source", "shop"], paid);
    assert!(code == 0 && out.contains("→ kafka: order.paid, key `o`"), "{out}");
    // The same for the source that expects another payload: a dead letter, and what to set.
    let (code, out, _) = check(ROUTED, &["--body", "-"], paid);
    assert!(code == 1 && out.contains("set `payload: standard` for the source `videogen`"), "{out}");
    let (code, out, _) = check(ROUTED, &["--event", "order.invented"], "");
    assert!(code == 0 && out.contains("→ kafka: unrouted") && out.contains("so it goes to `unrouted`"), "{out}");
    for (arguments, expected) in [
        (&["--event", "a", "--source", "nope"][..], "`nope`: expected `videogen` or `shop`"),
        (&["--source", "shop"], "--event or --body"),
        (&["--body", "/nowhere"], "`/nowhere` cannot be read"),
        (&["--event", "a", "--body", "-"], "cannot be used with"),
    ] {
        let (code, out, err) = check(ROUTED, arguments, "");
        assert!(code == 2 && out.is_empty() && err.contains(expected), "{arguments:?}: {out}{err}");
    }
}

/// What `check` shows is what `serve` does.
#[tokio::test]
async fn serve_publishes_what_the_dry_run_shows() {
    let routes = "unrouted: left
routes:
  - {match: 'file.*', when: {pointer: /fileId, in: [a]}, to: [files, {destination: files, topic: 'of.{type}'}]}
  - {match: 'file.**', to: {destination: files, topic: all}}
  - {match: workflow_run.failed, to: []}
";
    let bridge = Bridge::serve(routes);
    let configuration = format!("destinations: {{files: {{url: 'file:x'}}}}\n{routes}");
    for (number, (event, file)) in [
        ("file.playback_ready", "a"),
        ("file.playback_ready", "b"),
        ("file.upload.failed", "a"),
        ("file.invented", "a"),
        ("workflow_run.failed", "a"),
        ("tool_execution.failed", "a"),
    ]
    .into_iter()
    .enumerate()
    {
        let (id, body) = (format!("m{number}"), body(event, file));
        let (_, out, _) = check(&configuration, &["--body", "-", "--json"], &body);
        let run: Value = serde_json::from_str(&out).expect("JSON");
        let word = post(&bridge.url("videogen"), &id, &body).await.word();
        assert_eq!(word, format!("200 {}", run["outcome"].as_str().expect("a text")), "{event}");
        let shown = run["targets"].as_array().expect("a list").iter().map(|it| it["topic"].as_str().expect("a topic"));
        let shown: Vec<&str> = shown.collect();
        for topic in ["file.playback_ready", "of.io.videogen.file.playback_ready", "all", "left"] {
            assert_eq!(bridge.ids(topic).contains(&id), shown.contains(&topic), "{event}: {topic}, {shown:?}");
        }
    }
}
