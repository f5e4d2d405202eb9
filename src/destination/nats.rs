//! NATS JetStream.
//!
//! ```text
//! publish ─ pending (queue) ─ session::send ─ async-nats ─ server
//!    ▲                                                       │
//!    └──── pending (table) ◄─ session::receive ◄─ our inbox ◄┘
//! ```
//! [`connect`] opens one connection, [`session`] works on it until it is of no more use, [`keep_connected`] starts over
//! for ever. [`stream`] makes or checks the stream after each connect.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use async_nats::Client;
use futures_util::future::{BoxFuture, FutureExt as _};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Confirm, Destination, Health, Opening};
use crate::destination::settings::DestinationSettings;
use crate::message::{Message, Outcome};
use crate::reason::{Failure, Reason};
use crate::telemetry::metrics::{Metrics, OfDestination};

use connect::{Access, pause};
use pending::Pending;

mod api;
mod connect;
mod message;
mod outcome;
mod pending;
mod session;
mod stream;
mod subjects;
#[cfg(test)]
mod tests;
mod warnings;

/// How long [`Destination::ensure`] and [`Destination::probe`] wait for the first attempt to connect.
const FIRST_ATTEMPT: Duration = Duration::from_secs(15);

/// What all tasks of a destination share.
struct Shared {
    settings: DestinationSettings,
    topics: Vec<String>,
    body_limit: usize,
    metrics: Arc<Metrics>,
    access: Access,
    pending: Pending,
    link: watch::Sender<Link>,
    /// The server said that a topic is not where it was found: look again.
    misplaced: Notify,
    health: Mutex<Health>,
}

/// The connection, for those who wait for it.
#[derive(Clone)]
enum Link {
    /// The first attempt is under way.
    Connecting,
    /// The last attempt failed, or the connection ended.
    Failed(Failure),
    Up(Connection),
}

/// One connection of a client: after a reconnect it is another one.
#[derive(Clone)]
struct Connection {
    number: u64,
    client: Client,
    /// Subjects that the server said we may not use on it.
    denied: Arc<watch::Sender<Vec<String>>>,
    /// The largest request to the API by this client, in bytes.
    asked: Arc<AtomicUsize>,
}

struct Nats {
    shared: Arc<Shared>,
    /// Ends the tasks.
    stop: CancellationToken,
}

pub(super) fn open(opening: Opening) -> Result<Arc<dyn Destination>, Failure> {
    let shared = Arc::new(Shared::new(opening)?);
    let stop = CancellationToken::new();
    let nats = Nats { shared: Arc::clone(&shared), stop: stop.clone() };
    for task in [keep_connected(Arc::clone(&shared)).boxed(), keep_topology(Arc::clone(&shared)).boxed()] {
        tokio::spawn(watched(Arc::clone(&shared), stop.clone(), task));
    }
    Ok(Arc::new(nats))
}

/// Works until it is stopped. A panic ends the destination, rather than leave it up and mute.
async fn watched(shared: Arc<Shared>, stop: CancellationToken, task: BoxFuture<'static, ()>) {
    let task = AssertUnwindSafe(stop.run_until_cancelled(task)).catch_unwind();
    if task.await.is_err() {
        tracing::error!(destination = %shared.settings.name, "a task of the destination panicked: it is closed");
        end(&shared, &stop, Reason::Failed);
    }
}

/// Nothing is accepted or awaited any more; with its last holder the client closes its connection.
fn end(shared: &Shared, stop: &CancellationToken, why: Reason) {
    stop.cancel();
    shared.pending.close();
    shared.set_down(why.into());
    // The tasks may be at work still, and hand it over.
    shared.pending.abandoned(&Outcome::Unknown(Reason::ConnectionLost.into()));
}

impl Destination for Nats {
    fn publish(&self, message: Message) -> Confirm {
        let pending = &self.shared.pending;
        // Before the headers are made: while down, a publish costs next to nothing.
        let submitted = match pending.refusal() {
            Some(failure) => Err(failure),
            None => pending.submit(message::outgoing(&self.shared.settings, &message)),
        };
        match submitted {
            Ok(answered) => answered.map(|outcome| outcome.unwrap_or(Outcome::Unknown(Reason::Failed.into()))).boxed(),
            Err(failure) => std::future::ready(Outcome::Again(failure)).boxed(),
        }
    }

    fn ensure(&self) -> BoxFuture<'_, Result<(), Failure>> {
        async {
            let connection = self.shared.connection().await?;
            stream::ensure(&self.shared, &connection).await.map(drop)
        }
        .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        async {
            let connection = self.shared.connection().await?;
            stream::probe(&self.shared, &connection).await
        }
        .boxed()
    }

    fn health(&self) -> Health {
        self.shared.health.lock().clone()
    }

    fn close(&self, at_most: Duration) -> BoxFuture<'_, ()> {
        async move {
            self.shared.pending.close();
            // Every answer that came means that what was asked had been sent: there is nothing else to flush.
            if timeout(at_most, self.shared.pending.idle()).await.is_err() {
                let left = self.shared.pending.len();
                tracing::warn!(destination = %self.shared.settings.name, left, "closed before every publish was answered");
            }
            end(&self.shared, &self.stop, Reason::Closing);
        }
        .boxed()
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        end(&self.shared, &self.stop, Reason::Closing);
    }
}

impl Shared {
    fn new(opening: Opening) -> Result<Self, Failure> {
        let access = Access::new(&opening.settings)?;
        let shared = Shared {
            settings: opening.settings,
            topics: opening.topics,
            body_limit: opening.body_limit,
            metrics: opening.metrics,
            access,
            pending: Pending::new(opening.publish_timeout),
            link: watch::Sender::new(Link::Connecting),
            misplaced: Notify::new(),
            health: Mutex::new(Health::Starting),
        };
        shared.metrics.up.get_or_create(&shared.label()).set(0);
        Ok(shared)
    }

    fn label(&self) -> OfDestination {
        OfDestination { destination: self.settings.name.to_string() }
    }

    /// The connection, or why there is none; waits while the first attempt is under way.
    async fn connection(&self) -> Result<Connection, Failure> {
        let mut link = self.link.subscribe();
        let tried = timeout(FIRST_ATTEMPT, link.wait_for(|link| !matches!(link, Link::Connecting))).await;
        let Ok(Ok(link)) = tried else { return Err(Reason::Unreachable.into()) };
        match &*link {
            Link::Up(connection) => Ok(connection.clone()),
            Link::Failed(failure) => Err(failure.clone()),
            Link::Connecting => Err(Reason::Unreachable.into()),
        }
    }

    /// Records what is known, and logs it where it is news.
    fn set_health(&self, health: Health) {
        let mut known = self.health.lock();
        let news = match (&*known, &health) {
            // A flapping detail is no news.
            (Health::Down(old), Health::Down(new)) => old.reason != new.reason,
            (old, new) => old != new,
        };
        *known = health.clone();
        drop(known);
        self.metrics.up.get_or_create(&self.label()).set(i64::from(health == Health::Up));
        let destination = &self.settings.name;
        match health {
            Health::Up if news => tracing::info!(%destination, stream = self.settings.stream, "up"),
            // Asked for.
            Health::Down(Failure { reason: Reason::Closing, .. }) => {}
            Health::Down(failure) if news => tracing::warn!(%destination, "down: {failure}"),
            _ => {}
        }
    }

    /// There is no connection, or none of use: publishes are answered so.
    fn set_down(&self, failure: Failure) {
        self.pending.disconnected(failure.clone());
        let first = matches!(&*self.link.borrow(), Link::Connecting);
        self.link.send_replace(Link::Failed(failure.clone()));
        if *self.health.lock() == Health::Starting {
            // It stays so until it was reached once; the cause is told all the same.
            if first {
                tracing::warn!(destination = %self.settings.name, "not reached yet: {failure}");
            }
        } else {
            self.set_health(Health::Down(failure));
        }
    }
}

/// A connection that lasted so long was a good one: the next is tried at once.
const LASTED: Duration = Duration::from_secs(5);

/// Connects, works, and starts over, for ever.
async fn keep_connected(shared: Arc<Shared>) {
    let (mut attempt, mut number, mut heard) = (0, 0, Vec::new());
    loop {
        sleep(pause(attempt)).await;
        attempt += 1;
        let (sender, events) = tokio::sync::mpsc::unbounded_channel();
        match shared.access.connect(&heard, sender).await {
            Err(failure) => shared.set_down(failure),
            Ok(client) => {
                let since = Instant::now();
                let why = session::run(&shared, &client, events, &mut number).await;
                if since.elapsed() >= LASTED {
                    attempt = 1;
                }
                heard = client.server_info().connect_urls;
                shared.set_down(why);
                // Whoever was handing over was stopped at a point where it was not.
                shared.pending.abandoned(&Outcome::Again(Reason::Unreachable.into()));
            }
        }
    }
}

/// Makes or checks the stream after each connect until it fits, and again when a publish finds that it does not: it may
/// have been deleted, or another replica, adding its own topics at the same moment, may have left ours out.
async fn keep_topology(shared: Arc<Shared>) {
    let mut link = shared.link.subscribe();
    let (mut attempt, mut told) = (0, Vec::new());
    loop {
        let current = link.borrow_and_update().clone();
        let Link::Up(connection) = current else {
            attempt = 0;
            if link.changed().await.is_err() {
                return;
            }
            continue;
        };
        let ensured = stream::ensure(&shared, &connection).await;
        // Of a connection that has ended meanwhile nothing is known.
        if !matches!(&*link.borrow(), Link::Up(now) if now.number == connection.number) {
            continue;
        }
        attempt += 1;
        let fits = ensured.is_ok();
        match ensured {
            Ok(warnings) => {
                shared.set_health(Health::Up);
                for warning in warnings.iter().filter(|warning| !told.contains(*warning)) {
                    tracing::warn!(destination = %shared.settings.name, "{warning}");
                }
                told = warnings;
            }
            Err(failure) => shared.set_health(Health::Down(failure)),
        }
        tokio::select! {
            () = sleep(pause(attempt)) => {}
            _ = link.changed() => continue,
        }
        if fits {
            tokio::select! {
                () = shared.misplaced.notified() => attempt = 1,
                _ = link.changed() => {}
            }
        }
    }
}
