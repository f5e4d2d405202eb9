//! The thread that forgets old ids and moves the write-ahead log into the database.
//!
//! It reads through its own connection, and hands the writer deletions so small that none holds it longer than
//! [`STEP`]; how many that is, it learns from how long the last one took.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::{Connection, params};

use super::elapsed::Clock;
use super::store;
use super::writer::Writer;
use crate::reason::Failure;

/// How long one deletion may take; with its commit it holds the writer for some 5 ms at most.
const STEP: Duration = Duration::from_millis(2);
/// Time between two looks at the write-ahead log.
const TICK: Duration = Duration::from_millis(500);
/// Frames in the log (of 4 KiB) from which it is moved.
const FRAMES: i64 = 4096;
/// Rows read at once in search of old ones.
const ROWS: usize = 4096;

/// Ends the thread when dropped.
pub(super) struct Upkeep {
    stop: Mutex<Option<Sender<()>>>,
}

impl Upkeep {
    pub(super) fn start(
        connection: Connection,
        writer: Writer,
        clock: Arc<Clock>,
        window: Duration,
    ) -> Result<Upkeep, Failure> {
        let (stop, stopped) = channel();
        let window = i64::try_from(window.as_secs()).unwrap_or(i64::MAX / 2);
        // A pass reads every id: often enough that few overstay, seldom enough to cost nothing.
        let every = Duration::from_secs((window / 100).clamp(1, 3600).unsigned_abs());
        let mut thread = Thread { connection, writer, clock, window, deletions: 64, stopped };
        std::thread::Builder::new()
            .name("ledger-upkeep".into())
            .spawn(move || thread.run(every))
            .map_err(|error| store("start the upkeep", &error))?;
        Ok(Upkeep { stop: Mutex::new(Some(stop)) })
    }

    pub(super) fn stop(&self) {
        self.stop.lock().take();
    }
}

struct Thread {
    connection: Connection,
    writer: Writer,
    clock: Arc<Clock>,
    window: i64,
    deletions: usize,
    stopped: Receiver<()>,
}

impl Thread {
    fn run(&mut self, every: Duration) {
        let mut last = Instant::now();
        while self.rest(TICK) {
            self.checkpoint();
            if last.elapsed() >= every {
                if let Err(error) = self.forget() {
                    tracing::warn!(%error, "old ids were not forgotten");
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
    /// it is written all the time, only the writer can find it all moved.
    fn checkpoint(&self) {
        let frames = self.connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get::<_, i64>(1));
        if frames.is_ok_and(|frames| frames < FRAMES) {
            return;
        }
        match self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            Ok(()) => self.writer.checkpoint(),
            Err(error) => tracing::warn!(%error, "the write-ahead log was not moved into the database"),
        }
    }

    fn forget(&mut self) -> rusqlite::Result<()> {
        for (table, condition) in [("ids", "at < ?2"), ("facts", "at < ?2")] {
            let mut after: Vec<u8> = Vec::new();
            loop {
                let rows = self.rows(table, condition, &after)?;
                let Some((last, _)) = rows.last() else { break };
                after.clone_from(last);
                let old: Vec<Vec<u8>> = rows.into_iter().filter_map(|(id, old)| old.then_some(id)).collect();
                if !self.delete(table, old) || !self.rest(Duration::from_millis(1)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn rows(&self, table: &str, old: &str, after: &[u8]) -> rusqlite::Result<Vec<(Vec<u8>, bool)>> {
        let sql = format!("SELECT id, {old} FROM {table} WHERE id > ?1 ORDER BY id LIMIT {ROWS}");
        let mut select = self.connection.prepare_cached(&sql)?;
        let since = self.clock.now() - self.window;
        let rows = select.query_map(params![after, since], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    }

    /// Deletes in steps; false when the store is broken or it is time to end.
    fn delete(&mut self, table: &'static str, mut old: Vec<Vec<u8>>) -> bool {
        while !old.is_empty() {
            let step: Vec<Vec<u8>> = old.drain(..self.deletions.min(old.len())).collect();
            let since = self.clock.now() - self.window;
            let (tell, took) = channel();
            let done = self.writer.write(move |transaction, _| {
                let started = Instant::now();
                let sql = format!("DELETE FROM {table} WHERE id = ? AND at < ?");
                let mut delete = transaction.prepare_cached(&sql)?;
                let mut gone = 0;
                for id in &step {
                    gone += i64::try_from(delete.execute(params![id, since])?).unwrap_or(0);
                }
                let _ = tell.send(started.elapsed());
                Ok(if table == "ids" { -gone } else { 0 })
            });
            let Ok(took) = took.recv() else { return false };
            drop(done); // its commit is the writer's affair
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
