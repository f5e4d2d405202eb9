//! The ledger on this machine's disk: facts in the [`store`] of the data directory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::runtime::Handle;

use super::facts::{Background, FactStore, Id, Save, Stored};
use super::local::LocalLedger;
use super::{Forgotten, Ledger};
use crate::letters::{self, LetterCount};
use crate::reason::Failure;
use crate::spool::{self, Depth};
use crate::store::{self, IntegrityRule, Schema, Store};
use filter::IdFilter;
use recent::RecentIds;

mod filter;
mod recent;
mod tables;
mod upgrade;

/// Opens the ledger in a directory, creating it if need be. It remembers ids for `window` of elapsed time.
///
/// # Errors
/// The directory cannot be used, holds another version's store, or another process has it.
pub fn open(directory: &Path, window: Duration) -> Result<Opened, Failure> {
    let embedded = Embedded::open(directory, window)?;
    embedded.build_filter();
    embedded.keep_moving();
    let store = Arc::clone(&embedded.store);
    Ok(Opened { ledger: Arc::new(LocalLedger::new(embedded)), store })
}

/// Whether the ledger could be opened in a directory; says how.
///
/// # Errors
/// What [`open`] would report.
pub fn inspect(directory: &Path) -> Result<&'static str, Failure> {
    store::inspect(directory, &SCHEMA)
}

/// Whether the store of a directory that no process has open is whole. Changes nothing; returns what is wrong.
///
/// # Errors
/// There is no store, it is in use, or it cannot be read at all.
pub fn check(directory: &Path) -> Result<Vec<String>, Failure> {
    store::check(directory, &SCHEMA, &rules())
}

/// Copies the store of a directory to a new file, also while a process uses it. Returns the bytes of the copy.
///
/// # Errors
/// There is no store, the file exists or cannot be written, or the copy is not whole.
pub fn back_up(directory: &Path, file: &Path) -> Result<u64, Failure> {
    store::back_up(directory, file, &SCHEMA, &rules())
}

/// Whether there is a store in a directory.
///
/// # Errors
/// There is none.
pub fn exists(directory: &Path) -> Result<(), Failure> {
    store::exists(directory, &SCHEMA)
}

/// What waits for each destination in the store of a directory, if there is one. Changes nothing that it holds.
///
/// # Errors
/// It cannot be read, or another version made it that is refused.
pub fn waiting(directory: &Path) -> Result<Vec<Depth>, Failure> {
    if !store::is_there(directory, &SCHEMA)? {
        return Ok(Vec::new());
    }
    store::look_up(directory, &SCHEMA, spool::depths_in)
}

fn rules() -> Vec<IntegrityRule> {
    [tables::rules(), letters::rules(), spool::rules()].into_iter().flatten().collect()
}

/// All but the window.
const SCHEMA: Schema = Schema {
    file: "ledger.sqlite",
    version: 4,
    oldest: 1,
    tables: &[tables::TABLES, recent::TABLES, letters::TABLES, spool::TABLES],
    tallies: &[recent::IDS],
    expiring: tables::EXPIRING,
    window: 0,
};

/// An open ledger and its store, which has more than the ledger's tables.
pub struct Opened {
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// The store. The ledger closes it.
    pub store: Arc<Store>,
}

struct Embedded {
    store: Arc<Store>,
    hash_key: [u8; 16],
    /// In seconds.
    window: i64,
    known: Arc<IdFilter>,
    recent: Arc<RecentIds>,
}

impl Embedded {
    /// Without what works in the background.
    fn open(directory: &Path, window: Duration) -> Result<Self, Failure> {
        let window = i64::try_from(window.as_secs()).unwrap_or(i64::MAX / 2);
        let schema = Schema { window, ..SCHEMA };
        let (store, (hash_key, recent)) = Store::open(directory, &schema, |transaction, tallies| {
            letters::extend(transaction)?;
            upgrade::upgrade(transaction, tallies)?;
            letters::count(transaction, tallies)?;
            spool::count(transaction, tallies)?;
            Ok((tables::hash_key(transaction)?, RecentIds::new(transaction)?))
        })?;
        Ok(Embedded { store: Arc::new(store), hash_key, window, known: Arc::default(), recent: Arc::new(recent) })
    }

    /// Builds the filter in the background. Without a runtime, which only tests lack, every id is looked up.
    fn build_filter(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let (known, store, ids) = (Arc::clone(&self.known), Arc::downgrade(&self.store), self.ids());
        runtime.spawn(async move {
            if let Err(failure) = known.build(store, ids).await {
                tracing::debug!(%failure, "ids not read: each delivery is looked up");
            }
        });
    }

    /// Moves recent ids in the background; without a runtime, they stay where they are.
    fn keep_moving(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let every = Duration::from_secs((self.window / 100).clamp(1, 600).unsigned_abs());
        runtime.spawn(Arc::clone(&self.recent).keep_moving(Arc::downgrade(&self.store), every));
    }
}

impl FactStore for Embedded {
    fn hash_key(&self) -> [u8; 16] {
        self.hash_key
    }

    fn load(&self, id: Id) -> BoxFuture<'_, Result<Option<Stored>, Failure>> {
        if !self.known.may_have(id) {
            return std::future::ready(Ok(None)).boxed();
        }
        let (window, recent) = (self.window, Arc::clone(&self.recent));
        self.store.read(move |connection, now| tables::load(connection, &recent, id, now - window))
    }

    fn save(&self, save: Save) -> BoxFuture<'_, Result<(), Failure>> {
        let id = save.id;
        let recent = Arc::clone(&self.recent);
        let submit = || self.store.write(move |batch| tables::save(batch, &recent, &save));
        let (saved, filter_due) = self.known.add(id, submit);
        if filter_due {
            self.build_filter();
        }
        saved
    }

    fn earlier_saves(&self) -> BoxFuture<'_, Result<(), Failure>> {
        self.store.write(|_| Ok(()))
    }

    fn background(&self, id: Id) -> BoxFuture<'_, Result<Background, Failure>> {
        let (window, recent) = (self.window, Arc::clone(&self.recent));
        self.store.read(move |connection, now| tables::background(connection, &recent, id, now - window))
    }

    fn forget(&self, id: Id) -> BoxFuture<'_, Result<Forgotten, Failure>> {
        self.recent.forget(&self.store, move |batch| tables::forget(batch, id)).boxed()
    }

    fn keeps_dead_letters(&self) -> bool {
        true
    }

    fn ids(&self) -> u64 {
        self.store.tallies(recent::IDS).into_iter().map(|(_, count)| count).sum()
    }

    fn dead_letters(&self) -> Vec<LetterCount> {
        letters::counts(&self.store)
    }

    fn forgotten(&self) -> u64 {
        0
    }

    fn can_be_read(&self) -> Result<(), Failure> {
        self.store.can_be_read()
    }

    fn health(&self) -> Result<(), Failure> {
        self.store.health()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.recent.stop();
        self.store.close().boxed()
    }
}

#[cfg(test)]
mod tests;
