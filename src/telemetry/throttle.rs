//! Log lines that would come with every delivery of an outage: one now and then, with the number suppressed.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Between two lines about the same thing.
const PAUSE: Duration = Duration::from_secs(10);

/// Decides which of many similar lines are logged.
pub struct Throttle<K>(Mutex<HashMap<K, (Instant, u64)>>);

impl<K> Default for Throttle<K> {
    fn default() -> Self {
        Throttle(Mutex::default())
    }
}

impl<K: Eq + Hash> Throttle<K> {
    /// Whether a line about this may be logged now: then the number suppressed since the last one. Keys come from a closed
    /// set.
    pub fn admit(&self, key: K) -> Option<u64> {
        let mut lines = self.0.lock();
        let now = Instant::now();
        match lines.get_mut(&key) {
            Some((last, suppressed)) if now.duration_since(*last) < PAUSE => {
                *suppressed += 1;
                None
            }
            Some((last, suppressed)) => {
                *last = now;
                Some(std::mem::take(suppressed))
            }
            None => {
                lines.insert(key, (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_now_and_then() {
        let throttle = Throttle::default();
        assert_eq!(throttle.admit("a"), Some(0));
        assert_eq!((throttle.admit("a"), throttle.admit("a"), throttle.admit("b")), (None, None, Some(0)));
        tokio::time::advance(PAUSE).await;
        assert_eq!(throttle.admit("a"), Some(2));
        assert_eq!(throttle.admit("a"), None);
    }
}
