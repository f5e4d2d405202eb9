//! Passes queued messages to the client library, in their order.

use async_nats::connection::State as ClientState;
use async_nats::{Client, PublishErrorKind, Subject};

use crate::destination::nats::connection::Connection;
use crate::destination::nats::in_flight::NextPublish;
use crate::destination::nats::state::NatsState;
use crate::message::Outcome;
use crate::reason::{Failure, Reason};

/// Sends until it is cancelled. Answers go to `{inbox}.{token in hexadecimal}`.
pub(super) async fn send(state: &NatsState, client: &Client, inbox: &str) {
    let mut changes = state.status.subscribe();
    loop {
        let NextPublish { token, connection, message } = state.publishes.next().await;
        if client.connection_state() != ClientState::Connected {
            // The session does not know this yet. The library would send the message on its next connection.
            state.publishes.resolve(token, Outcome::Again(Reason::Unreachable.into()));
            continue;
        }
        let (subject, reply) = (Subject::from(&*message.subject), Subject::from(format!("{inbox}.{token:x}")));
        let publish = client.publish_with_reply_and_headers(subject, reply, message.headers, message.body);
        let lost = changes.wait_for(|now| !Connection::is_current(connection, now));
        let outcome = tokio::select! {
            biased;
            taken = publish => match taken {
                Ok(()) => {
                    state.publishes.sent(token, connection);
                    continue;
                }
                Err(error) => match error.kind() {
                    // The server closes the connection of a client that sends more. The limit is the one at the time of
                    // the connect: if it was raised since, the dead letter can be replayed after the next connect.
                    PublishErrorKind::MaxPayloadExceeded =>
                        Outcome::Never(Failure::new(Reason::TooLarge, error.to_string())),
                    PublishErrorKind::InvalidSubject => Outcome::Never(Reason::IllegalName.into()),
                    PublishErrorKind::Send => Outcome::Again(Reason::Unreachable.into()),
                },
            },
            // The library's queue is full, and the message is not in it.
            _ = lost => Outcome::Again(Reason::Unreachable.into()),
        };
        state.publishes.resolve(token, outcome);
    }
}
