//! The stream: made or checked, and described.

use std::time::Duration;

use serde_json::{Value, json};

use super::api::{Refusal, ask, streams_of};
use super::{Connection, Shared, subjects, warnings};
use crate::destination::settings::Topology;
use crate::reason::{Failure, Reason};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// What a new stream keeps.
const MAX_AGE: Duration = DAY.saturating_mul(7);
const MAX_BYTES: u64 = 10 << 30;
/// Where nothing near `MAX_BYTES` is allowed: with less, a stream is not worth having.
const LEAST_BYTES: u64 = 16 << 20;
pub(super) const WINDOW: Duration = Duration::from_secs(2 * 3600);
const LEAST_WINDOW: Duration = Duration::from_secs(60);
const REPLICAS: u64 = 3;
/// How often a stream that others change meanwhile is read again.
const ROUNDS: usize = 8;

/// Makes the stream, or adds the subjects it lacks; with `topology: verify` only looks. Gives what makes it less safe than
/// it could be.
pub(super) async fn ensure(shared: &Shared, connection: &Connection) -> Result<Vec<String>, Failure> {
    let (name, topics) = (&shared.settings.stream, &shared.topics);
    let verify = shared.settings.topology == Topology::Verify;
    // Another replica may change it between our reading and writing, and there is no compare-and-set: so read again.
    for _ in 0..ROUNDS {
        let changed = match info(connection, name).await? {
            None if verify => return Err(Failure::new(Reason::Topology, format!("stream {name} does not exist"))),
            None => create(shared, connection).await,
            Some(found) => {
                usable(name, &found)?;
                let missing = subjects::missing(&subjects_of(&found), topics);
                if missing.is_empty() {
                    let server = connection.client.server_info();
                    let mut warnings = warnings::of_server(shared, &server);
                    warnings.extend(warnings::of_stream(shared, &found["config"], server.cluster.is_some()));
                    return Ok(warnings);
                }
                if verify {
                    let why = format!("stream {name} does not take {}", missing.join(", "));
                    return Err(Failure::new(Reason::Topology, why));
                }
                add(name, connection, found, &missing).await
            }
        };
        match changed {
            Ok(()) => {}
            // Made by another replica meanwhile, a little differently.
            Err(refusal) if refusal.code() == 10058 => {}
            Err(refusal) if refusal.denied() => {
                let why = format!("stream {name} does not take every topic, and this user may not change it");
                return Err(Failure::new(Reason::NotAuthorized, why));
            }
            Err(refusal) => return Err(explain(shared, connection, refusal).await),
        }
    }
    Err(Failure::new(Reason::Topology, format!("stream {name} is being changed by others")))
}

/// Describes server and stream, a line for each thing an operator should know.
pub(super) async fn probe(shared: &Shared, connection: &Connection) -> Result<Vec<String>, Failure> {
    let (name, topics) = (&shared.settings.stream, &shared.topics);
    let server = connection.client.server_info();
    let cluster = server.cluster.as_ref().map_or(String::new(), |cluster| format!(", cluster {cluster}"));
    let mut lines = vec![format!("NATS {} ({}{cluster})", server.version, server.server_name)];
    let warning = |text| format!("warning: {text}");
    lines.extend(warnings::of_server(shared, &server).into_iter().map(warning));
    let found = info(connection, name).await?;
    let missing = subjects::missing(&found.as_ref().map(subjects_of).unwrap_or_default(), topics);
    for topic in &missing {
        overlap(connection, name, topic).await?;
    }
    match found {
        None if shared.settings.topology == Topology::Verify => {
            return Err(Failure::new(Reason::Topology, format!("stream {name} does not exist")));
        }
        None => lines.push(format!("stream {name} does not exist yet")),
        Some(found) => {
            usable(name, &found)?;
            if !missing.is_empty() && shared.settings.topology == Topology::Verify {
                let why = format!("stream {name} does not take {}", missing.join(", "));
                return Err(Failure::new(Reason::Topology, why));
            }
            lines.push(format!("stream {name}: {} messages", found["state"]["messages"]));
            if !missing.is_empty() {
                lines.push(format!("stream {name} does not take {} yet", missing.join(", ")));
            }
            lines.extend(warnings::of_stream(shared, &found["config"], true).into_iter().map(warning));
        }
    }
    Ok(lines)
}

async fn info(connection: &Connection, name: &str) -> Result<Option<Value>, Failure> {
    match ask(connection, &format!("STREAM.INFO.{name}"), &Value::Null).await {
        Ok(found) => Ok(Some(found)),
        Err(refusal) if refusal.code() == 10059 => Ok(None),
        Err(refusal) => Err(refusal.into()),
    }
}

/// Fails for a stream on which no publish can succeed.
fn usable(name: &str, info: &Value) -> Result<(), Failure> {
    for (key, why) in [("no_ack", "does not acknowledge"), ("sealed", "takes no more messages")] {
        if info["config"][key] == true {
            return Err(Failure::new(Reason::Topology, format!("stream {name} has {key} set: it {why}")));
        }
    }
    Ok(())
}

fn subjects_of(info: &Value) -> Vec<String> {
    let subjects = info["config"]["subjects"].as_array().into_iter().flatten();
    subjects.filter_map(Value::as_str).map(String::from).collect()
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// Makes the stream with the best settings that the server allows.
async fn create(shared: &Shared, connection: &Connection) -> Result<(), Refusal> {
    let name = &shared.settings.stream;
    let most = if connection.client.server_info().cluster.is_some() { REPLICAS } else { 1 };
    let (mut replicas, mut bytes, mut window) = (most, MAX_BYTES, WINDOW);
    loop {
        let config = json!({
            "name": name,
            "subjects": subjects::missing(&[], &shared.topics),
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "max_age": nanoseconds(MAX_AGE),
            "max_bytes": bytes,
            "max_msgs": -1,
            "max_msg_size": -1,
            "max_msgs_per_subject": -1,
            "max_consumers": -1,
            "duplicate_window": nanoseconds(window),
            "num_replicas": replicas,
            "allow_direct": true,
        });
        let refusal = match ask(connection, &format!("STREAM.CREATE.{name}"), &config).await {
            Ok(_) => {
                let hours = window.as_secs_f64() / 3600.0;
                tracing::info!(destination = %shared.settings.name, stream = name, replicas, bytes, hours, "stream made");
                if (replicas, bytes, window) != (most, MAX_BYTES, WINDOW) {
                    tracing::warn!(
                        destination = %shared.settings.name, stream = name, replicas, bytes, hours,
                        "the server allows less than the recommended {most} replicas, {MAX_BYTES} bytes, 2 hours"
                    );
                }
                return Ok(());
            }
            Err(refusal) => refusal,
        };
        // In a cluster, lack of room is a lack of servers.
        let no_room = match refusal.code() {
            10005 => refusal.text().contains("insufficient storage"),
            code => matches!(code, 10002 | 10023 | 10047 | 10122),
        };
        // A server that is away comes back; a stream of one replica would stay one. So wait for it.
        let fewer = replicas > 1 && !refusal.text().contains("offline");
        match refusal.code() {
            _ if no_room && bytes / 2 >= LEAST_BYTES => bytes /= 2,
            _ if no_room && fewer => (replicas, bytes) = (1, MAX_BYTES),
            // Too few servers; replicas without a cluster; no tier of the account for so many.
            10005 | 10074 | 10120 if fewer => replicas = 1,
            10052 if refusal.text().contains("duplicates window") && window / 2 >= LEAST_WINDOW => window /= 2,
            _ => return Err(refusal),
        }
    }
}

/// Adds subjects, and changes nothing else. A subject that a new one covers goes, as a stream must not name it twice.
async fn add(name: &str, connection: &Connection, mut found: Value, missing: &[String]) -> Result<(), Refusal> {
    let mut subjects = subjects_of(&found);
    subjects.retain(|old| !missing.iter().any(|new| subjects::covers(new, old)));
    subjects.extend_from_slice(missing);
    found["config"]["subjects"] = json!(subjects);
    ask(connection, &format!("STREAM.UPDATE.{name}"), &found["config"]).await?;
    tracing::info!(stream = name, added = missing.join(", "), "subjects added to the stream");
    Ok(())
}

/// A refusal in the operator's words: which stream has the subject already.
async fn explain(shared: &Shared, connection: &Connection, refusal: Refusal) -> Failure {
    if refusal.code() == 10065 {
        for topic in &shared.topics {
            if let Err(failure) = overlap(connection, &shared.settings.stream, topic).await {
                return failure;
            }
        }
    }
    refusal.into()
}

/// Fails where another stream takes the topic, or part of it.
async fn overlap(connection: &Connection, name: &str, topic: &str) -> Result<(), Failure> {
    let Ok(streams) = streams_of(connection, topic).await else { return Ok(()) };
    match streams.iter().find(|other| *other != name) {
        Some(other) => Err(Failure::new(Reason::Topology, format!("stream {other} takes {topic} already"))),
        None => Ok(()),
    }
}
