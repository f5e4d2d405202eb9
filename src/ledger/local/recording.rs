//! A record in progress: keeps the delivery in memory and claims waiting until it is dropped, at whatever point.
//!
//! Records of one delivery are saved one after the other, each with all that is known by then. So no record saves a death
//! whose dead letter belongs to another record and is not kept yet (nor an acceptance without its event), and no record is
//! overtaken by an older one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::slot::{Slots, Turn};
use crate::dead_letter::DeadLetter;
use crate::ledger::Record;
use crate::ledger::facts::{Id, Save, Stored};
use crate::protocol::{End, Fact, Target, Ticket};
use crate::reason::Reason;
use crate::spool::Accepted;

/// See the module.
pub(super) struct Recording<'a> {
    slots: &'a Slots,
    behind: &'a AtomicBool,
    id: Id,
    ticket: Ticket,
    /// Merged at once, and again if the id was forgotten before this record's turn.
    confirms: Vec<Fact>,
    /// Deaths and acceptance, with the targets of their record: merged when it is this record's turn.
    held_back: Vec<Fact>,
    targets: Vec<Target>,
    letter: Option<DeadLetter>,
    accepted: Option<Arc<Accepted>>,
    body_hash: u32,
    /// Targets whose deaths this record saves.
    dead: Vec<Target>,
    /// Whether this record saves the acceptance.
    accepts: bool,
    /// The version of the entry that the store has.
    pub(super) saved: u64,
    pub(super) failed: bool,
}

impl<'a> Recording<'a> {
    /// Merges confirms at once, so that they are known whatever happens to this record. The others wait for its turn.
    pub(super) fn begin(
        slots: &'a Slots,
        behind: &'a AtomicBool,
        id: Id,
        ticket: Ticket,
        record: Record,
    ) -> (Self, Arc<Turn>) {
        let Record { targets, facts, dead: letter, accepted, body_hash, on_saved: _ } = record;
        let (confirms, held_back): (Vec<_>, Vec<_>) =
            facts.into_iter().partition(|fact| matches!(fact, Fact::Confirmed(_)));
        let mut all = slots.lock();
        let slot = all.entry(id).or_default();
        slot.recording += 1;
        slot.add(ticket, &targets, &confirms, body_hash);
        let turn = Arc::clone(&slot.turn);
        drop(all);
        let recording = Recording {
            slots,
            behind,
            id,
            ticket,
            confirms,
            held_back,
            targets,
            letter,
            accepted,
            body_hash,
            dead: Vec::new(),
            accepts: false,
            saved: 0,
            failed: true,
        };
        (recording, turn)
    }

    /// Whether the store's facts are still to be loaded; and if so, whether after saves that may be on their way.
    pub(super) fn needs_load(&self) -> Option<bool> {
        let slots = self.slots.lock();
        slots.get(&self.id).map_or(Some(false), |slot| (!slot.loaded).then_some(slot.unknown))
    }

    /// Merges the store's facts.
    pub(super) fn load(&self, stored: Option<Stored>) {
        self.slots.lock().entry(self.id).or_default().merge(stored);
    }

    /// What is to be saved and its version, or nothing where the store has all of it; and how the delivery ends with it.
    pub(super) fn prepare(&mut self) -> (Option<(Save, u64)>, Option<End>) {
        let mut slots = self.slots.lock();
        let slot = slots.entry(self.id).or_default();
        if let Some(end) = slot.closed {
            // A confirm that comes after the end: the target may have a dead letter.
            let (id, stored, withdrawn, has_facts) = (self.id, slot.stored(), slot.withdrawn(None), slot.has_facts);
            let save = Save { id, stored, has_facts, dead: Vec::new(), letter: None, withdrawn, accepted: None };
            return ((!save.withdrawn.is_empty()).then_some((save, slot.version)), Some(end));
        }
        let is_known = |fact: &Fact| match fact {
            Fact::Confirmed(target) => slot.entry.known.confirmed.contains(target),
            Fact::Dead(..) | Fact::Accepted => true,
        };
        if !self.confirms.iter().all(is_known) {
            slot.add(self.ticket, &self.targets, &self.confirms, self.body_hash);
        }
        let was_accepted = slot.entry.known.accepted;
        if !self.held_back.is_empty() {
            slot.add(self.ticket, &self.targets, &self.held_back, self.body_hash);
        }
        self.accepts = slot.entry.known.accepted && !was_accepted;
        let end = slot.end();
        if slot.is_saved() {
            return (None, end);
        }
        let dead = self.held_back.drain(..).filter_map(|fact| match fact {
            Fact::Dead(target, _) => slot.entry.known.dead.get(&target).map(|reason| (target.clone(), *reason)),
            Fact::Confirmed(_) | Fact::Accepted => None,
        });
        let accepted = self.accepted.take().filter(|_| self.accepts);
        slot.has_facts |= end.is_none();
        let (stored, has_facts, dead) = (slot.stored(), slot.has_facts, dead.collect());
        let (id, letter, withdrawn) = (self.id, self.letter.take(), slot.withdrawn(accepted.as_deref()));
        let save = Save { id, stored, has_facts, dead, letter, withdrawn, accepted };
        self.dead = save.dead.iter().map(|(target, _)| target.clone()).collect();
        (Some((save, slot.version)), end)
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get_mut(&self.id) else { return };
        slot.recording -= 1;
        slot.saved = slot.saved.max(self.saved);
        if self.failed {
            slot.forget(&self.dead, self.accepts);
            self.behind.store(true, Ordering::Relaxed);
        } else if self.accepts {
            // The number of the event is kept with this end: confirms that come now do not replace it.
            slot.closed = Some(End::Stored);
        }
        if slot.recording > 0 {
            return;
        }
        match (slot.is_saved(), slot.end()) {
            (true, Some(end)) => {
                slot.notify(Ok(end));
                slots.remove(&self.id);
            }
            // Its holder notifies the tasks that wait.
            _ if slot.entry.holder.is_some() => {}
            (true, None) => {
                slot.notify(Err(Reason::InFlight));
                slots.remove(&self.id);
            }
            (false, _) => slot.notify(Err(Reason::Store)),
        }
    }
}
