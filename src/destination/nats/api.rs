//! Requests to the JetStream API.
//!
//! As JSON values and not as the library's types: a stream's configuration that is read, changed and written back must
//! keep the settings of servers newer than the library.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Request, RequestErrorKind};
use serde_json::{Value, json};

use super::Connection;
use super::outcome::ApiError;
use crate::reason::{Failure, Reason};

/// How long an answer may take: making a stream with three replicas takes a second or two.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a request brought nothing.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The server said no.
    Error(ApiError),
    /// There was no answer.
    Failed(Failure),
}

impl Refusal {
    /// The server's error code; 0 where there was no answer.
    pub(super) fn code(&self) -> u64 {
        match self {
            Refusal::Error(error) => error.err_code,
            Refusal::Failed(_) => 0,
        }
    }

    /// The server's words.
    pub(super) fn text(&self) -> &str {
        match self {
            Refusal::Error(error) => &error.description,
            Refusal::Failed(failure) => &failure.detail,
        }
    }

    /// Whether this user may not ask.
    pub(super) fn denied(&self) -> bool {
        matches!(self, Refusal::Failed(Failure { reason: Reason::NotAuthorized, .. }))
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Error(error) => error.failure(match error.code {
                401 | 403 => Reason::NotAuthorized,
                _ => Reason::Topology,
            }),
            Refusal::Failed(failure) => failure,
        }
    }
}

/// Asks `$JS.API.{what}`.
pub(super) async fn ask(connection: &Connection, what: &str, body: &Value) -> Result<Value, Refusal> {
    let subject = format!("$JS.API.{what}");
    let payload = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    connection.asked.fetch_max(payload.len(), Ordering::Relaxed);
    // With an inbox of its own, as the library's shared one keeps what is never answered for ever.
    let inbox = connection.client.new_inbox();
    let request = Request::new().inbox(inbox.clone()).timeout(Some(TIMEOUT)).payload(payload.into());
    // Permission may have come since.
    connection.denied.send_if_modified(|denied| {
        let before = denied.len();
        denied.retain(|other| *other != subject);
        denied.len() < before
    });
    let mut denied = connection.denied.subscribe();
    let answer = tokio::select! {
        answer = connection.client.send_request(subject.clone(), request) => answer,
        _ = denied.wait_for(|denied| denied.contains(&subject) || denied.contains(&inbox)) => {
            let why = format!("this user may not publish to {subject}, or not receive answers");
            return Err(Refusal::Failed(Failure::new(Reason::NotAuthorized, why)));
        }
    };
    let failed =
        |reason, why: &dyn std::fmt::Display| Refusal::Failed(Failure::new(reason, format!("{subject}: {why}")));
    let answer = answer.map_err(|error| match error.kind() {
        RequestErrorKind::NoResponders => {
            failed(Reason::Topology, &"JetStream is not enabled here, or it is electing its leader")
        }
        RequestErrorKind::TimedOut => failed(Reason::Timeout, &"no answer"),
        _ => failed(Reason::Unreachable, &error),
    })?;
    let mut answer: Value = serde_json::from_slice(&answer.payload).map_err(|error| failed(Reason::Refused, &error))?;
    match answer.get_mut("error").map(Value::take) {
        Some(error) => Err(Refusal::Error(serde_json::from_value(error).unwrap_or_default())),
        None => Ok(answer),
    }
}

/// Names of the streams that take any of what the subject stands for.
pub(super) async fn streams_of(connection: &Connection, subject: &str) -> Result<Vec<String>, Refusal> {
    let answer = ask(connection, "STREAM.NAMES", &json!({ "subject": subject })).await?;
    let names = answer["streams"].as_array().into_iter().flatten();
    Ok(names.filter_map(Value::as_str).map(String::from).collect())
}
