//! What ends the process besides a signal.

use std::collections::HashSet;
use std::future::pending;

use futures_util::future::{BoxFuture, FutureExt as _, ready};

use super::*;
use crate::config::{Flags, load};
use crate::delivery::DeliveryKey;
use crate::ledger::{Claim, Forgotten, Ledger, Record, Remembered};
use crate::letters::LetterCount;
use crate::protocol::{End, Ticket};
use crate::reason::Reason;

/// A ledger whose store has lost a thread.
struct LostThread;

impl Ledger for LostThread {
    fn claim<'a>(&'a self, _: &'a DeliveryKey, _: u32) -> BoxFuture<'a, Result<Claim, Failure>> {
        ready(Err(Reason::Failed.into())).boxed()
    }
    fn record<'a>(&'a self, _: &'a DeliveryKey, _: Ticket, _: Record) -> BoxFuture<'a, Result<Option<End>, Failure>> {
        ready(Err(Reason::Failed.into())).boxed()
    }
    fn release(&self, _: &DeliveryKey, _: Ticket, _: Reason) {}
    fn look_up<'a>(&'a self, _: &'a DeliveryKey) -> BoxFuture<'a, Result<Option<Remembered>, Failure>> {
        ready(Ok(None)).boxed()
    }
    fn forget<'a>(&'a self, _: &'a DeliveryKey) -> BoxFuture<'a, Result<Forgotten, Failure>> {
        ready(Ok(Forgotten::Unknown)).boxed()
    }
    fn keeps_dead_letters(&self) -> bool {
        true
    }
    fn dead_letters(&self) -> Vec<LetterCount> {
        Vec::new()
    }
    fn ids(&self) -> u64 {
        0
    }
    fn forgotten(&self) -> u64 {
        0
    }
    fn health(&self) -> Result<(), Failure> {
        Err(Failure::new(Reason::Failed, "the thread `writer` of the store has ended"))
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

/// The supervisor of the process starts it again, which opens the store anew.
#[tokio::test]
async fn a_store_that_lost_a_thread_ends_the_process_in_order() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let variables = |name: &str| match name {
        "HOOKBRIDGE_TO" => Some("nats://127.0.0.1:1".into()),
        "HOOKBRIDGE_SECRET" => Some(secret.into()),
        _ => None,
    };
    let settings = load(&Flags::default(), &variables).expect("valid settings").settings;
    let metrics = Arc::new(Metrics::default());
    let ledger: Arc<dyn Ledger> = Arc::new(LostThread);
    let courier = Arc::new(Courier::new(Vec::new(), Arc::clone(&ledger), None, None, Arc::clone(&metrics)));
    let vitals = Arc::new(Vitals::new(ledger, courier, HashSet::new(), None, metrics, CancellationToken::new()));
    let listener = async || TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let vitals_of_app = Arc::clone(&vitals);
    let app = App { settings, vitals: vitals_of_app, keyrings: Vec::new(), destinations: Vec::new(), letters: None };
    let failure = app.run(listener().await, listener().await, pending()).await.expect_err("the store has failed");
    assert!(failure.reason == Reason::Failed && failure.detail.contains("`writer`"), "{failure}");
    assert!(vitals.draining.is_cancelled());
}
