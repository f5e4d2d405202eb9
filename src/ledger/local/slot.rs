//! Deliveries in memory: from their claim until the store has what is known of them.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::ledger::Claim;
use crate::ledger::facts::{Id, Stored};
use crate::protocol::{End, Entry, Fact, Target, Ticket};
use crate::reason::Reason;
use crate::spool::Accepted;

/// All deliveries in memory.
pub(super) type Slots = Mutex<HashMap<Id, Slot>>;

/// Held by the record whose turn it is, among the records of one delivery.
pub(super) type Turn = tokio::sync::Mutex<()>;

/// A delivery in memory.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) entry: Entry,
    /// Whether the store's facts were merged into the entry.
    pub(super) loaded: bool,
    /// Whether an acceptance was handed to the store, and it is not known whether the store has it.
    pub(super) unknown: bool,
    /// The store has this end.
    pub(super) closed: Option<End>,
    /// Whether a target may have a dead letter, which its confirm withdraws.
    letters: bool,
    /// Whether the store may have facts of its targets.
    pub(super) has_facts: bool,
    /// Records in progress: claims wait for them.
    pub(super) recording: u32,
    /// Counts changes of the entry.
    pub(super) version: u64,
    /// The last change that the store surely has.
    pub(super) saved: u64,
    pub(super) body_hash: u32,
    pub(super) turn: Arc<Turn>,
    waiters: Vec<oneshot::Sender<Result<End, Reason>>>,
}

impl Slot {
    pub(super) fn new(body_hash: u32) -> Self {
        Slot { body_hash, ..Slot::default() }
    }

    /// Merges the store's facts. They came first.
    pub(super) fn merge(&mut self, stored: Option<Stored>) {
        (self.loaded, self.unknown) = (true, false);
        match stored {
            Some(Stored::Closed { end, body_hash }) => {
                self.letters |= end == End::DeadLettered;
                self.closed = Some(end);
                self.body_hash = body_hash;
            }
            Some(Stored::Open(known)) => {
                self.letters |= !known.dead.is_empty();
                self.has_facts = true;
                let mine = &mut self.entry.known;
                mine.frozen = known.frozen.or(mine.frozen.take());
                mine.confirmed.extend(known.confirmed);
                mine.dead.extend(known.dead);
                mine.dead.retain(|target, _| !mine.confirmed.contains(target));
            }
            None => {}
        }
    }

    /// How it ended, whether or not the store has that.
    pub(super) fn end(&self) -> Option<End> {
        self.closed.or_else(|| self.entry.end())
    }

    /// The targets that may have a dead letter from before, which is of no use now: those that have confirmed; and with the
    /// end of all targets, or where the spool takes the event now, the whole delivery and the destinations without a topic
    /// that it reaches. A dead letter can be older than what the ledger knows: ids are forgotten.
    pub(super) fn withdrawn(&self, accepted: Option<&Accepted>) -> Vec<Target> {
        let known = &self.entry.known;
        let is_settled = matches!(self.entry.end(), Some(End::Delivered | End::DeadLettered));
        if !self.letters && !is_settled && accepted.is_none() {
            return Vec::new();
        }
        // A late confirm says nothing of other topics: which are dead is not known after the end.
        let confirmed = known.confirmed.iter().filter(|_| is_settled && self.closed.is_none());
        let spooled = accepted.into_iter().flat_map(|it| &it.targets).map(|it| &it.target);
        let reached = confirmed.chain(spooled.filter(|target| target.topic.is_some())).map(Target::without_topic);
        let whole = (is_settled || accepted.is_some()).then(Target::whole);
        let unnamed = reached.chain(whole).filter(|target| !known.dead.contains_key(target));
        known.confirmed.iter().cloned().chain(unnamed).collect()
    }

    /// What the store should have.
    pub(super) fn stored(&self) -> Stored {
        match self.end() {
            Some(end) => Stored::Closed { end, body_hash: self.body_hash },
            None => Stored::Open(Box::new(self.entry.known.clone())),
        }
    }

    /// Merges facts of a ticket into the entry.
    pub(super) fn add(&mut self, ticket: Ticket, targets: &[Target], facts: &[Fact], body_hash: u32) {
        let was_frozen = self.entry.known.frozen.is_some();
        self.entry.record(ticket, targets, facts);
        self.letters |= !self.entry.known.dead.is_empty();
        if !facts.is_empty() || self.entry.known.frozen.is_some() != was_frozen {
            self.version += 1;
            self.body_hash = body_hash;
        }
    }

    /// Whether the store has all that is known here.
    pub(super) fn is_saved(&self) -> bool {
        self.closed.is_some() || self.saved == self.version
    }

    /// Takes back deaths whose dead letter could not be kept, and an acceptance whose event could not be: the next try
    /// reports them again. The store may have the event nevertheless, so the next try looks there.
    pub(super) fn forget(&mut self, dead: &[Target], accepted: bool) {
        let known = &mut self.entry.known;
        known.dead.retain(|target, _| !dead.contains(target));
        if accepted {
            (known.accepted, self.loaded, self.unknown) = (false, false, true);
        }
        if known.confirmed.is_empty() && (!dead.is_empty() || accepted) {
            known.frozen = None;
        }
    }

    /// A claim that waits for the task that publishes the delivery.
    pub(super) fn wait(&mut self) -> Claim {
        self.waiters.retain(|waiter| !waiter.is_closed());
        let (waiter, finished) = oneshot::channel();
        self.waiters.push(waiter);
        Claim::Busy(finished.map(|finished| finished.unwrap_or(Err(Reason::Failed))).boxed())
    }

    /// Wakes the tasks that wait.
    pub(super) fn notify(&mut self, finished: Result<End, Reason>) {
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(finished); // it may have stopped waiting
        }
    }
}

/// Takes a claim back if its look-up fails or is dropped.
pub(super) struct ClaimGuard<'a> {
    pub(super) slots: &'a Slots,
    pub(super) id: Id,
    pub(super) ticket: Ticket,
    /// The reason for the tasks that wait; `None`: the claim stands.
    pub(super) why: Option<Reason>,
}

impl Drop for ClaimGuard<'_> {
    fn drop(&mut self) {
        if let Some(why) = self.why {
            release(self.slots, self.id, self.ticket, why);
        }
    }
}

/// Gives the right to publish back, if the ticket is the current one.
pub(super) fn release(slots: &Slots, id: Id, ticket: Ticket, why: Reason) {
    let mut slots = slots.lock();
    let Some(slot) = slots.get_mut(&id) else { return };
    if slot.entry.holder != Some(ticket) {
        return;
    }
    slot.entry.release(ticket);
    slot.notify(Err(why));
    if slot.recording == 0 && slot.is_saved() {
        slots.remove(&id);
    }
}
