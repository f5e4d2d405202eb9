//! The test harness itself: brokers start, stop, freeze and leave nothing behind.

mod support;

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use support::brokers::{Broker, Kind, With};

fn address(broker: &Broker) -> SocketAddr {
    broker.url().trim_start_matches("nats://").parse().expect("an address")
}

/// Whether a NATS server sends its greeting, the first bytes of each connection.
fn greets(broker: &Broker) -> bool {
    let mut greeting = [0; 4];
    TcpStream::connect(address(broker)).is_ok_and(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
        stream.read_exact(&mut greeting).is_ok() && &greeting == b"INFO"
    })
}

#[test]
fn a_broker_can_be_killed_paused_and_restarted() {
    let nats = Broker::start_with(Kind::Nats, With { conf: "max_payload: 2000\n", env: &[] });
    let port = address(&nats).port();
    assert!(greets(&nats));
    nats.kill();
    assert!(!greets(&nats));
    nats.start_again();
    assert!(greets(&nats));
    nats.pause();
    assert!(!greets(&nats));
    nats.resume();
    assert!(greets(&nats));
    nats.restart();
    assert!(greets(&nats));
    assert_eq!(address(&nats).port(), port);
    let address = address(&nats);
    drop(nats);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn two_brokers_are_independent() {
    let (one, other) = (Broker::start(Kind::Nats), Broker::start(Kind::Nats));
    one.kill();
    assert!(greets(&other));
    assert_ne!(one.url(), other.url());
}

#[test]
fn the_shared_broker_is_one_per_process() {
    let shared = Broker::shared(Kind::Nats);
    assert_eq!(shared.url(), Broker::shared(Kind::Nats).url());
    assert!(greets(shared));
}

#[test]
fn a_tls_broker_exports_its_ca() {
    let nats = Broker::start_with(Kind::Nats, With { conf: "", env: &[("BROKERS_TLS", "1")] });
    assert!(nats.url().starts_with("tls://test:test@"));
    assert!(Path::new(nats.export("BROKERS_CA")).exists());
}
