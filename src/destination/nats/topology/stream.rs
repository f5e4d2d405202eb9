//! The calls that read the stream, and create or extend it.

use std::time::Duration;

use serde_json::{Value, json};

use super::size::StreamSize;
use super::{Wanted, subjects, subjects_of};
use crate::destination::found::Found;
use crate::destination::nats::api::{RequestError, request, streams_of};
use crate::destination::nats::connection::Connection;
use crate::reason::{Failure, Reason};

/// How long a new stream keeps a message.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often a stream that others change at the same time is read again.
const ROUNDS: usize = 8;

/// Creates the stream or adds the missing subjects, unless they are only checked. What it returns has no problems.
///
/// # Errors
/// The first problem, or the failure of a request.
pub(in crate::destination::nats) async fn ensure(wanted: &Wanted, connection: &Connection) -> Result<Found, Failure> {
    let name = &wanted.stream;
    // Another replica may change the stream between the read and the write, and the API has no compare-and-set: so the
    // stream is read again after each change.
    for _ in 0..ROUNDS {
        let server = connection.client.server_info();
        let stream = info(connection, name).await?;
        // Without a cluster there can be no replicas.
        let found = wanted.compare(&server, stream.as_ref(), server.cluster.is_some());
        found.fits()?;
        let missing = wanted.missing(stream.as_ref());
        let changed = match stream {
            None => create(wanted, connection).await,
            Some(_) if missing.is_empty() => return Ok(found),
            Some(stream) => add(wanted, connection, stream, &missing).await,
        };
        match changed {
            Ok(()) => {}
            // Another replica has created it, with slightly different settings.
            Err(error) if error.code() == 10058 => {}
            Err(error) if error.denied() => {
                let why = format!("stream {name} does not take every topic, and this user may not create or change it");
                return Err(Failure::new(Reason::NotAuthorized, why));
            }
            Err(error) => return Err(explain(wanted, connection, error).await),
        }
    }
    Err(Failure::new(Reason::Topology, format!("other clients keep changing stream {name}")))
}

/// Reads the server and the stream, and changes nothing.
///
/// # Errors
/// Another stream takes a topic, or a request failed.
pub(in crate::destination::nats) async fn check(wanted: &Wanted, connection: &Connection) -> Result<Found, Failure> {
    let stream = info(connection, &wanted.stream).await?;
    for topic in wanted.missing(stream.as_ref()) {
        check_overlap(connection, &wanted.stream, &topic).await?;
    }
    Ok(wanted.compare(&connection.client.server_info(), stream.as_ref(), true))
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
async fn create(wanted: &Wanted, connection: &Connection) -> Result<(), RequestError> {
    let name = &wanted.stream;
    let recommended = StreamSize::recommended(connection.client.server_info().cluster.is_some());
    let mut size = recommended;
    loop {
        let config = json!({
            "name": name,
            "subjects": wanted.missing(None),
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

/// The error as a failure. If subjects overlap, it names the stream that takes the topic.
async fn explain(wanted: &Wanted, connection: &Connection, error: RequestError) -> Failure {
    if error.code() == 10065 {
        for topic in &wanted.topics {
            if let Err(failure) = check_overlap(connection, &wanted.stream, topic).await {
                return failure;
            }
        }
    }
    error.into()
}

/// Fails if another stream takes the topic, or a part of it.
async fn check_overlap(connection: &Connection, name: &str, topic: &str) -> Result<(), Failure> {
    let Ok(streams) = streams_of(connection, topic).await else { return Ok(()) };
    match streams.iter().find(|other| *other != name) {
        Some(other) => Err(Failure::new(Reason::Topology, format!("stream {other} already takes {topic}"))),
        None => Ok(()),
    }
}
