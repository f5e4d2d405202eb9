//! The behaviour that is specific to NATS, against a real server. What all destinations do is in
//! `tests/destinations.rs`.

mod support;

#[path = "nats/access.rs"]
mod access;
#[path = "nats/cluster.rs"]
mod cluster;
#[path = "nats/credentials.rs"]
mod credentials;
#[path = "nats/plain.rs"]
mod plain;
#[path = "nats/publish.rs"]
mod publish;
#[path = "nats/rig.rs"]
mod rig;
#[path = "nats/stream.rs"]
mod stream;
