//! RabbitMQ over AMQP 0.9.1: a topic exchange, publisher confirms and `mandatory`.
//!
//! ```text
//! publish ─▶ session ─▶ message ─▶ lane (queue) ─▶ lapin ─▶ broker
//!    ▲                                                        │
//!    └── outcome ◀── in_flight ◀── confirm, returned message ◀┘
//! ```
//! - [`connection`]: how one connects, to an [`address`], and how a connection is ended at once.
//! - [`supervisor`]: keeps the connection and the topology.
//! - [`session`]: the [`lane`]s of one connection. Each has one [channel](lane_channel) and is its only owner. A topic has
//!   lanes of its own ([`lane_map`]), and a key always takes the same one, so publishes that are called in order are sent in
//!   order. What a lane that confirms nothing may hold is bounded ([`load`]).
//! - [`refusals`]: topics that the broker refuses or does not confirm; they are refused at once.
//! - [`topology`]: which exchange, queues and bindings are needed; [`declare`]: the calls that check and create them;
//!   [`permitted`]: whether the user may publish; [`unanswered`]: the calls that take too long; [`difference`]: what an existing queue that differs throws away.
//! - [`message`]: event → AMQP message. [`outcome`]: the end of a publish → outcome.
//! - [`in_flight`]: the publishes of a channel without an outcome, and which of lapin's answers belongs to which.
//! - [`context`]: what publishing needs. [`greeting`]: the broker's version, and [`size_limit`]: its limit for a message, for
//!   a probe.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::address::BrokerAddress;
use self::connection::AmqpConnection;
use self::context::PublishContext;
use self::load::StalledLanes;
use self::message::{Encoder, short};
use self::refusals::TopicRefusals;
use self::session::AmqpSession;
use self::supervisor::ConnectionSupervisor;
use self::topology::Wanted;
use super::status::Status;
use super::{Confirm, Destination, Health, Opening, keeper};
use crate::destination::settings::{BrokerUrl, OversizePolicy};
use crate::message::{Message, Outcome};
use crate::reason::{Failure, Reason};

mod address;
mod connection;
mod context;
mod declare;
mod difference;
mod greeting;
mod in_flight;
mod lane;
mod lane_channel;
mod lane_map;
mod load;
pub(super) mod message;
mod outcome;
mod permitted;
mod refusals;
mod session;
mod size_limit;
mod supervisor;
mod topology;
mod unanswered;

/// The part of the time to close that is reserved for ending the connection.
const END_RESERVE: Duration = Duration::from_millis(500);

struct Rabbitmq {
    status: Arc<Status<Arc<AmqpSession>>>,
    wanted: Arc<Wanted>,
    /// The largest body in bytes, and what becomes of one that is too large for the broker.
    largest: (usize, OversizePolicy),
    closing: CancellationToken,
    give_up: CancellationToken,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

pub(super) fn open(opening: Opening) -> Result<Arc<dyn Destination>, Failure> {
    let Opening { settings, topics, publish_timeout, body_limit, metrics } = opening;
    let BrokerUrl::Amqp(urls) = &settings.url else {
        return Err(Failure::new(Reason::Unreachable, "not an amqp:// or amqps:// URL"));
    };
    let largest = (body_limit, settings.oversize);
    let addresses = urls.iter().map(|url| BrokerAddress::new(url, &settings.tls)).collect::<Result<Vec<_>, _>>()?;
    if addresses.is_empty() {
        return Err(Failure::new(Reason::Unreachable, "the destination has no address"));
    }
    let exchange = short(&settings.exchange)
        .ok_or_else(|| Failure::new(Reason::IllegalName, "the name of the exchange has more than 255 bytes"))?;
    let status = Arc::new(Status::new(&settings.name, &metrics));
    let wanted = Arc::new(Wanted::new(settings.topology, settings.exchange, &topics));
    let stalled = Arc::new(StalledLanes::new(settings.in_flight, settings.in_flight_bytes));
    let (closing, give_up) = (CancellationToken::new(), CancellationToken::new());
    let publish = PublishContext {
        encoder: Encoder::new(settings.mode, settings.forward_signature),
        exchange,
        publish_timeout,
        refusals: TopicRefusals::default(),
        stalled,
        topics,
        channels: AtomicUsize::new(usize::MAX),
        message_limit: AtomicUsize::new(usize::MAX),
        unroutable: Notify::new(),
        unanswered: Notify::new(),
    };
    let supervisor = ConnectionSupervisor {
        status: Arc::clone(&status),
        addresses,
        wanted: Arc::clone(&wanted),
        publish: Arc::new(publish),
        closing: closing.clone(),
        give_up: give_up.clone(),
    };
    let failed = {
        let status = Arc::clone(&status);
        move |failure| status.end(failure)
    };
    // Nothing stops the supervisor from outside: after `closing` it ends by itself, and the status is final by then.
    let supervisor = keeper::task("rabbitmq supervisor", &CancellationToken::new(), supervisor.run(), failed);
    Ok(Arc::new(Rabbitmq { status, wanted, largest, closing, give_up, supervisor: Mutex::new(Some(supervisor)) }))
}

impl Rabbitmq {
    /// The connection, and what publishing needs. The session itself is not kept: it would keep its lanes from finishing.
    async fn connected(&self) -> Result<(Arc<AmqpConnection>, Arc<PublishContext>), Failure> {
        let session = self.status.first_attempt().await?;
        Ok((Arc::clone(&session.connection), Arc::clone(&session.context)))
    }
}

impl Destination for Rabbitmq {
    fn publish(&self, message: Message) -> Confirm {
        let session = self.status.connection().map_err(Outcome::Again);
        match session.and_then(|session| session.publish(&message)) {
            // Without a reply the lane is gone, and what it knew of the publish.
            Ok(outcome) => async { outcome.await.unwrap_or_else(|_| Outcome::Unknown(Reason::Failed.into())) }.boxed(),
            Err(outcome) => ready(outcome).boxed(),
        }
    }

    fn ensure(&self) -> BoxFuture<'_, Result<(), Failure>> {
        async {
            let (connection, publish) = self.connected().await?;
            let ensured = async {
                let mut found = self.wanted.ensure(&connection).await?;
                found.problems.extend(permitted::problems(&connection.address, &publish).await);
                found.fits()
            };
            connection.unless_blocked(ensured).await
        }
        .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        async {
            let (connection, publish) = self.connected().await?;
            let checked = async {
                let mut found = self.wanted.check(&connection).await?;
                found.problems.extend(permitted::problems(&connection.address, &publish).await);
                let (body_limit, policy) = self.largest;
                found.warnings.extend(size_limit::warning(&connection, body_limit, policy).await);
                Ok(found)
            };
            let mut found = connection.unless_blocked(checked).await?;
            // AMQP does not show how a queue was created. Only declaring it shows that it differs, so the warnings are
            // those of the last time that the topology was ensured.
            let ensured = self.status.warnings();
            found.warnings.retain(|warning| !ensured.contains(warning));
            found.warnings.extend(ensured);
            let lines = found.report()?;
            let broker = greeting::describe(connection.address.clone()).await;
            let nodes = "AMQP does not show the number of nodes: quorum queues need three to survive the loss of one";
            Ok([broker, nodes.into()].into_iter().chain(lines).collect())
        }
        .boxed()
    }

    fn health(&self) -> Health {
        self.status.health()
    }

    fn warnings(&self) -> Vec<String> {
        self.status.warnings()
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        self.status.ended().boxed()
    }

    fn close(&self, at_most: Duration) -> BoxFuture<'_, ()> {
        async move {
            self.closing.cancel();
            let supervisor = self.supervisor.lock().take();
            let Some(mut supervisor) = supervisor else { return };
            if timeout(at_most.saturating_sub(END_RESERVE), &mut supervisor).await.is_err() {
                self.give_up.cancel();
                let _ = timeout(at_most.min(END_RESERVE), supervisor).await;
            }
        }
        .boxed()
    }
}

impl Drop for Rabbitmq {
    fn drop(&mut self) {
        self.closing.cancel();
        self.give_up.cancel();
    }
}
