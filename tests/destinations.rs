//! One suite over every destination, against the real thing. A new broker is a [`suite::Subject`] in
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
