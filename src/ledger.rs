//! SEAM: a ledger remembers which deliveries are closed, and lets one task at a time publish each of the others.
//!
//! It stores an [`Entry`](crate::protocol::Entry) for each delivery and changes it only through the protocol's
//! transitions. Both ledgers serve one process, and share all but their storage:
//!
//! | module | job |
//! |---|---|
//! | `local` | claims and facts of one process; waits, releases, and facts that outlive a broken disk |
//! | `facts` | the trait behind it: where facts are kept |
//! | [`memory`] | facts in this process |
//! | [`embedded`] | facts in the data directory, through [`crate::store`] |
//! | `tickets` | tickets that are unique forever |

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::dead_letter::DeadLetter;
use crate::delivery::DeliveryKey;
use crate::letters::{LetterCount, LetterSummary};
use crate::protocol::{End, Fact, Known, Target, Ticket};
use crate::reason::{Failure, Reason};
use crate::spool::Accepted;

pub mod embedded;
mod facts;
mod local;
pub mod memory;
mod tickets;

/// The answer to "may I publish this delivery?"
pub enum Claim {
    /// Yes, under this ticket. What is known already need not be published.
    Mine(Ticket, Known),
    /// No: another task is publishing it. Resolves when that task has finished; drop it to stop waiting.
    Busy(Waiting),
    /// No: it has ended.
    Closed {
        /// How it ended.
        end: End,
        /// Whether the body was the same as now.
        same_body: bool,
    },
}

/// How another task's publish of the same delivery finished: how the delivery ended, or why it is still open.
pub type Waiting = BoxFuture<'static, Result<End, Reason>>;

/// What has become known, to be merged and made durable.
#[derive(Default)]
pub struct Record {
    /// Where the routes send the delivery, in the view of the ticket's owner.
    pub targets: Vec<Target>,
    /// What became known. Empty, with empty targets, from the current ticket: the delivery is ignored.
    pub facts: Vec<Fact>,
    /// What the dead letter keeps; present with every [`Fact::Dead`], and stored in the same transaction.
    pub dead: Option<DeadLetter>,
    /// The event; present with [`Fact::Accepted`], and stored in the same transaction.
    pub accepted: Option<Arc<Accepted>>,
    /// Hash of the body, to detect another body under the same id.
    pub body_hash: u32,
    /// Runs once the record was saved, before tasks that wait for the delivery learn of it; not if nothing was to be saved.
    pub on_saved: Option<Box<dyn FnOnce() + Send>>,
}

/// What is known of a delivery, for operators.
#[derive(Default)]
pub struct Remembered {
    /// How it ended, if it has.
    pub end: Option<End>,
    /// What is known of its targets while it is open. Of a delivery that has ended, only the end is kept.
    pub known: Known,
    /// Whether a task publishes it now.
    pub in_flight: bool,
    /// Hash of its body.
    pub body_hash: Option<u32>,
    /// Its dead letters.
    pub letters: Vec<LetterSummary>,
    /// The targets for which it waits in the spool.
    pub waiting: Vec<Target>,
}

/// Whether an id was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// It was: the next delivery with this id is published.
    Done,
    /// It was not known.
    Unknown,
    /// It was not: a task publishes it now, or it waits in the spool.
    InFlight,
}

/// A ledger. All methods can be called from any task; their futures can be dropped at any time without harm.
pub trait Ledger: Send + Sync {
    /// Asks for the right to publish.
    ///
    /// # Errors
    /// The store cannot be read or written: nothing was claimed.
    fn claim<'a>(&'a self, key: &'a DeliveryKey, body_hash: u32) -> BoxFuture<'a, Result<Claim, Failure>>;

    /// Merges facts, from any ticket. Returns how the delivery ended, or `None` while it is open, once that is durable
    /// (P5).
    ///
    /// # Errors
    /// The store may not have them. They are still known to this process.
    fn record<'a>(
        &'a self,
        key: &'a DeliveryKey,
        ticket: Ticket,
        record: Record,
    ) -> BoxFuture<'a, Result<Option<End>, Failure>>;

    /// Gives the right back, if the ticket is the current one. Waiting tasks receive the reason. Does not block.
    fn release(&self, key: &DeliveryKey, ticket: Ticket, why: Reason);

    /// What is known of a delivery; `None`: nothing.
    ///
    /// # Errors
    /// The store cannot be read.
    fn look_up<'a>(&'a self, key: &'a DeliveryKey) -> BoxFuture<'a, Result<Option<Remembered>, Failure>>;

    /// Forgets a delivery, so that the next one with its id is published. Its dead letters stay.
    ///
    /// # Errors
    /// The store may not have forgotten it.
    fn forget<'a>(&'a self, key: &'a DeliveryKey) -> BoxFuture<'a, Result<Forgotten, Failure>>;

    /// Whether dead letters can be kept.
    fn keeps_dead_letters(&self) -> bool;

    /// How many ids are remembered, roughly.
    fn ids(&self) -> u64;

    /// How many dead letters are kept.
    fn dead_letters(&self) -> Vec<LetterCount>;

    /// How many ids were forgotten before the end of their window, to make room.
    fn forgotten(&self) -> u64;

    /// Whether the store can be used, as far as is known without a query.
    ///
    /// # Errors
    /// Why it cannot be used; [`Reason::Failed`] if only a new process can use it again.
    fn health(&self) -> Result<(), Failure>;

    /// Shuts it down. What was recorded is durable.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A claim, given back when it is dropped.
pub struct HeldClaim<'a> {
    /// Where it is held.
    pub ledger: &'a dyn Ledger,
    /// The delivery.
    pub key: &'a DeliveryKey,
    /// The claim's ticket.
    pub ticket: Ticket,
    /// The reason for tasks that wait, if the delivery has not ended by then.
    pub why: Reason,
}

impl Drop for HeldClaim<'_> {
    fn drop(&mut self) {
        self.ledger.release(self.key, self.ticket, self.why);
    }
}
