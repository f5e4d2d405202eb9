//! The settings of one destination: addresses, TLS, credentials, limits.

use std::path::PathBuf;
use std::sync::Arc;

use crate::naming::Kind;
use crate::secret::Secret;

/// The settings of one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationSettings {
    /// The name in the configuration.
    pub name: Arc<str>,
    /// Kind and addresses.
    pub url: BrokerUrl,
    /// The JetStream stream. Default `EVENTS`.
    pub stream: String,
    /// The RabbitMQ topic exchange. Default `events`.
    pub exchange: String,
    /// The number of partitions of Kafka topics that are created. Default 6.
    pub partitions: i32,
    /// The CloudEvents content mode. Default binary.
    pub mode: Mode,
    /// Whether missing topology is created. Default ensure.
    pub topology: Topology,
    /// Whether `webhook-id`, `webhook-timestamp` and `webhook-signature` are forwarded. Default no.
    pub forward_signature: bool,
    /// Most publishes in flight. Default 10,000.
    pub in_flight: usize,
    /// Most bytes of publishes in flight. Default 64 MiB.
    pub in_flight_bytes: usize,
    /// TLS root certificates and client certificate.
    pub tls: Tls,
    /// Whether `SSL_CERT_FILE` or `SSL_CERT_DIR` names the TLS roots. Kafka's client reads these variables by itself, but
    /// has no default for them. Default no.
    pub roots_from_environment: bool,
    /// NATS credentials other than user and password in the URL.
    pub auth: Auth,
    /// librdkafka properties.
    pub properties: Vec<(String, Secret)>,
    /// What becomes of events that are too large for the broker. Default dead letters.
    pub oversize: OversizePolicy,
}

impl DestinationSettings {
    /// A destination with every default.
    pub fn new(name: &str, url: BrokerUrl) -> Self {
        DestinationSettings {
            name: name.into(),
            url,
            stream: "EVENTS".into(),
            exchange: "events".into(),
            partitions: 6,
            mode: Mode::Binary,
            topology: Topology::Ensure,
            forward_signature: false,
            in_flight: 10_000,
            in_flight_bytes: 64 << 20,
            tls: Tls::default(),
            roots_from_environment: false,
            auth: Auth::default(),
            properties: Vec::new(),
            oversize: OversizePolicy::DeadLetter,
        }
    }
}

impl DestinationSettings {
    /// Takes addresses and credentials from other settings.
    pub fn take_access(&mut self, other: &DestinationSettings) {
        self.url.clone_from(&other.url);
        self.tls.clone_from(&other.tls);
        self.auth.clone_from(&other.auth);
        self.properties.clone_from(&other.properties);
    }
}

/// The kind and the addresses of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerUrl {
    /// `nats://` or `tls://`, one or several addresses.
    Nats(Vec<Secret>),
    /// `kafka://h:p,h:p`: `h:p` each.
    Kafka(Vec<String>),
    /// `amqp://` or `amqps://`, one or several addresses.
    Amqp(Vec<Secret>),
    /// `file:DIR`.
    File(PathBuf),
}

impl BrokerUrl {
    /// The kind of the destination.
    pub fn kind(&self) -> Kind {
        match self {
            BrokerUrl::Nats(_) => Kind::Nats,
            BrokerUrl::Kafka(_) => Kind::Kafka,
            BrokerUrl::Amqp(_) => Kind::Rabbitmq,
            BrokerUrl::File(_) => Kind::File,
        }
    }

    /// The addresses without users and passwords, for messages.
    pub fn shown(&self) -> Vec<String> {
        match self {
            BrokerUrl::Nats(all) | BrokerUrl::Amqp(all) => all.iter().map(|one| masked(one.expose())).collect(),
            BrokerUrl::Kafka(all) => vec![format!("kafka://{}", all.join(","))],
            BrokerUrl::File(directory) => vec![format!("file:{}", directory.display())],
        }
    }
}

/// The CloudEvents content mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Attributes in headers, the signed bytes as the body.
    #[default]
    Binary,
    /// Attributes and data in one JSON object.
    Structured,
}

/// What becomes of an event that is too large for the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OversizePolicy {
    /// A dead letter.
    #[default]
    DeadLetter,
    /// It is published compressed.
    Gzip,
    /// Its body goes to the object store, and a reference to it is published.
    ClaimCheck,
}

impl OversizePolicy {
    /// Every policy.
    pub const ALL: [OversizePolicy; 3] = [OversizePolicy::DeadLetter, OversizePolicy::Gzip, OversizePolicy::ClaimCheck];

    /// Its word in the configuration and in metrics.
    pub fn word(self) -> &'static str {
        match self {
            OversizePolicy::DeadLetter => "dead-letter",
            OversizePolicy::Gzip => "gzip",
            OversizePolicy::ClaimCheck => "claim-check",
        }
    }

    /// What happens to larger events, for a warning about a limit.
    pub fn consequence(self) -> &'static str {
        match self {
            OversizePolicy::DeadLetter => "larger events become dead letters",
            OversizePolicy::Gzip => {
                "larger events are published compressed (gzip), and become dead letters if that is still too large"
            }
            OversizePolicy::ClaimCheck => {
                "the bodies of larger events go to the object store, and a reference is published"
            }
        }
    }
}

/// What to do about missing topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Topology {
    /// Create it.
    #[default]
    Ensure,
    /// Only check it.
    Verify,
}

/// TLS certificates and key, as PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Root certificates.
    pub ca: Option<PathBuf>,
    /// The client certificate chain.
    pub cert: Option<PathBuf>,
    /// The key of the client certificate.
    pub key: Option<PathBuf>,
}

/// NATS credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// A token.
    pub token: Option<Secret>,
    /// An nkey seed.
    pub nkey: Option<Secret>,
    /// A creds file.
    pub creds: Option<PathBuf>,
}

/// What is wrong with a destination's settings, as far as is known without a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingFault {
    /// The setting.
    pub part: SettingPart,
    /// What is wrong. Contains no secret and no path.
    pub message: String,
}

/// A part of a destination's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingPart {
    /// `url`.
    Url,
    /// `tls.ca`.
    Ca,
    /// `tls.cert`.
    Cert,
    /// `tls.key`.
    Key,
    /// `auth.token`.
    Token,
    /// `auth.nkey`.
    Nkey,
    /// `auth.creds`.
    Creds,
    /// `properties`.
    Properties,
}

/// An address without user and password, and without its query.
fn masked(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split('?').next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://[secret]@{host}{path}"),
        None => format!("{scheme}://{authority}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_addresses_contain_no_password() {
        assert_eq!(masked("amqps://u:p@h:5671/prod?k=v"), "amqps://[secret]@h:5671/prod");
        assert_eq!(masked("nats://h"), "nats://h");
    }
}
