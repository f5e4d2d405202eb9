//! The file as it is written: every value still text, with its place. Types and meaning are [`super::check`]'s.
//!
//! Values stay text because `${NAME}` may stand for any of them; names of settings are closed (`deny_unknown_fields`).

use serde::Deserialize;

pub(super) use leaf::{Leaf, Named, OneOrMany, Or, Scalar};
pub(super) use read::read;

mod leaf;
mod read;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub sources: Option<Named<Source>>,
    pub destinations: Option<Named<Destination>>,
    pub routes: Option<Vec<Route>>,
    pub unrouted: Option<Or<Unrouted>>,
    pub ack: Option<Leaf>,
    pub store: Option<Leaf>,
    pub dedup: Dedup,
    pub dead_letters: DeadLetters,
    pub listen: Option<Leaf>,
    pub admin: Admin,
    pub data: Option<Leaf>,
    pub limits: Limits,
    pub publish: Timeout,
    pub shutdown: Timeout,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Source {
    pub secrets: Option<OneOrMany>,
    pub path: Option<Leaf>,
    pub uri: Option<Leaf>,
    pub tolerance: Option<Leaf>,
    pub legacy_headers: Option<Leaf>,
    pub attributes: Named<Leaf>,
    pub type_prefix: Option<Leaf>,
    pub events: Option<Vec<Leaf>>,
    pub payload: Option<Leaf>,
    pub fields: Fields,
    pub in_flight: Option<Leaf>,
    pub rate: Option<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Fields {
    pub event: Option<Leaf>,
    pub time: Option<Leaf>,
    pub subject: Option<OneOrMany>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Destination {
    pub url: Option<OneOrMany>,
    pub stream: Option<Leaf>,
    pub exchange: Option<Leaf>,
    pub partitions: Option<Leaf>,
    pub mode: Option<Leaf>,
    pub topology: Option<Leaf>,
    pub forward_signature: Option<Leaf>,
    pub in_flight: Option<Leaf>,
    pub in_flight_bytes: Option<Leaf>,
    pub tls: Tls,
    pub auth: Auth,
    pub properties: Named<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tls {
    pub ca: Option<Leaf>,
    pub cert: Option<Leaf>,
    pub key: Option<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Auth {
    pub token: Option<Leaf>,
    pub nkey: Option<Leaf>,
    pub creds: Option<Leaf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    #[serde(rename = "match")]
    pub pattern: Leaf,
    pub when: Option<When>,
    pub to: Vec<Or<To>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct When {
    pub pointer: Leaf,
    #[serde(rename = "in")]
    pub values: Vec<Scalar>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct To {
    pub destination: Leaf,
    pub topic: Option<Leaf>,
    pub key: Option<Leaf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unrouted {
    pub destination: Leaf,
    pub topic: Option<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Dedup {
    pub window: Option<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DeadLetters {
    pub to: Option<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Admin {
    pub listen: Option<Leaf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
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
pub(super) struct Timeout {
    pub timeout: Option<Leaf>,
}
