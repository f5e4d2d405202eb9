//! librdkafka's configuration, and the producer made from it: the properties that the delivery guarantees rest on, the
//! operator's properties, and defaults.
//!
//! librdkafka connects by itself, and creating a producer waits for no broker. It reads certificate files when it is
//! created, so a replaced producer reads them again.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::producer::ThreadedProducer;

use super::context::{BATCH_BYTES, Context, Oversize};
use crate::destination::Opening;
use crate::destination::settings::{BrokerUrl, DestinationSettings};
use crate::reason::{Failure, Reason};
use crate::secret::Secret;

pub(super) type Producer = ThreadedProducer<Context>;

/// Bytes that headers and framing may add to a body. Requests may have headers of at most this size.
const MARGIN: usize = 128 * 1024;

/// Creates a producer. Blocks while it reads certificates. Fails if librdkafka does not accept a property or a file.
pub(super) fn create_producer(config: &ClientConfig, context: Context) -> Result<Producer, Failure> {
    config.create_with_context(context).map_err(|error| not_created(&error))
}

/// Bytes of the largest message that a topic must take.
pub(super) fn largest_message(body_limit: usize) -> usize {
    body_limit.saturating_add(MARGIN).clamp(1000, 1_000_000_000)
}

/// How this producer decides which messages are too large.
pub(super) fn oversize(properties: &[(String, Secret)]) -> Oversize {
    let compresses = |(name, value): &(String, Secret)| {
        let name = name.strip_prefix("topic.").unwrap_or(name); // librdkafka takes both
        matches!(name, "compression.codec" | "compression.type") && value.expose() != "none"
    };
    Oversize { compressed: properties.iter().any(compresses) }
}

/// The configuration of a producer.
pub(super) fn producer_config(opening: &Opening) -> ClientConfig {
    let mut config = admin_config(&opening.settings);
    let largest = largest_message(opening.body_limit);
    let bytes = opening.settings.in_flight_bytes.max(largest);
    config
        .set("message.max.bytes", largest.to_string())
        .set("queue.buffering.max.messages", opening.settings.in_flight.max(1).to_string())
        .set("queue.buffering.max.kbytes", bytes.div_ceil(1024).to_string())
        .set("message.timeout.ms", milliseconds(opening.publish_timeout))
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("batch.size", BATCH_BYTES.to_string())
        .set("partitioner", "murmur2_random");
    for (name, value) in [
        ("linger.ms", "0"),
        ("statistics.interval.ms", "5000"),
        // How long to wait for an unknown topic: not every broker knows a new topic at once.
        ("topic.metadata.propagation.max.ms", "10000"),
        // The broker's time to collect acknowledgements. The client waits a little longer for the answer.
        ("request.timeout.ms", "10000"),
    ] {
        set_default(&mut config, name, value);
    }
    config
}

/// The configuration of an admin client, which a producer shares.
pub(super) fn admin_config(settings: &DestinationSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    let servers = match &settings.url {
        BrokerUrl::Kafka(servers) => servers.join(","),
        _ => String::new(),
    };
    let tls = &settings.tls;
    for (name, value) in
        [("ssl.ca.location", &tls.ca), ("ssl.certificate.location", &tls.cert), ("ssl.key.location", &tls.key)]
    {
        if let Some(path) = value {
            config.set(name, path.to_string_lossy());
        }
    }
    for (name, value) in &settings.properties {
        config.set(name, value.expose()); // `config` rejected those that are set here
    }
    config
        .set("bootstrap.servers", servers)
        .set("allow.auto.create.topics", "false")
        // `Context::log` needs the lines about lost connections.
        .set("log.connection.close", "true");
    for (name, value) in [
        ("client.id", "hookbridge"),
        ("socket.keepalive.enable", "true"),
        // A frozen or half-open connection is closed, and its requests are retried, long before a publish times out.
        ("socket.timeout.ms", "15000"),
        ("socket.connection.setup.timeout.ms", "10000"),
        ("reconnect.backoff.ms", "100"),
        ("reconnect.backoff.max.ms", "1000"),
    ] {
        set_default(&mut config, name, value);
    }
    // The built-in OpenSSL does not know where the system keeps its root certificates, so librdkafka probes the usual
    // places; without any it trusts no certificate. Roots that the environment names take precedence, as in other clients.
    if config.get("ssl.ca.pem").is_none() && !settings.roots_from_environment {
        set_default(&mut config, "ssl.ca.location", "probe");
    }
    config.set_log_level(if config.get("debug").is_some() { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
    config
}

/// Sets a property that the operator did not set.
fn set_default(config: &mut ClientConfig, name: &str, value: &str) {
    if config.get(name).is_none() {
        config.set(name, value);
    }
}

fn milliseconds(time: Duration) -> String {
    time.as_millis().clamp(1, i32::MAX as u128).to_string()
}

/// Why a client could not be created. The values of properties may be secrets and are never shown.
pub(super) fn not_created(error: &KafkaError) -> Failure {
    let detail = match error {
        KafkaError::ClientConfig(_, about, name, _) => {
            // librdkafka's text contains the value.
            let about = if about.contains("No such configuration property") {
                "there is no such property"
            } else {
                "its value is not valid, or this build does not support it"
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

    fn properties(all: &[(&str, &str)]) -> Vec<(String, Secret)> {
        all.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect()
    }

    #[test]
    fn compression_is_known_under_each_of_its_names() {
        for plain in [&[][..], &[("compression.codec", "none")], &[("linger.ms", "gzip")]] {
            assert!(!oversize(&properties(plain)).compressed, "{plain:?}");
        }
        for name in ["compression.codec", "compression.type", "topic.compression.codec", "topic.compression.type"] {
            assert!(oversize(&properties(&[("compression.codec", "none"), (name, "gzip")])).compressed, "{name}");
        }
    }

    #[test]
    fn root_certificates_come_from_the_settings_then_the_environment_then_the_system() {
        let settings = || DestinationSettings::new("kafka", BrokerUrl::Kafka(vec!["localhost".into()]));
        let location =
            |settings: &DestinationSettings| admin_config(settings).get("ssl.ca.location").map(str::to_owned);
        assert_eq!(location(&settings()).as_deref(), Some("probe"));
        assert_eq!(location(&DestinationSettings { roots_from_environment: true, ..settings() }), None);
        let pem = DestinationSettings { properties: properties(&[("ssl.ca.pem", "PEM")]), ..settings() };
        assert_eq!(location(&pem), None);
        let mut ca = settings();
        ca.tls.ca = Some("/ca.pem".into());
        assert_eq!(location(&ca).as_deref(), Some("/ca.pem"));
    }
}
