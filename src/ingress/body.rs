//! Reads bodies: counted as they arrive, whatever `content-length` says, and within a time limit.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::Refused;
use crate::admission::{Admission, Limits};

/// How long the rest of a refused request is read, so that its sender sees the answer.
const DISCARD: Duration = Duration::from_secs(1);

/// The announced length, if there is one.
pub(super) fn announced(headers: &HeaderMap, limit: usize) -> Result<Option<usize>, Refused> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = length.to_str().ok().and_then(|length| length.parse::<u64>().ok());
    match length.and_then(|length| usize::try_from(length).ok()) {
        Some(length) if length <= limit => Ok(Some(length)),
        _ => Err(Refused::TooLarge),
    }
}

/// Reads a whole body. A body that arrives in one piece is not copied.
pub(super) async fn read(
    body: &mut Body,
    announced: Option<usize>,
    limits: &Limits,
    mut admission: Admission,
    started: Instant,
) -> Result<(Bytes, Admission), Refused> {
    let deadline = started + limits.read_timeout;
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = timeout_at(deadline, body.frame()).await.map_err(|_| Refused::TooSlow)? {
        let frame = frame.map_err(|_| Refused::TooSlow)?; // the client is gone: the answer has no reader
        let Ok(data) = frame.into_data() else { continue };
        let length = first.len() + all.len() + data.len();
        if length > limits.body {
            return Err(Refused::TooLarge);
        }
        admission.grow(length).map_err(Refused::Full)?;
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            // Room for the announced length, but for at most 16 times what has arrived.
            all.reserve(announced.unwrap_or(0).min(length * 16).max(length));
            all.extend_from_slice(&first);
            first = Bytes::new();
        }
        all.extend_from_slice(&data);
    }
    Ok((if all.is_empty() { first } else { all.freeze() }, admission))
}

/// Reads and discards the rest, for a limited time.
pub(super) async fn discard(body: &mut Body, limit: usize) {
    let rest = async {
        let mut left = limit.saturating_mul(2);
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    let _ = timeout(DISCARD, rest).await; // the limit is the point
}
