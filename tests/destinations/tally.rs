//! What was told about each event, held against what is stored.

use std::collections::BTreeMap;

use hookbridge::message::Outcome;
use parking_lot::Mutex;

use super::{Ending, Stored};

/// Counts outcomes by event id. Shared by reference between tasks.
#[derive(Default)]
pub struct Tally {
    told: Mutex<BTreeMap<String, Vec<Ending>>>,
}

impl Tally {
    /// Notes how a publish of this event ended.
    pub fn note(&self, id: &str, outcome: &Outcome) {
        self.told.lock().entry(id.to_owned()).or_default().push(outcome.into());
    }

    /// How many publishes ended so.
    pub fn count(&self, ending: Ending) -> usize {
        self.told.lock().values().flatten().filter(|told| **told == ending).count()
    }

    /// What was confirmed is there; what surely was not stored is not; and no more copies than confirms and unknown
    /// outcomes can explain (one, if the broker deduplicates).
    pub fn check(&self, stored: &[Stored], dedups: bool) {
        let mut copies = BTreeMap::<String, usize>::new();
        for stored in stored {
            *copies.entry(stored.id()).or_default() += 1;
        }
        for (id, told) in &*self.told.lock() {
            let count = |ending| told.iter().filter(|told| **told == ending).count();
            let (sure, perhaps) = (count(Ending::Confirmed), count(Ending::Unknown));
            let (least, most) = if dedups { (sure.min(1), (sure + perhaps).min(1)) } else { (sure, sure + perhaps) };
            let found = copies.remove(id).unwrap_or(0);
            assert!((least..=most).contains(&found), "{id}: stored {found} times, told {told:?}");
        }
        assert!(copies.is_empty(), "stored but never published: {copies:?}");
    }
}
