//! Whether the user may publish to each topic. The broker checks it when it receives a message. So an empty message is
//! published in a transaction that is rolled back: no queue gets it.
//!
//! The question has a connection of its own. A refusal closes a channel, and lapin gives the number of a closed channel to
//! later ones and fails them; and the broker reads nothing more from a connection that publishes during an alarm.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, ErrorKind, Event};
use tokio::time::timeout;

use super::address::BrokerAddress;
use super::connection::AmqpConnection;
use super::context::PublishContext;
use super::message::short;
use super::outcome::failure;
use crate::destination::permission::{denied, sample};
use crate::reason::{Failure, Reason};

/// How long all answers together may take.
const TOTAL: Duration = Duration::from_secs(10);
/// How long the cause of a closed channel may take to arrive, and the connection to close.
const SHORT: Duration = Duration::from_secs(1);
/// Connections that are tried, at most.
const ATTEMPTS: usize = 2;
/// Denied topics after which no more are asked about: each is a line in the broker's log.
const MOST_DENIED: usize = 20;

/// The topics that the user may not publish to, as far as the broker answers: a problem for each. A topic that was refused
/// before, and is permitted now, is not refused any more.
pub(super) async fn problems(address: &BrokerAddress, publish: &PublishContext) -> Vec<Failure> {
    let mut questions: Vec<_> = publish.topics.iter().map(|topic| (topic.clone(), sample(topic))).collect();
    for refused in publish.refusals.denied() {
        if !publish.topics.iter().any(|topic| **topic == *refused) {
            questions.push((refused.to_string(), refused.to_string()));
        }
    }
    let mut problems = Vec::new();
    let asked = async {
        for _ in 0..ATTEMPTS {
            problems.clear();
            if ask_all(address, publish, &questions, &mut problems).await.is_some() {
                break;
            }
        }
    };
    // Without an answer in time, what was found until then counts.
    let _ = timeout(TOTAL, asked).await;
    problems
}

async fn ask_all(
    address: &BrokerAddress,
    publish: &PublishContext,
    questions: &[(String, String)],
    problems: &mut Vec<Failure>,
) -> Option<()> {
    let connection = AmqpConnection::open(address, "hookbridge: permission to publish").await.ok()?;
    let mut asker = PermissionAsker {
        events: Box::pin(connection.lapin.events_listener()),
        exchange: &publish.exchange,
        connection: &connection,
        channel: None,
    };
    for (topic, key) in questions {
        let Some(key) = short(key) else { continue };
        match asker.ask(&key).await? {
            PermissionAnswer::Permitted => publish.refusals.permitted(topic),
            PermissionAnswer::Denied(why) => problems.push(denied(topic, &why.detail)),
        }
        if problems.len() == MOST_DENIED {
            break;
        }
    }
    connection.close(SHORT).await;
    Some(())
}

/// What the broker answers about a routing key.
enum PermissionAnswer {
    Permitted,
    Denied(Failure),
}

struct PermissionAsker<'a> {
    connection: &'a AmqpConnection,
    /// lapin gives each event to one listener only.
    events: Pin<Box<dyn Stream<Item = Event> + Send>>,
    exchange: &'a ShortString,
    /// Closed after a denial, and then replaced.
    channel: Option<Channel>,
}

impl PermissionAsker<'_> {
    /// Asks about a routing key. `None` if the broker does not say.
    async fn ask(&mut self, key: &ShortString) -> Option<PermissionAnswer> {
        let channel = self.channel().await?;
        let Err(error) = publish(&channel, self.exchange, key).await else { return Some(PermissionAnswer::Permitted) };
        self.channel = None;
        if let ErrorKind::ProtocolError(_) = error.kind() {
            return self.denial(&error, key);
        }
        // The broker closed the channel before the rollback was sent, and only an event has the cause.
        let cause = async {
            while let Some(event) = self.events.next().await {
                if let Event::Error(error) = event
                    && let Some(denial) = self.denial(&error, key)
                {
                    return Some(denial);
                }
            }
            None
        };
        timeout(SHORT, cause).await.ok().flatten()
    }

    /// The answer, if the error says that this key is denied. Errors of earlier channels arrive too.
    fn denial(&self, error: &lapin::Error, key: &ShortString) -> Option<PermissionAnswer> {
        let failure = failure(error);
        let text = &failure.detail;
        let concerns = text.contains("access to exchange") || text.contains(&format!("access to topic '{key}'"));
        (failure.reason == Reason::NotAuthorized && concerns).then_some(PermissionAnswer::Denied(failure))
    }

    /// A channel in a transaction.
    async fn channel(&mut self) -> Option<Channel> {
        if self.channel.is_none() {
            let channel = self.connection.channel().await.ok()?;
            channel.tx_select().await.ok()?;
            self.channel = Some(channel);
        }
        self.channel.clone()
    }
}

/// Publishes an empty message and rolls it back. The rollback waits until the message is sent: lapin would overtake it. For the
/// same reason there is never more than one message: lapin would confirm the end of a closed channel before it sends the
/// next, and the broker would end the connection.
async fn publish(channel: &Channel, exchange: &ShortString, key: &ShortString) -> Result<(), lapin::Error> {
    let (options, none) = (BasicPublishOptions::default(), BasicProperties::default());
    channel.basic_publish(exchange.clone(), key.clone(), options, b"", none).await?;
    channel.tx_rollback().await
}
