//! Checks `properties` of a Kafka destination: librdkafka's configuration properties.

use super::checker::Checker;
use crate::config::raw::{Leaf, Named};
use crate::secret::Secret;

/// The librdkafka properties that cannot be configured, with the reasons. This is the only such list: operators may set any
/// other property.
pub(in super::super) const RESERVED_PROPERTIES: [(&str, &str); 27] = [
    ("enable.idempotence", "without it, a retry inside the client could duplicate or reorder events"),
    ("enable.gapless.guarantee", "it would stop the producer at the first message that fails"),
    ("acks", "an event is confirmed only by all in-sync replicas"),
    ("request.required.acks", "an event is confirmed only by all in-sync replicas"),
    ("partitioner", "keys must be mapped to the partitions that Java clients expect"),
    ("message.timeout.ms", "`publish: {timeout: …}` sets how long a publish may take"),
    ("delivery.timeout.ms", "`publish: {timeout: …}` sets how long a publish may take"),
    ("bootstrap.servers", "`url` contains the addresses"),
    ("metadata.broker.list", "`url` contains the addresses"),
    ("max.in.flight", "the order of events with the same key depends on it"),
    ("max.in.flight.requests.per.connection", "the order of events with the same key depends on it"),
    ("queue.buffering.max.messages", "`in_flight` limits the publishes in flight"),
    ("queue.buffering.max.ms", "it is another name of `linger.ms`: set that"),
    ("queue.buffering.max.kbytes", "`in_flight_bytes` limits the bytes in flight"),
    ("queuing.strategy", "the order of events with the same key depends on it"),
    ("allow.auto.create.topics", "`topology` creates the topics, with the configured number of partitions"),
    ("transactional.id", "publishes are not part of transactions"),
    ("message.send.max.retries", "`publish: {timeout: …}` sets how long a publish is retried"),
    ("retries", "`publish: {timeout: …}` sets how long a publish is retried"),
    ("message.max.bytes", "it is derived from `limits: {body: …}`"),
    ("delivery.report.only.error", "confirms are delivery reports"),
    ("log.queue", "librdkafka's log lines go to this program's log"),
    ("enabled_events", "confirms are delivery reports"),
    ("api.version.request", "the version of the broker must be known"),
    ("batch.size", "it determines which event of a batch is reported as too large"),
    ("socket.max.fails", "a connection is closed when one of its requests has no answer"),
    ("log.connection.close", "the outcome of a publish depends on knowing about lost connections"),
];

impl Checker<'_, '_> {
    pub(super) fn properties(&mut self, raw: &Named<Leaf>) -> Vec<(String, Secret)> {
        let mut properties = Vec::new();
        for (name, value) in &raw.0 {
            // librdkafka accepts the prefix `topic.` for properties of topics.
            let bare = name.text.trim().to_ascii_lowercase();
            let bare = bare.strip_prefix("topic.").unwrap_or(&bare);
            if let Some((_, why)) = RESERVED_PROPERTIES.iter().find(|(reserved, _)| bare == *reserved) {
                self.mistake(Some(name), format!("the property `{bare}` cannot be set: {why}"));
                continue;
            }
            if name.text.is_empty()
                || !name.text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
            {
                let message = "the name of a librdkafka property consists of letters, digits, `.`, `_` and `-`";
                self.mistake(Some(name), message);
                continue;
            }
            let value = self.text(value);
            properties.extend(value.map(|value| (name.text.clone(), Secret::new(value))));
        }
        properties
    }
}
