//! Reading a body: counted as it comes, whatever content-length says, and within its time.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::Trouble;
use crate::admission::Admission;
use crate::admission::Limits;

/// How long the rest of a refused request is read, so that its sender sees the answer.
const DISCARD: Duration = Duration::from_secs(1);

/// The content-length, if there is one.
pub(super) fn announced(headers: &HeaderMap, limit: usize) -> Result<Option<usize>, Trouble> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = length.to_str().ok().and_then(|length| length.parse::<u64>().ok());
    match length.and_then(|length| usize::try_from(length).ok()) {
        Some(length) if length <= limit => Ok(Some(length)),
        _ => Err(Trouble::TooLarge),
    }
}

/// Reads a whole body. One that comes in one piece is not copied.
pub(super) async fn read(
    body: &mut Body,
    announced: Option<usize>,
    limits: &Limits,
    mut admission: Admission,
    started: Instant,
) -> Result<(Bytes, Admission), Trouble> {
    let deadline = started + limits.read_timeout;
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = timeout_at(deadline, body.frame()).await.map_err(|_| Trouble::TooSlow)? {
        let frame = frame.map_err(|_| Trouble::TooSlow)?; // the client went away: nobody sees the answer
        let Ok(data) = frame.into_data() else { continue };
        let length = first.len() + all.len() + data.len();
        if length > limits.body {
            return Err(Trouble::TooLarge);
        }
        admission.grow(length).map_err(Trouble::Full)?;
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            // Room for what is announced, but not for more than some times what has come.
            all.reserve(announced.unwrap_or(0).min(length * 16).max(length));
            all.extend_from_slice(&first);
            first = Bytes::new();
        }
        all.extend_from_slice(&data);
    }
    Ok((if all.is_empty() { first } else { all.freeze() }, admission))
}

/// Reads on without keeping anything, for a while.
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
    let _ = timeout(DISCARD, rest).await; // it had its time
}
