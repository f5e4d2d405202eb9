//! What the facade and the background tasks of a destination share.

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::in_flight::PublishTable;
use super::topology::Wanted;
use crate::destination::Opening;
use crate::destination::status::Status;
use crate::message::Outcome;
use crate::reason::{Failure, Reason};

pub(super) struct NatsState {
    pub(super) status: Status<Connection>,
    pub(super) publishes: PublishTable,
    pub(super) wanted: Wanted,
    /// Wakes the topology task: an answer says that a topic is not where the last check found it.
    pub(super) recheck: Notify,
    /// Stops the background tasks.
    pub(super) stop: CancellationToken,
}

impl NatsState {
    pub(super) fn new(opening: &Opening) -> Self {
        let publishes = PublishTable::new(opening.publish_timeout);
        // The stream might confirm events and throw them away.
        publishes.checked(Some(Failure::new(Reason::Unreachable, "the stream was not checked yet")));
        NatsState {
            status: Status::new(&opening.settings.name, &opening.metrics),
            publishes,
            wanted: Wanted::new(opening),
            recheck: Notify::new(),
            stop: CancellationToken::new(),
        }
    }

    /// There is no connection, or no usable one: publishes are refused with this failure.
    pub(super) fn disconnected(&self, failure: Failure) {
        self.publishes.disconnected(failure.clone());
        self.status.disconnected(failure);
    }

    /// The destination is closed, or a background task failed: nothing is accepted or awaited any more. The client
    /// closes its connection when the tasks, which hold it, have ended.
    pub(super) fn end(&self, failure: Failure) {
        self.stop.cancel();
        self.publishes.close(failure.clone());
        self.publishes.disconnected(failure.clone());
        self.status.end(failure);
        // The sender may still be running, and pass its message to the library.
        self.publishes.sender_stopped(&Outcome::Unknown(Reason::ConnectionLost.into()));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::destination::settings::{BrokerUrl, DestinationSettings};

    /// The state of a destination without background tasks.
    pub(in crate::destination::nats) fn state() -> Arc<NatsState> {
        let state = NatsState::new(&Opening {
            settings: DestinationSettings::new("nats", BrokerUrl::Nats(Vec::new())),
            topics: vec!["a".into()],
            publish_timeout: Duration::from_secs(60),
            body_limit: 1,
            metrics: Arc::default(),
        });
        state.publishes.checked(None);
        Arc::new(state)
    }
}
