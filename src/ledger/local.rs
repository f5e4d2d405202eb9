//! A ledger of one process: claims live in memory (a dead process claims nothing), facts on a [`Shelf`].
//!
//! An entry is in memory from its claim until its end is durable. Facts that could not be saved stay here, so that a
//! broken disk does not make this process publish twice.

use std::collections::hash_map::Entry as MapEntry;
use std::hash::Hasher as _;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use parking_lot::Mutex;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::{Claim, DeadLetter, Ledger, Record, Standing};
use crate::delivery::DeliveryKey;
use crate::protocol::{Answer, End, Input, Known, Target, Ticket, Tickets};
use crate::reason::{Failure, Reason};
use slot::{Recording, Slot, Slots, Undo, release};

mod slot;

/// A keyed 128-bit hash of source and webhook-id: what is stored instead of the text.
pub(super) type Id = u128;

/// What a shelf keeps of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// Done.
    Closed { end: End, body_hash: u32 },
    /// Some of its targets have facts.
    Open(Known),
}

/// What a shelf is asked to keep, in one transaction.
pub(super) struct Save {
    pub id: Id,
    pub stored: Stored,
    pub dead: Vec<(Target, Reason)>,
    pub letter: Option<DeadLetter>,
}

/// Where a local ledger keeps facts.
pub(super) trait Shelf: Send + Sync {
    /// The key of the hash.
    fn hash_key(&self) -> [u8; 16];
    fn load(&self, id: Id) -> BoxFuture<'_, Result<Option<Stored>, Failure>>;
    fn save(&self, save: Save) -> BoxFuture<'_, Result<(), Failure>>;
    fn keeps_dead_letters(&self) -> bool;
    fn ids(&self) -> u64;
    fn health(&self) -> Result<(), Failure>;
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// See the module.
pub(super) struct LocalLedger<S> {
    shelf: S,
    hash_key: [u8; 16],
    tickets: Tickets,
    slots: Slots,
    /// Whether a record has failed since one succeeded.
    behind: AtomicBool,
}

/// What a look at the slots found to do next.
enum Next {
    Load,
    /// Its end is known here only, and nobody is told of it before the shelf has it.
    Save {
        same_body: bool,
    },
    Done(Claim),
}

impl<S: Shelf> LocalLedger<S> {
    pub(super) fn new(shelf: S) -> Self {
        LocalLedger {
            hash_key: shelf.hash_key(),
            shelf,
            tickets: Tickets::default(),
            slots: Mutex::default(),
            behind: AtomicBool::new(false),
        }
    }

    fn id(&self, key: &DeliveryKey) -> Id {
        let mut hasher = SipHasher13::new_with_key(&self.hash_key);
        hasher.write(key.source.as_bytes());
        hasher.write_u8(0);
        hasher.write(key.id.as_bytes());
        hasher.finish128().as_u128()
    }

    async fn claimed(&self, id: Id, body_hash: u32) -> Result<Claim, Failure> {
        // What could not be recorded must not be published.
        self.shelf.health()?;
        loop {
            let ticket = self.tickets.draw();
            match self.look(id, ticket, body_hash) {
                Next::Done(claim) => return Ok(claim),
                Next::Save { same_body } => {
                    if let Standing::Closed(end) = self.recorded(id, ticket, Record::default()).await? {
                        return Ok(Claim::Closed { end, same_body });
                    }
                }
                Next::Load => {
                    let mut undo = Undo { slots: &self.slots, id, ticket, why: Some(Reason::Failed) };
                    let loaded = self.shelf.load(id).await;
                    undo.why = loaded.is_err().then_some(Reason::Store);
                    if let Some(claim) = self.loaded(id, ticket, loaded?, body_hash) {
                        return Ok(claim);
                    }
                }
            }
        }
    }

    fn look(&self, id: Id, ticket: Ticket, body_hash: u32) -> Next {
        let mut slots = self.slots.lock();
        let slot = match slots.entry(id) {
            MapEntry::Vacant(vacant) => {
                vacant.insert(Slot::of(body_hash)).step(Input::Claim(ticket));
                return Next::Load;
            }
            MapEntry::Occupied(occupied) => occupied.into_mut(),
        };
        if slot.recording > 0 {
            return Next::Done(slot.wait());
        }
        match slot.step(Input::Claim(ticket)) {
            Answer::Mine(known) if slot.loaded => Next::Done(Claim::Mine(ticket, known)),
            Answer::Mine(_) => Next::Load,
            Answer::Closed(_) => Next::Save { same_body: slot.body_hash == body_hash },
            Answer::Busy | Answer::Open | Answer::Owned(..) => Next::Done(slot.wait()),
        }
    }

    /// The claim of a ticket, now that it is known what the shelf has. `None`: the facts of another ticket have ended the
    /// claim meanwhile, and it is to be made again.
    fn loaded(&self, id: Id, ticket: Ticket, stored: Option<Stored>, body_hash: u32) -> Option<Claim> {
        let mut slots = self.slots.lock();
        let slot = slots.get_mut(&id).filter(|slot| slot.entry.holder == Some(ticket))?;
        slot.merge(stored);
        if let Some(end) = slot.closed {
            let same_body = slot.body_hash == body_hash;
            slot.tell(&Standing::Closed(end));
            if slot.recording == 0 {
                slots.remove(&id);
            }
            return Some(Claim::Closed { end, same_body });
        }
        if slot.entry.end().is_some() {
            // With what was known here already it is done: that is saved first.
            slot.entry.holder = None;
            return None;
        }
        Some(Claim::Mine(ticket, slot.entry.known.clone()))
    }

    async fn recorded(&self, id: Id, ticket: Ticket, record: Record) -> Result<Standing, Failure> {
        let (recording, turn) = Recording::begin(&self.slots, &self.behind, id, ticket, record);
        let _turn = turn.lock_owned().await;
        let mut recording = recording; // ends before its turn does
        if !recording.is_loaded() {
            recording.load(self.shelf.load(id).await?);
        }
        let (save, standing) = recording.settle();
        let Some((save, version)) = save else {
            recording.failed = false;
            return Ok(standing);
        };
        self.shelf.save(save).await?;
        (recording.failed, recording.saved) = (false, version);
        drop(recording);
        if self.behind.swap(false, Ordering::Relaxed) {
            self.save_what_could_not_be_saved().await;
        }
        Ok(standing)
    }

    /// Facts outlive a broken disk in memory; this brings them to one that works again.
    fn save_what_could_not_be_saved(&self) -> BoxFuture<'_, ()> {
        let slots = self.slots.lock();
        let unsaved = slots.iter().filter(|(_, slot)| slot.recording == 0 && !slot.is_saved()).map(|(id, _)| *id);
        let all: Vec<_> = unsaved.map(|id| self.recorded(id, self.tickets.draw(), Record::default())).collect();
        drop(slots);
        join_all(all).map(drop).boxed()
    }
}

impl<S: Shelf> Ledger for LocalLedger<S> {
    fn claim<'a>(&'a self, key: &'a DeliveryKey, body_hash: u32) -> BoxFuture<'a, Result<Claim, Failure>> {
        self.claimed(self.id(key), body_hash).boxed()
    }

    fn record<'a>(
        &'a self,
        key: &'a DeliveryKey,
        ticket: Ticket,
        record: Record,
    ) -> BoxFuture<'a, Result<Standing, Failure>> {
        self.recorded(self.id(key), ticket, record).boxed()
    }

    fn release(&self, key: &DeliveryKey, ticket: Ticket, why: Reason) {
        release(&self.slots, self.id(key), ticket, why);
    }

    fn keeps_dead_letters(&self) -> bool {
        self.shelf.keeps_dead_letters()
    }

    fn ids(&self) -> u64 {
        self.shelf.ids()
    }

    fn health(&self) -> Result<(), Failure> {
        self.shelf.health()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            self.save_what_could_not_be_saved().await;
            self.shelf.close().await;
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
