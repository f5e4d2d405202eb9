//! A durable store on this machine's disk: SQLite in a directory that one process owns.
//!
//! It knows nothing of what is kept in it: its users bring tables ([`Schema`]), writes and look-ups. Writes that wait
//! together share one commit, so users that must change together write in one call.
//!
//! | module | job |
//! |---|---|
//! | `database` | the directory, its lock, the database file and its settings |
//! | `writer` | the one thread that writes: takes all waiting writes, commits once, answers all |
//! | `reader` | the thread that looks rows up |
//! | `upkeep` | the thread that deletes expired rows and moves the write-ahead log into the database |
//! | `disk` | which disk it needs, and what to do about an error |
//! | `integrity` | whether a database is whole, and copies of it |
//! | `elapsed` | the clock that rows expire by |
//! | `thread_status` | whether a thread can do its work |

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use rusqlite::{Connection, Transaction};

use crate::reason::Failure;
pub use database::{Expiring, Schema, Tallies, inspect, is_in_use, meta};
pub use integrity::{IntegrityRule, back_up, check, exists, is_there, look_up};
pub use upkeep::Volume;
pub use writer::Batch;

mod database;
mod disk;
mod elapsed;
mod integrity;
mod reader;
mod thread_status;
mod upkeep;
mod writer;

/// An open store. Dropping it ends its threads; [`close`](Store::close) waits for what was written before.
pub struct Store {
    writer: writer::Writer,
    reader: reader::Reader,
    upkeep: upkeep::Upkeep,
    /// Released when the store is dropped.
    _lock: File,
}

impl Store {
    /// Opens the store in a directory, creating both if need be. `prepare` runs in the transaction that creates the
    /// tables, and may add tallies of what is there.
    ///
    /// # Errors
    /// The directory cannot be used, holds another version's store, or another process has it.
    pub fn open<T>(
        directory: &Path,
        schema: &Schema,
        prepare: impl FnOnce(&Transaction<'_>, &mut Tallies) -> rusqlite::Result<T>,
    ) -> Result<(Store, T), Failure> {
        let lock = database::lock(directory)?;
        let (connection, opened) = database::open(directory, schema, prepare)?;
        let clock = Arc::new(elapsed::Clock::starting_at(opened.elapsed));
        let writer = writer::Writer::start(connection, opened.presence, Arc::clone(&clock), opened.tallies)?;
        let reader = reader::Reader::start(database::reader(directory, schema)?, Arc::clone(&clock))?;
        let upkeep = upkeep::Upkeep::start(database::reader(directory, schema)?, writer.clone(), clock, schema)?;
        Ok((Store { writer, reader, upkeep, _lock: lock }, opened.prepared))
    }

    /// Writes. Resolves when the write is durable; it happens whether or not the future is polled.
    ///
    /// # Errors
    /// The commit failed: nothing of it is stored, or the store cannot tell.
    pub fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Batch<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Failure>> {
        self.writer.write(work)
    }

    /// Looks rows up, as of a moment after this call. `look_up` also gets the elapsed seconds that rows expire by.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn read<T: Send + 'static>(
        &self,
        look_up: impl FnOnce(&Connection, i64) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Failure>> {
        self.reader.read(look_up)
    }

    /// The tallies whose names begin so, as of the last commit.
    pub fn tallies(&self, prefix: &str) -> Vec<(String, u64)> {
        self.writer.tallies(prefix)
    }

    /// The disk that it is on, as of a moment ago.
    pub fn volume(&self) -> Volume {
        self.upkeep.volume()
    }

    /// Whether it can be read. A store that cannot be written, as its disk is full, may still be.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn can_be_read(&self) -> Result<(), Failure> {
        self.reader.health()
    }

    /// Whether it can be written and read, as far as the last writes and look-ups told.
    ///
    /// # Errors
    /// Why it cannot; [`Failed`](crate::reason::Reason::Failed) if a thread has ended, which only a restart fixes.
    pub fn health(&self) -> Result<(), Failure> {
        self.writer.health().and_then(|()| self.reader.health()).and_then(|()| self.upkeep.health())
    }

    /// Waits for the writes so far, then ends the threads. The writer is the last to close the database, so that it moves
    /// the whole write-ahead log into it: what is left is one file.
    pub async fn close(&self) {
        for thread in [self.upkeep.stop(), self.reader.stop()].into_iter().flatten() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await; // a panic was reported by the thread's status
        }
        self.writer.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    #[tokio::test]
    async fn older_tables_are_extended_and_newer_ones_refused() {
        const OLD: Schema =
            Schema { file: "s.sqlite", version: 1, oldest: 1, tables: &[], expiring: &[], tallies: &[], window: 60 };
        const NEW: Schema = Schema { version: 2, tables: &["CREATE TABLE IF NOT EXISTS t (a INTEGER)"], ..OLD };
        const NEXT: Schema = Schema { version: 3, oldest: 3, ..OLD };
        let directory = tempfile::tempdir().unwrap();
        let open = |schema| Store::open(directory.path(), schema, |_, _| Ok(())).map(|(store, ())| store);
        let rules = [IntegrityRule::rows("t", "are negative", "a < 0")];
        let check = |schema| check(directory.path(), schema, &rules);
        open(&OLD).unwrap().close().await;
        assert_eq!(check(&NEW), Ok(Vec::new()), "its tables are still to be created");
        back_up(directory.path(), &directory.path().join("copy"), &NEW, &rules).expect("a copy");
        let store = open(&NEW).unwrap();
        store.write(|batch| batch.transaction.execute("INSERT INTO t VALUES (7)", [])).await.unwrap();
        store.close().await;
        drop(store);
        let detail = |opened: Result<Store, Failure>| opened.err().map(|failure| failure.detail.into_owned());
        let (newer, older) = (detail(open(&OLD)).unwrap(), detail(open(&NEXT)).unwrap());
        assert!(newer.contains("a newer version of hookbridge (schema 2, not 1)"), "{newer}");
        assert!(older.contains("an older version of hookbridge (schema 2, not 3)"), "{older}");
        let store = open(&NEW).unwrap();
        let kept = store.read(|connection, _| connection.query_row("SELECT a FROM t", [], |row| row.get(0))).await;
        assert_eq!(kept, Ok(7));
        store.write(|batch| batch.transaction.execute("DROP TABLE t", [])).await.unwrap();
        store.close().await;
        drop(store);
        assert_eq!(check(&NEW), Ok(vec!["t: no such table: t".to_owned()]));
    }

    /// The writer finds the last write and the end together.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_counted_last_is_kept_when_the_store_closes() {
        let directory = tempfile::tempdir().unwrap();
        let schema =
            Schema { file: "s.sqlite", version: 1, oldest: 1, tables: &[], expiring: &[], tallies: &["t"], window: 60 };
        let open = || Store::open(directory.path(), &schema, |_, _| Ok(())).map(|(store, ())| store).unwrap();
        let store = open();
        let slow = store.write(|_| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            Ok(())
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        let counted = store.write(|batch| {
            batch.add("t", 1);
            Ok(())
        });
        store.close().await;
        slow.await.unwrap();
        counted.await.unwrap();
        drop(store);
        assert_eq!(open().tallies("t"), [("t".to_owned(), 1)]);
    }

    /// Whoever learns that the log is gone may kill the process.
    #[tokio::test]
    async fn what_a_removed_log_held_is_in_the_database_before_a_write_fails() {
        const SCHEMA: Schema = Schema {
            file: "s.sqlite",
            version: 1,
            oldest: 1,
            tables: &["CREATE TABLE IF NOT EXISTS t (a INTEGER)"],
            expiring: &[],
            tallies: &[],
            window: 60,
        };
        let directory = tempfile::tempdir().unwrap();
        let (store, ()) = Store::open(directory.path(), &SCHEMA, |_, _| Ok(())).unwrap();
        let insert = || store.write(|batch| batch.transaction.execute("INSERT INTO t VALUES (7)", []));
        insert().await.unwrap();
        std::fs::remove_file(directory.path().join("s.sqlite-wal")).unwrap();
        assert!(insert().await.is_err());
        let copy = directory.path().join("copy.sqlite");
        std::fs::copy(directory.path().join("s.sqlite"), &copy).unwrap();
        let rows = Connection::open(&copy).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0));
        assert_eq!(rows, Ok(2));
        store.close().await;
    }

    #[tokio::test]
    async fn a_thread_that_panics_is_no_failure_of_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let schema =
            Schema { file: "s.sqlite", version: 1, oldest: 1, tables: &[], expiring: &[], tallies: &[], window: 60 };
        let (store, ()) = Store::open(directory.path(), &schema, |_, _| Ok(())).unwrap();
        store.write(|_| Ok(())).await.unwrap();
        assert!(store.health().is_ok());
        let failed = store.write::<()>(|_| panic!("on purpose")).await;
        assert!(failed.is_err());
        while store.health().is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(store.health().unwrap_err().reason, Reason::Failed);
        store.close().await;
    }
}
