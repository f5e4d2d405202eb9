//! RabbitMQ. Messages are read by taking them from the queue, so what was read is kept here. A topic that refuses is a
//! classic queue that one message fills: quorum queues take more than their limit.

use std::collections::BTreeMap;

use bytes::Bytes;
use hookbridge::destination::settings::{BrokerUrl, DestinationSettings};
use hookbridge::secret::Secret;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use parking_lot::Mutex;

use super::{Differences, Ending, Stored, Subject, subject};
use crate::support::brokers::{Broker, Kind, With};

/// The limit of a queue that refuses, in bytes: more than any test publishes to it afterwards.
const LIMIT: u32 = 4 << 20;

pub struct Rabbitmq {
    broker: Holder,
}

enum Holder {
    Own(Broker),
    Shared(&'static Broker),
}

/// Messages that were taken from the queues of all brokers, by address and queue.
static READ: Mutex<BTreeMap<(String, String), Vec<Stored>>> = Mutex::new(BTreeMap::new());

impl Rabbitmq {
    /// A broker that only this test uses.
    pub fn of(broker: Broker) -> Self {
        Rabbitmq { broker: Holder::Own(broker) }
    }

    fn broker(&self) -> &Broker {
        match &self.broker {
            Holder::Own(broker) => broker,
            Holder::Shared(broker) => broker,
        }
    }

    /// The connection must live as long as the channel.
    async fn channel(&self) -> (Connection, Channel) {
        let connection =
            Connection::connect(self.broker().url(), ConnectionProperties::default()).await.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        (connection, channel)
    }
}

impl Subject for Rabbitmq {
    const DIFFERENCES: Differences = Differences {
        always_structured: false,
        keeps_key: false,
        dedups: false,
        largest: None,
        unknown_topic: Ending::Again,
        refused: Ending::Unknown,
        can_pause: true,
        has_topology: true,
    };

    async fn own() -> Self {
        Rabbitmq::of(Broker::start(Kind::Rabbitmq))
    }

    async fn limited() -> Self {
        let with = With { conf: "max_message_size = 1048576\n", ..With::default() };
        Rabbitmq::of(Broker::start_with(Kind::Rabbitmq, with))
    }

    async fn shared() -> Self {
        Rabbitmq { broker: Holder::Shared(Broker::shared(Kind::Rabbitmq)) }
    }

    fn settings(&self, scope: &str) -> DestinationSettings {
        subject::settings(scope, BrokerUrl::Amqp(vec![Secret::new(self.broker().url())]))
    }

    async fn stored(&self, _scope: &str, topic: &str) -> Vec<Stored> {
        let (_connection, channel) = self.channel().await;
        let mut new = Vec::new();
        while let Ok(Some(got)) = channel.basic_get(topic.into(), BasicGetOptions { no_ack: true }).await {
            new.push(stored(got.delivery));
        }
        let mut read = READ.lock();
        let kept = read.entry((self.broker().url().to_owned(), topic.to_owned())).or_default();
        kept.extend(new);
        kept.clone()
    }

    /// RabbitMQ 3.10 writes the registry of its quorum queues only every three minutes. After a crash, a younger queue has
    /// lost its log and never gets a leader. These tests are not about that, so the registry is written first.
    async fn kill(&self) {
        self.broker().tool(&["eval", "[catch dets:sync(Table) || Table <- dets:all()]."]);
        self.broker().kill();
    }

    async fn start_again(&self) {
        self.broker().start_again();
    }

    async fn pause(&self) {
        self.broker().pause();
    }

    async fn resume(&self) {
        self.broker().resume();
    }

    async fn refuse(&self, scope: &str, topic: &str) {
        self.delete(scope, topic).await;
        let (_connection, channel) = self.channel().await;
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongUInt(LIMIT));
        arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        channel.queue_declare(topic.into(), QueueDeclareOptions::durable(), arguments).await.expect("a queue");
        let (options, key) = (QueueBindOptions::default(), topic.into());
        channel.queue_bind(topic.into(), scope.into(), key, options, FieldTable::default()).await.expect("bound");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        let (options, filler) = (BasicPublishOptions::default(), vec![0; LIMIT as usize]);
        let sent = channel.basic_publish("".into(), topic.into(), options, &filler, BasicProperties::default()).await;
        let confirmed = sent.expect("the filler is sent").await.expect("the filler is confirmed");
        assert_eq!(confirmed, Confirmation::Ack(None), "the queue is filled");
    }

    /// The destination creates the queue again when its messages are returned.
    async fn delete(&self, _scope: &str, topic: &str) {
        let (_connection, channel) = self.channel().await;
        channel.queue_delete(topic.into(), QueueDeleteOptions::default()).await.expect("the queue is deleted");
    }

    async fn block(&self, blocked: bool) -> bool {
        let watermark = if blocked { "0.0000001" } else { "0.4" };
        self.broker().tool(&["set_vm_memory_high_watermark", watermark]);
        true
    }

    /// Makes room. The full queue is not deleted: RabbitMQ confirms what arrives in a queue while it is deleted.
    async fn accept(&self, _scope: &str, topic: &str) {
        let (_connection, channel) = self.channel().await;
        let filler =
            channel.basic_get(topic.into(), BasicGetOptions { no_ack: true }).await.expect("the queue is read");
        assert_eq!(filler.expect("a filler").delivery.data.len(), LIMIT as usize, "only the filler is in the queue");
    }
}

fn stored(delivery: lapin::message::Delivery) -> Stored {
    let properties = delivery.properties;
    let mut stored = Stored { body: Bytes::from(delivery.data), ..Stored::default() };
    if let Some(content_type) = properties.content_type() {
        stored.content_type = content_type.to_string();
    }
    if let Some(encoding) = properties.content_encoding() {
        stored.headers.insert("content-encoding".into(), encoding.to_string());
    }
    for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
        if name.as_str() == "x-delivery-count" {
            continue; // set by the queue
        }
        let AMQPValue::LongString(value) = value else { panic!("{name} is {value:?}") };
        let value = String::from_utf8(value.as_bytes().to_vec()).expect("UTF-8");
        match name.as_str().strip_prefix("cloudEvents_") {
            Some(attribute) => drop(stored.attributes.insert(attribute.to_owned(), value)),
            None => drop(stored.headers.insert(name.to_string(), value)),
        }
    }
    stored
}
