//! `schema asyncapi`: valid by AsyncAPI's own parser, with exactly the channels that `serve` publishes to and messages that
//! look as described.

#[path = "destinations/mod.rs"]
mod suite;
mod support;

use std::collections::BTreeSet;
use std::process::Command;

use hookbridge::config::{Flags, environment_of, load};
use hookbridge::samples::samples;
use serde_json::{Map, Value, json};
use suite::place::Place;
use suite::{Stored, Subject};
use support::command::run;
use support::packages;
use support::program::SECRET;
use support::sender::{body, now, post};
use support::validator::Validator;

/// Everything that the document can contain: each broker, both modes, several sources, conditions and parameters.
const EVERYTHING: &str = r#"
destinations:
  stream: {url: ["nats://user:pass-word@h1:4222", "nats://user:pass-word@h2:4222"], stream: VIDEOS, forward_signature: true}
  kafka: {url: "kafka://k1:9092,k2:9092", partitions: 6}
  rabbit: {url: "amqp://user:pass-word@r:5672/prod", exchange: videos}
  whole: {url: "amqp://user:pass-word@r:5672/%2f", mode: structured, topology: verify}
  files: {url: "file:/tmp/never-made"}
sources:
  videogen: {attributes: {env: "größe 1"}}
  shop: {payload: standard, events: [order.paid], uri: "https://shop.example"}
routes:
  - {match: "file.*", to: [stream, {destination: kafka, topic: "videogen.{event}", key: "{type}"}]}
  - {match: "tool_execution.**", when: {pointer: /toolType, in: [A]}, to: {destination: rabbit, topic: "images.{partition:3}.{subject}"}}
  - {match: "tool_execution.**", when: {pointer: /toolType, in: [B]}, to: {destination: rabbit, topic: "images.{partition:3}.{subject}"}}
  - {match: "tool_execution.**", to: {destination: rabbit, topic: "p{partition:2}.{partition:3}"}}
  - {match: "workflow_run.cancelled", source: videogen, to: []}
  - {match: "workflow_run.**", to: [whole, {destination: whole, topic: "{source}"}]}
  - {match: "project_export.**", to: [files]}
  - {match: "**", to: kafka}
store: memory
dead_letters: {to: files}
"#;

const PLAIN: &str = "destinations: {nats: {url: 'nats://h'}}";

fn written(configuration: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("hookbridge.yaml");
    std::fs::write(&path, configuration).expect("written");
    let path = path.to_str().expect("UTF-8").to_owned();
    (directory, path)
}

fn document(path: &str) -> Value {
    let (code, out, err) = run(&["schema", "asyncapi", "--config", path], &[], "");
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).expect("JSON")
}

/// The names that an address stands for, with `*` for the subject.
fn expanded(channel: &Value) -> Vec<String> {
    let mut names = vec![channel["address"].as_str().expect("an address").replace("{subject}", "*")];
    for (parameter, described) in channel["parameters"].as_object().into_iter().flatten() {
        let Some(values) = described["enum"].as_array() else { continue };
        let with =
            |name: &String, value: &Value| name.replace(&format!("{{{parameter}}}"), value.as_str().expect("a text"));
        names = names.iter().flat_map(|name| values.iter().map(|value| with(name, value))).collect();
    }
    names
}

#[test]
fn channels_are_the_topics_of_the_configuration() {
    hookbridge::tls::install_provider();
    for configuration in [EVERYTHING, PLAIN] {
        let (_directory, path) =
            written(&configuration.replace("{payload: standard", "{secrets: '${S}', payload: standard"));
        let document = document(&path);
        let flags = Flags { config: Some(path.into()), ..Flags::default() };
        let environment = environment_of([("S", SECRET), ("HOOKBRIDGE_SECRET", SECRET)]);
        let settings = load(&flags, &environment).unwrap_or_else(|error| panic!("{error}")).settings;
        for destination in &settings.destinations {
            let server = format!("#/servers/{}", destination.name);
            let channels = document["channels"].as_object().expect("channels").values();
            let channels = channels.filter(|channel| channel["servers"][0]["$ref"] == server.as_str());
            let described: Vec<String> = channels.flat_map(expanded).collect();
            let mut topics: Vec<String> = settings.topics(&destination.name);
            if &*destination.name == "files" {
                topics = topics.iter().chain([&"dead-letters".to_owned()]).map(|it| format!("{it}.ndjson")).collect();
            }
            let unique: BTreeSet<&String> = described.iter().collect();
            assert_eq!(unique.len(), described.len(), "{described:?}");
            assert_eq!(unique, topics.iter().collect(), "{}", destination.name);
        }
    }
}

#[test]
fn each_channel_carries_the_events_that_check_shows() {
    let (_directory, path) = written(EVERYTHING);
    let document = document(&path);
    let (_, out, err) = run(&["check", "--json", "--config", &path], &[], "");
    assert!(out.is_empty() && err.contains("secret"), "`check` needs the secrets, `schema` does not: {err}");
    let with_secrets = EVERYTHING.replace("{payload: standard", &format!("{{secrets: '{SECRET}', payload: standard"));
    let (_directory, path) = written(&with_secrets);
    let (_, table, err) = run(&["check", "--json", "--config", &path, "--secret", SECRET], &[], "");
    let table: Value = serde_json::from_str(&table).unwrap_or_else(|_| panic!("{err}"));
    let mut shown = BTreeSet::new();
    for source in table.as_array().expect("sources") {
        for row in source["events"].as_array().expect("rows") {
            let event = row["event"].as_str().expect("a name");
            for target in row["goes"].as_str().expect("text").split(", ").filter_map(|it| it.split_once(": ")) {
                let event = if event == "any other name" { "other" } else { event };
                let name = |n: &str| n.replace("{partition:3}", "{partition}");
                let topic =
                    if target.1.starts_with("p{") { "p{partition}.{partition2}".into() } else { name(target.1) };
                shown.insert((
                    target.0.to_owned(),
                    topic,
                    format!("{}.{event}", source["name"].as_str().expect("a name")),
                ));
            }
        }
    }
    let mut described = BTreeSet::new();
    for channel in document["channels"].as_object().expect("channels").values() {
        let destination = channel["servers"][0]["$ref"].as_str().expect("a reference").trim_start_matches("#/servers/");
        let address = channel["address"].as_str().expect("an address").trim_end_matches(".ndjson");
        for message in channel["messages"].as_object().expect("messages").keys() {
            described.insert((destination.to_owned(), address.to_owned(), message.clone()));
        }
    }
    assert!(shown.is_subset(&described), "{:#?}", shown.difference(&described));
    // The table has one line for all names that are new to hookbridge.
    let more: Vec<_> = described.difference(&shown).filter(|(_, address, _)| address != "unrouted").collect();
    let expected = [
        ("files", "dead-letters", "dead_letter"),
        ("rabbit", "images.{partition}.{subject}", "shop.other"),
        ("rabbit", "p{partition}.{partition2}", "shop.other"),
        ("whole", "shop", "shop.other"),
    ];
    assert_eq!(
        more,
        expected.map(|(to, topic, name)| (to.to_owned(), topic.to_owned(), name.to_owned())).iter().collect::<Vec<_>>()
    );
}

#[test]
fn document_holds_no_credentials() {
    let (_directory, path) = written(EVERYTHING);
    let document = document(&path);
    assert!(!document.to_string().contains("pass-word"));
    assert_eq!(document["servers"]["stream"]["host"], "h1:4222");
    assert_eq!(document["servers"]["rabbit"]["pathname"], "/prod");
}

#[test]
fn bindings_name_what_is_created() {
    let (_directory, path) = written(EVERYTHING);
    let document = document(&path);
    let at = |pointer: &str| document.pointer(pointer).unwrap_or_else(|| panic!("{pointer}")).clone();
    assert_eq!(at("/channels/stream.file.analysis_completed/x-jetstream/stream"), "VIDEOS");
    let kafka = at("/channels/kafka.videogen.file.analysis_completed/bindings/kafka");
    assert_eq!((&kafka["topic"], &kafka["partitions"]), (&json!("videogen.file.analysis_completed"), &json!(6)));
    let images = at("/channels/rabbit.images._partition_3_._subject_");
    assert_eq!(
        (&images["address"], &images["x-queue"]["name"]),
        (&json!("images.{partition}.{subject}"), &json!("images.{partition}.*"))
    );
    assert_eq!(
        (&images["bindings"]["amqp"]["exchange"]["name"], &images["bindings"]["amqp"]["exchange"]["vhost"]),
        (&json!("videos"), &json!("prod"))
    );
    let summary = at("/channels/rabbit.images._partition_3_._subject_/messages/videogen.tool_execution.failed/summary");
    assert_eq!(summary, "if /toolType is \"A\" or if /toolType is \"B\"");
    assert_eq!(at("/operations/publish.whole.videogen/bindings/amqp/mandatory"), true);
}

#[test]
fn asyncapi_parser_finds_it_valid() {
    let packages = packages::npm("asyncapi", &["@asyncapi/parser@3.6.6"]);
    let script = packages.join("parse.mjs");
    std::fs::write(
        &script,
        "import {Parser} from '@asyncapi/parser'; import {readFileSync} from 'node:fs';
         for (const path of process.argv.slice(2)) {
           const {document, diagnostics} = await new Parser().parse(readFileSync(path, 'utf8'));
           const problems = diagnostics.filter((found) => found.severity < 2 || !document);
           console.log(JSON.stringify({channels: document?.channels().all().length, problems}));
         }",
    )
    .expect("written");
    let (directory, path) = written(EVERYTHING);
    let (_other, plain) = written(PLAIN);
    let (everything, small, broken) =
        (directory.path().join("e.json"), directory.path().join("p.json"), directory.path().join("b.json"));
    let mut wrong = document(&plain);
    wrong["channels"]["nats.unrouted"]["messages"]["other"]["payload"]["type"] = "thing".into();
    std::fs::write(&everything, document(&path).to_string()).expect("written");
    std::fs::write(&small, document(&plain).to_string()).expect("written");
    std::fs::write(&broken, wrong.to_string()).expect("written");
    let out = packages::run(Command::new("node").arg(script).args([everything, small, broken]), "nodejs");
    let parsed: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        parsed[0],
        json!({"channels": document(&path)["channels"].as_object().expect("channels").len(), "problems": []})
    );
    assert_eq!(parsed[1], json!({"channels": 19, "problems": []}));
    assert_ne!(parsed[2]["problems"], json!([]), "the parser sees mistakes");
}

/// The headers as they are on the wire; the reader of the suite has taken them apart.
fn headers(stored: &Stored, address: &str) -> Value {
    let mut headers: Map<String, Value> = Map::new();
    let prefix = match address.split(':').next() {
        Some("nats") => "ce-",
        Some("kafka") => "ce_",
        _ => "cloudEvents_",
    };
    headers.extend(stored.attributes.iter().map(|(name, value)| (format!("{prefix}{name}"), value.as_str().into())));
    headers.extend(stored.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())));
    match prefix {
        "ce-" => drop(headers.insert("ce-datacontenttype".into(), stored.content_type.as_str().into())),
        "ce_" => drop(headers.insert("content-type".into(), stored.content_type.as_str().into())),
        _ => {}
    }
    headers.into()
}

async fn serve_publishes_what_the_document_describes<S: Subject>(place: Place<S>) {
    let routes =
        "[{match: 'file.**', to: [{destination: broker, topic: 'videos.{event}'}]}, {match: '**', to: broker}]";
    let program = place.serve_routes(routes).await;
    let document = document(place.directory().join("hookbridge.yaml").to_str().expect("UTF-8"));
    let all = samples(7, now());
    for (number, sample) in all.iter().enumerate() {
        let answer = post(&program.url("videogen"), &format!("msg_{number}"), &sample.body).await;
        assert_eq!(answer.word(), "200 accepted");
    }
    let new = post(&program.url("videogen"), "new", &body("file.invented_tomorrow", "f1")).await;
    assert_eq!(new.word(), "200 accepted");
    let mut found = BTreeSet::new();
    for (key, channel) in document["channels"].as_object().expect("channels") {
        let topic = channel["address"].as_str().expect("an address").trim_end_matches(".ndjson");
        for stored in place.stored(topic).await {
            let id = stored.id();
            let number = id.strip_prefix("msg_").map(|number| number.parse::<usize>().expect("a number"));
            let name = number.map_or("other", |number| &all[number].name);
            let at = format!("/channels/{key}/messages/{name}");
            let message = document.pointer(&at).unwrap_or_else(|| panic!("{at} does not exist"));
            assert_eq!(message["contentType"], stored.content_type.as_str(), "{at}");
            let payload: Value = serde_json::from_slice(&stored.body).expect("JSON");
            assert_eq!(Validator::at(&document, &format!("{at}/payload")).check(&payload), Ok(()), "{at}");
            if message["headers"].is_object() {
                let headers = headers(&stored, &place.url());
                assert_eq!(Validator::at(&document, &format!("{at}/headers")).check(&headers), Ok(()), "{headers}");
                // Nothing but what is described, and what only hookbridge's NATS server reads.
                let described = &document["components"]["schemas"]["headers.broker.videogen"]["properties"];
                let undescribed = headers.as_object().expect("headers").keys();
                let undescribed: Vec<_> = undescribed.filter(|name| described[name.as_str()].is_null()).collect();
                assert!(undescribed.iter().all(|name| *name == "Nats-Expected-Stream"), "{undescribed:?}");
            }
            assert!(found.insert(id), "an event is in two channels");
        }
    }
    assert_eq!(found.len(), all.len() + 1, "an event is in no channel: {found:?}");
}

suite::place::whole_program! {
    { serve_publishes_what_the_document_describes };
    files: suite::file::Files;
    nats: suite::nats::Nats;
    kafka: suite::kafka::Kafka;
    rabbitmq: suite::rabbitmq::Rabbitmq;
}
