//! The thread that looks rows up: a disk that does not answer blocks neither a runtime's thread nor the writer.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::database::failure;
use super::elapsed::Clock;
use super::thread_status::{Reporter, ThreadStatus};
use crate::reason::{Failure, Reason};

/// How long a failing store rests before it is tried again.
const REST: Duration = Duration::from_secs(1);
/// Most look-ups that share one read transaction.
const MOST: usize = 256;

/// Looks up in a transaction, or fails with its failure, and answers; returns the failure.
type LookUp = Box<dyn FnOnce(Result<&Connection, &Failure>, i64) -> Option<Failure> + Send>;

/// Hands look-ups to the thread.
pub(super) struct Reader {
    look_ups: Sender<LookUp>,
    status: ThreadStatus,
}

impl Reader {
    pub(super) fn start(connection: Connection, clock: Arc<Clock>) -> Result<Reader, Failure> {
        let (look_ups, receiver) = channel();
        let status = ThreadStatus::default();
        let reporter = status.reporter("reader");
        std::thread::Builder::new()
            .name("store-reader".into())
            .spawn(move || run(&connection, &clock, &receiver, &reporter))
            .map_err(|error| failure("start the reader", &error))?;
        Ok(Reader { look_ups, status })
    }

    pub(super) fn health(&self) -> Result<(), Failure> {
        self.status.health()
    }

    pub(super) fn read<T: Send + 'static>(
        &self,
        look_up: impl FnOnce(&Connection, i64) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Failure>> {
        let (answer, found) = oneshot::channel();
        let look_up: LookUp = Box::new(move |connection, now| {
            let found = connection
                .map_err(Clone::clone)
                .and_then(|connection| look_up(connection, now).map_err(|error| failure("read", &error)));
            let failed = found.as_ref().err().cloned();
            let _ = answer.send(found); // the caller may have stopped waiting
            failed
        });
        let sent = self.look_ups.send(look_up);
        async move {
            let ended = || Failure::new(Reason::Store, "the store's reader has ended");
            sent.map_err(|_| ended())?;
            found.await.map_err(|_| ended())?
        }
        .boxed()
    }
}

fn run(connection: &Connection, clock: &Clock, look_ups: &Receiver<LookUp>, reporter: &Reporter) {
    loop {
        let first = match look_ups.recv_timeout(REST) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => {
                // Callers may have stopped asking because of it, so the thread tries by itself.
                if reporter.is_failing() {
                    let tried = connection.query_row("SELECT count(*) FROM meta", [], |_| Ok(()));
                    reporter.report(tried.err().map(|error| failure("read", &error)));
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // Collected before the transaction begins: what it sees must be newer than every look-up that it answers.
        let batch: Vec<LookUp> = std::iter::once(first).chain(look_ups.try_iter().take(MOST)).collect();
        let begun = connection.unchecked_transaction().map_err(|error| failure("read", &error));
        let view = begun.as_ref().map(|_| connection);
        let now = clock.now();
        let failed = batch.into_iter().filter_map(|look_up| look_up(view, now)).last();
        reporter.report(failed);
    }
}
