//! Waits for conditions instead of fixed times.

use std::time::Duration;
use tokio::time::Instant;

/// Time limit for what should happen at once, even on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(10);

/// Polls `condition` until it holds.
///
/// # Panics
/// It does not hold within `deadline`; the message names the caller's line.
#[track_caller]
pub fn eventually(deadline: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !condition() {
        assert!(Instant::now() < end, "not true within {deadline:?}");
        std::thread::sleep(PAUSE);
    }
}

/// Repeats `attempt` until it returns a value, and returns that.
///
/// # Panics
/// There is no value within `deadline`; the message contains `what`.
pub async fn until<T>(what: &str, deadline: Duration, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(Instant::now() < end, "{what}: not within {deadline:?}");
        tokio::time::sleep(PAUSE).await;
    }
}
