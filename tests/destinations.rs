//! The conformance suite on every destination, with real brokers. A new destination is a [`suite::Subject`] in
//! `tests/destinations/`, and one line below.

mod support;

#[path = "destinations/mod.rs"]
mod suite;

suite::conformance! {
    file: suite::file::Files;
    nats: suite::nats::Nats;
    kafka: suite::kafka::Kafka;
    rabbitmq: suite::rabbitmq::Rabbitmq;
}
