//! The one thread that writes: takes all waiting writes, commits once, answers all.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::database::{LogSpace, Presence, Tallies, checkpoint, failure, set_meta};
use super::elapsed::Clock;
use super::thread_status::{Reporter, ThreadStatus};
use crate::fail_point::{Step, fail_point};
use crate::reason::{Failure, Reason};
use crate::telemetry::throttle::Throttle;

/// Most writes in one commit: bounds how long the first of them waits.
const MOST: usize = 1024;
/// After a commit of so many writes, the next one waits for more of them, as each commit costs a sync whatever its size. One
/// delivery after the other makes at most two: the event, and that the one before is published.
const TOGETHER: usize = 3;
/// How long it waits,
const PATIENCE: Duration = Duration::from_micros(500);
/// unless so many wait already.
const ENOUGH: usize = 16;
/// How long a failing store rests before it is tried again.
const REST: Duration = Duration::from_secs(1);

/// The transaction that a write is part of.
pub struct Batch<'a> {
    /// The transaction. It is committed after all its writes, or rolled back with all of them.
    pub transaction: &'a Transaction<'a>,
    /// Elapsed seconds: what rows expire by.
    pub now: i64,
    tallies: &'a Tallies,
    changes: &'a mut BTreeMap<Cow<'static, str>, i64>,
}

impl Batch<'_> {
    /// Changes a tally, if the batch is committed. Only the tallies of the [`Schema`](super::Schema) survive a restart.
    pub fn add(&mut self, tally: impl Into<Cow<'static, str>>, change: i64) {
        *self.changes.entry(tally.into()).or_default() += change;
    }

    /// A tally, with the changes of this batch.
    pub fn tally(&self, name: &str) -> u64 {
        let change = self.changes.get(name).copied().unwrap_or(0);
        self.tallies.get(name).copied().unwrap_or(0).saturating_add_signed(change)
    }
}

/// A write that waits for its commit.
trait PendingWrite: Send {
    fn run(&mut self, batch: &mut Batch<'_>) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, committed: Result<(), Failure>);
}

struct Write<W, T> {
    work: Option<W>,
    value: Option<T>,
    answer: oneshot::Sender<Result<T, Failure>>,
}

impl<W, T> PendingWrite for Write<W, T>
where
    W: FnOnce(&mut Batch<'_>) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn run(&mut self, batch: &mut Batch<'_>) -> rusqlite::Result<()> {
        self.value = self.work.take().map(|work| work(batch)).transpose()?;
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), Failure>) {
        let value = self.value.ok_or_else(|| Failure::from(Reason::Failed));
        let _ = self.answer.send(committed.and(value)); // the caller may have stopped waiting
    }
}

enum WriterJob {
    Write(Box<dyn PendingWrite>),
    /// Moves what is left of the write-ahead log into the database, so that the log starts anew.
    Checkpoint(LogSpace),
    Close(oneshot::Sender<()>),
}

/// Hands writes to the thread. Cheap to clone.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: Sender<WriterJob>,
    tallies: Arc<Mutex<Tallies>>,
    status: ThreadStatus,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        presence: Presence,
        clock: Arc<Clock>,
        tallies: Tallies,
    ) -> Result<Writer, Failure> {
        let (jobs, receiver) = channel();
        let (tallies, status) = (Arc::new(Mutex::new(tallies)), ThreadStatus::default());
        let reporter = status.reporter("writer");
        let thread = WriterThread {
            connection,
            presence,
            clock,
            tallies: Arc::clone(&tallies),
            reporter,
            checkpoint_failures: Throttle::default(),
        };
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || thread.run(&receiver))
            .map_err(|error| failure("start the writer", &error))?;
        Ok(Writer { jobs, tallies, status })
    }

    pub(super) fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Batch<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Failure>> {
        let (answer, result) = oneshot::channel();
        let sent = self.jobs.send(WriterJob::Write(Box::new(Write { work: Some(work), value: None, answer })));
        async move {
            let ended = || Failure::new(Reason::Store, "the store's writer has ended");
            sent.map_err(|_| ended())?;
            result.await.map_err(|_| ended())?
        }
        .boxed()
    }

    pub(super) fn checkpoint(&self, space: LogSpace) {
        let _ = self.jobs.send(WriterJob::Checkpoint(space)); // it has ended: nothing to do
    }

    /// Names and values of the tallies whose names begin so.
    pub(super) fn tallies(&self, prefix: &str) -> Vec<(String, u64)> {
        let tallies = self.tallies.lock();
        let found = tallies.iter().filter(|(name, _)| name.starts_with(prefix));
        found.map(|(name, value)| (name.to_string(), *value)).collect()
    }

    pub(super) fn health(&self) -> Result<(), Failure> {
        self.status.health()
    }

    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.jobs.send(WriterJob::Close(done)).is_ok() {
            let _ = closed.await;
        }
    }
}

/// What the thread does next.
#[derive(Default)]
struct DueJobs {
    writes: Vec<Box<dyn PendingWrite>>,
    checkpoint: Option<LogSpace>,
    closing: Option<oneshot::Sender<()>>,
}

impl DueJobs {
    /// Adds a job, and those that wait.
    fn take(&mut self, first: Option<WriterJob>, jobs: &Receiver<WriterJob>) {
        let mut next = first;
        while self.writes.len() < MOST && self.closing.is_none() {
            match next.take().or_else(|| jobs.try_recv().ok()) {
                Some(WriterJob::Write(write)) => self.writes.push(write),
                Some(WriterJob::Checkpoint(space)) => self.checkpoint = Some(space),
                Some(WriterJob::Close(done)) => self.closing = Some(done),
                None => return,
            }
        }
    }
}

struct WriterThread {
    connection: Connection,
    presence: Presence,
    clock: Arc<Clock>,
    tallies: Arc<Mutex<Tallies>>,
    reporter: Reporter,
    checkpoint_failures: Throttle<()>,
}

impl WriterThread {
    fn run(mut self, jobs: &Receiver<WriterJob>) {
        let mut are_together = false;
        loop {
            let first = match jobs.recv_timeout(REST) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) if self.reporter.is_failing() || self.presence.check().is_err() => None,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut due = DueJobs::default();
            due.take(first, jobs);
            if are_together && due.writes.len() < ENOUGH {
                std::thread::sleep(PATIENCE);
                due.take(None, jobs);
            }
            let DueJobs { writes, checkpoint, closing } = due;
            self.reporter.begin();
            are_together = writes.len() >= TOGETHER;
            let last = !writes.is_empty() && closing.is_some();
            self.commit(writes);
            if last {
                self.commit(Vec::new()); // keeps the tallies
            }
            // After a failed commit too: on a full disk, an empty log is what makes room again.
            if let Some(space) = self.reporter.is_failing().then_some(LogSpace::Freed).or(checkpoint) {
                self.checkpoint(space);
            }
            if let Some(done) = closing {
                self.checkpoint(LogSpace::Freed);
                drop(self); // closes the database before the caller learns of it
                let _ = done.send(());
                return;
            }
        }
    }

    fn checkpoint(&self, space: LogSpace) {
        if let Err(error) = checkpoint(&self.connection, space)
            && let Some(suppressed) = self.checkpoint_failures.admit(())
        {
            tracing::warn!(%error, suppressed, "the write-ahead log was not moved into the database");
        }
    }

    fn commit(&mut self, mut writes: Vec<Box<dyn PendingWrite>>) {
        let committed = self.transact(&mut writes).map_err(|error| failure("commit", &error));
        // Before anyone learns of it: nothing that was committed may be only in a log that has no path.
        let present = || self.presence.check().inspect_err(|_| self.checkpoint(LogSpace::Freed));
        let result = committed.and_then(|()| present());
        match (&result, self.reporter.end(result.as_ref().err().cloned())) {
            (Err(failure), false) => tracing::error!(%failure, "the store cannot be written"),
            (Ok(()), true) => tracing::info!("the store can be written again"),
            _ => {}
        }
        for write in writes {
            write.answer(result.clone());
        }
    }

    /// Also without writes: only a commit shows whether a failing store works again.
    fn transact(&mut self, writes: &mut [Box<dyn PendingWrite>]) -> rusqlite::Result<()> {
        let now = self.clock.now();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut tallies = self.tallies.lock().clone();
        let mut changes = BTreeMap::new();
        for write in writes.iter_mut() {
            write.run(&mut Batch { transaction: &transaction, now, tallies: &tallies, changes: &mut changes })?;
        }
        for (name, change) in changes {
            let tally = tallies.entry(name).or_default();
            *tally = tally.saturating_add_signed(change);
        }
        if let Some(now) = self.clock.to_write().or(writes.is_empty().then_some(now)) {
            set_meta(&transaction, "elapsed", now)?;
            for (name, value) in &tallies {
                set_meta(&transaction, name, i64::try_from(*value).unwrap_or(i64::MAX))?;
            }
        }
        fail_point(Step::Writing);
        transaction.commit()?;
        fail_point(Step::Committed);
        *self.tallies.lock() = tallies;
        Ok(())
    }
}
