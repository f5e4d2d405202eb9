//! Checks `properties` of a Kafka destination: librdkafka's configuration properties.

use super::checker::Checker;
use crate::config::mistake::quoted_name;
use crate::config::raw::{Leaf, Named, RawTls};
use crate::destination::precheck::property_fault;
use crate::secret::Secret;

/// The librdkafka properties that cannot be configured, with the reasons. Operators may set any other property that a
/// producer has.
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

/// What librdkafka's CONFIGURATION.md marks as `C`: a producer ignores these properties.
const CONSUMER_PROPERTIES: [&str; 31] = [
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "check.crcs",
    "consume.callback.max.messages",
    "coordinator.query.interval.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "offset.store.method",
    "offset.store.path",
    "offset.store.sync.interval.ms",
    "partition.assignment.strategy",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "session.timeout.ms",
];

impl Checker<'_, '_> {
    /// `apply`: whether the destination takes properties at all.
    pub(super) fn properties(&mut self, raw: &Named<Leaf>, apply: bool) -> Vec<(String, Secret)> {
        let mut properties = Vec::new();
        for (name, value) in &raw.0 {
            // librdkafka accepts the prefix `topic.` for properties of topics.
            let bare = name.text.trim().to_ascii_lowercase();
            let bare = bare.strip_prefix("topic.").unwrap_or(&bare);
            if let Some((_, why)) = RESERVED_PROPERTIES.iter().find(|(reserved, _)| bare == *reserved) {
                self.mistake(Some(name), format!("the property `{bare}` cannot be set: {why}"));
                continue;
            }
            if apply && CONSUMER_PROPERTIES.contains(&bare) {
                self.mistake(Some(name), format!("the property `{bare}` has no effect: it is one of consumers"));
                continue;
            }
            if name.text.is_empty()
                || !name.text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
            {
                let message = "the name of a librdkafka property consists of letters, digits, `.`, `_` and `-`";
                self.mistake(Some(name), message);
                continue;
            }
            let Some(text) = self.text(value).map(Secret::new) else { continue };
            if let Some(why) = Some(&text).filter(|_| apply).and_then(|text| property_fault(&name.text, text)) {
                let quoted = quoted_name(&name.text).map_or_else(String::new, |name| format!(" {name}"));
                self.mistake(Some(name), format!("the property{quoted}: {why}"));
                continue;
            }
            properties.push((name.text.clone(), text));
        }
        properties
    }

    /// Reports properties that have no effect, or contradict `tls`. Without `security.protocol`, `tls` means TLS.
    pub(super) fn security(&mut self, raw: &Named<Leaf>, tls: &RawTls) {
        let given_tls = tls.ca.is_some() || tls.cert.is_some() || tls.key.is_some();
        let find = |name: &str| raw.0.iter().find(|(given, _)| given.text == name);
        let protocol = find("security.protocol").and_then(|(_, value)| Some((value, self.text(value)?.to_lowercase())));
        let (encrypted, sasl) = match protocol.as_ref().map(|(_, protocol)| protocol.as_str()) {
            None => (given_tls, given_tls),
            Some("ssl") => (true, false),
            Some("sasl_ssl") => (true, true),
            Some("plaintext") => (false, false),
            Some("sasl_plaintext") => (false, true),
            Some(_) => return, // `properties` has reported it
        };
        if let Some((value, _)) = protocol.as_ref().filter(|_| given_tls && !encrypted) {
            self.mistake(Some(value), "`tls` requires TLS: set security.protocol to ssl or sasl_ssl, or leave it out");
            return;
        }
        for (name, _) in &raw.0 {
            let needs = match name.text.as_str() {
                name if name.starts_with("sasl.") && !sasl => "sasl_ssl or sasl_plaintext",
                name if name.starts_with("ssl.") && !encrypted => "ssl or sasl_ssl",
                _ => continue,
            };
            let message = format!("the property `{}` has no effect: set security.protocol to {needs}", name.text);
            self.mistake(Some(name), message);
        }
        for (setting, leaf, names) in [
            ("tls.ca", &tls.ca, &["ssl.ca.location", "ssl.ca.pem"][..]),
            ("tls.cert", &tls.cert, &["ssl.certificate.location", "ssl.certificate.pem", "ssl.keystore.location"]),
            ("tls.key", &tls.key, &["ssl.key.location", "ssl.key.pem", "ssl.keystore.location"]),
        ] {
            if let (Some(_), Some((name, _))) = (leaf, names.iter().find_map(|name| find(name))) {
                self.mistake(Some(name), format!("give only one of `{setting}` and the property `{}`", name.text));
            }
        }
    }
}
