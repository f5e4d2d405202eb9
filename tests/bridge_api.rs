//! How commands reach a bridge, and what its API does with calls that are not as they should be.

mod support;

use std::collections::BTreeSet;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use support::command::run;
use support::sender::{client, post};
use support::site::Site;

const FILES: &str = "destinations: {files: {url: 'file:DIR/events'}}";

fn count(letters: &Value) -> usize {
    letters.as_array().expect("a list").len()
}

/// All bridges of a machine have one address by default, so what answers there may be the bridge of another store.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_changes_the_store_of_its_own_configuration() {
    let (own, other) = (Site::new(FILES), Site::new(FILES));
    let mut program = own.serve();
    assert_eq!(post(&program.url("videogen"), "own", "not json").await.word(), "200 dead-lettered");
    assert!(program.term().success());
    let program = other.serve();
    assert_eq!(post(&program.url("videogen"), "other", "not json").await.word(), "200 dead-lettered");
    let (code, out, err) = run(
        &["dead-letters", "discard", "--all", "--yes", "--config", &own.config()],
        &[("HOOKBRIDGE_ADMIN", &program.admin)],
        "",
    );
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(count(&own.json(None, &["dead-letters", "list"])), 0);
    assert_eq!(count(&other.json(Some(&program), &["dead-letters", "list"])), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_does_not_answer_is_named() {
    let site = Site::new(FILES);
    let program = site.serve();
    program.signal("STOP");
    let (code, _, err) = site.command(Some(&program), &["dead-letters", "list"]);
    program.signal("CONT");
    assert!(code == 1 && err.contains("did not answer within 30 s"), "{code} {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_ids_and_parameters_are_problems() {
    let site = Site::new(FILES);
    let program = site.serve();
    assert_eq!(post(&program.url("videogen"), "kept", "not json").await.word(), "200 dead-lettered");
    let letters = format!("http://{}/api/v1/dead-letters", program.admin);
    let kept = site.json(Some(&program), &["dead-letters", "list"])[0]["id"].clone();
    let json = |request: reqwest::RequestBuilder| request.header("content-type", "application/json");
    for request in [
        client().get(format!("{letters}/%FF")),
        json(client().delete(format!("{letters}/%FF"))),
        json(client().post(format!("{letters}/%FF/replay"))),
        json(client().delete(format!("{letters}/{kept}?dry-run=true"))),
        json(client().post(format!("{letters}/{kept}/replay?destination=files"))),
    ] {
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 400);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    assert_eq!(count(&site.json(Some(&program), &["dead-letters", "list"])), 1);
    let id = kept.to_string();
    let (code, out, err) = site.command(Some(&program), &["dead-letters", "discard", &id, &id, "--yes"]);
    assert!(code == 0 && out.matches("discarded").count() == 1, "{out}{err}");
}

/// The names of a JSON object's members.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut names = Vec::new();
        while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
            names.push(name);
        }
        Ok(names)
    }
}

/// Parsers keep the last of two members with one name.
#[tokio::test(flavor = "multi_thread")]
async fn no_log_line_has_a_name_twice() {
    let site = Site::new(&format!("{FILES}\nunrouted: dead-letter\nroutes: [{{match: 'file.**', to: [files]}}]"));
    let mut program = site.serve();
    let url = program.url("videogen");
    for id in ["first", "second"] {
        let event = support::sender::body("workflow_run.failed", "w");
        assert_eq!(post(&url, id, &event).await.word(), "200 dead-lettered");
    }
    site.command(Some(&program), &["dead-letters", "replay", "--all"]);
    site.command(Some(&program), &["ledger", "forget", "first"]);
    site.command(Some(&program), &["dead-letters", "discard", "--all", "--yes"]);
    assert!(program.term().success());
    let log = program.log();
    for line in ["dead letter replayed", "id forgotten", "dead letter discarded"] {
        assert!(log.contains(line), "{line}");
    }
    for line in log.lines().filter(|line| line.starts_with('{')) {
        let names = serde_json::Deserializer::from_str(line).deserialize_map(Names).expect(line);
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{line}");
    }
}
