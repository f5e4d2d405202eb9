//! The topology: one stream that takes every topic. This file decides without I/O; [`stream`] asks the server.

use std::sync::Arc;
use std::time::Duration;

use async_nats::ServerInfo;
use serde_json::Value;

use crate::destination::Opening;
use crate::destination::found::Found;
use crate::destination::permission;
use crate::destination::settings::{OversizePolicy, Topology};
use crate::reason::{Failure, Reason};
use retention::Retention;
use size::WINDOW;

mod permitted;
pub(super) mod retention;
mod size;
pub(super) mod stream;
mod subjects;

/// Headers may add this many bytes to a body.
const HEADERS: u64 = 8 << 10;

/// What the destination needs.
pub(super) struct Wanted {
    /// The destination's name, for log lines.
    destination: Arc<str>,
    /// The name of the stream.
    pub(super) stream: String,
    /// The subjects that the stream must take, with wildcards.
    topics: Vec<String>,
    /// The largest body, in bytes.
    body_limit: usize,
    /// What becomes of events that are too large.
    oversize: OversizePolicy,
    /// Whether a missing stream or subject is created, or only reported.
    create: bool,
}

impl Wanted {
    pub(super) fn new(opening: &Opening) -> Self {
        let settings = &opening.settings;
        Wanted {
            destination: Arc::clone(&settings.name),
            stream: settings.stream.clone(),
            topics: opening.topics.clone(),
            body_limit: opening.body_limit,
            oversize: settings.oversize,
            create: settings.topology == Topology::Ensure,
        }
    }

    /// Whether the check of the permissions asks about this subject on every connection.
    pub(super) fn asks_about(&self, subject: &str) -> bool {
        self.topics.iter().any(|topic| permission::sample(topic) == subject)
    }

    /// The topics that the stream does not take. `stream` is its description, `None` if it does not exist.
    fn missing(&self, stream: Option<&Value>) -> Vec<String> {
        self.missing_except(stream, &[])
    }

    /// Likewise, without the topics that other streams take.
    fn missing_except(&self, stream: Option<&Value>, except: &[(String, String)]) -> Vec<String> {
        let wanted = |topic: &&String| !except.iter().any(|(other, _)| other == *topic);
        let topics: Vec<String> = self.topics.iter().filter(wanted).cloned().collect();
        subjects::missing(&stream.map(subjects_of).unwrap_or_default(), &topics)
    }

    /// Compares a server and its stream to what the destination needs. What can still be created is no problem.
    /// `replicas`: whether a stream of one replica gets a warning.
    fn compare(&self, server: &ServerInfo, stream: Option<&Value>, replicas: bool) -> Found {
        let cluster = server.cluster.as_ref().map_or(String::new(), |cluster| format!(", cluster {cluster}"));
        let mut found = Found {
            lines: vec![format!("NATS {} ({}{cluster})", server.version, server.server_name)],
            ..Found::default()
        };
        let largest = self.body_limit as u64 + HEADERS;
        if (server.max_payload as u64) < largest {
            found.warnings.push(format!(
                "the server's max_payload is {} bytes, and limits.body {} bytes: {}",
                server.max_payload,
                self.body_limit,
                self.oversize.consequence()
            ));
        }
        let problem = |text: String| Failure::new(Reason::Topology, text);
        let name = &self.stream;
        let Some(stream) = stream else {
            if self.create {
                found.lines.push(format!("stream {name} does not exist yet"));
            } else {
                found
                    .problems
                    .push(problem(format!("stream {name} does not exist: create it, or set topology: ensure")));
            }
            return found;
        };
        for (key, why) in [("no_ack", "it confirms no message"), ("sealed", "it takes no more messages")] {
            if stream["config"][key] == true {
                found.problems.push(problem(format!("stream {name} has {key} set: {why}")));
            }
        }
        found.problems.extend(Retention::of(name, stream).discards());
        found.lines.push(format!("stream {name}: {} messages", stream["state"]["messages"]));
        let missing = self.missing(Some(stream)).join(", ");
        if !missing.is_empty() && self.create {
            found.lines.push(format!("stream {name} does not take {missing} yet"));
        } else if !missing.is_empty() {
            let text = format!("stream {name} does not take {missing}: add the subjects, or set topology: ensure");
            found.problems.push(problem(text));
        }
        let warnings = warnings(&stream["config"], largest, replicas);
        found.warnings.extend(warnings.into_iter().map(|warning| format!("stream {name}: {warning}")));
        found
    }
}

/// The subjects in a stream's description.
fn subjects_of(stream: &Value) -> Vec<String> {
    let subjects = stream["config"]["subjects"].as_array().into_iter().flatten();
    subjects.filter_map(Value::as_str).map(String::from).collect()
}

/// What makes a stream less safe than one that the destination creates. `largest` is the size of the largest event in bytes.
fn warnings(config: &Value, largest: u64, replicas: bool) -> Vec<String> {
    let mut found = Vec::new();
    let text = |key: &str| config[key].as_str().unwrap_or_default().to_string();
    let number = |key: &str| config[key].as_i64().unwrap_or(-1);
    if text("storage") == "memory" {
        found.push("memory storage: a restart of the server loses its messages".into());
    }
    if text("discard") != "new" {
        found.push("discard old: a full stream deletes events that were confirmed".into());
    }
    let most = number("max_msgs_per_subject");
    if most > 0 && (text("discard") != "new" || config["discard_new_per_subject"] != true) {
        found.push(format!(
            "max_msgs_per_subject is {most}: a subject keeps its last {most} events, and deletes the rest"
        ));
    }
    if text("retention") != "limits" {
        let retention = text("retention");
        found.push(format!("retention {retention}: a retry of an event that was consumed is stored again"));
    }
    if text("retention") == "interest" {
        found.push("retention interest: confirmed events of a topic without a consumer are thrown away".into());
    }
    if replicas && config["num_replicas"].as_u64().unwrap_or(1) < 2 {
        found.push("one replica: messages that its server has not synced are lost with it".into());
    }
    let window = Duration::from_nanos(config["duplicate_window"].as_u64().unwrap_or(0));
    if window < WINDOW {
        found.push(format!("duplicate_window is {} s: later retries are stored again", window.as_secs()));
    }
    let age = Duration::from_nanos(config["max_age"].as_u64().unwrap_or(0));
    if !age.is_zero() && age < WINDOW {
        found.push(format!("max_age is {} s: slow workers lose events", age.as_secs()));
    }
    let size = number("max_msg_size");
    if size >= 0 && (size as u64) < largest {
        found.push(format!("max_msg_size is {size} bytes: larger events become dead letters"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wanted(create: bool) -> Wanted {
        let topics = vec!["a".into(), "b".into()];
        Wanted {
            destination: "nats".into(),
            stream: "E".into(),
            topics,
            body_limit: 1000,
            oversize: OversizePolicy::DeadLetter,
            create,
        }
    }

    /// A stream without a weakness.
    fn stream(subjects: &[&str]) -> Value {
        let window = WINDOW.as_nanos() as u64;
        let config = json!({
            "subjects": subjects, "storage": "file", "discard": "new", "retention": "limits", "num_replicas": 3,
            "max_msg_size": -1, "max_msgs_per_subject": -1, "duplicate_window": window, "max_age": 12 * window,
        });
        json!({ "config": config, "state": { "messages": 7 } })
    }

    fn server(max_payload: usize) -> ServerInfo {
        ServerInfo { version: "2.12".into(), server_name: "n1".into(), max_payload, ..ServerInfo::default() }
    }

    #[test]
    fn missing_topology_is_a_problem_only_in_verify_mode() {
        let with = |key: &str| {
            let mut stream = stream(&["a", "b"]);
            stream["config"][key] = true.into();
            stream
        };
        for (create, stream, problem, lines) in [
            (true, None, "", vec!["stream E does not exist yet"]),
            (false, None, "does not exist", vec![]),
            (true, Some(stream(&["a"])), "", vec!["stream E: 7 messages", "stream E does not take b yet"]),
            (false, Some(stream(&["a"])), "does not take b:", vec!["stream E: 7 messages"]),
            (false, Some(stream(&[">"])), "", vec!["stream E: 7 messages"]),
            (true, Some(with("no_ack")), "no_ack", vec!["stream E: 7 messages"]),
            (true, Some(with("sealed")), "sealed", vec!["stream E: 7 messages"]),
        ] {
            let found = wanted(create).compare(&server(1 << 20), stream.as_ref(), true);
            assert_eq!(found.warnings, Vec::<String>::new());
            assert_eq!(found.lines[0], "NATS 2.12 (n1)");
            assert_eq!(found.lines[1..], lines, "{create} {stream:?}");
            match found.fits() {
                Ok(()) => assert_eq!(problem, "", "{create} {stream:?}"),
                Err(failure) => {
                    assert_eq!(failure.reason, Reason::Topology);
                    assert!(!problem.is_empty() && failure.detail.contains(problem), "{failure}");
                }
            }
        }
    }

    #[test]
    fn stream_that_discards_is_a_problem_in_both_modes() {
        let mut interest = stream(&["a", "b"]);
        interest["config"]["retention"] = "interest".into();
        for create in [true, false] {
            let mut problems = |consumers: u64| {
                interest["state"]["consumer_count"] = consumers.into();
                let found = wanted(create).compare(&server(1 << 20), Some(&interest), true);
                assert_eq!(found.warnings.len(), 2, "{:?}", found.warnings);
                found.problems
            };
            let found = problems(0);
            assert!(found.len() == 1 && found[0].reason == Reason::Topology, "{found:?}");
            assert!(found[0].detail.contains("no consumer"), "{found:?}");
            assert_eq!(problems(1), []);
        }
    }

    #[test]
    fn each_weakness_has_a_warning() {
        let warnings = |max_payload, replicas, change: &[(&str, Value)]| {
            let mut stream = stream(&["a", "b"]);
            for (key, value) in change {
                stream["config"][key] = value.clone();
            }
            wanted(true).compare(&server(max_payload), Some(&stream), replicas).warnings
        };
        for (key, value, word) in [
            ("storage", json!("memory"), "memory"),
            ("discard", json!("old"), "discard"),
            ("retention", json!("workqueue"), "workqueue"),
            ("num_replicas", json!(1), "replica"),
            ("duplicate_window", json!(120_000_000_000_u64), "120 s"),
            ("max_age", json!(3_600_000_000_000_u64), "max_age"),
            ("max_msg_size", json!(999), "max_msg_size"),
            ("max_msgs_per_subject", json!(5), "keeps its last 5 events"),
        ] {
            let found = warnings(1 << 20, true, &[(key, value)]);
            assert!(
                found.len() == 1 && found[0].starts_with("stream E: ") && found[0].contains(word),
                "{key}: {found:?}"
            );
        }
        let found = warnings(1000, true, &[]);
        assert!(found.len() == 1 && found[0].contains("max_payload is 1000"), "{found:?}");
        let per_subject = [("max_msgs_per_subject", json!(5)), ("discard_new_per_subject", json!(true))];
        assert_eq!(warnings(1 << 20, true, &per_subject), Vec::<String>::new());
        let old = [("max_msgs_per_subject", json!(5)), ("discard", json!("old"))];
        assert_eq!(warnings(1 << 20, true, &old).len(), 2);
        assert_eq!(warnings(1 << 20, false, &[("num_replicas", json!(1))]), Vec::<String>::new());
    }
}
