//! Kafka as a subject. A plain consumer reads all partitions from the beginning; `tests/kafka.rs` reads with Java's.

use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

use bytes::Bytes;
use hookbridge::destination::settings::{BrokerUrl, DestinationSettings};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{Differences, Ending, Stored, Subject, subject};
use crate::support::brokers::{Broker, Kind};
use crate::support::wait::{SOON, until};

pub enum Kafka {
    Own(Box<Broker>),
    Shared(&'static Broker),
}

impl Kafka {
    fn broker(&self) -> &Broker {
        match self {
            Kafka::Own(broker) => broker,
            Kafka::Shared(broker) => broker,
        }
    }
}

impl Subject for Kafka {
    const DIFFERENCES: Differences = Differences {
        always_structured: false,
        keeps_key: true,
        dedups: false,
        largest: None,
        unknown_topic: Ending::Again,
        refused: Ending::Again,
        can_pause: true,
        has_topology: true,
    };

    async fn own() -> Self {
        Kafka::Own(Box::new(Broker::start(Kind::Kafka)))
    }

    async fn limited() -> Self {
        let kafka = Kafka::own().await;
        // Hookbridge would create the topic with a higher limit.
        let topic = NewTopic::new("file.analysis_completed", 1, TopicReplication::Fixed(1));
        let topic = topic.set("max.message.bytes", "1048588");
        let created = admin(kafka.broker().url()).create_topics(&[topic], &AdminOptions::new()).await;
        assert!(created.expect("an answer").iter().all(Result::is_ok));
        kafka
    }

    async fn shared() -> Self {
        Kafka::Shared(Broker::shared(Kind::Kafka))
    }

    fn settings(&self, scope: &str) -> DestinationSettings {
        settings(scope, self.broker().url())
    }

    async fn stored(&self, _scope: &str, topic: &str) -> Vec<Stored> {
        let (servers, topic) = (self.broker().url().to_owned(), topic.to_owned());
        tokio::task::spawn_blocking(move || read(&servers, &topic)).await.expect("a reader")
    }

    async fn kill(&self) {
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

    async fn refuse(&self, _scope: &str, topic: &str) {
        // No message fits. (`min.insync.replicas` refuses nothing on a single broker, which requires at most as many
        // replicas as the topic has.)
        limit(self.broker().url(), topic, 1).await;
    }

    async fn delete(&self, _scope: &str, topic: &str) {
        let results =
            admin(self.broker().url()).delete_topics(&[topic], &AdminOptions::new()).await.expect("an answer");
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        // Until then, its partitions take records that are deleted with them.
        until("deleted", SOON, async || self.stored("", topic).await.is_empty().then_some(())).await;
    }

    async fn accept(&self, _scope: &str, topic: &str) {
        limit(self.broker().url(), topic, 10 << 20).await;
    }
}

/// One partition, so that all records of a topic have an order.
pub fn settings(scope: &str, servers: &str) -> DestinationSettings {
    let servers = servers.split(',').map(str::to_owned).collect();
    DestinationSettings { partitions: 1, ..subject::settings(scope, BrokerUrl::Kafka(servers)) }
}

/// Sets a topic's `max.message.bytes` and waits until the broker applies it. A setting can be read before it is applied, but
/// when a second change can be read, the first one is applied.
async fn limit(servers: &str, topic: &str, bytes: usize) {
    for bytes in [bytes + 1, bytes] {
        configure(servers, topic, &[("max.message.bytes", &bytes.to_string())]).await;
        let admin = admin(servers);
        until("the setting", SOON, async || {
            let resources = [ResourceSpecifier::Topic(topic)];
            let all = admin.describe_configs(&resources, &AdminOptions::new()).await.expect("an answer");
            let topic = all.into_iter().next()?.ok()?;
            (topic.get("max.message.bytes")?.value == Some(bytes.to_string())).then_some(())
        })
        .await;
    }
}

/// An admin client that is not under test.
pub fn admin(servers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", servers).create().expect("an admin client")
}

/// Replaces the settings of a topic.
pub async fn configure(servers: &str, topic: &str, entries: &[(&str, &str)]) {
    let change = entries
        .iter()
        .fold(AlterConfig::new(ResourceSpecifier::Topic(topic)), |change, (name, value)| change.set(name, value));
    let results = admin(servers).alter_configs(&[change], &AdminOptions::new()).await.expect("an answer");
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// All records of a topic, by partition and offset.
pub fn read(servers: &str, topic: &str) -> Vec<Stored> {
    read_partitions(servers, topic).into_iter().map(|(_, stored)| stored).collect()
}

/// All records of a topic, each with its partition.
pub fn read_partitions(servers: &str, topic: &str) -> Vec<(i32, Stored)> {
    let end = Instant::now() + SOON;
    loop {
        match try_read(servers, topic, end) {
            Ok(found) => return found,
            // A consumer that has seen the broker without the topic keeps to that: the next one asks anew.
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    }
}

fn try_read(servers: &str, topic: &str, end: Instant) -> Result<Vec<(i32, Stored)>, KafkaError> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("fetch.message.max.bytes", "20000000")
        .create()
        .expect("a consumer");
    let all = consumer.fetch_metadata(Some(topic), Duration::from_secs(5))?;
    let Some(found) = all.topics().iter().find(|found| found.name() == topic && found.error().is_none()) else {
        return Ok(Vec::new());
    };
    let mut list = TopicPartitionList::new();
    let mut ends = HashMap::new();
    for partition in found.partitions() {
        let (_, high) = consumer.fetch_watermarks(topic, partition.id(), Duration::from_secs(5))?;
        if high > 0 {
            ends.insert(partition.id(), high);
            list.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("an offset");
        }
    }
    consumer.assign(&list).expect("assigned");
    let mut found: Vec<(i32, i64, Stored)> = Vec::new();
    while !ends.is_empty() {
        assert!(Instant::now() < end, "not all read: {ends:?} left");
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
        if ends.get(&message.partition()).is_some_and(|high| message.offset() + 1 >= *high) {
            ends.remove(&message.partition());
        }
        found.push((message.partition(), message.offset(), stored(&message)));
    }
    found.sort_by_key(|(partition, offset, _)| (*partition, *offset));
    Ok(found.into_iter().map(|(partition, _, stored)| (partition, stored)).collect())
}

fn stored(message: &BorrowedMessage<'_>) -> Stored {
    let mut stored = Stored {
        key: message.key().map(|key| String::from_utf8(key.to_vec()).expect("a key that is text")),
        body: Bytes::copy_from_slice(message.payload().expect("no tombstones")),
        ..Stored::default()
    };
    for header in message.headers().expect("headers").iter() {
        let value = String::from_utf8(header.value.expect("a value").to_vec()).expect("UTF-8");
        let twice = match (header.key, header.key.strip_prefix("ce_")) {
            ("content-type", _) => !std::mem::replace(&mut stored.content_type, value).is_empty(),
            (_, Some(attribute)) => stored.attributes.insert(attribute.to_owned(), value).is_some(),
            (other, None) => stored.headers.insert(other.to_owned(), value).is_some(),
        };
        assert!(!twice, "header {} twice", header.key);
    }
    stored
}
