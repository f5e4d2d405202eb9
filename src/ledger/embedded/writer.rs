//! The one thread that writes: drains what waits, commits once, answers all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::broken::{Broken, Ends};
use super::elapsed::Clock;
use super::{schema, store};
use crate::reason::{Failure, Reason};

/// Most writes in one commit: bounds how long the first of them waits.
const MOST: usize = 1024;
/// How long a broken store rests between two looks whether it works again.
const REST: Duration = Duration::from_secs(1);

/// A write: returns by how much the number of ids changed.
type Write = Box<dyn FnOnce(&Transaction<'_>, i64) -> rusqlite::Result<i64> + Send>;
type Done = oneshot::Sender<Result<(), Failure>>;

enum Job {
    Write(Write, Done),
    /// Moves what is left of the write-ahead log into the database, so that the log starts anew.
    Checkpoint,
    Close(oneshot::Sender<()>),
}

/// Hands writes to the thread. Cheap to clone.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: Sender<Job>,
    state: Arc<State>,
}

struct State {
    ids: AtomicU64,
    broken: Broken,
}

impl Writer {
    pub(super) fn start(connection: Connection, clock: Arc<Clock>, ids: u64) -> Result<Writer, Failure> {
        let (jobs, receiver) = channel();
        let state = Arc::new(State { ids: AtomicU64::new(ids), broken: Broken::default() });
        let ends = state.broken.ends("writer");
        let mut thread = Thread { connection, clock, state: Arc::clone(&state), ends };
        std::thread::Builder::new()
            .name("ledger-writer".into())
            .spawn(move || thread.run(&receiver))
            .map_err(|error| store("start the writer", &error))?;
        Ok(Writer { jobs, state })
    }

    /// Resolves when the write is durable. It happens whether or not the future is polled.
    pub(super) fn write(
        &self,
        write: impl FnOnce(&Transaction<'_>, i64) -> rusqlite::Result<i64> + Send + 'static,
    ) -> BoxFuture<'static, Result<(), Failure>> {
        let (done, result) = oneshot::channel();
        let sent = self.jobs.send(Job::Write(Box::new(write), done));
        async move {
            let ended = || Failure::new(Reason::Store, "the ledger's writer has ended");
            sent.map_err(|_| ended())?;
            result.await.map_err(|_| ended())?
        }
        .boxed()
    }

    pub(super) fn checkpoint(&self) {
        let _ = self.jobs.send(Job::Checkpoint); // ended: nothing to do
    }

    pub(super) fn ids(&self) -> u64 {
        self.state.ids.load(Ordering::Relaxed)
    }

    pub(super) fn health(&self) -> Result<(), Failure> {
        self.state.broken.health()
    }

    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.jobs.send(Job::Close(done)).is_ok() {
            let _ = closed.await;
        }
    }
}

struct Thread {
    connection: Connection,
    clock: Arc<Clock>,
    state: Arc<State>,
    ends: Ends,
}

impl Thread {
    fn run(&mut self, jobs: &Receiver<Job>) {
        loop {
            let first = match jobs.recv_timeout(REST) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) if self.state.broken.health().is_err() => None,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut writes = Vec::new();
            let mut closing = None;
            let mut checkpoint = false;
            let mut next = first;
            while let Some(job) = next {
                match job {
                    Job::Write(write, done) => writes.push((write, done)),
                    Job::Checkpoint => checkpoint = true,
                    Job::Close(done) => closing = Some(done),
                }
                next = if writes.len() < MOST && closing.is_none() { jobs.try_recv().ok() } else { None };
            }
            self.commit(writes);
            if checkpoint
                && let Err(error) = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            {
                tracing::warn!(%error, "the write-ahead log was not moved into the database");
            }
            if let Some(done) = closing {
                let _ = done.send(());
                return;
            }
        }
    }

    fn commit(&mut self, writes: Vec<(Write, Done)>) {
        let (writes, waiting): (Vec<_>, Vec<_>) = writes.into_iter().unzip();
        let result = self.transact(writes).map_err(|error| store("commit", &error));
        match (&result, self.ends.now(result.as_ref().err().cloned())) {
            (Err(failure), false) => tracing::error!(%failure, "the ledger cannot be written: answering 503"),
            (Ok(_), true) => tracing::info!("the ledger can be written again"),
            _ => {}
        }
        for done in waiting {
            let _ = done.send(result.clone()); // it may have stopped waiting
        }
    }

    /// Also without writes: whether a broken store works again shows only in a commit.
    fn transact(&mut self, writes: Vec<Write>) -> rusqlite::Result<()> {
        let now = self.clock.now();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut change = 0;
        let none = writes.is_empty();
        for write in writes {
            change += write(&transaction, now)?;
        }
        let ids = self.state.ids.load(Ordering::Relaxed).saturating_add_signed(change);
        if let Some(now) = self.clock.to_write().or(none.then_some(now)) {
            schema::note(&transaction, now, ids)?;
        }
        transaction.commit()?;
        self.state.ids.store(ids, Ordering::Relaxed);
        Ok(())
    }
}
