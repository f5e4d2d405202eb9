//! The ledger in this process's memory: it forgets everything when the process ends, and the oldest ids when there are too
//! many.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::facts::{Background, FactStore, Id, Save, Stored};
use super::local::LocalLedger;
use super::{Forgotten, Ledger};
use crate::letters::LetterCount;
use crate::reason::{Failure, Reason};

/// Most changes that are remembered, up to 180 bytes each. An id has one for each record, mostly one.
const MOST_CHANGES: usize = 1_000_000;

/// Opens a ledger that remembers ids for `window` of elapsed time, at most a million of them, and keeps no dead letters.
pub fn open(window: Duration) -> Arc<dyn Ledger> {
    Arc::new(LocalLedger::new(Memory::new(window, MOST_CHANGES)))
}

struct Memory {
    window: Duration,
    most_changes: usize,
    kept: Mutex<Kept>,
    hash_key: [u8; 16],
}

#[derive(Default)]
struct Kept {
    /// With the time of the last change.
    stored: HashMap<Id, (Instant, Stored)>,
    /// Changes in their order.
    order: VecDeque<(Instant, Id)>,
    /// Ids that were forgotten within the window.
    forgotten: u64,
}

impl Memory {
    fn new(window: Duration, most_changes: usize) -> Memory {
        Memory { window, most_changes, kept: Mutex::default(), hash_key: rand::random() }
    }

    /// Forgets a few ids at most that are expired or too many, so that no call pays for the others.
    fn expire(&self, kept: &mut Kept) {
        for _ in 0..8 {
            let Some((since, id)) = kept.order.front().copied() else { return };
            let expired = since.elapsed() > self.window;
            if !expired && kept.order.len() <= self.most_changes {
                return;
            }
            kept.order.pop_front();
            if kept.stored.get(&id).is_some_and(|(last, _)| *last == since) {
                kept.stored.remove(&id);
                kept.forgotten += u64::from(!expired);
            }
        }
    }
}

impl FactStore for Memory {
    fn hash_key(&self) -> [u8; 16] {
        self.hash_key
    }

    fn load(&self, id: Id) -> BoxFuture<'_, Result<Option<Stored>, Failure>> {
        let mut kept = self.kept.lock();
        self.expire(&mut kept);
        ready(Ok(kept.stored.get(&id).map(|(_, stored)| stored.clone()))).boxed()
    }

    fn save(&self, save: Save) -> BoxFuture<'_, Result<(), Failure>> {
        if save.letter.is_some() {
            return ready(Err(Reason::NoDeadLetters.into())).boxed();
        }
        if save.accepted.is_some() {
            return ready(Err(Failure::new(Reason::Failed, "the store `memory` has no spool"))).boxed();
        }
        let mut kept = self.kept.lock();
        let now = Instant::now();
        kept.stored.insert(save.id, (now, save.stored));
        kept.order.push_back((now, save.id));
        self.expire(&mut kept);
        ready(Ok(())).boxed()
    }

    fn earlier_saves(&self) -> BoxFuture<'_, Result<(), Failure>> {
        ready(Ok(())).boxed()
    }

    fn background(&self, id: Id) -> BoxFuture<'_, Result<Background, Failure>> {
        let kept = self.kept.lock();
        let found = kept.stored.get(&id).filter(|(since, _)| since.elapsed() <= self.window);
        let stored = found.map(|(_, stored)| stored.clone());
        ready(Ok(Background { stored, ..Background::default() })).boxed()
    }

    fn forget(&self, id: Id) -> BoxFuture<'_, Result<Forgotten, Failure>> {
        let forgotten = self.kept.lock().stored.remove(&id);
        ready(Ok(forgotten.map_or(Forgotten::Unknown, |_| Forgotten::Done))).boxed()
    }

    fn keeps_dead_letters(&self) -> bool {
        false
    }

    fn ids(&self) -> u64 {
        self.kept.lock().stored.len() as u64
    }

    fn dead_letters(&self) -> Vec<LetterCount> {
        Vec::new()
    }

    fn forgotten(&self) -> u64 {
        self.kept.lock().forgotten
    }

    fn health(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::End;

    #[tokio::test]
    async fn the_oldest_ids_are_forgotten_when_there_are_too_many() {
        let memory = Memory::new(Duration::from_secs(3600), 3);
        let stored = || Stored::Closed { end: End::Delivered, body_hash: 0 };
        let save = |id| {
            memory.save(Save {
                id,
                stored: stored(),
                has_facts: false,
                dead: Vec::new(),
                letter: None,
                withdrawn: Vec::new(),
                accepted: None,
            })
        };
        for id in [1, 2, 1, 3, 4] {
            save(id).await.expect("saved");
        }
        let mut kept = Vec::new();
        for id in 1..=4 {
            kept.push(memory.load(id).await.expect("loaded").is_some());
        }
        assert_eq!(kept, [true, false, true, true], "1 was changed after 2");
        assert_eq!((memory.ids(), memory.forgotten(), memory.kept.lock().order.len()), (3, 1, 3));
    }
}
