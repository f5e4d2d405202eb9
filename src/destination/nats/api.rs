//! Requests to the JetStream API.
//!
//! Bodies are JSON values and not the library's types: a stream's configuration that is read, changed and written back
//! must keep the settings of servers newer than the library.

use std::fmt::Display;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Message, Request, RequestErrorKind};
use serde_json::{Value, json};

use super::connection::Connection;
use super::outcome::ApiError;
use crate::reason::{Failure, Reason};

/// The timeout of a request. Creating a stream with three replicas takes a second or two.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a request failed.
#[derive(Debug)]
pub(super) enum RequestError {
    /// The server answered with an error.
    Refused(ApiError),
    /// This user may not send the request.
    Denied(Failure),
    /// There was no answer.
    Unanswered(Failure),
}

impl RequestError {
    /// The server's error code; 0 if there was no answer.
    pub(super) fn code(&self) -> u64 {
        match self {
            RequestError::Refused(error) => error.err_code,
            RequestError::Denied(_) | RequestError::Unanswered(_) => 0,
        }
    }

    /// The server's description.
    pub(super) fn text(&self) -> &str {
        match self {
            RequestError::Refused(error) => &error.description,
            RequestError::Denied(failure) | RequestError::Unanswered(failure) => &failure.detail,
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused(error) => error.failure(match error.code {
                401 | 403 => Reason::NotAuthorized,
                _ => Reason::Topology,
            }),
            RequestError::Denied(failure) | RequestError::Unanswered(failure) => failure,
        }
    }
}

/// Sends a request to `$JS.API.{endpoint}`.
pub(super) async fn request(connection: &Connection, endpoint: &str, body: &Value) -> Result<Value, RequestError> {
    let subject = format!("$JS.API.{endpoint}");
    let payload = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    connection.largest_request.fetch_max(payload.len(), Ordering::Relaxed);
    let request = Request::new().timeout(Some(TIMEOUT)).payload(payload.into());
    let answer = send(connection, &subject, request).await?;
    let failed = |error| RequestError::Unanswered(Failure::new(Reason::Refused, format!("{subject}: {error}")));
    let mut answer: Value = serde_json::from_slice(&answer.payload).map_err(failed)?;
    match answer.get_mut("error").map(Value::take) {
        Some(error) => Err(RequestError::Refused(serde_json::from_value(error).unwrap_or_default())),
        None => Ok(answer),
    }
}

/// Sends a request to a subject. The answer may be an error.
pub(super) async fn send(connection: &Connection, subject: &str, request: Request) -> Result<Message, RequestError> {
    // Each request has its own inbox, because the library's shared inbox never forgets a request without an answer.
    let inbox = connection.client.new_inbox();
    let request = request.inbox(inbox.clone());
    let denied = connection.denied.next([subject, &inbox]);
    let answer = tokio::select! {
        answer = connection.client.send_request(subject.to_owned(), request) => answer,
        denied = denied => {
            let not_authorized = |why| Failure::new(Reason::NotAuthorized, why);
            return Err(if denied == subject {
                RequestError::Denied(not_authorized(format!("this user may not publish to {subject}")))
            } else {
                RequestError::Unanswered(not_authorized(format!("this user may not receive the answer to {subject}")))
            });
        }
    };
    let failed =
        |reason, why: &dyn Display| RequestError::Unanswered(Failure::new(reason, format!("{subject}: {why}")));
    answer.map_err(|error| match error.kind() {
        RequestErrorKind::NoResponders => {
            failed(Reason::Topology, &"JetStream is not enabled for this account, or its leader is being elected")
        }
        RequestErrorKind::TimedOut => failed(Reason::Timeout, &"no answer"),
        _ => failed(Reason::Unreachable, &error),
    })
}

/// The names of the streams that take any subject of the pattern.
pub(super) async fn streams_of(connection: &Connection, pattern: &str) -> Result<Vec<String>, RequestError> {
    let answer = request(connection, "STREAM.NAMES", &json!({ "subject": pattern })).await?;
    let names = answer["streams"].as_array().into_iter().flatten();
    Ok(names.filter_map(Value::as_str).map(String::from).collect())
}
