//! The calls that read the stream, and create or extend it.

use std::time::Duration;

use serde_json::{Value, json};

use super::retention::Retention;
use super::size::StreamSize;
use super::{Wanted, permitted, subjects, subjects_of};
use crate::destination::found::Found;
use crate::destination::nats::api::{RequestError, request, streams_of};
use crate::destination::nats::connection::Connection;
use crate::reason::{Failure, Reason};

/// How long a new stream keeps a message.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often a stream that others change at the same time is read again.
const ROUNDS: usize = 8;

/// The stream after [`ensure`].
pub(in crate::destination::nats) struct EnsuredStream {
    pub(in crate::destination::nats) found: Found,
    pub(in crate::destination::nats) retention: Retention,
}

/// A topic that another stream takes, and the name of that stream.
type Overlap = (String, String);

/// Creates the stream or adds the missing subjects, unless they are only checked. A topic of another stream is a
/// problem; the stream still takes all other topics.
///
/// # Errors
/// There is no stream, or a request failed.
pub(in crate::destination::nats) async fn ensure(
    wanted: &Wanted,
    connection: &Connection,
) -> Result<EnsuredStream, Failure> {
    let name = &wanted.stream;
    let mut overlaps: Vec<Overlap> = Vec::new();
    // Another replica may change the stream between the read and the write, and the API has no compare-and-set: so the
    // stream is read again after each change.
    for _ in 0..ROUNDS {
        let server = connection.client.server_info();
        let stream = info(connection, name).await?;
        // Without a cluster there can be no replicas.
        let mut found = wanted.compare(&server, stream.as_ref(), server.cluster.is_some());
        let missing = wanted.missing_except(stream.as_ref(), &overlaps);
        let retention = stream.as_ref().map_or(Retention::Keeps, |stream| Retention::of(name, stream));
        // A consumer of a topic can be created only when the stream takes the topic: subjects are added even to a stream
        // that lacks consumers.
        let unfit = found.problems.iter().any(|problem| Some(problem) != retention.discards().as_ref());
        let done = missing.is_empty() || unfit;
        found.problems.extend(overlapping(&overlaps));
        let changed = match stream {
            Some(_) if done => {
                found.problems.extend(permitted::denied(wanted, connection).await);
                return Ok(EnsuredStream { found, retention });
            }
            None if done => return Err(found.fits().err().unwrap_or(Reason::Topology.into())),
            None => create(wanted, connection, &missing).await,
            Some(stream) => add(wanted, connection, stream, &missing).await,
        };
        match changed {
            Ok(()) => {}
            // Another replica has created it, with slightly different settings.
            Err(error) if error.code() == 10058 => {}
            Err(error) if error.code() == 10065 => match other_streams(connection, name, &missing).await {
                others if others.is_empty() => return Err(error.into()),
                others => overlaps.extend(others),
            },
            Err(RequestError::Denied(_)) => {
                let why = format!("stream {name} does not take every topic, and this user may not create or change it");
                return Err(Failure::new(Reason::NotAuthorized, why));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(Reason::Topology, format!("other clients keep changing stream {name}")))
}

/// Reads the server and the stream, and changes nothing.
///
/// # Errors
/// A request failed.
pub(in crate::destination::nats) async fn check(wanted: &Wanted, connection: &Connection) -> Result<Found, Failure> {
    let stream = info(connection, &wanted.stream).await?;
    let missing = wanted.missing(stream.as_ref());
    let overlaps = other_streams(connection, &wanted.stream, &missing).await;
    let mut found = wanted.compare(&connection.client.server_info(), stream.as_ref(), true);
    found.problems.splice(..0, overlapping(&overlaps));
    found.problems.extend(permitted::denied(wanted, connection).await);
    Ok(found)
}

/// The stream's description; `None` if it does not exist.
async fn info(connection: &Connection, name: &str) -> Result<Option<Value>, Failure> {
    match request(connection, &format!("STREAM.INFO.{name}"), &Value::Null).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if error.code() == 10059 => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// Creates the stream with the best settings that the server allows.
async fn create(wanted: &Wanted, connection: &Connection, subjects: &[String]) -> Result<(), RequestError> {
    let name = &wanted.stream;
    let recommended = StreamSize::recommended(connection.client.server_info().cluster.is_some());
    let mut size = recommended;
    loop {
        let config = json!({
            "name": name,
            "subjects": subjects,
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "max_age": nanoseconds(MAX_AGE),
            "max_bytes": size.bytes,
            "max_msgs": -1,
            "max_msg_size": -1,
            "max_msgs_per_subject": -1,
            "max_consumers": -1,
            "duplicate_window": nanoseconds(size.window),
            "num_replicas": size.replicas,
            "allow_direct": true,
        });
        match request(connection, &format!("STREAM.CREATE.{name}"), &config).await {
            Ok(_) => break,
            Err(error) => size = size.reduced(error.code(), error.text()).ok_or(error)?,
        }
    }
    let StreamSize { replicas, bytes, window } = size;
    tracing::info!(destination = %wanted.destination, stream = name, replicas, bytes, ?window, "stream created");
    if size != recommended {
        tracing::warn!(
            destination = %wanted.destination, stream = name, replicas, bytes, ?window,
            "the server allows less than the recommended {} replicas, {} bytes and duplicate window of {:?}",
            recommended.replicas, recommended.bytes, recommended.window
        );
    }
    Ok(())
}

/// Adds subjects, and changes nothing else. A subject that a new one covers is removed, because a stream must not name
/// a subject twice.
async fn add(
    wanted: &Wanted,
    connection: &Connection,
    mut stream: Value,
    missing: &[String],
) -> Result<(), RequestError> {
    let mut subjects = subjects_of(&stream);
    subjects.retain(|old| !missing.iter().any(|new| subjects::covers(new, old)));
    subjects.extend_from_slice(missing);
    stream["config"]["subjects"] = json!(subjects);
    let name = &wanted.stream;
    request(connection, &format!("STREAM.UPDATE.{name}"), &stream["config"]).await?;
    let added = missing.join(", ");
    tracing::info!(destination = %wanted.destination, stream = name, added, "subjects added to the stream");
    Ok(())
}

/// The topics that another stream takes, in full or in part. Empty if the user may not list streams.
async fn other_streams(connection: &Connection, name: &str, topics: &[String]) -> Vec<Overlap> {
    let mut overlaps = Vec::new();
    for topic in topics {
        let streams = streams_of(connection, topic).await.unwrap_or_default();
        overlaps.extend(streams.into_iter().find(|other| other != name).map(|other| (topic.clone(), other)));
    }
    overlaps
}

/// The problem of topics that other streams take.
fn overlapping(overlaps: &[Overlap]) -> Option<Failure> {
    let each: Vec<_> = overlaps.iter().map(|(topic, other)| format!("stream {other} already takes {topic}")).collect();
    (!each.is_empty()).then(|| Failure::new(Reason::Topology, each.join("; ")))
}
