//! The thread that deletes expired rows and moves the write-ahead log into the database.
//!
//! It reads through its own connection, and hands the writer deletions so small that none blocks it longer than
//! [`STEP`]. How many rows that is, it learns from how long the last deletion took.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, params};
use rustix::fs::statvfs;
use tokio::time::Instant;

use super::database::{Expiring, LogSpace, Schema, failure};
use super::elapsed::Clock;
use super::thread_status::{Reporter, ThreadStatus};
use super::writer::Writer;
use crate::reason::Failure;
use crate::telemetry::throttle::Throttle;

/// How long one deletion may take. With its commit it blocks the writer for some 5 ms at most.
const STEP: Duration = Duration::from_millis(2);
/// Time between two checks of the write-ahead log. Under full load it grows by 10 MiB in this time, and the writer waits
/// longer for the move of a longer log.
const TICK: Duration = Duration::from_millis(200);
/// Bytes in a page of the database.
const PAGE: u64 = 4096;
/// Bytes in a frame of the log.
const FRAME: u64 = PAGE + 24;
/// Frames in the log from which it is moved (16 MiB).
const FRAMES: u64 = 4096;
/// On a small volume it is moved earlier: at this share of the free space.
const SHARE: u64 = 4;
/// Rows read at once in search of expired ones.
const ROWS: usize = 4096;

/// The disk of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Bytes that can be written: what is free on the disk, and within the database.
    pub free: u64,
    /// Bytes in all.
    pub size: u64,
}

/// Ends the thread when dropped.
pub(super) struct Upkeep {
    stop: Mutex<Option<Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    status: ThreadStatus,
    volume: Arc<Mutex<Volume>>,
}

impl Upkeep {
    pub(super) fn start(
        connection: Connection,
        writer: Writer,
        clock: Arc<Clock>,
        schema: &Schema,
    ) -> Result<Upkeep, Failure> {
        let (stop, stopped) = channel();
        let status = ThreadStatus::default();
        let volume = Arc::new(Mutex::new(volume(&connection)));
        let mut thread = UpkeepThread {
            connection,
            volume: Arc::clone(&volume),
            writer,
            clock,
            expiring: schema.expiring,
            window: schema.window,
            deletions: 64,
            stopped,
            _reporter: status.reporter("upkeep"),
            checkpoint_failures: Throttle::default(),
        };
        let thread = std::thread::Builder::new()
            .name("store-upkeep".into())
            .spawn(move || thread.run())
            .map_err(|error| failure("start the upkeep", &error))?;
        Ok(Upkeep { stop: Mutex::new(Some(stop)), thread: Mutex::new(Some(thread)), status, volume })
    }

    pub(super) fn volume(&self) -> Volume {
        *self.volume.lock()
    }

    pub(super) fn health(&self) -> Result<(), Failure> {
        self.status.health()
    }

    /// Ends the thread, and hands it out to be joined.
    pub(super) fn stop(&self) -> Option<JoinHandle<()>> {
        self.stop.lock().take();
        self.thread.lock().take()
    }
}

/// What is free on the disk of a database, as far as the system tells.
fn volume(connection: &Connection) -> Volume {
    let disk = connection.path().map(Path::new).and_then(Path::parent).and_then(|path| statvfs(path).ok());
    let Some(disk) = disk else { return Volume { free: u64::MAX, size: u64::MAX } };
    let pages = connection.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0)).unwrap_or(0);
    let within = pages.unsigned_abs().saturating_mul(PAGE);
    Volume {
        free: disk.f_bavail.saturating_mul(disk.f_frsize).saturating_add(within),
        size: disk.f_blocks.saturating_mul(disk.f_frsize),
    }
}

struct UpkeepThread {
    connection: Connection,
    volume: Arc<Mutex<Volume>>,
    writer: Writer,
    clock: Arc<Clock>,
    expiring: &'static [Expiring],
    window: i64,
    /// Rows of one deletion.
    deletions: usize,
    stopped: Receiver<()>,
    _reporter: Reporter,
    checkpoint_failures: Throttle<()>,
}

impl UpkeepThread {
    fn run(&mut self) {
        // A pass reads every row: often enough that few outlive their window by much, rarely enough to cost nothing.
        let every = Duration::from_secs((self.window / 100).clamp(1, 3600).unsigned_abs());
        let mut last = Instant::now();
        while self.rest(TICK) {
            *self.volume.lock() = volume(&self.connection);
            self.checkpoint();
            if last.elapsed() >= every {
                if let Err(error) = self.delete_expired() {
                    tracing::warn!(%error, "expired rows were not deleted");
                }
                last = Instant::now();
            }
        }
    }

    /// Waits; false when it is time to end.
    fn rest(&self, time: Duration) -> bool {
        matches!(self.stopped.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }

    /// Moves most of a long log beside the writer, then lets the writer move the rest, so that the log starts anew: while
    /// the log is written continuously, only the writer can find all of it moved.
    fn checkpoint(&self) {
        let log = self.connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| Ok((row.get(1)?, row.get(2)?)));
        let share = self.volume.lock().free / SHARE / FRAME;
        let most = FRAMES.min(share).max(1);
        let space = if share < FRAMES { LogSpace::Freed } else { LogSpace::Kept };
        // A log that was moved as a whole starts anew with the next commit; but its file may have to be freed before.
        let done = |frames, moved| moved == frames && matches!(space, LogSpace::Kept);
        if log.is_ok_and(|(frames, moved): (i64, i64)| frames.unsigned_abs() < most || done(frames, moved)) {
            return;
        }
        match self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            Ok(()) => self.writer.checkpoint(space),
            Err(error) => {
                if let Some(suppressed) = self.checkpoint_failures.admit(()) {
                    tracing::warn!(%error, suppressed, "the write-ahead log was not moved into the database");
                }
            }
        }
    }

    fn delete_expired(&mut self) -> rusqlite::Result<()> {
        for expiring in self.expiring {
            let mut after: Vec<u8> = Vec::new();
            loop {
                let rows = self.rows(expiring, &after)?;
                let Some((last, _)) = rows.last() else { break };
                after.clone_from(last);
                let due: Vec<Vec<u8>> = rows.into_iter().filter_map(|(id, due)| due.then_some(id)).collect();
                if !self.delete(expiring, due) || !self.rest(Duration::from_millis(1)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The next ids of a table, and whether each row is to be deleted or renewed.
    fn rows(&self, expiring: &Expiring, after: &[u8]) -> rusqlite::Result<Vec<(Vec<u8>, bool)>> {
        let Expiring { table, kept_while, .. } = expiring;
        let due = format!("at < ?2 OR (at < ?3 AND ({kept_while}))");
        let sql = format!("SELECT id, {due} FROM {table} WHERE id > ?1 ORDER BY id LIMIT {ROWS}");
        let mut select = self.connection.prepare_cached(&sql)?;
        let (now, window) = (self.clock.now(), self.window);
        let since = params![after, now - window, now - window / 2];
        let rows = select.query_map(since, |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    }

    /// Deletes or renews in steps; false when the store is failing or it is time to end.
    fn delete(&mut self, expiring: &'static Expiring, mut due: Vec<Vec<u8>>) -> bool {
        while !due.is_empty() {
            let step: Vec<Vec<u8>> = due.drain(..self.deletions.min(due.len())).collect();
            let since = self.clock.now() - self.window;
            let (done, took) = channel();
            let committed = self.writer.write(move |batch| {
                let started = Instant::now();
                let Expiring { table, kept_while, .. } = expiring;
                let renew = format!("UPDATE {table} SET at = ? WHERE id = ? AND ({kept_while})");
                let mut renew = batch.transaction.prepare_cached(&renew)?;
                let delete = format!("DELETE FROM {table} WHERE id = ? AND at < ?");
                let mut delete = batch.transaction.prepare_cached(&delete)?;
                let mut deleted = 0;
                for id in &step {
                    renew.execute(params![batch.now, id])?;
                    deleted += i64::try_from(delete.execute(params![id, since])?).unwrap_or(0);
                }
                if let Some(tally) = expiring.tally {
                    batch.add(tally, -deleted);
                }
                let _ = done.send(started.elapsed());
                Ok(())
            });
            let Ok(took) = took.recv() else { return false };
            drop(committed); // the writer commits it
            self.deletions = match (took > STEP, took < STEP / 2) {
                (true, _) => (self.deletions / 2).max(1),
                (_, true) => (self.deletions * 2).min(ROWS),
                _ => self.deletions,
            };
            if !self.rest(Duration::from_millis(2)) {
                return false;
            }
        }
        true
    }
}
