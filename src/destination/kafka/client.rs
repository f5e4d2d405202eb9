//! librdkafka's configuration: what the bridge's promises rest on, and around it what the operator sets.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use crate::destination::Opening;
use crate::destination::settings::{BrokerUrl, DestinationSettings};
use crate::reason::{Failure, Reason};
use crate::secret::Secret;

/// What headers and framing may add to a body: the headers that a request may have are at most this.
const MARGIN: usize = 128 * 1024;

/// Largest batch. Small, because the broker's limit is on the batch: a message larger than this is alone in its batch, so
/// that "too large" is surely about itself.
const BATCH: usize = 128 * 1024;

/// How to tell that a message that was refused as too large is so by itself, not only its batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alone {
    compressed: bool,
}

impl Alone {
    /// Whether a message of this size, refused by a topic with this limit (where known), is itself too large.
    pub fn too_large(self, size: usize, limit: Option<usize>) -> bool {
        // Above the batch size it was alone. Below, the limit tells; but how far it was compressed is not known.
        size > BATCH || (!self.compressed && limit.is_some_and(|limit| size > limit))
    }
}

/// See [`Alone`].
pub(super) fn alone(properties: &[(String, Secret)]) -> Alone {
    let compresses = |(name, value): &(String, Secret)| {
        let name = name.strip_prefix("topic.").unwrap_or(name); // librdkafka takes both
        matches!(name, "compression.codec" | "compression.type") && value.expose() != "none"
    };
    Alone { compressed: properties.iter().any(compresses) }
}

/// What a topic must take.
pub(super) fn largest_message(opening: &Opening) -> usize {
    opening.body_limit.saturating_add(MARGIN).clamp(1000, 1_000_000_000)
}

/// The configuration of producers.
pub(super) fn producer(opening: &Opening) -> ClientConfig {
    let mut client = admin(&opening.settings);
    let largest = largest_message(opening);
    let bytes = opening.settings.in_flight_bytes.max(largest);
    client
        .set("message.max.bytes", largest.to_string())
        .set("queue.buffering.max.messages", opening.settings.in_flight.max(1).to_string())
        .set("queue.buffering.max.kbytes", bytes.div_ceil(1024).to_string())
        .set("message.timeout.ms", milliseconds(opening.publish_timeout))
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("batch.size", BATCH.to_string())
        .set("partitioner", "murmur2_random");
    for (name, value) in [
        ("linger.ms", "0".to_string()),
        ("statistics.interval.ms", "5000".into()),
        // How long a topic that is not there is waited for: one just made may not be known to every broker.
        ("topic.metadata.propagation.max.ms", "10000".into()),
        // The broker's time to gather acknowledgements; ours to wait for its answer is a little longer.
        ("request.timeout.ms", "10000".into()),
    ] {
        default(&mut client, name, &value);
    }
    client
}

/// The configuration of admin clients.
pub(super) fn admin(settings: &DestinationSettings) -> ClientConfig {
    let mut client = ClientConfig::new();
    let servers = match &settings.url {
        BrokerUrl::Kafka(servers) => servers.join(","),
        _ => String::new(),
    };
    let tls = &settings.tls;
    for (name, value) in
        [("ssl.ca.location", &tls.ca), ("ssl.certificate.location", &tls.cert), ("ssl.key.location", &tls.key)]
    {
        if let Some(path) = value {
            client.set(name, path.to_string_lossy());
        }
    }
    for (name, value) in &settings.properties {
        client.set(name, value.expose()); // those that are ours were refused with the configuration
    }
    client
        .set("bootstrap.servers", servers)
        .set("allow.auto.create.topics", "false")
        // A connection that is lost is told of: see `Context::log`.
        .set("log.connection.close", "true");
    for (name, value) in [
        ("client.id", "hookbridge"),
        ("socket.keepalive.enable", "true"),
        // A frozen or half-open connection is given up, and the requests on it tried again, long before a publish ends.
        ("socket.timeout.ms", "15000"),
        ("socket.connection.setup.timeout.ms", "10000"),
        ("reconnect.backoff.ms", "100"),
        ("reconnect.backoff.max.ms", "1000"),
    ] {
        default(&mut client, name, value);
    }
    // OpenSSL is built in, and its own default is no system's: the usual places of root certificates are tried instead
    // (none found: no certificate is trusted). The environment's say, which OpenSSL and the other clients heed, goes first.
    let told = |name: &str| std::env::var_os(name).is_some();
    if client.get("ssl.ca.pem").is_none() && !told("SSL_CERT_FILE") && !told("SSL_CERT_DIR") {
        default(&mut client, "ssl.ca.location", "probe");
    }
    client.set_log_level(if client.get("debug").is_some() { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
    client
}

/// Sets a property unless the settings did.
fn default(client: &mut ClientConfig, name: &str, value: &str) {
    if client.get(name).is_none() {
        client.set(name, value);
    }
}

fn milliseconds(time: Duration) -> String {
    time.as_millis().clamp(1, i32::MAX as u128).to_string()
}

/// Why a client could not be made. Property values may be secrets: never shown.
pub(super) fn unusable(error: &KafkaError) -> Failure {
    let detail = match error {
        KafkaError::ClientConfig(_, about, name, _) => {
            // librdkafka repeats the value in its text.
            let about = if about.contains("No such configuration property") {
                "there is no such property"
            } else {
                "its value cannot be used, or this build does not support it"
            };
            format!("Kafka property {name}: {about}")
        }
        KafkaError::ClientCreation(about) => format!("Kafka client: {about}"),
        other => format!("Kafka client: {other}"),
    };
    Failure::new(Reason::Failed, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_hides_what_is_too_large_by_itself() {
        let properties = |all: &[(&str, &str)]| {
            let all = all.iter().map(|(name, value)| ((*name).to_string(), Secret::new(*value)));
            alone(&all.collect::<Vec<_>>())
        };
        for plain in [&[][..], &[("compression.codec", "none")], &[("linger.ms", "gzip")]] {
            let alone = properties(plain);
            assert!(alone.too_large(1001, Some(1000)) && !alone.too_large(1000, Some(1000)), "{plain:?}");
            assert!(!alone.too_large(1001, None) && alone.too_large(BATCH + 1, None), "{plain:?}");
        }
        for name in ["compression.codec", "compression.type", "topic.compression.codec", "topic.compression.type"] {
            let alone = properties(&[("compression.codec", "none"), (name, "gzip")]);
            assert!(!alone.too_large(1001, Some(1000)) && alone.too_large(BATCH + 1, None), "{name}");
        }
    }
}
