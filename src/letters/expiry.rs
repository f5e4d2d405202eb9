//! Deletes dead letters that are older than the operator wants.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::interval;

use super::{Letters, ReservedLetters};

/// Between two sweeps, unless the age is shorter.
const EVERY: Duration = Duration::from_secs(60);

/// Deletes dead letters older than `age` from time to time. Does not end.
pub async fn expire(letters: Arc<Letters>, reserved: ReservedLetters, age: Duration) {
    let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    let mut sweep = interval(age.clamp(Duration::from_secs(1), EVERY));
    loop {
        sweep.tick().await;
        match letters.delete_older(seconds, &reserved).await {
            Ok(0) => {}
            Ok(deleted) => tracing::warn!(
                deleted,
                max_age_seconds = age.as_secs(),
                "dead letters were deleted, as they were older than dead_letters.max_age"
            ),
            Err(failure) => tracing::warn!(%failure, "old dead letters were not deleted"),
        }
    }
}
