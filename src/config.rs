//! The whole settings tree, checked. Nothing below reads the environment or a file of settings.
//!
//! [`load()`] reads file, environment and flags into the raw tree (`raw`), and `check` turns that into [`Settings`],
//! reporting all mistakes of meaning at once.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::normalize::Fields;
use crate::route::Routes;
use crate::signature::Key;

pub use load::{Flags, Loaded, VIDEOGEN, admin_address, keys_given, load, log_filter};
pub use mistake::{Mistake, Mistakes, Place};
pub use secret::Secret;
pub use substitute::{Environment, environment_of};

mod check;
mod load;
mod mistake;
mod print;
mod raw;
mod secret;
mod substitute;
mod topics;
mod units;
mod url;

/// Everything that can be set, after all checks.
#[derive(Debug)]
pub struct Settings {
    /// Where webhooks come from, in the file's order.
    pub sources: Vec<Source>,
    /// Where events go, in the file's order.
    pub destinations: Vec<Destination>,
    /// Event to targets.
    pub routes: Routes,
    /// When the sender is answered.
    pub ack: Ack,
    /// Where ids and facts are kept.
    pub store: Store,
    /// The embedded store's directory.
    pub data: PathBuf,
    /// How long an id is remembered, in elapsed time. Default 7 days.
    pub dedup_window: Duration,
    /// The name of the destination that takes dead letters where the store keeps none.
    pub dead_letters_to: Option<Arc<str>>,
    /// The webhook listener. Default `0.0.0.0:8080`.
    pub listen: SocketAddr,
    /// The admin listener. Default `127.0.0.1:9464`.
    pub admin: Admin,
    /// What a client may ask of us.
    pub limits: Limits,
    /// How long a publish may stay without an outcome. Default 120 s.
    pub publish_timeout: Duration,
    /// How long SIGTERM waits for what is in flight. Default 25 s.
    pub shutdown_timeout: Duration,
}

/// When the sender is answered 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Every target's broker has confirmed.
    Published,
}

/// Where ids and facts are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// In this process.
    Memory,
    /// In the data directory.
    Embedded,
}

/// The admin listener.
#[derive(Debug)]
pub struct Admin {
    /// Its address.
    pub listen: SocketAddr,
    /// The bearer token; without one, off loopback, only health and metrics are served.
    pub token: Option<Secret>,
}

/// Bounds on what clients can make the process do.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest body in bytes. Default 8 MiB.
    pub body: usize,
    /// Largest sum of all header names and values in bytes. Default 32 KiB.
    pub header_bytes: usize,
    /// Most header lines. Default 80.
    pub headers: usize,
    /// How long the first head of a connection, and each body, may take to arrive. Default 5 s.
    pub read_timeout: Duration,
    /// The answer's deadline. Default 10 s.
    pub request_timeout: Duration,
    /// Most connections, as far as the system's limit on open files allows. Default 4096.
    pub connections: usize,
    /// Most requests in flight over all sources, until their work is over. Default 8192.
    pub requests: usize,
    /// Most bytes of bodies in flight over all sources, until their work is over. Default 256 MiB.
    pub bytes: usize,
}

/// Where webhooks come from.
#[derive(Debug)]
pub struct Source {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Where it posts. Default `/webhooks/{name}`.
    pub path: String,
    /// CloudEvents `source`.
    pub uri: Arc<str>,
    /// Prefix of CloudEvents `type`, with its dot.
    pub type_prefix: String,
    /// Keys that deliveries may be signed with; at least one.
    pub keys: Vec<Key>,
    /// How far the timestamp may be from our clock, both ways. Default 300 s.
    pub tolerance: Duration,
    /// Whether `svix-*` headers may stand in for `webhook-*`.
    pub legacy_headers: bool,
    /// Names of events that topology is made for.
    pub events: Vec<String>,
    /// Where in the body the event's name, time and subject are.
    pub fields: Fields,
    /// Static attributes of its events.
    pub attributes: Arc<[(String, String)]>,
    /// Most requests in flight for this source alone; beyond it 429.
    pub in_flight: usize,
    /// Most requests a second for this source, in bursts of a second's worth; beyond it 429. Default: no limit.
    pub rate: Option<NonZeroU32>,
}

/// Where events go.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Kind and addresses.
    pub url: BrokerUrl,
    /// JetStream stream. Default `EVENTS`.
    pub stream: String,
    /// RabbitMQ topic exchange. Default `events`.
    pub exchange: String,
    /// Kafka partitions of topics that are made. Default 12.
    pub partitions: i32,
    /// How CloudEvents are carried. Default binary.
    pub mode: Mode,
    /// Whether topology is made or only checked. Default ensure.
    pub topology: Topology,
    /// Whether `webhook-timestamp` and `webhook-signature` go along. Default no.
    pub forward_signature: bool,
    /// Most publishes without an outcome. Default 10,000.
    pub in_flight: usize,
    /// Most bytes of publishes without an outcome. Default 64 MiB.
    pub in_flight_bytes: usize,
    /// TLS roots and client certificate.
    pub tls: Tls,
    /// NATS credentials beyond user and password in the URL.
    pub auth: Auth,
    /// librdkafka properties.
    pub properties: Vec<(String, Secret)>,
}

impl Destination {
    /// A destination with every default.
    pub fn new(name: &str, url: BrokerUrl) -> Self {
        Destination {
            name: name.into(),
            url,
            stream: "EVENTS".into(),
            exchange: "events".into(),
            partitions: 12,
            mode: Mode::Binary,
            topology: Topology::Ensure,
            forward_signature: false,
            in_flight: 10_000,
            in_flight_bytes: 64 << 20,
            tls: Tls::default(),
            auth: Auth::default(),
            properties: Vec::new(),
        }
    }
}

/// Kind of a destination, and where it is.
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

/// The names of the kinds of destinations, as in URLs and in naming rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// NATS JetStream.
    Nats,
    /// Apache Kafka.
    Kafka,
    /// RabbitMQ.
    Rabbitmq,
    /// Files.
    File,
}

impl BrokerUrl {
    /// Which kind of destination it is.
    pub fn kind(&self) -> Kind {
        match self {
            BrokerUrl::Nats(_) => Kind::Nats,
            BrokerUrl::Kafka(_) => Kind::Kafka,
            BrokerUrl::Amqp(_) => Kind::Rabbitmq,
            BrokerUrl::File(_) => Kind::File,
        }
    }
}

impl Kind {
    /// Its word: the name of the destination that `--to` makes.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Nats => "nats",
            Kind::Kafka => "kafka",
            Kind::Rabbitmq => "rabbitmq",
            Kind::File => "file",
        }
    }
}

/// CloudEvents content mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Attributes in headers, the signed bytes as the body.
    #[default]
    Binary,
    /// All in one JSON object.
    Structured,
}

/// What is done about topics that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Topology {
    /// They are made.
    #[default]
    Ensure,
    /// They are only checked.
    Verify,
}

/// TLS material, PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Further root certificates.
    pub ca: Option<PathBuf>,
    /// Client certificate chain.
    pub cert: Option<PathBuf>,
    /// Its key.
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

#[cfg(test)]
mod tests;
