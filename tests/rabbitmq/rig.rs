//! What the RabbitMQ tests share: a destination on a broker, and the broker's own view by lapin and `rabbitmqctl`.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use hookbridge::destination::settings::{BrokerUrl, DestinationSettings};
use hookbridge::destination::{self, Destination, Health, Opening};
use hookbridge::message::{Message, Outcome};
use hookbridge::reason::Reason;
use hookbridge::secret::Secret;
use hookbridge::telemetry::metrics::{DestinationLabel, Metrics};
use lapin::message::BasicGetMessage;
use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};

use crate::support::brokers::{Broker, Kind};
use crate::support::wait::{SOON, until};

pub const NAME: &str = "under-test";

/// One broker for the tests that do not break it.
pub fn shared() -> &'static Broker {
    static SHARED: OnceLock<Broker> = OnceLock::new();
    SHARED.get_or_init(|| Broker::start(Kind::Rabbitmq))
}

/// Settings and names: the exchange is the scope, and every topic begins with it.
pub fn opening(urls: &[&str], scope: &str, topics: &[&str]) -> Opening {
    let settings = DestinationSettings {
        exchange: scope.into(),
        partitions: 1,
        ..DestinationSettings::new(NAME, BrokerUrl::Amqp(urls.iter().map(|url| Secret::new(*url)).collect()))
    };
    Opening {
        settings,
        topics: topics.iter().map(|topic| format!("{scope}.{topic}")).collect(),
        publish_timeout: Duration::from_secs(30),
        body_limit: 8 << 20,
        metrics: Arc::new(Metrics::default()),
    }
}

pub fn open(opening: Opening) -> Arc<dyn Destination> {
    // Shown when a test fails. lapin would log returned messages with their bodies.
    let filter = "info,lapin=error,lapin::returned_messages=off";
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_test_writer().try_init();
    destination::open(opening).expect("settings that can be opened")
}

pub async fn up(destination: &dyn Destination) {
    until("up", SOON, async || (destination.health() == Health::Up).then_some(())).await;
}

pub async fn down(destination: &dyn Destination, reason: Reason) {
    let is_down =
        async || matches!(destination.health(), Health::Down(failure) if failure.reason == reason).then_some(());
    until("down", SOON, is_down).await;
}

pub async fn publish(destination: &dyn Destination, message: Message) -> Outcome {
    tokio::time::timeout(4 * SOON, destination.publish(message)).await.expect("an outcome in time")
}

/// Publishes all without waiting between them.
pub async fn publish_all(destination: &dyn Destination, messages: impl IntoIterator<Item = Message>) -> Vec<Outcome> {
    let confirms: Vec<_> = messages.into_iter().map(|message| destination.publish(message)).collect();
    tokio::time::timeout(4 * SOON, join_all(confirms)).await.expect("outcomes in time")
}

pub async fn confirmed(destination: &dyn Destination, message: &Message) {
    until("confirmed", 2 * SOON, async || {
        (publish(destination, message.clone()).await == Outcome::Confirmed).then_some(())
    })
    .await;
}

pub fn connects(metrics: &Metrics) -> u64 {
    metrics.connects.get_or_create(&DestinationLabel { destination: NAME.into() }).get()
}

/// `confirmed`, or the word and the reason of the outcome.
pub fn shown(outcome: &Outcome) -> String {
    let reason = outcome.failure().map(|failure| format!(" {}", failure.reason));
    outcome.word().to_owned() + &reason.unwrap_or_default()
}

/// The number of outcomes of each word and reason.
pub fn counts<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for outcome in outcomes {
        *counts.entry(shown(outcome)).or_default() += 1;
    }
    counts
}

/// The test's own connection and channel.
pub struct Admin {
    _connection: Connection,
    pub channel: Channel,
}

impl Admin {
    pub async fn of(broker: &Broker) -> Self {
        let connection = Connection::connect(broker.url(), ConnectionProperties::default()).await.expect("connected");
        let channel = connection.create_channel().await.expect("a channel");
        Admin { _connection: connection, channel }
    }

    /// Declares a durable queue.
    pub async fn queue(&self, name: &str, arguments: &[(&str, AMQPValue)]) {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        self.channel.queue_declare(name.into(), QueueDeclareOptions::durable(), table).await.expect("declared");
    }

    pub async fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let options = QueueBindOptions::default();
        let bound = self.channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default());
        bound.await.expect("bound");
    }

    /// The number of messages in a queue.
    pub async fn depth(&self, queue: &str) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let found = self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await.expect("a queue");
        found.message_count()
    }

    /// Takes one message from a queue.
    pub async fn get(&self, queue: &str) -> Option<BasicGetMessage> {
        self.channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.expect("a queue")
    }

    /// Takes all messages from a queue; returns their ids and the number of copies.
    pub async fn ids(&self, queue: &str) -> BTreeMap<String, usize> {
        let mut ids = BTreeMap::new();
        while let Some(message) = self.get(queue).await {
            let id = message.properties.message_id().as_ref().expect("a message-id").to_string();
            *ids.entry(id).or_default() += 1;
        }
        ids
    }
}

pub fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}
