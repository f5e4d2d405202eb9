//! Lines that would come with every delivery of an outage: one now and then, with how many were left out.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Between two lines about the same.
const PAUSE: Duration = Duration::from_secs(10);

/// Decides which of many like lines are written.
pub struct Sparse<K>(Mutex<HashMap<K, (Instant, u64)>>);

impl<K> Default for Sparse<K> {
    fn default() -> Self {
        Sparse(Mutex::default())
    }
}

impl<K: Eq + Hash> Sparse<K> {
    /// Whether a line about this is due: how many were left out since the last one. Keys come from a closed set.
    pub fn due(&self, key: K) -> Option<u64> {
        let mut lines = self.0.lock();
        let now = Instant::now();
        match lines.get_mut(&key) {
            Some((last, left_out)) if now.duration_since(*last) < PAUSE => {
                *left_out += 1;
                None
            }
            Some((last, left_out)) => {
                *last = now;
                Some(std::mem::take(left_out))
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
    async fn one_now_and_then() {
        let sparse = Sparse::default();
        assert_eq!(sparse.due("a"), Some(0));
        assert_eq!((sparse.due("a"), sparse.due("a"), sparse.due("b")), (None, None, Some(0)));
        tokio::time::advance(PAUSE).await;
        assert_eq!(sparse.due("a"), Some(2));
        assert_eq!(sparse.due("a"), None);
    }
}
