//! The pause before the next attempt.

use std::time::Duration;

/// A pause that doubles with each failure in a row, up to a limit. Half of it is random, so that replicas do not come
/// back at the same moment.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses from about `first` to `longest`.
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Backoff { first, longest, failures: 0 }
    }

    /// Counts a failure; returns how long to wait before the next attempt.
    pub(super) fn next(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.after(self.failures)
    }

    /// The pause after so many failures in a row; none after none.
    pub(crate) fn after(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let pause = self.first.saturating_mul(1 << doublings.min(20)).min(self.longest);
        pause.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// An attempt succeeded: the next failure is the first again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut backoff = Backoff::new(first, longest);
        assert_eq!(backoff.after(0), Duration::ZERO);
        for failures in [1, 2, 5, 31, 32, 33, 1000, u32::MAX] {
            let pause = backoff.after(failures);
            assert!(pause >= first / 2 && pause <= longest, "{failures}: {pause:?}");
        }
        assert!((0..10).map(|_| backoff.next()).last() >= Some(longest / 2));
        backoff.reset();
        assert!(backoff.next() <= first);
    }
}
