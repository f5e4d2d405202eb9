//! RabbitMQ, over AMQP 0.9.1: a topic exchange, publisher confirms and `mandatory`.
//!
//! One connection, kept by a [supervisor](supervisor), with several channels in confirm mode. Each channel has one owner
//! (see [`lane`] for why); a key always goes to the same one, so what was called in order is sent in order.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use self::connection::{Address, Link};
use self::lane::Job;
use self::message::{Encoder, short};
use self::session::Parts;
use self::supervisor::{State, Supervisor};
use self::topology::{Found, Wanted};
use super::{Confirm, Destination, Health, Opening};
use crate::destination::settings::BrokerUrl;
use crate::message::{Message, Outcome};
use crate::reason::{Failure, Reason};

mod connection;
mod greeting;
mod in_flight;
mod lane;
mod message;
mod outcome;
mod session;
mod supervisor;
mod topology;

/// How long `ensure` and `probe` wait for the first connection.
const FIRST: Duration = Duration::from_secs(15);
/// Of the time to close in, what is kept for ending the connection.
const GOODBYE: Duration = Duration::from_millis(500);

struct Rabbitmq {
    tls: Option<Arc<rustls::ClientConfig>>,
    state: watch::Receiver<State>,
    encoder: Arc<Encoder>,
    wanted: Arc<Wanted>,
    publish_timeout: Duration,
    keys: RandomState,
    closing: CancellationToken,
    give_up: CancellationToken,
    supervisor: parking_lot::Mutex<Option<JoinHandle<()>>>,
}

pub(super) fn open(opening: Opening) -> Result<Arc<dyn Destination>, Failure> {
    let Opening { settings, topics, publish_timeout, metrics, .. } = opening;
    let BrokerUrl::Amqp(urls) = &settings.url else {
        return Err(Failure::new(Reason::Unreachable, "not an amqp:// or amqps:// URL"));
    };
    let addresses = urls.iter().map(Address::parse).collect::<Result<Vec<_>, _>>()?;
    if addresses.is_empty() {
        return Err(Failure::new(Reason::Unreachable, "no address"));
    }
    let exchange = short(&settings.exchange)
        .ok_or_else(|| Failure::new(Reason::IllegalName, "the exchange's name has more than 255 bytes"))?;
    let tls = match addresses.iter().any(Address::is_tls) {
        true => Some(Arc::new(crate::tls::client_config(&settings.tls)?)),
        false => None,
    };
    let encoder = Arc::new(Encoder::new(settings.mode, settings.forward_signature));
    let wanted = Arc::new(Wanted::new(settings.topology, settings.exchange.clone(), &topics));
    let (state, watched) = watch::channel(State::Starting(None));
    let (closing, give_up) = (CancellationToken::new(), CancellationToken::new());
    let supervisor = Supervisor {
        name: settings.name.clone(),
        addresses,
        tls: tls.clone(),
        wanted: Arc::clone(&wanted),
        parts: Parts {
            encoder: Arc::clone(&encoder),
            exchange,
            limit: Arc::new(AtomicUsize::new(usize::MAX)),
            unroutable: Arc::new(Notify::new()),
            queue: settings.in_flight.max(1),
        },
        state,
        metrics,
        closing: closing.clone(),
        give_up: give_up.clone(),
        warned: Default::default(),
    };
    Ok(Arc::new(Rabbitmq {
        tls,
        state: watched,
        encoder,
        wanted,
        publish_timeout,
        keys: RandomState::new(),
        closing,
        give_up,
        supervisor: parking_lot::Mutex::new(Some(tokio::spawn(supervisor.run()))),
    }))
}

impl Rabbitmq {
    /// Hands a message to its channel's owner; an outcome where that cannot be.
    fn hand_over(&self, message: &Message) -> Result<oneshot::Receiver<Outcome>, Outcome> {
        let session = match &*self.state.borrow() {
            State::Up(session, _) => Arc::clone(session),
            State::Starting(None) => return Err(Outcome::Again(Reason::Unreachable.into())),
            State::Starting(Some(failure)) | State::Down(failure) => return Err(Outcome::Again(failure.clone())),
            State::Closing => return Err(Outcome::Again(Reason::Closing.into())),
        };
        if session.link.connection.status().blocked() {
            return Err(Outcome::Again(Reason::Blocked.into()));
        }
        let encoded = self.encoder.encode(message).map_err(Outcome::Never)?;
        if encoded.header_bytes > session.frame_max {
            // Properties are one frame. The broker would end the whole connection over a larger one.
            let detail = format!("{} bytes of attributes, a frame has {}", encoded.header_bytes, session.frame_max);
            return Err(Outcome::Never(Failure::new(Reason::TooLarge, detail)));
        }
        let (answer, outcome) = oneshot::channel();
        let job = Job { encoded, deadline: Instant::now() + self.publish_timeout, answer };
        let key = self.keys.hash_one(message.key().unwrap_or(&message.event.id));
        session.send(key, job).map_err(|reason| Outcome::Again(reason.into()))?;
        Ok(outcome)
    }

    /// The connection, once there is one; why there is none.
    async fn link(&self) -> Result<Arc<Link>, Failure> {
        let mut state = self.state.clone();
        let known = timeout(FIRST, state.wait_for(|state| !matches!(state, State::Starting(None)))).await;
        let Ok(Ok(state)) = known else { return Err(Reason::Unreachable.into()) };
        match &*state {
            State::Up(session, _) => Ok(Arc::clone(&session.link)),
            State::Starting(Some(failure)) | State::Down(failure) => Err(failure.clone()),
            State::Starting(None) => Err(Reason::Unreachable.into()),
            State::Closing => Err(Reason::Closing.into()),
        }
    }

    /// Makes or checks the topology; does not wait for the end of an alarm.
    async fn made(&self, link: &Arc<Link>) -> Result<Found, Failure> {
        tokio::select! {
            biased;
            () = link.blocked() => Err(Reason::Blocked.into()),
            found = self.wanted.ensure(link) => found,
        }
    }
}

impl Destination for Rabbitmq {
    fn publish(&self, message: Message) -> Confirm {
        match self.hand_over(&message) {
            // Without an answer the owner is gone, and with it what it knew.
            Ok(outcome) => async { outcome.await.unwrap_or_else(|_| Outcome::Unknown(Reason::Failed.into())) }.boxed(),
            Err(outcome) => std::future::ready(outcome).boxed(),
        }
    }

    fn ensure(&self) -> BoxFuture<'_, Result<(), Failure>> {
        async {
            let found = self.made(&self.link().await?).await?;
            found.problems.into_iter().next().map_or(Ok(()), Err)
        }
        .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        async {
            let link = self.link().await?;
            let found = self.made(&link).await?;
            if let Some(problem) = found.problems.into_iter().next() {
                return Err(problem);
            }
            let (address, tls) = (link.address.clone(), self.tls.clone());
            let asked = tokio::task::spawn_blocking(move || greeting::product(&address, tls)).await;
            // What can be published to is not made worse by a broker that does not introduce itself twice.
            let product = match asked {
                Ok(Ok(product)) => product,
                Ok(Err(error)) => format!("version unknown: {error}"),
                Err(_) => "version unknown".into(),
            };
            let nodes =
                "the number of nodes cannot be asked by AMQP: quorum queues need three to survive the loss of one";
            Ok([product, nodes.into()].into_iter().chain(found.lines).chain(found.warnings).collect())
        }
        .boxed()
    }

    fn health(&self) -> Health {
        State::watched(&self.state)
    }

    fn close(&self, at_most: Duration) -> BoxFuture<'_, ()> {
        async move {
            self.closing.cancel();
            let supervisor = self.supervisor.lock().take();
            let Some(mut supervisor) = supervisor else { return };
            if timeout(at_most.saturating_sub(GOODBYE), &mut supervisor).await.is_err() {
                self.give_up.cancel();
                let _ = timeout(at_most.min(GOODBYE), supervisor).await;
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
