//! The ledger in this process's memory: it forgets everything when the process ends.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Ledger;
use super::facts::{FactStore, Id, Save, Stored};
use super::local::LocalLedger;
use crate::reason::{Failure, Reason};

/// Opens a ledger that remembers ids for `window` of elapsed time, and keeps no dead letters.
pub fn open(window: Duration) -> Arc<dyn Ledger> {
    Arc::new(LocalLedger::new(Memory { window, kept: Mutex::default(), hash_key: rand::random() }))
}

struct Memory {
    window: Duration,
    kept: Mutex<Kept>,
    hash_key: [u8; 16],
}

#[derive(Default)]
struct Kept {
    /// With the time of the last change.
    stored: HashMap<Id, (Instant, Stored)>,
    /// Changes in their order.
    order: VecDeque<(Instant, Id)>,
}

impl Kept {
    /// Forgets a few expired ids at most, so that no call pays for the others.
    fn expire(&mut self, window: Duration) {
        for _ in 0..8 {
            if self.order.front().is_none_or(|(since, _)| since.elapsed() <= window) {
                return;
            }
            if let Some((since, id)) = self.order.pop_front()
                && self.stored.get(&id).is_some_and(|(last, _)| *last == since)
            {
                self.stored.remove(&id);
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
        kept.expire(self.window);
        ready(Ok(kept.stored.get(&id).map(|(_, stored)| stored.clone()))).boxed()
    }

    fn save(&self, save: Save) -> BoxFuture<'_, Result<(), Failure>> {
        if save.letter.is_some() {
            return ready(Err(Reason::NoDeadLetters.into())).boxed();
        }
        let mut kept = self.kept.lock();
        let now = Instant::now();
        kept.stored.insert(save.id, (now, save.stored));
        kept.order.push_back((now, save.id));
        ready(Ok(())).boxed()
    }

    fn keeps_dead_letters(&self) -> bool {
        false
    }

    fn ids(&self) -> u64 {
        self.kept.lock().stored.len() as u64
    }

    fn health(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}
