//! The lanes of a real store, with destinations that tests control.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake};

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

/// The lanes of a store, with one destination.
struct Site {
    lanes: Arc<Lanes>,
    ledger: Arc<dyn Ledger>,
    stop: CancellationToken,
    _directory: tempfile::TempDir,
}

impl Site {
    fn new() -> Site {
        let directory = tempfile::tempdir().unwrap();
        let opened = embedded::open(directory.path(), Duration::from_secs(3600)).unwrap();
        let settings = DestinationSettings::new("d", BrokerUrl::File("nowhere".into()));
        let destination = Arc::new(PanicsOnce::default());
        let handle = Handle::new(destination, &settings, Duration::from_secs(120), Arc::default());
        let courier = Arc::new(Courier::new([handle], Arc::clone(&opened.ledger), None, None, Arc::default()));
        let (spool, stop) = (Spool::new(opened.store, 1 << 30), CancellationToken::new());
        let lanes = Lanes::new(spool, courier, Arc::clone(&opened.ledger), stop.clone());
        Site { lanes, ledger: opened.ledger, stop, _directory: directory }
    }

    /// A claimed delivery with one target.
    async fn job(&self) -> Job {
        let delivery = delivery();
        let Ok(Claim::Mine(ticket, known)) = self.ledger.claim(&delivery.key, 0).await else { panic!("not granted") };
        assert_eq!(known, Known::default());
        let event = Arc::new(event());
        let planned = vec![Planned::new(&"d".into(), "a".into(), None, &event)];
        Job { delivery, event: Some(event), planned, known, ticket, body_hash: 0 }
    }

    async fn close(self) {
        self.stop.cancel();
        self.lanes.stopped().await;
        self.ledger.close().await;
    }
}

/// Nobody else would publish what waits in it.
#[tokio::test]
async fn a_lane_whose_task_panics_is_started_again() {
    let site = Site::new();
    let lanes = &site.lanes;
    assert_eq!(lanes.accept(site.job().await).await, Ok(End::Stored));
    let drained = async {
        while lanes.waiting().iter().any(|waiting| waiting.depth.events > 0) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), drained).await.expect("it is published");
    site.close().await;
}

/// When it is woken, notes whether an event waits for a target.
struct NotesWhenWoken {
    lanes: Arc<Lanes>,
    planned: Planned,
    noted: Mutex<Option<bool>>,
}

impl Wake for NotesWhenWoken {
    fn wake(self: Arc<Self>) {
        self.noted.lock().get_or_insert_with(|| self.lanes.may_hold(&self.planned));
    }
}

/// The sender of a copy may send the next event of its key as soon as the copy is answered.
#[tokio::test]
async fn copies_are_answered_once_the_event_is_in_its_lane() {
    let site = Site::new();
    let job = site.job().await;
    let planned = job.planned[0].clone();
    let waker = Arc::new(NotesWhenWoken { lanes: Arc::clone(&site.lanes), planned, noted: Mutex::default() });
    let Ok(Claim::Busy(mut copy)) = site.ledger.claim(&job.delivery.key, 0).await else { panic!("not waiting") };
    assert!(copy.poll_unpin(&mut Context::from_waker(&Arc::clone(&waker).into())).is_pending());
    assert_eq!(site.lanes.accept(job).await, Ok(End::Stored));
    assert_eq!(*waker.noted.lock(), Some(true));
    assert_eq!(copy.await, Ok(End::Stored));
    site.close().await;
}
