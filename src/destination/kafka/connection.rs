//! librdkafka's configuration, and the producer made from it: the properties that the delivery guarantees rest on, the
//! operator's properties, and defaults.
//!
//! librdkafka connects by itself, and creating a producer waits for no broker. It reads certificate files when it is
//! created, so a replaced producer reads them again.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::producer::ThreadedProducer;
use rdkafka::types::RDKafkaType;

use super::context::{BATCH_BYTES, Context, Oversize};
use crate::destination::Opening;
use crate::destination::settings::{BrokerUrl, DestinationSettings, SettingFault, SettingPart, Tls};
use crate::reason::{Failure, Reason};
use crate::secret::Secret;
use crate::{settings_file, tls};

pub(super) type Producer = ThreadedProducer<Context>;

/// Bytes that headers and framing may add to a body. Requests may have headers of at most this size.
const MARGIN: usize = 128 * 1024;

/// What `sasl.mechanism` may be.
const SASL_MECHANISMS: [&str; 5] = ["GSSAPI", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];

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
    config(&opening.settings, opening.body_limit, opening.publish_timeout)
}

fn config(settings: &DestinationSettings, body_limit: usize, publish_timeout: Duration) -> ClientConfig {
    let mut config = admin_config(settings);
    let largest = largest_message(body_limit);
    let bytes = settings.in_flight_bytes.max(largest);
    config
        .set("message.max.bytes", largest.to_string())
        .set("queue.buffering.max.messages", settings.in_flight.max(1).to_string())
        .set("queue.buffering.max.kbytes", bytes.div_ceil(1024).to_string())
        .set("message.timeout.ms", milliseconds(publish_timeout))
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("batch.size", BATCH_BYTES.to_string())
        .set("partitioner", "murmur2_random");
    for (name, value) in [
        // librdkafka sends a request for each partition: events that arrive together share one (figures in the README).
        ("linger.ms", "2"),
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
    if settings.tls != Tls::default() {
        let sasl = settings.properties.iter().any(|(name, _)| name.starts_with("sasl."));
        set_default(&mut config, "security.protocol", if sasl { "sasl_ssl" } else { "ssl" });
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

/// What is wrong with one property, by itself. Shows neither name nor value.
pub(in crate::destination) fn property_fault(name: &str, value: &Secret) -> Option<&'static str> {
    let mut config = ClientConfig::new();
    match config.set(name, value.expose()).create_native_config() {
        Err(KafkaError::ClientConfig(_, about, ..)) => Some(not_accepted(&about)),
        Err(_) => Some("it cannot be set"),
        Ok(_) => None,
    }
}

/// What is wrong with the settings together: creates a client that knows no broker, and so does not connect.
pub(in crate::destination) fn fault(
    settings: &DestinationSettings,
    body_limit: usize,
    publish_timeout: Duration,
) -> Option<SettingFault> {
    // librdkafka only says that it cannot read the key.
    let encrypted = settings.tls.key.as_ref().and_then(|key| settings_file::read(key).ok()).filter(|pem| {
        tls::is_encrypted(pem) && !settings.properties.iter().any(|(name, _)| name == "ssl.key.password")
    });
    if encrypted.is_some() {
        let message = "the key is encrypted: decrypt it, for example with `openssl pkey -in FILE -out FILE`, or set \
                       the property ssl.key.password";
        return Some(SettingFault { part: SettingPart::Key, message: message.into() });
    }
    let mut config = config(settings, body_limit, publish_timeout);
    config.remove("bootstrap.servers");
    let created = config
        .create_native_config()
        .and_then(|native| Client::new(&config, native, RDKafkaType::RD_KAFKA_PRODUCER, DefaultClientContext));
    // The operator knows this property under another name.
    let mut message = not_created(&created.err()?).detail.replace("message.timeout.ms", "publish.timeout");
    for (_, value) in &settings.properties {
        // A mechanism that is not built in has to be named.
        if value.expose().len() > 3 && !SASL_MECHANISMS.contains(&value.expose()) {
            message = message.replace(value.expose(), "(not shown)");
        }
    }
    let part = match &settings.tls {
        Tls { ca: Some(_), .. } if message.contains("ssl.ca.location") => SettingPart::Ca,
        Tls { cert: Some(_), .. } if message.contains("ssl.certificate.location") => SettingPart::Cert,
        Tls { key: Some(_), .. } if message.contains("ssl.key.location") || message.contains("Private key check") => {
            SettingPart::Key
        }
        _ if settings.properties.is_empty() => SettingPart::Url,
        _ => SettingPart::Properties,
    };
    Some(SettingFault { part, message })
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
            format!("Kafka property {name}: {}", not_accepted(about))
        }
        KafkaError::ClientCreation(about) => format!("Kafka client: {about}"),
        other => format!("Kafka client: {other}"),
    };
    Failure::new(Reason::Failed, detail)
}

/// Why librdkafka does not accept a property. Its own text contains the value.
fn not_accepted(about: &str) -> &'static str {
    if about.contains("No such configuration property") {
        "there is no such property"
    } else {
        "its value is not valid, or this build does not support it"
    }
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
    fn tls_settings_turn_tls_on() {
        let protocol = |tls: Tls, given: &[(&str, &str)]| {
            let url = BrokerUrl::Kafka(vec!["localhost".into()]);
            let settings =
                DestinationSettings { tls, properties: properties(given), ..DestinationSettings::new("kafka", url) };
            admin_config(&settings).get("security.protocol").map(str::to_owned)
        };
        let tls = || Tls { ca: Some("/ca.pem".into()), ..Tls::default() };
        assert_eq!(protocol(Tls::default(), &[]), None);
        assert_eq!(protocol(tls(), &[]).as_deref(), Some("ssl"));
        assert_eq!(protocol(tls(), &[("sasl.username", "u")]).as_deref(), Some("sasl_ssl"));
        assert_eq!(protocol(tls(), &[("security.protocol", "SASL_SSL")]).as_deref(), Some("SASL_SSL"));
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
