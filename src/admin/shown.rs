//! What the API shows of a dead letter, as JSON.

use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::letters::LetterSummary;
use crate::reason::Failure;

/// An answer.
pub(super) fn as_json(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], value.to_string())
        .into_response()
}

/// A dead letter without its headers and body.
pub(super) fn summary(letter: &LetterSummary) -> Value {
    json!({
        "id": letter.number, "source": letter.source, "webhook_id": letter.webhook_id, "event": letter.event,
        "reason": letter.reason.word(), "detail": letter.detail, "time": time(letter.time),
        "targets": [letter.target.to_string()], "bytes": letter.bytes,
    })
}

/// Reason and detail.
pub(super) fn failure(failure: &Failure) -> (Value, Value) {
    (failure.reason.word().into(), (*failure.detail).into())
}

/// RFC 3339.
fn time(seconds: i64) -> Value {
    jiff::Timestamp::from_second(seconds).map_or(Value::Null, |time| time.to_string().into())
}
