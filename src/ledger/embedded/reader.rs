//! The thread that looks ids up: a disk that does not answer holds neither a runtime's thread nor the writer.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::broken::{Broken, Ends};
use super::elapsed::Clock;
use super::{schema, store};
use crate::ledger::local::{Id, Stored};
use crate::reason::{Failure, Reason};

/// How long a broken store rests between two looks whether it works again.
const REST: Duration = Duration::from_secs(1);
/// Most look-ups that share one read transaction.
const MOST: usize = 256;

type Found = Result<Option<Stored>, Failure>;
type Ask = (Id, oneshot::Sender<Found>);

/// Hands look-ups to the thread.
pub(super) struct Reader {
    asks: Sender<Ask>,
    broken: Broken,
}

impl Reader {
    pub(super) fn start(connection: Connection, clock: Arc<Clock>, window: Duration) -> Result<Reader, Failure> {
        let (asks, receiver) = channel();
        let window = i64::try_from(window.as_secs()).unwrap_or(i64::MAX / 2);
        let broken = Broken::default();
        let ends = broken.ends("reader");
        std::thread::Builder::new()
            .name("ledger-reader".into())
            .spawn(move || run(&connection, &clock, window, &receiver, &ends))
            .map_err(|error| store("start the reader", &error))?;
        Ok(Reader { asks, broken })
    }

    /// Whether ids can be looked up, as far as the last look-ups told.
    pub(super) fn health(&self) -> Result<(), Failure> {
        self.broken.health()
    }

    pub(super) fn load(&self, id: Id) -> impl Future<Output = Found> + Send + use<> {
        let (tell, found) = oneshot::channel();
        let sent = self.asks.send((id, tell));
        async move {
            let ended = || Failure::new(Reason::Store, "the ledger's reader has ended");
            sent.map_err(|_| ended())?;
            found.await.map_err(|_| ended())?
        }
    }
}

fn run(connection: &Connection, clock: &Clock, window: i64, asks: &Receiver<Ask>, state: &Ends) {
    loop {
        let first = match asks.recv_timeout(REST) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => {
                // Nobody may ask any more because of it: whether it works again is found out here.
                if state.is_broken() {
                    let tried = schema::load(connection, 0, clock.now()).err();
                    state.now(tried.map(|error| store("read", &error)));
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // Collected before the transaction begins: what it sees must be newer than every claim it answers.
        let batch: Vec<Ask> = std::iter::once(first).chain(asks.try_iter().take(MOST)).collect();
        let transaction = connection.unchecked_transaction();
        let since = clock.now() - window;
        let mut fault = None;
        for (id, tell) in batch {
            let found = match &transaction {
                Ok(_) => schema::load(connection, id, since).map_err(|error| store("read", &error)),
                Err(error) => Err(store("read", error)),
            };
            fault = found.as_ref().err().cloned();
            let _ = tell.send(found); // it may have stopped waiting
        }
        state.now(fault);
    }
}
