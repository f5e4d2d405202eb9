//! Compares the outcomes of each event with what is stored.

use std::collections::BTreeMap;

use hookbridge::message::Outcome;
use parking_lot::Mutex;

use super::{Ending, Stored};

/// Records the outcomes of each event id. Tasks share it by reference.
#[derive(Default)]
pub struct Tally {
    endings: Mutex<BTreeMap<String, Vec<Ending>>>,
}

impl Tally {
    /// Records the outcome of a publish of this event.
    pub fn note(&self, id: &str, outcome: &Outcome) {
        self.endings.lock().entry(id.to_owned()).or_default().push(outcome.into());
    }

    /// The number of publishes with this ending.
    pub fn count(&self, ending: Ending) -> usize {
        self.endings.lock().values().flatten().filter(|found| **found == ending).count()
    }

    /// Asserts that every confirmed event is stored, that none which ended only in `Again` is, and that there are no more
    /// copies than confirmed and unknown outcomes explain (one, if the broker deduplicates).
    pub fn check(&self, stored: &[Stored], dedups: bool) {
        let mut copies = BTreeMap::<String, usize>::new();
        for stored in stored {
            *copies.entry(stored.id()).or_default() += 1;
        }
        for (id, endings) in &*self.endings.lock() {
            let count = |ending| endings.iter().filter(|found| **found == ending).count();
            let (confirmed, unknown) = (count(Ending::Confirmed), count(Ending::Unknown));
            let most = confirmed + unknown;
            let (least, most) = if dedups { (confirmed.min(1), most.min(1)) } else { (confirmed, most) };
            let found = copies.remove(id).unwrap_or(0);
            assert!((least..=most).contains(&found), "{id}: stored {found} times, outcomes {endings:?}");
        }
        assert!(copies.is_empty(), "stored but never published: {copies:?}");
    }
}
