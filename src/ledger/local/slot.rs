//! Deliveries in memory: from their claim until the shelf has what is known of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Id, Save, Stored};
use crate::ledger::{Claim, DeadLetter, Record, Standing};
use crate::protocol::{Answer, End, Entry, Fact, Input, Target, Ticket, step};
use crate::reason::Reason;

/// A delivery in memory.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) entry: Entry,
    /// Whether what the shelf has was merged into the entry.
    pub(super) loaded: bool,
    /// The shelf says that it is done.
    pub(super) closed: Option<End>,
    /// Records under way: claims wait for them.
    pub(super) recording: u32,
    /// Counts changes of the entry.
    version: u64,
    /// The last change that the shelf surely has.
    saved: u64,
    pub(super) body_hash: u32,
    waiters: Vec<oneshot::Sender<Standing>>,
    turn: Arc<Turn>,
}

/// Whose turn it is among the records of one delivery.
pub(super) type Turn = tokio::sync::Mutex<()>;

impl Slot {
    pub(super) fn of(body_hash: u32) -> Self {
        Slot { body_hash, ..Slot::default() }
    }

    pub(super) fn merge(&mut self, stored: Option<Stored>) {
        self.loaded = true;
        match stored {
            Some(Stored::Closed { end, body_hash }) => {
                self.closed = Some(end);
                self.body_hash = body_hash;
            }
            Some(Stored::Open(known)) => {
                let mine = &mut self.entry.known;
                // What the shelf has was there first.
                mine.frozen = known.frozen.or(mine.frozen.take());
                mine.confirmed.extend(known.confirmed);
                mine.dead.extend(known.dead);
                mine.dead.retain(|target, _| !mine.confirmed.contains(target));
            }
            None => {}
        }
    }

    /// How it ended, whether or not the shelf has that.
    pub(super) fn end(&self) -> Option<End> {
        self.closed.or_else(|| self.entry.end())
    }

    pub(super) fn stored(&self) -> Stored {
        match self.end() {
            Some(end) => Stored::Closed { end, body_hash: self.body_hash },
            None => Stored::Open(self.entry.known.clone()),
        }
    }

    pub(super) fn step(&mut self, input: Input) -> Answer {
        let (entry, answer) = step(std::mem::take(&mut self.entry), input);
        self.entry = entry;
        answer
    }

    /// Notes what became known.
    fn note(&mut self, ticket: Ticket, targets: Vec<Target>, facts: Vec<Fact>, body_hash: u32) -> Answer {
        let (any, frozen) = (!facts.is_empty(), self.entry.known.frozen.is_some());
        let answer = self.step(Input::Record { ticket, targets, facts });
        if any || self.entry.known.frozen.is_some() != frozen {
            self.version += 1;
            self.body_hash = body_hash;
        }
        answer
    }

    /// Whether the shelf has all that is known here.
    pub(super) fn is_saved(&self) -> bool {
        self.closed.is_some() || self.saved == self.version
    }

    pub(super) fn wait(&mut self) -> Claim {
        self.waiters.retain(|waiter| !waiter.is_closed());
        let (tell, told) = oneshot::channel();
        self.waiters.push(tell);
        Claim::Busy(told.map(|standing| standing.unwrap_or(Standing::Open(Reason::Failed))).boxed())
    }

    /// A dead letter that could not be kept is no fact: the next try finds out again.
    pub(super) fn unsaved(&mut self, dead: &[Target]) {
        let known = &mut self.entry.known;
        known.dead.retain(|target, _| !dead.contains(target));
        if known.confirmed.is_empty() && self.entry.accepted.is_none() && !dead.is_empty() {
            known.frozen = None;
        }
    }

    pub(super) fn tell(&mut self, standing: &Standing) {
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(standing.clone()); // it may have stopped waiting
        }
    }
}

pub(super) type Slots = Mutex<HashMap<Id, Slot>>;

/// A record under way: keeps the delivery in memory and claims waiting, until it is dropped, at whatever point.
///
/// Records of one delivery are saved one after the other, each with all that is known by then. So none saves a death of
/// another whose letter is not kept yet, and none is overtaken by an older one.
pub(super) struct Recording<'a> {
    slots: &'a Slots,
    behind: &'a AtomicBool,
    id: Id,
    ticket: Ticket,
    /// Deaths, and what they need; noted when it is this record's turn.
    deaths: Vec<Fact>,
    targets: Vec<Target>,
    letter: Option<DeadLetter>,
    body_hash: u32,
    /// Targets whose dead letters go with it.
    dead: Vec<Target>,
    refused: Option<Standing>,
    pub(super) saved: u64,
    pub(super) failed: bool,
}

impl<'a> Recording<'a> {
    /// Notes at once what needs no letter, so that it is known whatever comes; the rest waits for its turn.
    pub(super) fn begin(
        slots: &'a Slots,
        behind: &'a AtomicBool,
        id: Id,
        ticket: Ticket,
        record: Record,
    ) -> (Self, Arc<Turn>) {
        let Record { targets, facts, dead: letter, body_hash } = record;
        let (deaths, facts): (Vec<_>, Vec<_>) = facts.into_iter().partition(|fact| fact.dead().is_some());
        let later = if deaths.is_empty() { Vec::new() } else { targets.clone() };
        let mut all = slots.lock();
        let slot = all.entry(id).or_default();
        slot.recording += 1;
        let refused = match slot.note(ticket, targets, facts, body_hash) {
            Answer::Owned(spool, ticket) => Some(Standing::Owned(spool, ticket)),
            _ => None,
        };
        let turn = Arc::clone(&slot.turn);
        drop(all);
        let (dead, saved, failed) = (Vec::new(), 0, true);
        let this = Recording {
            slots,
            behind,
            id,
            ticket,
            deaths,
            targets: later,
            letter,
            body_hash,
            dead,
            refused,
            saved,
            failed,
        };
        (this, turn)
    }

    /// Whether what the shelf has is known here.
    pub(super) fn is_loaded(&self) -> bool {
        self.slots.lock().get(&self.id).is_some_and(|slot| slot.loaded)
    }

    /// Merges what the shelf has.
    pub(super) fn load(&self, stored: Option<Stored>) {
        self.slots.lock().entry(self.id).or_default().merge(stored);
    }

    /// What is to be saved, and its version; nothing where the shelf has all of it. And where the delivery stands then.
    pub(super) fn settle(&mut self) -> (Option<(Save, u64)>, Standing) {
        let mut slots = self.slots.lock();
        let slot = slots.entry(self.id).or_default();
        if let Some(end) = slot.closed {
            return (None, Standing::Closed(end));
        }
        let (named, deaths) = (self.deaths.clone(), std::mem::take(&mut self.deaths));
        if !deaths.is_empty() {
            slot.note(self.ticket, std::mem::take(&mut self.targets), deaths, self.body_hash);
        }
        let ended = slot.end().map_or(Standing::Open(Reason::InFlight), Standing::Closed);
        let standing = self.refused.clone().unwrap_or(ended);
        if slot.is_saved() {
            return (None, standing);
        }
        let reasons = &slot.entry.known.dead;
        let dead = named.iter().filter_map(Fact::dead);
        let dead = dead.filter_map(|target| reasons.get(target).map(|reason| (target.clone(), *reason)));
        let save = Save { id: self.id, stored: slot.stored(), dead: dead.collect(), letter: self.letter.take() };
        self.dead = save.dead.iter().map(|(target, _)| target.clone()).collect();
        (Some((save, slot.version)), standing)
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get_mut(&self.id) else { return };
        slot.recording -= 1;
        slot.saved = slot.saved.max(self.saved);
        if self.failed {
            slot.unsaved(&self.dead);
            self.behind.store(true, Ordering::Relaxed);
        }
        if slot.recording > 0 {
            return;
        }
        match (slot.is_saved(), slot.end()) {
            (true, Some(end)) => {
                slot.tell(&Standing::Closed(end));
                slots.remove(&self.id);
            }
            // Its holder tells them.
            _ if slot.entry.holder.is_some() => {}
            (true, None) => {
                slot.tell(&Standing::Open(Reason::InFlight));
                slots.remove(&self.id);
            }
            (false, _) => slot.tell(&Standing::Open(Reason::Store)),
        }
    }
}

/// Takes a claim back that could not be looked up.
pub(super) struct Undo<'a> {
    pub(super) slots: &'a Slots,
    pub(super) id: Id,
    pub(super) ticket: Ticket,
    pub(super) why: Option<Reason>,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(why) = self.why {
            release(self.slots, self.id, self.ticket, why);
        }
    }
}

pub(super) fn release(slots: &Slots, id: Id, ticket: Ticket, why: Reason) {
    let mut slots = slots.lock();
    let Some(slot) = slots.get_mut(&id) else { return };
    if slot.entry.holder != Some(ticket) {
        return;
    }
    slot.step(Input::Release(ticket));
    slot.tell(&Standing::Open(why));
    if slot.recording == 0 && slot.is_saved() {
        slots.remove(&id);
    }
}
