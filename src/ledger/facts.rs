//! Where a ledger of one process keeps what it knows.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::Forgotten;
use crate::dead_letter::DeadLetter;
use crate::letters::{LetterCount, LetterSummary};
use crate::protocol::{End, Known, Target};
use crate::reason::{Failure, Reason};
use crate::spool::Accepted;

/// A keyed 128-bit hash of source and webhook-id: what is stored instead of the text.
pub(super) type Id = u128;

/// What is kept of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// It has ended.
    Closed { end: End, body_hash: u32 },
    /// Some of its targets have facts. Few are kept so: in a box, they do not make the others large.
    Open(Box<Known>),
}

/// What is to be kept, in one transaction.
pub(super) struct Save {
    pub id: Id,
    pub stored: Stored,
    /// Whether the store may have facts of its targets.
    pub has_facts: bool,
    /// The targets that this save reports dead.
    pub dead: Vec<(Target, Reason)>,
    /// Their dead letter.
    pub letter: Option<DeadLetter>,
    /// Targets that may have a dead letter from before: it is deleted.
    pub withdrawn: Vec<Target>,
    /// The event, if this save accepts it.
    pub accepted: Option<Arc<Accepted>>,
}

/// What else is kept of a delivery, for operators.
#[derive(Default)]
pub(super) struct Background {
    pub stored: Option<Stored>,
    pub letters: Vec<LetterSummary>,
    /// The targets for which it waits in the spool.
    pub waiting: Vec<Target>,
}

/// Storage for facts. `save` is durable when it resolves.
pub(super) trait FactStore: Send + Sync {
    /// The key of the hash that makes an [`Id`].
    fn hash_key(&self) -> [u8; 16];
    /// What is kept of a delivery; `None`: nothing. Fails if the store cannot be read.
    fn load(&self, id: Id) -> BoxFuture<'_, Result<Option<Stored>, Failure>>;
    /// Keeps what became known, in one transaction. After a failure, the store may or may not have it.
    fn save(&self, save: Save) -> BoxFuture<'_, Result<(), Failure>>;
    /// Resolves once a load finds what was saved before, also by callers that have stopped waiting.
    fn earlier_saves(&self) -> BoxFuture<'_, Result<(), Failure>>;
    fn background(&self, id: Id) -> BoxFuture<'_, Result<Background, Failure>>;
    /// Forgets a delivery, unless the spool has it.
    fn forget(&self, id: Id) -> BoxFuture<'_, Result<Forgotten, Failure>>;
    fn keeps_dead_letters(&self) -> bool;
    fn ids(&self) -> u64;
    fn dead_letters(&self) -> Vec<LetterCount>;
    fn forgotten(&self) -> u64;
    /// Whether facts can be loaded, even if none can be saved.
    fn can_be_read(&self) -> Result<(), Failure> {
        Ok(())
    }
    fn health(&self) -> Result<(), Failure>;
    fn close(&self) -> BoxFuture<'_, ()>;
}
