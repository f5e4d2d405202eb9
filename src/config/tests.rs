//! Loading a file, an environment and flags: the settings, or the mistakes at their places.

use std::io::Write as _;

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::destination::settings::{BrokerUrl, Mode};
use crate::naming::Kind;
use crate::secret::Secret;

mod mistakes;
mod precedence;
mod secrets;

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_KEY: &str = "whsec_yx0oskn8bFTxPzSrt6gpI3FCn+yeUHeDgYXHmoJBd3A=";

/// The environment of the tests, so that files need not contain keys.
const VARIABLES: [(&str, &str); 4] =
    [("KEY", KEY), ("OTHER", OTHER_KEY), ("BAD", "hunter2hunter2"), ("PASSWORD", "hunter2@x")];

fn load_text(text: &str, flags: Flags, environment: &Environment<'_>) -> Result<Loaded, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().to_owned();
    let loaded = load(&Flags { config: Some(path.clone()), ..flags }, environment);
    loaded.map_err(|mistakes| mistakes.to_string().replace(&path.display().to_string(), "f"))
}

fn load_file(text: &str) -> Result<Loaded, String> {
    load_text(text, Flags::default(), &environment_of(VARIABLES))
}

/// Loads a valid file with a source, a NATS destination, and further lines.
fn valid(more: &str) -> Loaded {
    let text = format!(
        "sources: {{videogen: {{secrets: \"${{KEY}}\"}}}}\ndestinations: {{stream: {{url: \"nats://h\"}}}}\n{more}"
    );
    load_file(&text).unwrap()
}

/// The example in the design document.
const EXAMPLE: &str = r#"
sources:
  videogen:
    secrets: ["${VIDEOGEN_SIGNING_SECRET}", "${file:NEXT}"]
    path: /webhooks/videogen          # these are the defaults
    uri: https://api.videogen.io
    tolerance: 300s
    legacy_headers: false
    attributes: {env: prod}
destinations:
  stream: {url: "nats://nats:4222", stream: EVENTS, mode: binary, topology: ensure}
  rabbit: {url: "amqps://user:${RABBIT_PASSWORD}@rabbit:5671/prod", exchange: events}
  kafka:  {url: "kafka://k1:9092,k2:9092", partitions: 12, properties: {security.protocol: SASL_SSL, sasl.mechanism: PLAIN, sasl.username: hookbridge, sasl.password: "${KAFKA_PASSWORD}"}}
routes:
  - match: "file.**"
    to: [stream, {destination: kafka, topic: "videogen.{event}", key: "{subject}"}]
  - match: "tool_execution.**"
    when: {pointer: /toolType, in: [GENERATE_IMAGE]}
    to: [rabbit]
  - match: "**"
    to: [stream]
unrouted: unrouted
ack: published
store: embedded
dedup: {window: 7d}
listen: "0.0.0.0:8080"
admin: {listen: "127.0.0.1:9464"}
"#;

#[test]
fn example_of_the_design_is_valid() {
    let next = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(next.path(), format!("{OTHER_KEY}\n")).unwrap();
    let text = EXAMPLE.replace("NEXT", &next.path().display().to_string());
    let environment = environment_of([
        ("VIDEOGEN_SIGNING_SECRET", KEY),
        ("RABBIT_PASSWORD", "hunter2"),
        ("KAFKA_PASSWORD", "hunter2"),
    ]);
    let Loaded { settings, warnings, .. } = load_text(&text, Flags::default(), &environment).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(settings.sources[0].keys.len(), 2);
    assert_eq!(*settings.sources[0].attributes, [("env".to_owned(), "prod".to_owned())]);
    assert_eq!(settings.destinations[2].url, BrokerUrl::Kafka(vec!["k1:9092".into(), "k2:9092".into()]));
    let rabbit = BrokerUrl::Amqp(vec![Secret::new("amqps://user:hunter2@rabbit:5671/prod")]);
    assert_eq!(settings.destinations[1].url, rabbit);
    assert_eq!(settings.routes.rules.len(), 3);
    assert_eq!(
        settings.topics("kafka"),
        [
            "unrouted",
            "videogen.file.analysis_completed",
            "videogen.file.analysis_failed",
            "videogen.file.download_ready",
            "videogen.file.playback_ready",
            "videogen.file.upload.completed",
            "videogen.file.upload.failed",
        ]
    );
    assert_eq!(
        settings.topics("rabbit"),
        ["tool_execution.cancelled", "tool_execution.failed", "tool_execution.succeeded", "unrouted"]
    );
    // All 18: the condition may not hold for tool executions.
    assert_eq!(settings.topics("stream").len(), 19);
    assert_eq!(settings.topics("nowhere"), Vec::<String>::new());
}

#[test]
fn single_destination_without_routes_takes_everything() {
    let settings = valid("").settings;
    assert_eq!(settings.routes.rules.len(), 1);
    assert_eq!(settings.topics("stream").len(), 19);
    assert_eq!(*settings.routes.fallback.0, *"stream");
    assert_eq!((settings.listen.port(), settings.admin.port()), (8080, 9464));
    assert_eq!(settings.limits.body, 8 << 20);
    assert_eq!(settings.sources[0].path, "/webhooks/videogen");
    assert_eq!(settings.sources[0].type_prefix, "io.videogen.");
}

#[test]
fn unrouted_topic_exists_only_where_it_can_be_needed() {
    let topics = |more: &str, name: &str| valid(more).settings.topics(name);
    let fixed = "routes: [{match: '**', to: [{destination: stream, topic: all}]}]";
    assert_eq!(topics(fixed, "stream"), ["all"]);
    let partly = "routes: [{match: 'file.*', to: [{destination: stream, topic: all}]}]\nunrouted: rest";
    assert_eq!(topics(partly, "stream"), ["all", "rest"]);
    let two = "sources: {videogen: {secrets: '${KEY}'}}
destinations: {stream: {url: 'nats://h'}, second: {url: 'nats://i'}}
routes: [{match: '**', to: [stream]}]
unrouted: {destination: second, topic: rest}";
    let settings = load_file(two).unwrap().settings;
    assert_eq!((settings.topics("stream").len(), settings.topics("second")), (18, vec!["rest".into()]));
    assert_eq!(topics(&partly.replace("rest", "ignore"), "stream"), ["all"]);
    let shadowed = "routes: [{match: 'file.*', to: [{destination: stream, topic: files}]}, {match: 'file.**', to: [stream]}]\nunrouted: ignore";
    assert_eq!(topics(shadowed, "stream"), ["file.upload.completed", "file.upload.failed", "files"]);
    let parts = "routes: [{match: '**', to: [{destination: stream, topic: 'x.{partition:2}.{subject}'}]}]";
    assert_eq!(topics(parts, "stream"), ["x.0.*", "x.1.*"]);
}

fn warnings(more: &str) -> Vec<String> {
    valid(more).warnings.into_iter().map(|warning| warning.message).collect()
}

#[test]
fn optional_targets_are_as_written() {
    let route = |to: &str| format!("routes: [{{match: '**', to: [{to}]}}]");
    let optional = "stream, {destination: stream, topic: 'copy.{event}', required: false}";
    let settings = valid(&route(optional)).settings;
    let required: Vec<bool> = settings.routes.rules[0].to.iter().map(|to| to.required).collect();
    assert_eq!(required, [true, false]);
    assert!(settings.print().contains("\"required\":false"), "{}", settings.print());
    let only = "{destination: stream, required: 'false'}";
    let all_optional = "every target of this route is optional: in an outage of all of them, its events are answered 200 and \
                        are only in the dead letters";
    assert_eq!(warnings(&route(only)), [all_optional]);
    let memory = warnings(&format!("{}\nstore: memory", route(optional)));
    assert!(memory.len() == 1 && memory[0].contains("keeps no dead letters"), "{memory:?}");
    assert!(warnings(&format!("{}\nstore: memory\ndead_letters: {{to: stream}}", route(optional))).is_empty());
}

#[test]
fn probably_unintended_settings_are_warnings() {
    let late = "limits: {request_timeout: 20s}";
    assert_eq!(warnings(late), ["VideoGen times out after 15 s and does not see a later answer"]);
    let twice = "routes: [{match: '**', to: [stream, stream]}]";
    assert_eq!(warnings(twice), ["the route has the same destination and topic twice"]);
    assert_eq!(warnings("unrouted: deadletter"), ["`deadletter` is a topic; did you mean `dead-letter`?"]);
    assert_eq!(warnings("routes: [{match: '**', to: []}]"), ["no route leads to the destination `stream`"]);
}

#[test]
fn routes_that_miss_events_are_warnings() {
    let typo = "routes: [{match: 'files.*', to: [stream]}, {match: '**', to: []}]";
    assert_eq!(warnings(typo), ["`files.*` matches no known event; did you mean `file`?"]);
    let unreachable =
        |pattern: &str| format!("nothing can reach this route: the earlier route `{pattern}` takes all of its events");
    let after = "routes: [{match: '**', to: [stream]}, {match: 'file.*', to: []}]";
    assert_eq!(warnings(after), [unreachable("**")]);
    let within =
        "routes: [{match: 'file.**', to: [stream]}, {match: file.upload.failed, to: []}, {match: '**', to: [stream]}]";
    assert_eq!(warnings(within), [unreachable("file.**")]);
    let narrow = "routes: [{match: 'file.*', to: [stream]}, {match: '**', to: []}]";
    assert_eq!(
        warnings(narrow),
        [
            "`file.*` does not match `file.upload.completed`, `file.upload.failed`: `*` is one part; `file.**` takes them too"
        ]
    );
    // Another route is about the events that `*` leaves out.
    let split = "routes: [{match: 'file.*', to: [stream]}, {match: 'file.upload.*', to: []}, {match: '**', to: []}]";
    assert_eq!(warnings(split), Vec::<String>::new());
    let partly = "routes: [{match: 'file.**', to: [stream]}, {match: 'tool_execution.*', to: []}, {match: 'workflow_run.*', when: {pointer: /a, in: [1]}, to: []}]";
    for (unrouted, outcome) in
        [("rest", "it goes to `rest`"), ("ignore", "it is ignored"), ("dead-letter", "it becomes a dead letter")]
    {
        let expected: Vec<String> = ["project_export", "assistant_message"]
            .iter()
            .flat_map(|kind| ["succeeded", "failed", "cancelled"].map(|end| format!("{kind}.{end}")))
            .map(|event| format!("no route takes the event `{event}` of the source `videogen`, so {outcome}"))
            .collect();
        assert_eq!(warnings(&format!("{partly}\nunrouted: {unrouted}")), expected);
    }
}

/// Two accounts or stages of VideoGen send the same payload.
#[test]
fn every_source_sends_what_videogen_sends() {
    let text = "sources: {videogen: {secrets: '${KEY}'}, stage: {secrets: '${OTHER}', uri: 'urn:stage'}}
destinations: {files: {url: 'file:out'}, other: {url: 'file:other'}}
routes: [{match: '**', source: stage, to: other}, {match: '**', source: [videogen], to: {destination: files, topic: all}}]";
    let Loaded { settings, warnings, .. } = load_file(text).unwrap();
    assert_eq!(warnings, []);
    let [videogen, stage] = &settings.sources[..] else { panic!("{:?}", settings.sources) };
    assert_eq!(
        (&stage.fields, &stage.events, &stage.type_prefix),
        (&videogen.fields, &videogen.events, &videogen.type_prefix)
    );
    assert_eq!(settings.topics("other").len(), 19, "18 events of `stage`, and its unknown ones");
    assert_eq!(settings.topics("files"), ["all"]);
    assert_eq!(
        load_file(&settings.print().replace("\"[secret]\"", &format!("\"{KEY}\""))).unwrap().settings.print(),
        settings.print()
    );
    let same = load_file(&text.replace(", uri: 'urn:stage'", "")).unwrap().warnings;
    let expected = "f:1:42: the sources `videogen` and `stage` have the same `uri`, so workers cannot tell their events apart: set another `uri`";
    assert_eq!(same.len(), 1);
    assert_eq!(format!("f:{}:{}: {}", same[0].line, same[0].column, same[0].message), expected);
}

#[test]
fn warnings_are_in_the_order_of_the_file() {
    let text = "limits: {request_timeout: 20s}\nunrouted: ignor\ndestinations: {stream: {url: 'nats://h'}, unused: {url: 'nats://h'}}\nroutes:\n- {match: 'file.**', to: [stream, stream]}\n- {match: 'x.*', to: stream}\nsources: {videogen: {secrets: '${KEY}'}, b: {secrets: '${KEY}'}}";
    let lines: Vec<u64> = load_file(text).unwrap().warnings.iter().map(|warning| warning.line).collect();
    assert_eq!((&lines[..5], lines[lines.len() - 1]), (&[1, 2, 3, 5, 6][..], 7));
    assert!(lines.is_sorted());
}

#[test]
fn source_of_another_sender_has_its_own_defaults() {
    let text = "sources: {shop: {secrets: \"${KEY} ${OTHER}\", payload: standard, events: [order.paid], fields: {subject: /data/order}}}
destinations: {files: {url: 'file:out'}}
unrouted: {destination: files, topic: rest}";
    let settings = load_file(text).unwrap().settings;
    let shop = &settings.sources[0];
    assert_eq!(
        (&*shop.name, &*shop.path, &*shop.uri, &*shop.type_prefix),
        ("shop", "/webhooks/shop", "/webhooks/shop", "shop.")
    );
    assert_eq!(shop.keys.len(), 2);
    assert_eq!((shop.fields.event.as_str(), shop.fields.subject.as_slice()), ("type", &["/data/order".to_owned()][..]));
    assert_eq!(settings.topics("files"), ["order.paid", "rest"]);
    assert_eq!(settings.destinations[0].mode, Mode::Structured);
}

#[test]
fn printed_settings_can_be_loaded() {
    let text = "sources: {videogen: {secrets: \"${KEY}\", attributes: {env: '$${x}'}}}
destinations:
  stream: {url: \"nats://u:${PASSWORD}@h\", auth: {token: \"${BAD}\"}}
  kafka: {url: 'kafka://k', properties: {client.id: \"${BAD}\"}}
routes: [{match: '**', when: {pointer: /a, in: [1, x]}, to: [{destination: kafka, topic: t, key: '{subject}'}]}]";
    let printed = load_file(text).unwrap().settings.print();
    assert!(!printed.contains("hunter2") && !printed.contains("whsec_"), "{printed}");
    assert!(printed.contains("nats://[secret]@h"), "{printed}");
    let again = printed.replace("\"secrets\":[\"[secret]\"]", "").replace("[\"[secret]\"]", &format!("[\"{KEY}\"]"));
    let again = load_file(&again.replace("[secret]@", "")).unwrap().settings.print();
    assert_eq!(again, printed.replace("[secret]@", ""));
}

/// YAML anchors need a place: keys that begin with `x-`, in every mapping of settings.
#[test]
fn extensions_are_ignored() {
    let text = "x-tls: &tls {ca: '${CA}', x-note: a}
x-source: &source {secrets: '${KEY}', tolerance: 60s}
sources:
  x-more: [1, {a: b}]
  videogen: {<<: *source, tolerance: 30s}
  stage: {<<: *source, uri: 'urn:stage', attributes: {x-a: b, env: prod}}
destinations:
  stream: {url: 'nats://h', tls: *tls, x-a: 1}
routes:
- {match: '**', x-why: everything, to: {destination: stream, x-a: 1}}
limits: {x-a: 1, body: 1MiB}
";
    let ca = tempfile::NamedTempFile::new().unwrap();
    let environment = environment_of([("KEY", KEY), ("CA", ca.path().to_str().unwrap())]);
    // The anchored file is read, and is empty.
    let found = load_text(text, Flags::default(), &environment).map(|loaded| loaded.settings).unwrap_err();
    assert_eq!(found, "f:8:34: `${CA}`: it holds no PEM certificate");
    let loaded = load_text(&text.replace("tls: *tls, ", ""), Flags::default(), &environment).unwrap();
    let tolerances: Vec<u64> = loaded.settings.sources.iter().map(|source| source.tolerance.as_secs()).collect();
    assert_eq!(tolerances, [30, 60]);
    assert_eq!(*loaded.settings.sources[1].attributes, [("env".to_owned(), "prod".to_owned())]);
    assert_eq!(loaded.settings.limits.body, 1 << 20);
}

#[test]
fn references_have_defaults() {
    let loaded = valid("listen: '${LISTEN:-127.0.0.1:1}'\ndata: '${KEY:-x}'");
    assert_eq!((loaded.settings.listen.port(), loaded.settings.data), (1, KEY.into()));
}

/// The example that users copy: its routes take every event.
#[test]
fn example_of_the_readme_is_valid() {
    let readme = include_str!("../../README.md");
    let section = readme.split("\n## Configuration\n").nth(1).unwrap();
    let example = section.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let next = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(next.path(), OTHER_KEY).unwrap();
    let example = example.replace("/run/secrets/next", &next.path().display().to_string());
    let example = example
        .replace("tls: {ca: /etc/ssl/kafka.pem},", "")
        .replace("{sasl.mech", "{security.protocol: sasl_ssl, sasl.mech");
    let environment = environment_of([
        ("VIDEOGEN_SIGNING_SECRET", KEY),
        ("VIDEOGEN_STAGE_SECRET", OTHER_KEY),
        ("RABBIT_PASSWORD", "hunter2"),
        ("KAFKA_PASSWORD", "hunter2"),
    ]);
    assert_eq!(load_text(&example, Flags::default(), &environment).unwrap().warnings, []);
}
