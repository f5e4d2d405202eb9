//! Seconds that a store has been in use: what rows expire by, so that no step of the wall clock deletes one.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::time::Instant;

/// Continues from where the last process stopped. Time without a process does not count, so rows live longer, never
/// shorter.
#[derive(Debug)]
pub(super) struct Clock {
    base: i64,
    started: Instant,
    written: AtomicI64,
}

impl Clock {
    pub(super) fn starting_at(base: i64) -> Self {
        Clock { base, started: Instant::now(), written: AtomicI64::new(base) }
    }

    pub(super) fn now(&self) -> i64 {
        self.base + i64::try_from(self.started.elapsed().as_secs()).unwrap_or(i64::MAX / 2)
    }

    /// The time, if it has moved since the last call.
    pub(super) fn to_write(&self) -> Option<i64> {
        let now = self.now();
        (self.written.swap(now, Ordering::Relaxed) != now).then_some(now)
    }
}
