//! The ledger on this machine's disk: SQLite in the data directory, one commit for all that wait.
//!
//! | part | job |
//! |---|---|
//! | `schema` | tables, and what opening a directory checks |
//! | `writer` | the one thread that writes: drains what waits, commits once, answers all |
//! | `reader` | the thread that looks ids up |
//! | `upkeep` | the thread that forgets old ids and moves the write-ahead log into the database |

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};

use super::Ledger;
use super::local::{Id, LocalLedger, Save, Shelf, Stored};
use crate::reason::{Failure, Reason};
use reader::Reader;
use upkeep::Upkeep;
use writer::Writer;

mod broken;
mod elapsed;
mod reader;
mod schema;
mod upkeep;
mod writer;

/// Opens the ledger in a directory, making it if need be, and remembers ids for `window` of elapsed time.
///
/// # Errors
/// The directory cannot be used, is not this version's, or another process has it.
pub fn open(directory: &Path, window: Duration) -> Result<Arc<dyn Ledger>, Failure> {
    let lock = schema::lock(directory)?;
    let (connection, opened) = schema::open(directory)?;
    let clock = Arc::new(elapsed::Clock::starting_at(opened.elapsed));
    let writer = Writer::start(connection, Arc::clone(&clock), opened.ids)?;
    let reader = Reader::start(schema::reader(directory)?, Arc::clone(&clock), window)?;
    let upkeep = Upkeep::start(schema::reader(directory)?, writer.clone(), clock, window)?;
    Ok(Arc::new(LocalLedger::new(Embedded { hash_key: opened.hash_key, writer, reader, upkeep, _lock: lock })))
}

/// Whether the directory can be written and synced; a ledger that is open there is not disturbed.
///
/// # Errors
/// It cannot.
pub fn probe(directory: &Path) -> Result<(), Failure> {
    let path = directory.join("probe");
    let write = || {
        std::fs::create_dir_all(directory)?;
        std::fs::write(&path, b"probe\n")?;
        File::open(&path)?.sync_all()?;
        std::fs::remove_file(&path)
    };
    write().map_err(|error| store(&directory.display().to_string(), &error))
}

struct Embedded {
    hash_key: [u8; 16],
    writer: Writer,
    reader: Reader,
    upkeep: Upkeep,
    /// Released when the last of us ends.
    _lock: File,
}

impl Shelf for Embedded {
    fn hash_key(&self) -> [u8; 16] {
        self.hash_key
    }

    fn load(&self, id: Id) -> BoxFuture<'_, Result<Option<Stored>, Failure>> {
        self.reader.load(id).boxed()
    }

    fn save(&self, save: Save) -> BoxFuture<'_, Result<(), Failure>> {
        self.writer.write(move |transaction, now| schema::save(transaction, &save, now))
    }

    fn keeps_dead_letters(&self) -> bool {
        true
    }

    fn ids(&self) -> u64 {
        self.writer.ids()
    }

    fn health(&self) -> Result<(), Failure> {
        self.writer.health().and_then(|()| self.reader.health())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            self.upkeep.stop();
            self.writer.close().await;
        }
        .boxed()
    }
}

/// An error of the store, for the log: SQLite's texts hold no values.
fn store(doing: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Reason::Store, format!("{doing}: {error}"))
}
