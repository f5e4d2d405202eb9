//! What operators ask of a ledger: what is known of a delivery, and to forget it.

use std::sync::Arc;

use super::slot::{Slot, Slots, Turn, release};
use crate::ledger::facts::{FactStore, Id, Stored};
use crate::ledger::{Forgotten, Remembered};
use crate::protocol::{Entry, Known, Ticket};
use crate::reason::{Failure, Reason};

/// What memory and store know of a delivery.
pub(super) async fn look_up<S: FactStore>(slots: &Slots, store: &S, id: Id) -> Result<Option<Remembered>, Failure> {
    let background = store.background(id).await?;
    let slots = slots.lock();
    let mut merged = Slot::default();
    merged.merge(background.stored.clone());
    let mut found = Remembered {
        letters: background.letters,
        waiting: background.waiting,
        body_hash: matches!(background.stored, Some(Stored::Closed { .. })).then_some(merged.body_hash),
        ..Remembered::default()
    };
    let in_memory = slots.get(&id);
    if let Some(slot) = in_memory {
        found.in_flight = slot.entry.holder.is_some() || slot.recording > 0;
        found.body_hash = found.body_hash.or(Some(slot.body_hash));
        let (theirs, mine) = (&slot.entry.known, &mut merged.entry.known);
        mine.frozen = mine.frozen.take().or(theirs.frozen.clone());
        mine.confirmed.extend(theirs.confirmed.iter().cloned());
        mine.dead.extend(theirs.dead.clone());
        mine.dead.retain(|target, _| !mine.confirmed.contains(target));
    }
    found.end = merged.end().or(in_memory.and_then(Slot::end));
    found.known = merged.entry.known;
    let nothing = found.end.is_none() && found.known == Known::default() && !found.in_flight;
    Ok((!nothing || !found.letters.is_empty() || !found.waiting.is_empty()).then_some(found))
}

/// Forgets a delivery that no task publishes. Copies that arrive meanwhile wait, as for another copy. Confirms that arrive
/// meanwhile are recorded afterwards, without what is forgotten.
pub(super) async fn forget<S: FactStore>(
    slots: &Slots,
    store: &S,
    id: Id,
    ticket: Ticket,
) -> Result<Forgotten, Failure> {
    let (was_in_memory, turn) = {
        let mut slots = slots.lock();
        let known = slots.contains_key(&id);
        let slot = slots.entry(id).or_default();
        if slot.entry.holder.is_some() || slot.recording > 0 {
            return Ok(Forgotten::InFlight);
        }
        slot.entry.holder = Some(ticket);
        (known, Arc::clone(&slot.turn))
    };
    let held = HeldSlot { slots, id, ticket, turn: Arc::clone(&turn) };
    let _turn = turn.lock_owned().await;
    let forgotten = store.forget(id).await?;
    if forgotten != Forgotten::InFlight {
        held.clear();
    }
    drop(held);
    // Facts that could not be saved are known only in memory.
    Ok(if forgotten == Forgotten::Unknown && was_in_memory { Forgotten::Done } else { forgotten })
}

/// The right to publish a delivery, taken so that no task publishes it.
struct HeldSlot<'a> {
    slots: &'a Slots,
    id: Id,
    ticket: Ticket,
    /// The turn of the slot that is held.
    turn: Arc<Turn>,
}

impl HeldSlot<'_> {
    /// Forgets what memory knows. Records that wait for their turn merge their own facts again.
    fn clear(&self) {
        // A record whose turn came first may have ended the delivery: a slot of today belongs to another claim then.
        if let Some(slot) = self.slots.lock().get_mut(&self.id).filter(|slot| Arc::ptr_eq(&slot.turn, &self.turn)) {
            // An end by a waiting record's facts has taken the claim.
            slot.entry = Entry { holder: Some(self.ticket), known: Known::default() };
            (slot.loaded, slot.closed, slot.saved) = (false, None, slot.version);
        }
    }
}

impl Drop for HeldSlot<'_> {
    fn drop(&mut self) {
        release(self.slots, self.id, self.ticket, Reason::InFlight);
    }
}
