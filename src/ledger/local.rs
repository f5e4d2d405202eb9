//! A ledger of one process: claims live in memory (a dead process claims nothing), facts on a [`Shelf`].
//!
//! An entry is in memory from its claim until its end is durable. Facts that could not be saved stay here, so that a
//! broken disk does not make this process publish twice.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::hash::Hasher as _;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use parking_lot::Mutex;
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use tokio::sync::oneshot;

use super::{Claim, DeadLetter, Ledger, Record, Standing};
use crate::delivery::DeliveryKey;
use crate::protocol::{Answer, End, Entry, Fact, Input, Known, Target, Ticket, Tickets, step};
use crate::reason::{Failure, Reason};

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

#[derive(Default)]
struct Slot {
    entry: Entry,
    /// Whether what the shelf has was merged into the entry.
    loaded: bool,
    /// Saves under way.
    saving: u32,
    /// Counts changes of the entry.
    version: u64,
    /// The last change that the shelf surely has.
    saved: u64,
    body_hash: u32,
    waiters: Vec<oneshot::Sender<Standing>>,
}

impl Slot {
    fn merge(&mut self, known: Known) {
        let mine = &mut self.entry.known;
        mine.frozen = mine.frozen.take().or(known.frozen);
        mine.confirmed.extend(known.confirmed);
        mine.dead.extend(known.dead);
        mine.dead.retain(|target, _| !mine.confirmed.contains(target));
        self.loaded = true;
    }

    fn stored(&self) -> Stored {
        match self.entry.end() {
            Some(end) => Stored::Closed { end, body_hash: self.body_hash },
            None => Stored::Open(self.entry.known.clone()),
        }
    }

    fn wait(&mut self) -> Claim {
        self.waiters.retain(|waiter| !waiter.is_closed());
        let (tell, told) = oneshot::channel();
        self.waiters.push(tell);
        Claim::Busy(told.map(|standing| standing.unwrap_or(Standing::Open(Reason::Failed))).boxed())
    }

    /// A dead letter that could not be kept is no fact: the next try finds out again.
    fn unsaved(&mut self, dead: &[Target]) {
        let known = &mut self.entry.known;
        known.dead.retain(|target, _| !dead.contains(target));
        if known.confirmed.is_empty() && !dead.is_empty() {
            known.frozen = None;
        }
        if self.saving == 0 && self.entry.holder.is_none() {
            self.tell(&Standing::Open(Reason::Store));
        }
    }

    fn tell(&mut self, standing: &Standing) {
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(standing.clone()); // it may have stopped waiting
        }
    }
}

/// See the module.
pub(super) struct LocalLedger<S> {
    shelf: S,
    hash_key: [u8; 16],
    tickets: Tickets,
    slots: Mutex<HashMap<Id, Slot>>,
    /// Whether a save has failed since one succeeded.
    behind: AtomicBool,
}

/// What a look at the slots found to do next.
enum Next {
    Load,
    Save(Box<Save>, u64, End, bool),
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
        let ticket = self.tickets.draw();
        match self.look(id, ticket, body_hash) {
            Next::Done(claim) => Ok(claim),
            Next::Save(save, version, end, same_body) => {
                self.saved(id, *save, version).await?;
                Ok(Claim::Closed { end, same_body })
            }
            Next::Load => {
                let mut undo = Undo { slots: &self.slots, id, ticket, why: Some(Reason::Failed) };
                let loaded = self.shelf.load(id).await;
                undo.why = loaded.is_err().then_some(Reason::Store);
                Ok(self.loaded(id, ticket, loaded?, body_hash))
            }
        }
    }

    fn look(&self, id: Id, ticket: Ticket, body_hash: u32) -> Next {
        let mut slots = self.slots.lock();
        let slot = match slots.entry(id) {
            MapEntry::Vacant(vacant) => {
                let (entry, _) = step(Entry::default(), Input::Claim(ticket));
                vacant.insert(Slot { entry, body_hash, ..Slot::default() });
                return Next::Load;
            }
            MapEntry::Occupied(occupied) => occupied.into_mut(),
        };
        if slot.loaded && slot.saving == 0 {
            if let Some(end) = slot.entry.end() {
                // Its end could not be saved; nobody is told of it before it is.
                slot.saving += 1;
                let save = Box::new(Save { id, stored: slot.stored(), dead: Vec::new(), letter: None });
                return Next::Save(save, slot.version, end, slot.body_hash == body_hash);
            }
            let (entry, answer) = step(std::mem::take(&mut slot.entry), Input::Claim(ticket));
            slot.entry = entry;
            if let Answer::Mine(known) = answer {
                return Next::Done(Claim::Mine(ticket, known));
            }
        }
        Next::Done(slot.wait())
    }

    fn loaded(&self, id: Id, ticket: Ticket, stored: Option<Stored>, body_hash: u32) -> Claim {
        let mut slots = self.slots.lock();
        let slot = slots.entry(id).or_default();
        if let Some(Stored::Closed { end, body_hash: first }) = stored {
            slot.tell(&Standing::Closed(end));
            slots.remove(&id);
            return Claim::Closed { end, same_body: first == body_hash };
        }
        slot.merge(match stored {
            Some(Stored::Open(known)) => known,
            _ => Known::default(),
        });
        if slot.saving > 0 && slot.entry.holder != Some(ticket) {
            // A stale ticket's facts have closed it meanwhile; their save tells those who wait.
            return slot.wait();
        }
        Claim::Mine(ticket, slot.entry.known.clone())
    }

    async fn recorded(&self, id: Id, ticket: Ticket, record: Record) -> Result<Standing, Failure> {
        let known = self.slots.lock().get(&id).is_some_and(|slot| slot.loaded);
        let stored = if known { None } else { self.shelf.load(id).await? };
        if let Some(Stored::Closed { end, .. }) = stored {
            return Ok(Standing::Closed(end));
        }
        let (save, version, standing) = self.merged(id, ticket, record, stored);
        self.saved(id, save, version).await?;
        Ok(standing)
    }

    fn merged(&self, id: Id, ticket: Ticket, record: Record, stored: Option<Stored>) -> (Save, u64, Standing) {
        let mut slots = self.slots.lock();
        let slot = slots.entry(id).or_default();
        slot.merge(match stored {
            Some(Stored::Open(known)) => known,
            _ => Known::default(),
        });
        slot.body_hash = record.body_hash;
        let named: Vec<Target> = record
            .facts
            .iter()
            .filter_map(|fact| match fact {
                Fact::Dead(target, _) => Some(target.clone()),
                Fact::Confirmed(_) | Fact::Accepted { .. } => None,
            })
            .collect();
        let input = Input::Record { ticket, targets: record.targets, facts: record.facts };
        let (entry, answer) = step(std::mem::take(&mut slot.entry), input);
        slot.entry = entry;
        slot.saving += 1;
        slot.version += 1;
        let dead = &slot.entry.known.dead;
        let dead = named.into_iter().filter_map(|target| dead.get(&target).map(|reason| (target.clone(), *reason)));
        let save = Save { id, stored: slot.stored(), dead: dead.collect(), letter: record.dead };
        let standing = match answer {
            Answer::Closed(end) => Standing::Closed(end),
            Answer::Owned(spool, ticket) => Standing::Owned(spool, ticket),
            Answer::Open | Answer::Mine(_) | Answer::Busy => Standing::Open(Reason::InFlight),
        };
        (save, slot.version, standing)
    }

    /// Saves, and lets the entry go from memory when it is done.
    async fn saved(&self, id: Id, save: Save, version: u64) -> Result<(), Failure> {
        let dead = save.dead.iter().map(|(target, _)| target.clone()).collect();
        let mut saving = Saving { slots: &self.slots, id, dead, saved: None };
        let result = self.shelf.save(save).await;
        saving.saved = result.is_ok().then_some(version);
        drop(saving);
        match &result {
            Ok(()) if self.behind.swap(false, Ordering::Relaxed) => self.save_what_could_not_be_saved().await,
            Ok(()) => {}
            Err(_) => self.behind.store(true, Ordering::Relaxed),
        }
        result
    }

    /// Facts outlive a broken disk in memory; this brings them to one that works again.
    fn save_what_could_not_be_saved(&self) -> BoxFuture<'_, ()> {
        let mut saves = Vec::new();
        for (id, slot) in self.slots.lock().iter_mut() {
            if slot.loaded && slot.saving == 0 && slot.saved < slot.version {
                slot.saving += 1;
                let save = Save { id: *id, stored: slot.stored(), dead: Vec::new(), letter: None };
                saves.push((*id, save, slot.version));
            }
        }
        let all = saves.into_iter().map(|(id, save, version)| self.saved(id, save, version));
        join_all(all).map(drop).boxed()
    }
}

/// Ends a save, also when its future is dropped.
struct Saving<'a> {
    slots: &'a Mutex<HashMap<Id, Slot>>,
    id: Id,
    /// Targets whose dead letters go with it.
    dead: Vec<Target>,
    saved: Option<u64>,
}

impl Drop for Saving<'_> {
    fn drop(&mut self) {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get_mut(&self.id) else { return };
        slot.saving -= 1;
        match self.saved {
            Some(version) => slot.saved = slot.saved.max(version),
            None => slot.unsaved(&self.dead),
        }
        if slot.saving > 0 || slot.saved < slot.version {
            return;
        }
        if let Some(end) = slot.entry.end() {
            slot.tell(&Standing::Closed(end));
            slots.remove(&self.id);
        } else if slot.entry.holder.is_none() && slot.waiters.is_empty() {
            slots.remove(&self.id);
        }
    }
}

/// Takes a claim back that could not be looked up.
struct Undo<'a> {
    slots: &'a Mutex<HashMap<Id, Slot>>,
    id: Id,
    ticket: Ticket,
    why: Option<Reason>,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(why) = self.why {
            release(self.slots, self.id, self.ticket, why);
        }
    }
}

fn release(slots: &Mutex<HashMap<Id, Slot>>, id: Id, ticket: Ticket, why: Reason) {
    let mut slots = slots.lock();
    let Some(slot) = slots.get_mut(&id) else { return };
    if slot.entry.holder != Some(ticket) {
        return;
    }
    let (entry, _) = step(std::mem::take(&mut slot.entry), Input::Release(ticket));
    slot.entry = entry;
    slot.tell(&Standing::Open(why));
    if slot.saving == 0 && slot.saved == slot.version {
        slots.remove(&id);
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
