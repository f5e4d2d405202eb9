//! The file as it is written: every value is still text, with its place. `check` gives the values their types and meaning.
//!
//! Values stay text because any of them may contain `${NAME}`. An unknown name of a setting is an error
//! (`deny_unknown_fields`).

use serde::Deserialize;

use leaf::named_sections;
pub(super) use leaf::{Leaf, NameOr, Named, OneOrMany, RawScalar, Targets};
pub(super) use read::read;
use section::{optional_section, section, sections};

mod leaf;
mod node;
mod read;
mod section;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFile {
    #[serde(deserialize_with = "named_sections")]
    pub sources: Option<Named<RawSource>>,
    #[serde(deserialize_with = "named_sections")]
    pub destinations: Option<Named<RawDestination>>,
    #[serde(deserialize_with = "sections")]
    pub routes: Option<Vec<RawRoute>>,
    pub unrouted: Option<NameOr<RawUnrouted>>,
    pub ack: Option<Leaf>,
    pub store: Option<Leaf>,
    #[serde(deserialize_with = "section")]
    pub spool: RawSpool,
    #[serde(deserialize_with = "section")]
    pub dedup: RawDedup,
    #[serde(deserialize_with = "section")]
    pub dead_letters: RawDeadLetters,
    #[serde(deserialize_with = "section")]
    pub claim_check: RawClaimCheck,
    pub listen: Option<Leaf>,
    #[serde(deserialize_with = "section")]
    pub admin: RawAdmin,
    pub data: Option<Leaf>,
    #[serde(deserialize_with = "section")]
    pub limits: RawLimits,
    #[serde(deserialize_with = "section")]
    pub publish: RawTimeout,
    #[serde(deserialize_with = "section")]
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
    #[serde(deserialize_with = "section")]
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
    #[serde(deserialize_with = "section")]
    pub tls: RawTls,
    #[serde(deserialize_with = "section")]
    pub auth: RawAuth,
    pub properties: Named<Leaf>,
    pub oversize: Option<Leaf>,
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
    #[serde(default, deserialize_with = "optional_section")]
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
    pub required: Option<Leaf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUnrouted {
    pub destination: Leaf,
    pub topic: Option<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSpool {
    pub max_bytes: Option<Leaf>,
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
    pub max_bytes: Option<Leaf>,
    pub max_age: Option<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawClaimCheck {
    pub url: Option<Leaf>,
    pub endpoint: Option<Leaf>,
    pub region: Option<Leaf>,
    pub access_key_id: Option<Leaf>,
    pub secret_access_key: Option<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAdmin {
    pub listen: Option<Leaf>,
    pub token: Option<Leaf>,
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
