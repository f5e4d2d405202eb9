//! What operators do with a store: its ledger and its dead letters, in a running bridge or without one.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::ledger::Ledger;
use crate::letters::{Letters, ReservedLetters};
use crate::replay::Replayer;

/// What the admin API works on.
pub struct Management {
    /// What is known of each delivery.
    pub ledger: Arc<dyn Ledger>,
    /// Dead letters, if the store keeps any.
    pub letters: Option<Arc<Letters>>,
    /// Deliveries whose dead letters are being replayed or discarded.
    pub reserved: ReservedLetters,
    /// Calls that change something: they end even if their callers leave.
    pub work: TaskTracker,
    /// Publishes dead letters again; `None` without destinations.
    pub replayer: Option<Arc<Replayer>>,
}
