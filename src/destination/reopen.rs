//! A destination that is opened again after one of its background tasks has failed.
//!
//! [`keeper`](super::keeper) ends such a destination: every publish in flight has an outcome, and later ones are refused.
//! Only then is it opened again, so the order of publishes does not change.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use parking_lot::RwLock;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::{Confirm, Destination, Health};
use crate::message::Message;
use crate::reason::Failure;

/// The pause before it is opened again.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// After a destination that lasted this long, the back-off starts again with its first pause.
const STABLE: Duration = Duration::from_secs(300);
/// How long the failed destination may take to release its connection, its threads and its locks.
const CLOSE: Duration = Duration::from_secs(10);

type Open = dyn Fn() -> Result<Arc<dyn Destination>, Failure> + Send + Sync;

struct Reopened {
    current: Arc<RwLock<Arc<dyn Destination>>>,
    /// Ends the task that opens the destination again.
    closing: CancellationToken,
}

/// Opens a destination, and opens it again whenever it ends before it is closed. Must be called on a tokio runtime.
///
/// # Errors
/// It cannot be opened the first time.
pub(super) fn open(name: &Arc<str>, open: Box<Open>) -> Result<Arc<dyn Destination>, Failure> {
    let current = Arc::new(RwLock::new(open()?));
    let closing = CancellationToken::new();
    let task = keep_open(Arc::clone(name), open, Arc::clone(&current));
    tokio::spawn(closing.clone().run_until_cancelled_owned(task));
    Ok(Arc::new(Reopened { current, closing }))
}

async fn keep_open(name: Arc<str>, open: Box<Open>, current: Arc<RwLock<Arc<dyn Destination>>>) {
    let mut backoff = BACKOFF.clone();
    loop {
        let (opened, ended) = (Instant::now(), Arc::clone(&current.read()));
        ended.ended().await;
        ended.close(CLOSE).await;
        drop(ended);
        if opened.elapsed() >= STABLE {
            backoff.reset();
        }
        loop {
            sleep(backoff.next()).await;
            match open() {
                Ok(destination) => {
                    *current.write() = destination;
                    tracing::warn!(destination = %name, "opened again after a background task had failed");
                    break;
                }
                Err(Failure { reason, detail }) => {
                    tracing::warn!(destination = %name, %reason, %detail, "cannot be opened again yet");
                }
            }
        }
    }
}

impl Reopened {
    fn current(&self) -> Arc<dyn Destination> {
        Arc::clone(&self.current.read())
    }
}

impl Destination for Reopened {
    fn publish(&self, message: Message) -> Confirm {
        self.current.read().publish(message)
    }

    fn ensure(&self) -> BoxFuture<'_, Result<(), Failure>> {
        async { self.current().ensure().await }.boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        async { self.current().probe().await }.boxed()
    }

    fn health(&self) -> Health {
        self.current.read().health()
    }

    fn warnings(&self) -> Vec<String> {
        self.current.read().warnings()
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        self.closing.cancelled().boxed()
    }

    fn close(&self, at_most: Duration) -> BoxFuture<'_, ()> {
        async move {
            self.closing.cancel();
            self.current().close(at_most).await;
        }
        .boxed()
    }
}

impl Drop for Reopened {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::destination::settings::{BrokerUrl, DestinationSettings};
    use crate::destination::{Opening, file, keeper};
    use crate::event::fixture::event;
    use crate::message::Outcome;
    use crate::reason::Reason;

    /// The first destination's task panics at its first publish. The second is a directory.
    struct Panics {
        status: Arc<crate::destination::status::Status<()>>,
        stop: CancellationToken,
    }

    impl Destination for Panics {
        fn publish(&self, _: Message) -> Confirm {
            let status = Arc::clone(&self.status);
            let task = keeper::task("t", &self.stop, async { panic!("on purpose") }, move |why| status.end(why));
            async { task.await.map_or(Outcome::Confirmed, |()| Outcome::Again(Reason::Failed.into())) }.boxed()
        }
        fn ensure(&self) -> BoxFuture<'_, Result<(), Failure>> {
            std::future::ready(Ok(())).boxed()
        }
        fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
            std::future::ready(Ok(Vec::new())).boxed()
        }
        fn health(&self) -> Health {
            self.status.health()
        }
        fn warnings(&self) -> Vec<String> {
            Vec::new()
        }
        fn ended(&self) -> BoxFuture<'_, ()> {
            self.status.ended().boxed()
        }
        fn close(&self, _: Duration) -> BoxFuture<'_, ()> {
            std::future::ready(()).boxed()
        }
    }

    fn message() -> Message {
        Message::new(Arc::new(event()), "a")
    }

    #[tokio::test]
    async fn destination_whose_task_panicked_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let opening = Opening {
            settings: DestinationSettings::new("d", BrokerUrl::File(directory.path().join("events"))),
            topics: vec!["a".into()],
            publish_timeout: Duration::from_secs(10),
            body_limit: 1,
            metrics: Arc::default(),
        };
        let opened = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&opened);
        let open_next = move || match count.fetch_add(1, Ordering::SeqCst) {
            0 => {
                let status = Arc::new(crate::destination::status::Status::new(&"d".into(), &Arc::default()));
                status.connected((), "here");
                status.up();
                Ok(Arc::new(Panics { status, stop: CancellationToken::new() }) as Arc<dyn Destination>)
            }
            1 => Err(Failure::from(Reason::Failed)),
            _ => file::open(opening.clone()),
        };
        tokio::time::pause();
        let destination = open(&"d".into(), Box::new(open_next)).unwrap();
        assert_eq!(destination.health(), Health::Up);
        assert_eq!(destination.publish(message()).await, Outcome::Again(Reason::Failed.into()));
        assert!(matches!(destination.health(), Health::Down(Failure { reason: Reason::Failed, .. })));
        while opened.load(Ordering::SeqCst) < 3 {
            sleep(Duration::from_secs(1)).await;
        }
        tokio::time::resume();
        destination.ensure().await.unwrap();
        assert_eq!(destination.publish(message()).await, Outcome::Confirmed);
        destination.close(Duration::from_secs(10)).await;
        tokio::time::pause();
        sleep(2 * BACKOFF.after(20)).await;
        assert_eq!(opened.load(Ordering::SeqCst), 3, "closed by us: it stays closed");
    }
}
