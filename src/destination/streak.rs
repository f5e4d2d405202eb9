//! Whether a destination that is up takes nothing: permissions were removed, or its stream is full. Pure.

use crate::message::Outcome;
use crate::reason::{Failure, Reason};

/// So many publishes in a row without a confirm are refusing.
const REFUSING: u32 = 5;

/// Counts the publishes since the last confirm.
#[derive(Debug, Default)]
pub(super) struct RefusalStreak {
    publishes: u32,
    /// The failure of the last of them.
    last: Option<Failure>,
}

/// A change that is logged.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StreakChange {
    /// The destination is refusing.
    Began(Failure),
    /// The destination has confirmed a publish again.
    Ended,
}

impl RefusalStreak {
    /// A publish had this outcome. `up`: whether the destination is up; while it is down, it is known to take nothing.
    pub(super) fn note(&mut self, outcome: &Outcome, up: impl Fn() -> bool) -> Option<StreakChange> {
        match outcome {
            Outcome::Confirmed => {
                let ended = self.refusing().is_some();
                *self = RefusalStreak::default();
                ended.then_some(StreakChange::Ended)
            }
            // The event is the cause, not the destination.
            Outcome::Never(_) => None,
            Outcome::Again(failure) | Outcome::Unknown(failure) if counts(failure.reason) && up() => {
                self.publishes = self.publishes.saturating_add(1);
                self.last = Some(failure.clone());
                (self.publishes == REFUSING).then(|| StreakChange::Began(failure.clone()))
            }
            Outcome::Again(_) | Outcome::Unknown(_) => None,
        }
    }

    /// Why the last publish was not confirmed, if the destination is refusing.
    pub(super) fn refusing(&self) -> Option<Failure> {
        self.last.clone().filter(|_| self.publishes >= REFUSING)
    }
}

/// Whether a failure says that the destination is connected and takes nothing.
fn counts(reason: Reason) -> bool {
    match reason {
        // Our own bounds and our own end; a first copy that may still be confirmed.
        Reason::Busy | Reason::Closing | Reason::InFlight => false,
        // The end of a connection may be seen before the destination is reported as down.
        Reason::Unreachable | Reason::ConnectionLost => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(reason: Reason) -> Outcome {
        Outcome::Again(reason.into())
    }

    #[test]
    fn five_in_a_row_are_refusing_until_the_next_confirm() {
        let mut streak = RefusalStreak::default();
        let full = || again(Reason::Full);
        for _ in 0..4 {
            assert_eq!(streak.note(&full(), || true), None);
        }
        assert_eq!(streak.note(&Outcome::Confirmed, || true), None);
        for _ in 0..4 {
            assert_eq!(streak.note(&full(), || true), None);
        }
        assert_eq!(streak.refusing(), None);
        let unknown = Outcome::Unknown(Reason::Timeout.into());
        assert_eq!(streak.note(&unknown, || true), Some(StreakChange::Began(Reason::Timeout.into())));
        assert_eq!(streak.note(&full(), || true), None, "one line");
        assert_eq!(streak.refusing(), Some(Reason::Full.into()), "the reason of the last one");
        assert_eq!(streak.note(&Outcome::Confirmed, || false), Some(StreakChange::Ended));
        assert_eq!(streak.refusing(), None);
    }

    #[test]
    fn only_refusals_of_a_destination_that_is_up_count() {
        let mut streak = RefusalStreak::default();
        for _ in 0..20 {
            assert_eq!(streak.note(&again(Reason::Full), || false), None);
            for reason in [Reason::Busy, Reason::Closing, Reason::InFlight, Reason::Unreachable, Reason::ConnectionLost]
            {
                assert_eq!(streak.note(&again(reason), || true), None, "{reason}");
            }
            assert_eq!(streak.note(&Outcome::Never(Reason::TooLarge.into()), || true), None);
        }
        assert_eq!(streak.refusing(), None);
    }
}
