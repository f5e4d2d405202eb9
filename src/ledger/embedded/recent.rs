//! Ids that ended recently. Rows are appended to a table of their own, and moved into the table of all ids many at a time: the
//! hash of an id is random, so that each id would change another page of the large table, and each commit write a page for
//! every id.
//!
//! A row has a number that grows with each commit. Before each look-up, the reader reads the rows that are new to it, and
//! remembers the number of each id until its row is in the large table.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fail_point::{Step, fail_point};
use crate::ledger::facts::Id;
use crate::reason::{Failure, Reason};
use crate::store::{Batch, Store};

/// The tally of ids that have ended, recent or not.
pub(super) const IDS: &str = "ids";
/// Rows that are moved together: they take some 2 MB.
const MANY: usize = 1 << 16;
/// Rows that are moved in one commit: bounds how long deliveries wait for it.
const STEP: usize = 256;
/// Rows that one look-up reads: other look-ups wait for it.
const CHUNK: usize = 4096;

/// The table. `number` grows with each row, as long as a process has the store.
pub(super) const TABLES: &str = "
        CREATE TABLE IF NOT EXISTS recent (
            number INTEGER PRIMARY KEY, id BLOB NOT NULL, at INTEGER NOT NULL, end INTEGER NOT NULL, body INTEGER NOT NULL
        ) STRICT;
    ";

/// See the module.
pub(super) struct RecentIds {
    /// The number of the next row.
    next: AtomicI64,
    /// Rows that were appended since the last move began.
    appended: AtomicUsize,
    many: Notify,
    numbers: Mutex<Numbers>,
    closing: CancellationToken,
    /// Held while rows are moved, and while an id is forgotten: it must not be moved after that.
    moving: tokio::sync::Mutex<()>,
}

/// The numbers of the rows that were read, the latest of each id. Changed by the reader's thread only, so that no look-up's
/// view of the database is older.
#[derive(Default)]
struct Numbers {
    of: HashMap<Id, i64>,
    /// The number of the last row.
    last: i64,
}

/// How a delivery has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecentRow {
    number: i64,
    id: Id,
    pub(super) at: i64,
    pub(super) end: i64,
    pub(super) body: u32,
}

impl RecentRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let (number, id, at) = (row.get(0)?, Id::from_be_bytes(row.get(1)?), row.get(2)?);
        Ok(RecentRow { number, id, at, end: row.get(3)?, body: row.get(4)? })
    }
}

impl RecentIds {
    /// Goes on after the rows of an earlier process.
    pub(super) fn new(transaction: &Transaction<'_>) -> rusqlite::Result<Self> {
        let next = "SELECT coalesce(max(number), 0) + 1 FROM recent";
        Ok(RecentIds {
            next: AtomicI64::new(transaction.query_row(next, [], |row| row.get(0))?),
            appended: AtomicUsize::default(),
            many: Notify::new(),
            numbers: Mutex::default(),
            closing: CancellationToken::new(),
            moving: tokio::sync::Mutex::default(),
        })
    }

    /// Adds a row.
    pub(super) fn append(&self, batch: &mut Batch<'_>, id: &[u8; 16], end: i64, body: u32) -> rusqlite::Result<()> {
        // Drawn by the writer's thread, in the order of commits.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut insert = batch.transaction.prepare_cached("INSERT INTO recent VALUES (?, ?, ?, ?, ?)")?;
        insert.execute(params![number, id, batch.now, end, body])?;
        batch.add(IDS, 1);
        if self.appended.fetch_add(1, Ordering::Relaxed) + 1 == MANY {
            self.many.notify_one();
        }
        Ok(())
    }

    /// The row of an id, if it was not moved yet.
    pub(super) fn find(&self, connection: &Connection, id: Id) -> rusqlite::Result<Option<RecentRow>> {
        let mut numbers = self.numbers.lock();
        let mut new = connection.prepare_cached("SELECT number, id FROM recent WHERE number > ? ORDER BY number")?;
        let mut rows = new.query([numbers.last])?;
        while let Some(row) = rows.next()? {
            numbers.last = row.get(0)?;
            let (id, number) = (Id::from_be_bytes(row.get(1)?), numbers.last);
            numbers.of.insert(id, number);
        }
        let Some(number) = numbers.of.get(&id) else { return Ok(None) };
        // None if it was moved meanwhile.
        let sql = "SELECT number, id, at, end, body FROM recent WHERE number = ? AND id = ?";
        connection.prepare_cached(sql)?.query_row(params![number, id.to_be_bytes()], RecentRow::read).optional()
    }

    /// Forgets an id with a write: between two moves, as a row that is being moved would come back.
    ///
    /// # Errors
    /// The store may not have done it.
    pub(super) async fn forget<T: Send + 'static>(
        &self,
        store: &Store,
        write: impl FnOnce(&mut Batch<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let _moving = self.moving.lock().await;
        store.write(write).await
    }

    /// Moves rows now and then, and when there are many, until [`stop`](RecentIds::stop) or the end of the store.
    pub(super) async fn keep_moving(self: Arc<Self>, store: Weak<Store>, every: Duration) {
        let moves = async {
            while store.strong_count() > 0 {
                if let Err(failure) = self.move_all(&store).await {
                    tracing::warn!(%failure, "recent ids were not moved: the table and the memory for them grow");
                }
                let _ = timeout(every, self.many.notified()).await; // it is time, or there are many
            }
        };
        self.closing.run_until_cancelled(moves).await;
    }

    /// Ends the moves, before the store is closed. Rows that were not moved are moved by the next process.
    pub(super) fn stop(&self) {
        self.closing.cancel();
    }

    /// Moves the rows that are there. They are deleted after that: if the process dies in between, they are moved again.
    ///
    /// # Errors
    /// The store is closed, or cannot be read or written: rows that were not moved stay.
    pub(super) async fn move_all(self: &Arc<Self>, store: &Weak<Store>) -> Result<(), Failure> {
        let open = || open(store);
        let _moving = self.moving.lock().await;
        self.appended.store(0, Ordering::Relaxed);
        // An id may be being forgotten by a caller that has stopped waiting.
        let earlier = open()?.write(|_| Ok(()));
        earlier.await?;
        let mut rows = all(store).await?;
        let Some(last) = rows.last().map(|row| row.number) else { return Ok(()) };
        // Larger steps where more deliveries end with a commit than a step moves.
        let step = STEP * (rows.len() / MANY).clamp(1, 8);
        let firsts: Vec<i64> = rows.iter().step_by(step).map(|row| row.number).collect();
        let mut replaced = take_replaced(&mut rows);
        for step in rows.chunks(step).map(<[RecentRow]>::to_vec) {
            let moved = open()?.write(move |batch| step.iter().try_for_each(|row| insert(batch, row)));
            moved.await?;
        }
        fail_point(Step::Moved);
        for until in firsts.into_iter().skip(1).map(|first| first - 1).chain([last]) {
            // Counted here, as only what is deleted is not moved again.
            let twice = replaced.partition_point(|number| *number <= until);
            replaced.drain(..twice);
            let delete = "DELETE FROM recent WHERE number <= ?";
            let deleted = open()?.write(move |batch| {
                batch.add(IDS, -i64::try_from(twice).unwrap_or(0));
                batch.transaction.prepare_cached(delete)?.execute([until])
            });
            deleted.await?;
        }
        let this = Arc::clone(self);
        let purged = open()?.read(move |_, _| {
            this.numbers.lock().of.retain(|_, number| *number > last);
            Ok(())
        });
        purged.await
    }
}

/// Ids of the rows that are there, except those that are moved meanwhile.
///
/// # Errors
/// The store is closed or cannot be read.
pub(super) async fn ids(store: &Weak<Store>) -> Result<Vec<Id>, Failure> {
    Ok(all(store).await?.into_iter().map(|row| row.id).collect())
}

async fn all(store: &Weak<Store>) -> Result<Vec<RecentRow>, Failure> {
    let mut rows: Vec<RecentRow> = Vec::new();
    loop {
        let last = rows.last().map_or(0, |row| row.number);
        let chunk = open(store)?.read(move |connection, _| rows_after(connection, last, CHUNK));
        let chunk = chunk.await?;
        let is_last = chunk.len() < CHUNK;
        rows.extend(chunk);
        if is_last {
            return Ok(rows);
        }
    }
}

/// Not kept over an await: who closes the store waits for it to be dropped.
fn open(store: &Weak<Store>) -> Result<Arc<Store>, Failure> {
    store.upgrade().ok_or_else(|| Failure::new(Reason::Store, "the store is closed"))
}

fn rows_after(connection: &Connection, number: i64, most: usize) -> rusqlite::Result<Vec<RecentRow>> {
    let sql = "SELECT number, id, at, end, body FROM recent WHERE number > ? ORDER BY number LIMIT ?";
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    connection.prepare_cached(sql)?.query_map([number, most], RecentRow::read)?.collect()
}

/// Inserts a row into the large table, or replaces that of an earlier end of the same id.
fn insert(batch: &mut Batch<'_>, row: &RecentRow) -> rusqlite::Result<()> {
    let values = params![row.id.to_be_bytes(), row.at, row.end, row.body];
    let insert = "INSERT OR IGNORE INTO ids VALUES (?, ?, ?, ?)";
    if batch.transaction.prepare_cached(insert)?.execute(values)? == 0 {
        // One that is the same was moved by a process that died before it deleted it here: it was counted once.
        let replace =
            "UPDATE ids SET at = ?2, end = ?3, body = ?4 WHERE id = ?1 AND (at, end, body) IS NOT (?2, ?3, ?4)";
        let replaced = batch.transaction.prepare_cached(replace)?.execute(values)?;
        batch.add(IDS, -i64::try_from(replaced).unwrap_or(0));
    }
    Ok(())
}

/// Sorts rows in the order of the large table, so that rows of one step share pages, and keeps the latest of each id. Returns
/// the numbers of the others, in order.
fn take_replaced(rows: &mut Vec<RecentRow>) -> Vec<i64> {
    rows.sort_unstable_by_key(|row| (row.id, Reverse(row.number)));
    let mut replaced = Vec::new();
    rows.dedup_by(|row, latest| {
        let same = row.id == latest.id;
        replaced.extend(same.then_some(row.number));
        same
    });
    replaced.sort_unstable();
    replaced
}

#[cfg(test)]
mod tests;
