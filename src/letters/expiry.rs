//! Deletes dead letters that are older than the operator wants.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, interval};

use super::Letters;

/// Between two sweeps, unless the age is shorter.
const EVERY: Duration = Duration::from_secs(60);

/// Deletes dead letters older than `age` from time to time. Does not end.
pub async fn expire(letters: Arc<Letters>, age: Duration) {
    let (started, began) = (Instant::now(), Timestamp::now().as_second());
    let mut sweep = interval(age.clamp(Duration::from_secs(1), EVERY));
    loop {
        sweep.tick().await;
        let before = before(began, started.elapsed(), Timestamp::now().as_second(), age);
        match letters.delete_before(before).await {
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

/// The time before which dead letters have expired, in unix seconds. A wall clock that jumps forward since `began` counts
/// only for what has elapsed, so no dead letter is deleted too early.
fn before(began: i64, elapsed: Duration, now: i64, age: Duration) -> i64 {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    now.min(began.saturating_add(seconds(elapsed))).saturating_sub(seconds(age))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_deletes_nothing_early() {
        let age = Duration::from_secs(600);
        let before = |elapsed, now| before(10_000, Duration::from_secs(elapsed), now, age);
        assert_eq!(before(700, 10_700), 10_100);
        assert_eq!(before(700, 10_700 + 3600), 10_100, "an hour ahead");
        assert_eq!(before(700, 10_700 - 3600), 6_500, "an hour behind");
    }
}
