//! The lanes of a real store, with destinations that tests control.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{BoxFuture, pending, ready};
use tokio::time::timeout;

use super::*;
use crate::delivery::fixture::delivery;
use crate::destination::settings::{BrokerUrl, DestinationSettings};
use crate::destination::{Confirm, Destination, Handle, Health};
use crate::event::fixture::event;
use crate::ledger::{Claim, embedded};
use crate::message::{Message, Outcome};
use crate::protocol::Known;

/// Panics at its first publish, and then confirms.
#[derive(Default)]
struct PanicsOnce(AtomicBool);

impl Destination for PanicsOnce {
    fn publish(&self, _: Message) -> Confirm {
        assert!(self.0.swap(true, Ordering::Relaxed), "on purpose");
        ready(Outcome::Confirmed).boxed()
    }
    fn ensure(&self) -> BoxFuture<'_, Result<(), Failure>> {
        pending().boxed()
    }
    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        pending().boxed()
    }
    fn health(&self) -> Health {
        Health::Up
    }
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    fn ended(&self) -> BoxFuture<'_, ()> {
        pending().boxed()
    }
    fn close(&self, _: Duration) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

/// Nobody else would publish what waits in it.
#[tokio::test]
async fn a_lane_whose_task_panics_is_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let opened = embedded::open(directory.path(), Duration::from_secs(3600)).unwrap();
    let settings = DestinationSettings::new("d", BrokerUrl::File("nowhere".into()));
    let destination = Arc::new(PanicsOnce::default());
    let handle = Handle::new(destination, &settings, Duration::from_secs(120), Arc::default());
    let courier = Arc::new(Courier::new([handle], Arc::clone(&opened.ledger), None, None, Arc::default()));
    let (spool, stop) = (Spool::new(opened.store, 1 << 30), CancellationToken::new());
    let lanes = Lanes::new(spool, courier, Arc::clone(&opened.ledger), stop.clone());
    let delivery = delivery();
    let Ok(Claim::Mine(ticket, known)) = opened.ledger.claim(&delivery.key, 0).await else { panic!("not granted") };
    assert_eq!(known, Known::default());
    let event = Arc::new(event());
    let planned = vec![Planned::new(&"d".into(), "a".into(), None, &event)];
    let job = Job { delivery, event: Some(event), planned, known, ticket, body_hash: 0 };
    assert_eq!(lanes.accept(job).await, Ok(End::Stored));
    let drained = async {
        while lanes.waiting().iter().any(|waiting| waiting.depth.events > 0) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), drained).await.expect("it is published");
    stop.cancel();
    lanes.stopped().await;
    opened.ledger.close().await;
}
