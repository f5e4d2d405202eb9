//! SEAM: a ledger remembers which deliveries are done, and lets one worker at a time at each of the others.
//!
//! It stores [`Entry`](crate::protocol::Entry)s and changes them only through [`step`](crate::protocol::step).

use futures_util::future::BoxFuture;

use crate::delivery::{Delivery, DeliveryKey};
use crate::protocol::{End, Fact, Known, SpoolId, Target, Ticket};
use crate::reason::{Failure, Reason};

pub mod embedded;
mod local;
pub mod memory;

/// The answer to "may I publish this delivery?"
pub enum Claim {
    /// Yes, under this ticket; what is known already need not be published.
    Mine(Ticket, Known),
    /// Somebody is at it. Resolves when that one is done, one way or the other; drop it to stop waiting.
    Busy(BoxFuture<'static, Standing>),
    /// No: it is done.
    Closed {
        /// How it ended.
        end: End,
        /// Whether the body was the same as now.
        same_body: bool,
    },
}

/// Where a delivery stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is done.
    Closed(End),
    /// It is not; whoever was at it has stopped for this reason.
    Open(Reason),
    /// Another spool accepted it first.
    Owned(SpoolId, Ticket),
}

/// What has become known, to be merged and made durable.
#[derive(Default)]
pub struct Record {
    /// Where the routes send the delivery, in the view of the ticket's owner.
    pub targets: Vec<Target>,
    /// What became known. Empty, with empty targets, from the current ticket: the delivery is ignored.
    pub facts: Vec<Fact>,
    /// Goes with every [`Fact::Dead`]: what the dead letter keeps. Stored in the same transaction as the fact.
    pub dead: Option<DeadLetter>,
    /// Hash of the body, to notice another body under the same id.
    pub body_hash: u32,
}

/// What is kept of a delivery that cannot be published.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The delivery, its credentials left out.
    pub delivery: Delivery,
    /// The event's name, if it has one.
    pub event: Option<String>,
    /// What went wrong, for the operator.
    pub failure: Failure,
}

/// A ledger. All methods can be called from any task; their futures may be dropped at any time without harm.
pub trait Ledger: Send + Sync {
    /// Asks for the right to publish.
    ///
    /// # Errors
    /// The store cannot be read or written: nothing was claimed.
    fn claim<'a>(&'a self, key: &'a DeliveryKey, body_hash: u32) -> BoxFuture<'a, Result<Claim, Failure>>;

    /// Merges facts, from any ticket, and answers where the delivery stands once that is durable (P5).
    ///
    /// # Errors
    /// The store may not have them. They are still known to this process.
    fn record<'a>(
        &'a self,
        key: &'a DeliveryKey,
        ticket: Ticket,
        record: Record,
    ) -> BoxFuture<'a, Result<Standing, Failure>>;

    /// Gives the right back, if the ticket is the current one; those who wait are told the reason. Does not block.
    fn release(&self, key: &DeliveryKey, ticket: Ticket, why: Reason);

    /// Whether dead letters can be kept.
    fn keeps_dead_letters(&self) -> bool;

    /// How many ids are remembered, roughly.
    fn ids(&self) -> u64;

    /// Whether the store can be used, as far as is known without asking it.
    fn health(&self) -> Result<(), Failure>;

    /// Ends its work; what was recorded is durable.
    fn close(&self) -> BoxFuture<'_, ()>;
}
