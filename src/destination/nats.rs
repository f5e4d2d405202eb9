//! NATS JetStream.
//!
//! ```text
//! publish ─▶ message ─▶ in_flight (queue) ─▶ session::sender ─▶ async-nats ─▶ server
//!    ▲                                                                          │
//!    └── outcome ◀── in_flight (table) ◀── session ◀── our inbox ◀──────────────┘
//! ```
//! - [`connection`]: how the client connects.
//! - [`supervisor`]: keeps the connection and the stream; its tasks end the destination when they panic.
//! - [`session`]: sends on one client, receives its answers and watches its connection.
//! - [`topology`]: what the stream must be, and the calls that check and create it through the [`api`].
//! - [`message`]: event → NATS message. [`outcome`]: answer → outcome.
//! - [`in_flight`]: the publishes without an outcome.
//! - [`state`]: what all of these share.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use tokio::time::timeout;

use super::{Confirm, Destination, Health, Opening};
use crate::destination::settings::DestinationSettings;
use crate::message::{Message, Outcome};
use crate::reason::{Failure, Reason};

use connection::{Access, Connection};
use message::NatsMessage;
use state::NatsState;
use topology::stream;

pub(super) use connection::faults;

mod api;
mod connection;
mod denied;
mod in_flight;
pub(super) mod message;
mod outcome;
mod session;
mod state;
mod supervisor;
mod topology;

struct Nats {
    settings: DestinationSettings,
    state: Arc<NatsState>,
}

pub(super) fn open(opening: Opening) -> Result<Arc<dyn Destination>, Failure> {
    let access = Access::new(&opening.settings)?;
    let state = Arc::new(NatsState::new(&opening));
    supervisor::start(access, &state);
    Ok(Arc::new(Nats { settings: opening.settings, state }))
}

impl Nats {
    /// Runs requests on the connection. If it ends first, they are not waited for, since the cause is known: without the
    /// permission to receive answers, for example, each would only time out.
    async fn connected<'a, T>(
        &'a self,
        requests: impl Fn(Connection) -> BoxFuture<'a, Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let status = &self.state.status;
        let mut changes = status.subscribe();
        loop {
            let connection = status.first_attempt().await?;
            let number = connection.number;
            tokio::select! {
                result = requests(connection) => return result,
                // Then this is either the failure or the next connection.
                _ = changes.wait_for(|now| !Connection::is_current(number, now)) => {}
            }
        }
    }
}

impl Destination for Nats {
    fn publish(&self, message: Message) -> Confirm {
        let publishes = &self.state.publishes;
        // Before the message is built: while disconnected, a publish costs almost nothing.
        let submitted = match publishes.refusal() {
            Some(failure) => Err(failure),
            None => publishes.submit(NatsMessage::new(&self.settings, &message)),
        };
        match submitted {
            Ok(outcome) => outcome.map(|outcome| outcome.unwrap_or(Outcome::Unknown(Reason::Failed.into()))).boxed(),
            Err(failure) => ready(Outcome::Again(failure)).boxed(),
        }
    }

    fn ensure(&self) -> BoxFuture<'_, Result<(), Failure>> {
        let wanted = &self.state.wanted;
        self.connected(move |connection| async move { stream::ensure(wanted, &connection).await?.found.fits() }.boxed())
            .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        let wanted = &self.state.wanted;
        self.connected(move |connection| async move { stream::check(wanted, &connection).await?.report() }.boxed())
            .boxed()
    }

    fn health(&self) -> Health {
        self.state.status.health()
    }

    fn warnings(&self) -> Vec<String> {
        self.state.status.warnings()
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        self.state.status.ended().boxed()
    }

    fn close(&self, at_most: Duration) -> BoxFuture<'_, ()> {
        async move {
            self.state.publishes.close(Reason::Closing.into());
            // A publish with an answer was sent, so there is nothing else to flush.
            if timeout(at_most, self.state.publishes.idle()).await.is_err() {
                let left = self.state.publishes.len();
                tracing::warn!(destination = %self.settings.name, left, "closed before every publish had an outcome");
            }
            self.state.end(Reason::Closing.into());
        }
        .boxed()
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.state.end(Reason::Closing.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::settings::BrokerUrl;

    /// The sender may still be running on another thread, and pass the message to the library.
    #[tokio::test]
    async fn publish_that_is_being_sent_at_the_end_is_unknown() {
        let state = state::tests::state();
        state.publishes.connected(1);
        let sending = state.publishes.submit(in_flight::tests::message("a")).unwrap();
        state.publishes.next().await;
        let settings = DestinationSettings::new("nats", BrokerUrl::Nats(Vec::new()));
        drop(Nats { settings, state: Arc::clone(&state) });
        assert_eq!(sending.await.unwrap(), Outcome::Unknown(Reason::ConnectionLost.into()));
        assert_eq!(state.status.health(), Health::Down(Reason::Closing.into()));
    }
}
