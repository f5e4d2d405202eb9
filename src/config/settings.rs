//! All settings, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::admission::Limits;
use crate::destination::settings::DestinationSettings;
use crate::oversize::settings::ObjectStoreSettings;
use crate::route::Routes;
use crate::secret::Secret;
use crate::source::Source;

/// Everything that can be set, after all checks.
#[derive(Debug)]
pub struct Settings {
    /// The sources, in the order of the file.
    pub sources: Vec<Source>,
    /// The destinations, in the order of the file.
    pub destinations: Vec<DestinationSettings>,
    /// Which event goes to which targets.
    pub routes: Routes,
    /// Where bodies go that are too large for a broker, if a destination needs it.
    pub claim_check: Option<ObjectStoreSettings>,
    /// When the sender is answered.
    pub ack: Ack,
    /// Where ids and facts are stored.
    pub store: StoreKind,
    /// The directory of the embedded store.
    pub data: PathBuf,
    /// Most bytes in the spool. Default 8 GiB.
    pub spool_max_bytes: u64,
    /// How long an id is remembered, in elapsed time. Default 7 days.
    pub dedup_window: Duration,
    /// The destination for dead letters. The store keeps those that it does not confirm.
    pub dead_letters_to: Option<Arc<str>>,
    /// Most bytes of dead letters in the store. Default 1 GiB.
    pub dead_letters_max_bytes: u64,
    /// How long the store keeps a dead letter. Default: until it is replayed or discarded.
    pub dead_letters_max_age: Option<Duration>,
    /// The address of the webhook listener. Default `0.0.0.0:8080`.
    pub listen: SocketAddr,
    /// The address of the admin listener. Default `127.0.0.1:9464`.
    pub admin: SocketAddr,
    /// What callers of the admin API must know. Default: only this machine can call it.
    pub admin_token: Option<Secret>,
    /// Limits for clients.
    pub limits: Limits,
    /// Time limit for the outcome of a publish. Default 120 s.
    pub publish_timeout: Duration,
    /// Time limit for shutdown, including the work in flight. Default 25 s.
    pub shutdown_timeout: Duration,
}

/// How a command reaches a bridge, or its store where no bridge runs.
#[derive(Clone, Debug)]
pub struct BridgeAccess {
    /// The address of the admin listener.
    pub admin: SocketAddr,
    /// The token for the admin API.
    pub admin_token: Option<Secret>,
    /// Where ids and facts are stored.
    pub store: StoreKind,
    /// The directory of the embedded store.
    pub data: PathBuf,
    /// How long an id is remembered.
    pub dedup_window: Duration,
    /// How long a publish may take.
    pub publish_timeout: Duration,
}

/// When the sender is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// When every broker has confirmed.
    Published,
    /// When the event is on this machine's disk.
    Stored,
}

impl Ack {
    /// Its word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Ack::Published => "published",
            Ack::Stored => "stored",
        }
    }
}

/// Where ids and facts are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// In this process.
    Memory,
    /// In the data directory.
    Embedded,
}
