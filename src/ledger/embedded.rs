//! The ledger on this machine's disk: facts in the [`store`] of the data directory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};

use super::facts::{FactStore, Id, Save, Stored};
use super::local::LocalLedger;
use super::{Ledger, LetterCount};
use crate::reason::Failure;
use crate::store::{self, Schema, Store};

mod tables;

/// Opens the ledger in a directory, creating it if need be. It remembers ids for `window` of elapsed time.
///
/// # Errors
/// The directory cannot be used, holds another version's store, or another process has it.
pub fn open(directory: &Path, window: Duration) -> Result<Arc<dyn Ledger>, Failure> {
    let window = i64::try_from(window.as_secs()).unwrap_or(i64::MAX / 2);
    let schema = Schema { window, ..tables::SCHEMA };
    let (store, hash_key) = Store::open(directory, &schema, tables::prepare)?;
    Ok(Arc::new(LocalLedger::new(Embedded { store, hash_key, window })))
}

/// Whether the ledger could be opened in a directory; says how.
///
/// # Errors
/// What [`open`] would report.
pub fn inspect(directory: &Path) -> Result<&'static str, Failure> {
    store::inspect(directory, &tables::SCHEMA)
}

struct Embedded {
    store: Store,
    hash_key: [u8; 16],
    /// In seconds.
    window: i64,
}

impl FactStore for Embedded {
    fn hash_key(&self) -> [u8; 16] {
        self.hash_key
    }

    fn load(&self, id: Id) -> BoxFuture<'_, Result<Option<Stored>, Failure>> {
        let window = self.window;
        self.store.read(move |connection, now| tables::load(connection, id, now - window))
    }

    fn save(&self, save: Save) -> BoxFuture<'_, Result<(), Failure>> {
        self.store.write(move |batch| tables::save(batch, &save))
    }

    fn keeps_dead_letters(&self) -> bool {
        true
    }

    fn ids(&self) -> u64 {
        self.store.tallies(tables::IDS).into_iter().map(|(_, count)| count).sum()
    }

    fn dead_letters(&self) -> Vec<LetterCount> {
        self.store.tallies(tables::LETTERS).iter().filter_map(tables::letter_count).collect()
    }

    fn forgotten(&self) -> u64 {
        0
    }

    fn health(&self) -> Result<(), Failure> {
        self.store.health()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close().boxed()
    }
}
