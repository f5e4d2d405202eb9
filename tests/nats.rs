//! What only NATS does, against a real server. What every destination does is in `tests/destinations.rs`.

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
