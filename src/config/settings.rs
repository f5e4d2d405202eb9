//! The whole settings tree, checked: every module that has settings finds its own here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::admission::Limits;
use crate::destination::settings::DestinationSettings;
use crate::route::Routes;
use crate::source::Source;

/// Everything that can be set, after all checks.
#[derive(Debug)]
pub struct Settings {
    /// Where webhooks come from, in the file's order.
    pub sources: Vec<Source>,
    /// Where events go, in the file's order.
    pub destinations: Vec<DestinationSettings>,
    /// Event to targets.
    pub routes: Routes,
    /// Where ids and facts are kept.
    pub store: StoreKind,
    /// The embedded store's directory.
    pub data: PathBuf,
    /// How long an id is remembered, in elapsed time. Default 7 days.
    pub dedup_window: Duration,
    /// The name of the destination that takes dead letters where the store keeps none.
    pub dead_letters_to: Option<Arc<str>>,
    /// The webhook listener. Default `0.0.0.0:8080`.
    pub listen: SocketAddr,
    /// The admin listener. Default `127.0.0.1:9464`.
    pub admin: SocketAddr,
    /// What a client may ask of us.
    pub limits: Limits,
    /// How long a publish may stay without an outcome. Default 120 s.
    pub publish_timeout: Duration,
    /// How long SIGTERM waits for what is in flight. Default 25 s.
    pub shutdown_timeout: Duration,
}

/// Where ids and facts are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// In this process.
    Memory,
    /// In the data directory.
    Embedded,
}
