//! A dead letter is replayed, discarded or deleted by one task at a time.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::delivery::DeliveryKey;

/// Deliveries whose dead letters are being replayed, discarded or deleted.
#[derive(Clone, Default)]
pub struct ReservedLetters(Arc<Mutex<HashSet<DeliveryKey>>>);

/// A delivery that is reserved until this is dropped.
pub struct ReservedLetter {
    all: ReservedLetters,
    key: DeliveryKey,
}

impl ReservedLetters {
    /// Reserves a delivery; `None` if it is reserved already.
    pub fn reserve(&self, key: DeliveryKey) -> Option<ReservedLetter> {
        self.0.lock().insert(key.clone()).then(|| ReservedLetter { all: self.clone(), key })
    }
}

impl Drop for ReservedLetter {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.key);
    }
}
