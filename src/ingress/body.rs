//! Reads bodies: counted as they arrive, whatever `content-length` says, and within a time limit.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::Refused;
use crate::admission::{Full, Limits, Unverified};

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

/// Reads a whole body, unless its request has to give way to another. A body that arrives in one piece is not copied.
pub(super) async fn read(
    body: &mut Body,
    announced: Option<usize>,
    limits: &Limits,
    mut request: Unverified,
    started: Instant,
) -> Result<(Bytes, Unverified), Refused> {
    let deadline = started + limits.read_timeout;
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        let frame = tokio::select! {
            frame = timeout_at(deadline, body.frame()) => frame.map_err(|_| Refused::TooSlow)?,
            () = request.evicted() => return Err(Refused::Full(Full::Process)),
        };
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| Refused::Incomplete)?.into_data() else { continue };
        let length = first.len() + all.len() + data.len();
        if length > limits.body {
            return Err(Refused::TooLarge);
        }
        if first.is_empty() && all.is_empty() {
            request.grow(length).map_err(Refused::Full)?;
            first = data;
            continue;
        }
        if length > all.capacity() {
            // Room for the announced length, but for at most 16 times what has arrived. Reserved before it is allocated. The
            // old buffer is not counted: nothing else runs on this thread until it has been copied and freed.
            let expected = announced.unwrap_or(length * 2).min(length * 16).clamp(length, limits.body);
            request.grow(expected).map_err(Refused::Full)?;
            let mut larger = BytesMut::with_capacity(expected);
            larger.extend_from_slice(&all);
            all = larger;
        }
        if !first.is_empty() {
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok((if all.is_empty() { first } else { all.freeze() }, request))
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
