//! Ids that ended lately. Rows are appended to a table of their own, and moved into the table of all ids many at a time: the
//! hash of an id is random, so that each id would change another page of the large table, and each commit write a page for
//! every id.
//!
//! A row has a number that grows with each commit. Before each look-up, the reader reads the rows that are new to it, and
//! remembers the number of each id until its row is in the large table.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use tokio::sync::Notify;
use tokio::time::timeout;

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

    /// Moves rows now and then, and when there are many. Ends with the store.
    pub(super) async fn keep_moving(self: Arc<Self>, store: Weak<Store>, every: Duration) {
        while store.strong_count() > 0 {
            if let Err(failure) = self.move_all(&store).await {
                tracing::debug!(%failure, "recent ids stay where they are");
            }
            let _ = timeout(every, self.many.notified()).await; // it is time, or there are many
        }
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
        // In the order of the large table, so that rows of one step share pages; the latest row of an id comes last.
        rows.sort_unstable_by_key(|row| (row.id, row.number));
        for step in rows.chunks(step).map(<[RecentRow]>::to_vec) {
            let moved = open()?.write(move |batch| step.iter().try_for_each(|row| insert(batch, row)));
            moved.await?;
        }
        fail_point(Step::Moved);
        for until in firsts.into_iter().skip(1).map(|first| first - 1).chain([last]) {
            let delete = "DELETE FROM recent WHERE number <= ?";
            let deleted = open()?.write(move |batch| batch.transaction.prepare_cached(delete)?.execute([until]));
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

/// Ids of the rows that are there; but for those that are moved meanwhile.
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures_util::future::join_all;

    use super::*;
    use crate::ledger::Forgotten;
    use crate::ledger::embedded::Embedded;
    use crate::ledger::facts::{FactStore as _, Save, Stored};
    use crate::protocol::End;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Rows are moved only by the test.
    fn opened(directory: &Path) -> Embedded {
        Embedded::open(directory, HOUR).expect("opened")
    }

    async fn save(embedded: &Embedded, id: Id, body_hash: u32) {
        let stored = Stored::Closed { end: End::Delivered, body_hash };
        let (dead, withdrawn) = (Vec::new(), Vec::new());
        let save = Save { id, stored, has_facts: false, dead, letter: None, withdrawn, accepted: None };
        embedded.save(save).await.expect("saved");
    }

    async fn body_hash(embedded: &Embedded, id: Id) -> Option<u32> {
        match embedded.load(id).await.expect("loaded")? {
            Stored::Closed { body_hash, .. } => Some(body_hash),
            Stored::Open(known) => panic!("{known:?}"),
        }
    }

    async fn change(embedded: &Embedded, sql: &'static str) {
        embedded.store.write(move |batch| batch.transaction.execute(sql, [])).await.expect("changed");
    }

    async fn move_all(embedded: &Embedded) {
        embedded.recent.move_all(&Arc::downgrade(&embedded.store)).await.expect("moved");
    }

    async fn left(embedded: &Embedded) -> usize {
        ids(&Arc::downgrade(&embedded.store)).await.expect("read").len()
    }

    fn random(count: usize) -> Vec<Id> {
        (0..count).map(|_| rand::random()).collect()
    }

    #[tokio::test]
    async fn an_id_is_known_before_and_after_it_is_moved_and_in_the_next_process() {
        let directory = tempfile::tempdir().expect("a directory");
        let (first, second) = (random(CHUNK + 10), random(10));
        let embedded = opened(directory.path());
        join_all(first.iter().map(|id| save(&embedded, *id, 7))).await;
        assert_eq!(body_hash(&embedded, first[0]).await, Some(7));
        move_all(&embedded).await;
        join_all(second.iter().map(|id| save(&embedded, *id, 7))).await;
        assert_eq!(left(&embedded).await, second.len());
        embedded.close().await;
        drop(embedded);
        let embedded = opened(directory.path());
        for round in 0..2 {
            for id in first.iter().chain(&second) {
                assert_eq!(body_hash(&embedded, *id).await, Some(7), "round {round}");
            }
            assert_eq!(body_hash(&embedded, rand::random()).await, None);
            assert_eq!(embedded.ids(), (first.len() + second.len()) as u64);
            move_all(&embedded).await;
        }
        assert_eq!((left(&embedded).await, embedded.recent.numbers.lock().of.len()), (0, 0));
    }

    #[tokio::test]
    async fn the_latest_row_of_an_id_counts() {
        let directory = tempfile::tempdir().expect("a directory");
        let embedded = opened(directory.path());
        save(&embedded, 1, 10).await;
        move_all(&embedded).await;
        for hash in [11, 12] {
            save(&embedded, 1, hash).await;
            assert_eq!(body_hash(&embedded, 1).await, Some(hash));
        }
        move_all(&embedded).await;
        assert_eq!((body_hash(&embedded, 1).await, embedded.ids()), (Some(12), 1));
    }

    /// The process died after it had moved rows, and before it deleted them.
    #[tokio::test]
    async fn rows_that_are_moved_again_count_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let embedded = opened(directory.path());
        for id in 0..10 {
            save(&embedded, id, 7).await;
        }
        change(&embedded, "INSERT INTO ids SELECT id, at, end, body FROM recent WHERE number < 6").await;
        move_all(&embedded).await;
        assert_eq!((embedded.ids(), left(&embedded).await, body_hash(&embedded, 0).await), (10, 0, Some(7)));
    }

    #[tokio::test]
    async fn a_recent_id_expires() {
        let directory = tempfile::tempdir().expect("a directory");
        let embedded = opened(directory.path());
        save(&embedded, 1, 7).await;
        change(&embedded, "UPDATE recent SET at = at - 3601").await;
        assert_eq!(body_hash(&embedded, 1).await, None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_forgotten_id_does_not_come_back_with_the_rows_that_are_moved() {
        let directory = tempfile::tempdir().expect("a directory");
        let embedded = opened(directory.path());
        for round in 1..=20 {
            let ids = random(STEP * 2);
            join_all(ids.iter().map(|id| save(&embedded, *id, 7))).await;
            assert_eq!(body_hash(&embedded, ids[0]).await, Some(7));
            let ((), forgotten) = tokio::join!(move_all(&embedded), embedded.forget(ids[0]));
            assert_eq!(forgotten, Ok(Forgotten::Done));
            move_all(&embedded).await;
            assert_eq!(body_hash(&embedded, ids[0]).await, None, "round {round}");
            assert_eq!(embedded.ids(), round * (ids.len() as u64 - 1));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_id_is_known_while_rows_are_moved() {
        let directory = tempfile::tempdir().expect("a directory");
        let embedded = opened(directory.path());
        let ids = random(2000);
        let deliveries = join_all(ids.iter().enumerate().map(|(number, id)| {
            let (embedded, earlier) = (&embedded, ids[number / 2]);
            async move {
                save(embedded, *id, 7).await;
                assert_eq!(body_hash(embedded, *id).await, Some(7));
                let hash = body_hash(embedded, earlier).await;
                assert!(hash.is_none_or(|hash| hash == 7));
            }
        }));
        let moves = async {
            while embedded.ids() < ids.len() as u64 || left(&embedded).await > 0 {
                move_all(&embedded).await;
            }
        };
        tokio::join!(deliveries, moves);
        for id in ids {
            assert_eq!(body_hash(&embedded, id).await, Some(7));
        }
    }
}
