//! Deletes dead letters that are older than the operator wants.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, interval};

use super::Letters;

/// Between two sweeps, unless the age is shorter.
const EVERY: Duration = Duration::from_secs(60);
/// By how much the wall clock may leave the elapsed time: a clock that jumps must not delete what was just kept.
const JUMP: u64 = 3600;

/// Deletes dead letters older than `age` from time to time. Does not end.
pub async fn expire(letters: Arc<Letters>, age: Duration) {
    let (started, began) = (Instant::now(), Timestamp::now().as_second());
    let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    let mut sweep = interval(age.clamp(Duration::from_secs(1), EVERY));
    let mut jumped = false;
    loop {
        sweep.tick().await;
        let now = Timestamp::now().as_second();
        let elapsed = i64::try_from(started.elapsed().as_secs()).unwrap_or(i64::MAX);
        if now.abs_diff(began.saturating_add(elapsed)) > JUMP {
            if !std::mem::replace(&mut jumped, true) {
                tracing::warn!("the clock has jumped: no dead letters are deleted for their age until a restart");
            }
            continue;
        }
        match letters.delete_before(now.saturating_sub(seconds)).await {
            Ok(0) => {}
            Ok(deleted) => tracing::warn!(
                deleted,
                max_age_seconds = seconds,
                "dead letters were deleted, as they were older than dead_letters.max_age"
            ),
            Err(failure) => tracing::warn!(%failure, "old dead letters were not deleted"),
        }
    }
}
