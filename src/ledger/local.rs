//! A ledger of one process: claims live in memory (a dead process claims nothing), facts in a [`FactStore`].
//!
//! A delivery is in memory from its claim until its end is durable. Facts that could not be saved stay here, so that a
//! broken disk does not make this process publish twice.

use std::collections::hash_map::Entry as MapEntry;
use std::hash::Hasher as _;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use parking_lot::Mutex;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::facts::{FactStore, Id, Stored};
use super::tickets::Tickets;
use super::{Claim, Forgotten, Ledger, Record, Remembered};
use crate::delivery::DeliveryKey;
use crate::letters::LetterCount;
use crate::protocol::{End, Permission, Ticket};
use crate::reason::{Failure, Reason};
use recording::Recording;
use slot::{ClaimGuard, Slot, Slots, release};

mod inspection;
mod recording;
mod slot;

/// See the module.
pub(super) struct LocalLedger<S> {
    store: S,
    hash_key: [u8; 16],
    tickets: Tickets,
    slots: Slots,
    /// Whether a record has failed since the last one succeeded.
    behind: AtomicBool,
}

/// What a claim has to do next, as far as memory tells.
enum NextStep {
    /// Look the delivery up in the store.
    Load {
        after_saves: bool,
    },
    /// Save its end: nobody learns of an end that the store does not have.
    SaveEnd {
        same_body: bool,
    },
    Done(Claim),
}

impl<S: FactStore> LocalLedger<S> {
    pub(super) fn new(store: S) -> Self {
        LocalLedger {
            hash_key: store.hash_key(),
            store,
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

    async fn claim_id(&self, id: Id, body_hash: u32) -> Result<Claim, Failure> {
        self.store.can_be_read()?;
        let claim = self.find_claim(id, body_hash).await?;
        if let Claim::Mine(ticket, _) = &claim
            && let Err(failure) = self.store.health()
        {
            // What could not be recorded must not be published. What has ended before is a duplicate nevertheless.
            release(&self.slots, id, *ticket, Reason::Store);
            return Err(failure);
        }
        Ok(claim)
    }

    async fn find_claim(&self, id: Id, body_hash: u32) -> Result<Claim, Failure> {
        loop {
            let ticket = self.tickets.draw();
            match self.claim_in_memory(id, ticket, body_hash) {
                NextStep::Done(claim) => return Ok(claim),
                NextStep::SaveEnd { same_body } => {
                    if let Some(end) = self.record_id(id, ticket, Record::default()).await? {
                        return Ok(Claim::Closed { end, same_body });
                    }
                }
                NextStep::Load { after_saves } => {
                    let mut guard = ClaimGuard { slots: &self.slots, id, ticket, why: Some(Reason::Failed) };
                    let loaded = self.load(id, after_saves).await;
                    guard.why = loaded.is_err().then_some(Reason::Store);
                    if let Some(claim) = self.merge_loaded(id, ticket, loaded?, body_hash) {
                        return Ok(claim);
                    }
                }
            }
        }
    }

    /// What the store has of a delivery. Where an earlier try's save may still be on its way, that comes first.
    async fn load(&self, id: Id, after_saves: bool) -> Result<Option<Stored>, Failure> {
        if after_saves {
            self.store.earlier_saves().await?;
        }
        self.store.load(id).await
    }

    fn claim_in_memory(&self, id: Id, ticket: Ticket, body_hash: u32) -> NextStep {
        let mut slots = self.slots.lock();
        let slot = match slots.entry(id) {
            MapEntry::Vacant(vacant) => {
                vacant.insert(Slot::new(body_hash)).entry.claim(ticket);
                return NextStep::Load { after_saves: false };
            }
            MapEntry::Occupied(occupied) => occupied.into_mut(),
        };
        if slot.recording > 0 {
            return NextStep::Done(slot.wait());
        }
        match slot.entry.claim(ticket) {
            Permission::Mine(known) if slot.loaded => NextStep::Done(Claim::Mine(ticket, known)),
            Permission::Mine(_) => NextStep::Load { after_saves: slot.unknown },
            Permission::Closed(_) => NextStep::SaveEnd { same_body: slot.body_hash == body_hash },
            Permission::Busy => NextStep::Done(slot.wait()),
        }
    }

    /// The claim of a ticket, now that the store's facts are known. `None`: facts of another ticket have ended the claim
    /// meanwhile, and it has to be made again.
    fn merge_loaded(&self, id: Id, ticket: Ticket, stored: Option<Stored>, body_hash: u32) -> Option<Claim> {
        let mut slots = self.slots.lock();
        let slot = slots.get_mut(&id).filter(|slot| slot.entry.holder == Some(ticket))?;
        slot.merge(stored);
        if let Some(end) = slot.closed {
            let same_body = slot.body_hash == body_hash;
            slot.notify(Ok(end));
            if slot.recording == 0 {
                slots.remove(&id);
            }
            return Some(Claim::Closed { end, same_body });
        }
        if slot.entry.end().is_some() {
            // Together with what was known in memory, the delivery has ended: that is saved first.
            slot.entry.holder = None;
            return None;
        }
        Some(Claim::Mine(ticket, slot.entry.known.clone()))
    }

    async fn record_id(&self, id: Id, ticket: Ticket, mut record: Record) -> Result<Option<End>, Failure> {
        let on_saved = record.on_saved.take();
        let (recording, turn) = Recording::begin(&self.slots, &self.behind, id, ticket, record);
        let _turn = turn.lock_owned().await;
        let mut recording = recording; // dropped before the turn is given up
        if let Some(after_saves) = recording.needs_load() {
            recording.load(self.load(id, after_saves).await?);
        }
        let (save, end) = recording.prepare();
        let Some((save, version)) = save else {
            recording.failed = false;
            return Ok(end);
        };
        self.store.save(save).await?;
        (recording.failed, recording.saved) = (false, version);
        // Before copies that wait are answered: an event that follows must not overtake this one.
        if let Some(on_saved) = on_saved {
            on_saved();
        }
        if self.behind.swap(false, Ordering::Relaxed) {
            self.save_unsaved().await;
        }
        drop(recording);
        Ok(end)
    }

    /// Facts outlive a broken disk in memory. This saves them once the disk works again.
    fn save_unsaved(&self) -> BoxFuture<'_, ()> {
        let slots = self.slots.lock();
        let unsaved = slots.iter().filter(|(_, slot)| slot.recording == 0 && !slot.is_saved()).map(|(id, _)| *id);
        let all: Vec<_> = unsaved.map(|id| self.record_id(id, self.tickets.draw(), Record::default())).collect();
        drop(slots);
        join_all(all).map(drop).boxed()
    }
}

impl<S: FactStore> Ledger for LocalLedger<S> {
    fn claim<'a>(&'a self, key: &'a DeliveryKey, body_hash: u32) -> BoxFuture<'a, Result<Claim, Failure>> {
        self.claim_id(self.id(key), body_hash).boxed()
    }

    fn record<'a>(
        &'a self,
        key: &'a DeliveryKey,
        ticket: Ticket,
        record: Record,
    ) -> BoxFuture<'a, Result<Option<End>, Failure>> {
        self.record_id(self.id(key), ticket, record).boxed()
    }

    fn release(&self, key: &DeliveryKey, ticket: Ticket, why: Reason) {
        release(&self.slots, self.id(key), ticket, why);
    }

    fn look_up<'a>(&'a self, key: &'a DeliveryKey) -> BoxFuture<'a, Result<Option<Remembered>, Failure>> {
        inspection::look_up(&self.slots, &self.store, self.id(key)).boxed()
    }

    fn forget<'a>(&'a self, key: &'a DeliveryKey) -> BoxFuture<'a, Result<Forgotten, Failure>> {
        inspection::forget(&self.slots, &self.store, self.id(key), self.tickets.draw()).boxed()
    }

    fn keeps_dead_letters(&self) -> bool {
        self.store.keeps_dead_letters()
    }

    fn ids(&self) -> u64 {
        self.store.ids()
    }

    fn dead_letters(&self) -> Vec<LetterCount> {
        self.store.dead_letters()
    }

    fn forgotten(&self) -> u64 {
        self.store.forgotten()
    }

    fn health(&self) -> Result<(), Failure> {
        self.store.health()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            self.save_unsaved().await;
            self.store.close().await;
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
