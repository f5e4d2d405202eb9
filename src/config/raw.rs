//! The file as it is written: every value is still text, with its place. `check` gives the values their types and meaning.
//!
//! Values stay text because any of them may contain `${NAME}`. An unknown name of a setting is an error
//! (`deny_unknown_fields`).

use serde::Deserialize;

pub(super) use leaf::{Leaf, NameOr, Named, OneOrMany, RawScalar, Targets};
pub(super) use read::read;

mod leaf;
mod read;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFile {
    pub sources: Option<Named<RawSource>>,
    pub destinations: Option<Named<RawDestination>>,
    pub routes: Option<Vec<RawRoute>>,
    pub unrouted: Option<NameOr<RawUnrouted>>,
    pub ack: Option<Leaf>,
    pub store: Option<Leaf>,
    pub dedup: RawDedup,
    pub dead_letters: RawDeadLetters,
    pub listen: Option<Leaf>,
    pub admin: RawAdmin,
    pub data: Option<Leaf>,
    pub limits: RawLimits,
    pub publish: RawTimeout,
    pub shutdown: RawTimeout,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSource {
    pub secrets: Option<OneOrMany>,
    pub path: Option<Leaf>,
    pub uri: Option<Leaf>,
    pub tolerance: Option<Leaf>,
    pub legacy_headers: Option<Leaf>,
    pub attributes: Named<Leaf>,
    pub type_prefix: Option<Leaf>,
    pub events: Option<Vec<Leaf>>,
    pub payload: Option<Leaf>,
    pub fields: RawFields,
    pub in_flight: Option<Leaf>,
    pub rate: Option<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFields {
    pub event: Option<Leaf>,
    pub time: Option<Leaf>,
    pub subject: Option<OneOrMany>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDestination {
    pub url: Option<OneOrMany>,
    pub stream: Option<Leaf>,
    pub exchange: Option<Leaf>,
    pub partitions: Option<Leaf>,
    pub mode: Option<Leaf>,
    pub topology: Option<Leaf>,
    pub forward_signature: Option<Leaf>,
    pub in_flight: Option<Leaf>,
    pub in_flight_bytes: Option<Leaf>,
    pub tls: RawTls,
    pub auth: RawAuth,
    pub properties: Named<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTls {
    pub ca: Option<Leaf>,
    pub cert: Option<Leaf>,
    pub key: Option<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAuth {
    pub token: Option<Leaf>,
    pub nkey: Option<Leaf>,
    pub creds: Option<Leaf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRoute {
    #[serde(rename = "match")]
    pub pattern: Leaf,
    pub source: Option<OneOrMany>,
    pub when: Option<RawWhen>,
    pub to: Targets<RawTo>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWhen {
    pub pointer: Leaf,
    #[serde(rename = "in")]
    pub values: Vec<RawScalar>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTo {
    pub destination: Leaf,
    pub topic: Option<Leaf>,
    pub key: Option<Leaf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUnrouted {
    pub destination: Leaf,
    pub topic: Option<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDedup {
    pub window: Option<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDeadLetters {
    pub to: Option<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAdmin {
    pub listen: Option<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub body: Option<Leaf>,
    pub header_bytes: Option<Leaf>,
    pub headers: Option<Leaf>,
    pub read_timeout: Option<Leaf>,
    pub request_timeout: Option<Leaf>,
    pub connections: Option<Leaf>,
    pub requests: Option<Leaf>,
    pub bytes: Option<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTimeout {
    pub timeout: Option<Leaf>,
}
