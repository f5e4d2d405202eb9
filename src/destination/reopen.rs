//! A destination that is opened again: after one of its background tasks has failed, and with new credentials.
//!
//! [`keeper`](super::keeper) ends a destination whose task has failed: every publish in flight has an outcome, and later ones
//! are refused. Only then is it opened again, so the order of publishes does not change.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use parking_lot::RwLock;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Confirm, Destination, Health, Opening};
use crate::backoff::Backoff;
use crate::message::Message;
use crate::reason::{Failure, Reason};

/// The pause before it is opened again.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// After a destination that lasted this long, the back-off starts again with its first pause.
const STABLE: Duration = Duration::from_secs(300);
/// How long the failed destination may take to release its connection, its threads and its locks.
const CLOSE: Duration = Duration::from_secs(10);
/// How long new credentials may take to show that they work.
const RENEW: Duration = Duration::from_secs(30);

type Open = dyn Fn(Opening) -> Result<Arc<dyn Destination>, Failure> + Send + Sync;

/// An open destination. It is opened again whenever it ends before it is closed.
pub struct OpenDestination(Arc<Shared>);

struct Shared {
    name: Arc<str>,
    open: Box<Open>,
    /// What it is opened with next time. Held while it is opened and replaced.
    opening: Mutex<Opening>,
    current: RwLock<Arc<dyn Destination>>,
    /// Ends the task that opens it again.
    closing: CancellationToken,
}

impl OpenDestination {
    /// Opens a destination. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// It cannot be opened the first time.
    pub(super) fn new(opening: Opening, open: Box<Open>) -> Result<Arc<OpenDestination>, Failure> {
        let current = RwLock::new(open(opening.clone())?);
        let (name, closing) = (Arc::clone(&opening.settings.name), CancellationToken::new());
        let shared = Arc::new(Shared { name, open, opening: Mutex::new(opening), current, closing: closing.clone() });
        let task = Arc::clone(&shared);
        tokio::spawn(async move { closing.run_until_cancelled(task.keep_open()).await });
        Ok(Arc::new(OpenDestination(shared)))
    }

    /// Connects with new settings, and replaces the connection once the new one can be used. What is in flight on the old
    /// one gets its outcome there.
    ///
    /// # Errors
    /// The new settings do not work, although the old ones do: the old ones stay. While the old ones do not work either, the
    /// new ones are taken without proof.
    pub async fn renew(&self, change: impl FnOnce(&mut Opening)) -> Result<(), Failure> {
        let shared = &self.0;
        let mut opening = shared.opening.lock().await;
        let mut changed = opening.clone();
        change(&mut changed);
        let new = (shared.open)(changed.clone())?;
        if shared.current().health() == Health::Up {
            let works = timeout(RENEW, new.ensure()).await;
            if let Err(failure) = works.unwrap_or_else(|_| Err(Reason::Timeout.into())) {
                new.close(Duration::from_secs(1)).await;
                return Err(failure);
            }
        }
        let old = std::mem::replace(&mut *shared.current.write(), new);
        let drain = opening.publish_timeout;
        *opening = changed;
        tokio::spawn(async move { old.close(drain).await });
        Ok(())
    }
}

impl Shared {
    fn current(&self) -> Arc<dyn Destination> {
        Arc::clone(&self.current.read())
    }

    async fn keep_open(&self) {
        let mut backoff = BACKOFF.clone();
        loop {
            let (opened, ended) = (Instant::now(), self.current());
            ended.ended().await;
            let opening = self.opening.lock().await;
            if !Arc::ptr_eq(&ended, &self.current()) {
                continue; // it was renewed
            }
            ended.close(CLOSE).await;
            drop(ended);
            if opened.elapsed() >= STABLE {
                backoff.reset();
            }
            loop {
                sleep(backoff.next()).await;
                match (self.open)(opening.clone()) {
                    Ok(destination) => {
                        *self.current.write() = destination;
                        tracing::warn!(destination = %self.name, "opened again after a background task had failed");
                        break;
                    }
                    Err(Failure { reason, detail }) => {
                        tracing::warn!(destination = %self.name, %reason, %detail, "cannot be opened again yet");
                    }
                }
            }
        }
    }
}

impl Destination for OpenDestination {
    fn publish(&self, message: Message) -> Confirm {
        self.0.current.read().publish(message)
    }

    fn refuses_size(&self, message: &Message) -> Option<Failure> {
        self.0.current.read().refuses_size(message)
    }

    fn ensure(&self) -> BoxFuture<'_, Result<(), Failure>> {
        async { self.0.current().ensure().await }.boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        async { self.0.current().probe().await }.boxed()
    }

    fn health(&self) -> Health {
        self.0.current.read().health()
    }

    fn warnings(&self) -> Vec<String> {
        self.0.current.read().warnings()
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        self.0.closing.cancelled().boxed()
    }

    fn close(&self, at_most: Duration) -> BoxFuture<'_, ()> {
        async move {
            self.0.closing.cancel();
            self.0.current().close(at_most).await;
        }
        .boxed()
    }
}

impl Drop for OpenDestination {
    fn drop(&mut self) {
        self.0.closing.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::destination::settings::{BrokerUrl, DestinationSettings};
    use crate::destination::{file, keeper};
    use crate::event::fixture::event;
    use crate::message::Outcome;

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
        let open_next = move |opening| match count.fetch_add(1, Ordering::SeqCst) {
            0 => {
                let status = Arc::new(crate::destination::status::Status::new(&"d".into(), &Arc::default()));
                status.connected((), "here");
                status.up();
                Ok(Arc::new(Panics { status, stop: CancellationToken::new() }) as Arc<dyn Destination>)
            }
            1 => Err(Failure::from(Reason::Failed)),
            _ => file::open(opening),
        };
        tokio::time::pause();
        let destination = OpenDestination::new(opening, Box::new(open_next)).unwrap();
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
