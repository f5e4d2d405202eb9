//! A shelf that fails, and answers when a test lets it: what a ledger knows must outlive both.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use futures_util::future::{FutureExt as _, pending};
use tokio::sync::oneshot;

use super::*;
use crate::delivered::Delivered;
use crate::delivery::fixture::delivery;
use crate::event::fixture::event;
use crate::ledger::facts::{Background, Save};
use crate::letters::LetterCount;
use crate::protocol::{Fact, Known, Target};
use crate::spool::Accepted;

mod forgetting;
mod history;

#[derive(Default)]
struct Fake {
    kept: Mutex<HashMap<Id, Stored>>,
    /// The targets whose dead letters were deleted.
    withdrawn: Mutex<BTreeSet<Target>>,
    broken: AtomicBool,
    /// How many of the next calls wait for [`Fake::let_go`].
    hold: AtomicU32,
    held: Mutex<Vec<oneshot::Sender<()>>>,
}

impl Fake {
    fn gate(&self) -> BoxFuture<'static, ()> {
        if self.hold.load(Ordering::Relaxed) == 0 {
            return std::future::ready(()).boxed();
        }
        self.hold.fetch_sub(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.held.lock().push(sender);
        receiver.map(drop).boxed()
    }

    fn hold(&self, calls: u32) {
        self.hold.store(calls, Ordering::Relaxed);
    }

    fn let_go(&self) {
        self.held.lock().drain(..).for_each(|sender| sender.send(()).expect("it is waited for"));
    }

    fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::Relaxed);
    }

    fn fault(&self) -> Result<(), Failure> {
        if self.broken.load(Ordering::Relaxed) { Err(Reason::Store.into()) } else { Ok(()) }
    }
}

impl FactStore for Fake {
    fn hash_key(&self) -> [u8; 16] {
        [0; 16]
    }

    /// What it finds is older than the wait: a look-up may be answered and not yet be heard.
    fn load(&self, id: Id) -> BoxFuture<'_, Result<Option<Stored>, Failure>> {
        let found = self.fault().map(|()| self.kept.lock().get(&id).cloned());
        self.gate().map(|()| found).boxed()
    }

    fn save(&self, save: Save) -> BoxFuture<'_, Result<(), Failure>> {
        let gate = self.gate();
        async move {
            gate.await;
            self.fault()?;
            self.withdrawn.lock().extend(save.withdrawn);
            self.kept.lock().insert(save.id, save.stored);
            Ok(())
        }
        .boxed()
    }

    fn earlier_saves(&self) -> BoxFuture<'_, Result<(), Failure>> {
        std::future::ready(self.fault()).boxed()
    }

    fn background(&self, id: Id) -> BoxFuture<'_, Result<Background, Failure>> {
        let stored = self.kept.lock().get(&id).cloned();
        std::future::ready(self.fault().map(|()| Background { stored, ..Background::default() })).boxed()
    }

    fn forget(&self, id: Id) -> BoxFuture<'_, Result<Forgotten, Failure>> {
        let gate = self.gate();
        async move {
            gate.await;
            self.fault()?;
            Ok(self.kept.lock().remove(&id).map_or(Forgotten::Unknown, |_| Forgotten::Done))
        }
        .boxed()
    }

    fn keeps_dead_letters(&self) -> bool {
        true
    }

    fn dead_letters(&self) -> Vec<LetterCount> {
        Vec::new()
    }
    fn ids(&self) -> u64 {
        self.kept.lock().len() as u64
    }

    fn forgotten(&self) -> u64 {
        0
    }

    fn health(&self) -> Result<(), Failure> {
        self.fault()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        pending().boxed()
    }
}

type Local = LocalLedger<Fake>;

fn target(name: &str) -> Target {
    Target::new("stream", name)
}

fn key(id: &str) -> DeliveryKey {
    DeliveryKey { source: "videogen".into(), id: id.into() }
}

fn record(confirmed: &[&str]) -> Record {
    let facts = confirmed.iter().map(|name| Fact::Confirmed(target(name))).collect();
    Record { targets: vec![target("a"), target("b")], facts, body_hash: 7, ..Record::default() }
}

/// What needs nobody else.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it waits for nothing")
}

fn mine(ledger: &Local, id: &str) -> (Ticket, Known) {
    match now(ledger.claim(&key(id), 7)) {
        Ok(Claim::Mine(ticket, known)) => (ticket, known),
        Ok(Claim::Busy(_)) => panic!("{id} is busy"),
        Ok(Claim::Closed { end, .. }) => panic!("{id} is closed: {end:?}"),
        Err(failure) => panic!("{failure}"),
    }
}

fn is_closed(ledger: &Local, id: &str) -> bool {
    matches!(now(ledger.claim(&key(id), 7)), Ok(Claim::Closed { end: End::Delivered, same_body: true }))
}

/// Another id's record: the first sign that a broken shelf works again.
fn pass(ledger: &Local) {
    let (ticket, _) = mine(ledger, "other");
    now(ledger.record(&key("other"), ticket, record(&["a", "b"]))).expect("it works again");
    ledger.store.kept.lock().remove(&ledger.id(&key("other")));
}

#[test]
fn a_stale_record_that_closes_during_a_claim_is_seen_by_it() {
    let ledger = Local::new(Fake::default());
    let (stale, _) = mine(&ledger, "x");
    ledger.release(&key("x"), stale, Reason::Timeout);
    ledger.store.hold(1);
    let x = key("x");
    let mut claim = ledger.claim(&x, 7);
    assert!((&mut claim).now_or_never().is_none());
    now(ledger.record(&x, stale, record(&["a", "b"]))).expect("saved");
    ledger.store.let_go();
    assert!(matches!(now(claim), Ok(Claim::Closed { .. })), "a closed id was given out again");
    assert!(ledger.slots.lock().is_empty());
}

#[test]
fn a_claim_waits_for_a_record_that_is_looking_up() {
    let ledger = Local::new(Fake::default());
    let (stale, _) = mine(&ledger, "x");
    ledger.release(&key("x"), stale, Reason::Timeout);
    ledger.store.hold(1);
    let x = key("x");
    let mut late = ledger.record(&x, stale, record(&["a", "b"]));
    assert!((&mut late).now_or_never().is_none());
    let Ok(Claim::Busy(other)) = now(ledger.claim(&x, 7)) else { panic!("not busy") };
    ledger.store.let_go();
    assert_eq!(now(late), Ok(Some(End::Delivered)));
    assert_eq!(now(other), Ok(End::Delivered));
    assert!(is_closed(&ledger, "x"));
}

#[test]
fn facts_outlive_a_shelf_that_cannot_be_read_or_written() {
    let ledger = Local::new(Fake::default());
    let (ticket, _) = mine(&ledger, "x");
    ledger.store.set_broken(true);
    assert!(now(ledger.record(&key("x"), ticket, record(&["a"]))).is_err());
    ledger.release(&key("x"), ticket, Reason::Store);
    assert!(now(ledger.claim(&key("x"), 7)).is_err(), "what could not be recorded is not published");
    // A stale ticket's facts of an id that nobody is at.
    assert!(now(ledger.record(&key("y"), ticket, record(&["a", "b"]))).is_err());
    assert!(now(ledger.claim(&key("y"), 7)).is_err(), "closed, but nobody is told before it is saved");
    ledger.store.set_broken(false);
    pass(&ledger);
    assert!(ledger.slots.lock().is_empty(), "what could not be saved is saved now");
    assert!(is_closed(&ledger, "y"));
    assert_eq!(mine(&ledger, "x").1.confirmed, BTreeSet::from([target("a")]));
}

#[test]
fn who_comes_while_old_facts_are_saved_is_told_and_nothing_stays() {
    let ledger = Local::new(Fake::default());
    let (ticket, _) = mine(&ledger, "x");
    ledger.store.set_broken(true);
    assert!(now(ledger.record(&key("x"), ticket, record(&["a"]))).is_err());
    ledger.release(&key("x"), ticket, Reason::Store);
    ledger.store.set_broken(false);
    let (other, _) = mine(&ledger, "other");
    let other_key = key("other");
    let mut passing = ledger.record(&other_key, other, record(&["a", "b"]));
    ledger.store.hold(2);
    assert!((&mut passing).now_or_never().is_none());
    ledger.store.let_go();
    assert!((&mut passing).now_or_never().is_none(), "the facts of x are being saved");
    let Ok(Claim::Busy(waiting)) = now(ledger.claim(&key("x"), 7)) else { panic!("not busy") };
    ledger.store.let_go();
    now(passing).expect("saved");
    assert_eq!(now(waiting), Err(Reason::InFlight));
    assert!(ledger.slots.lock().is_empty());
}

#[test]
fn a_record_that_is_dropped_half_way_is_made_up_for() {
    let ledger = Local::new(Fake::default());
    let (ticket, _) = mine(&ledger, "x");
    ledger.store.hold(1);
    let x = key("x");
    let mut half = ledger.record(&x, ticket, record(&["a", "b"]));
    assert!((&mut half).now_or_never().is_none());
    drop(half);
    pass(&ledger);
    assert!(ledger.slots.lock().is_empty());
    assert!(is_closed(&ledger, "x"));
}

#[test]
fn a_try_that_brought_nothing_leaves_nothing() {
    let ledger = Local::new(Fake::default());
    let (ticket, _) = mine(&ledger, "x");
    assert_eq!(now(ledger.record(&key("x"), ticket, record(&[]))), Ok(None));
    ledger.release(&key("x"), ticket, Reason::Unreachable);
    assert_eq!((ledger.ids(), ledger.slots.lock().len()), (0, 0));
}

#[test]
fn a_dead_letter_that_could_not_be_kept_is_no_fact() {
    let ledger = Local::new(Fake::default());
    let (ticket, _) = mine(&ledger, "x");
    ledger.store.set_broken(true);
    let facts = vec![Fact::Dead(target("a"), Reason::TooLarge)];
    assert!(now(ledger.record(&key("x"), ticket, Record { facts, ..record(&[]) })).is_err());
    ledger.release(&key("x"), ticket, Reason::Store);
    ledger.store.set_broken(false);
    assert_eq!(mine(&ledger, "x").1, Known::default());
}

/// The store may have the event although it reported a failure: a second acceptance would publish it twice.
#[test]
fn an_acceptance_that_failed_is_looked_up_before_the_next() {
    let ledger = Local::new(Fake::default());
    let (ticket, _) = mine(&ledger, "x");
    let event = Arc::new(event());
    let accepted = || Arc::new(Accepted::new(Delivered { delivery: delivery(), event: None }, Arc::clone(&event), []));
    let accept = || Record { facts: vec![Fact::Accepted], accepted: Some(accepted()), ..record(&[]) };
    ledger.store.set_broken(true);
    assert!(now(ledger.record(&key("x"), ticket, accept())).is_err());
    ledger.release(&key("x"), ticket, Reason::Store);
    ledger.store.set_broken(false);
    let stored = Stored::Closed { end: End::Stored, body_hash: 7 };
    ledger.store.kept.lock().insert(ledger.id(&key("x")), stored);
    assert!(matches!(now(ledger.claim(&key("x"), 7)), Ok(Claim::Closed { end: End::Stored, .. })));
    let (ticket, _) = mine(&ledger, "y");
    ledger.store.set_broken(true);
    assert!(now(ledger.record(&key("y"), ticket, accept())).is_err());
    ledger.release(&key("y"), ticket, Reason::Store);
    ledger.store.set_broken(false);
    let (ticket, known) = mine(&ledger, "y");
    assert_eq!(known, Known::default(), "it was not stored: it is open");
    assert_eq!(now(ledger.record(&key("y"), ticket, accept())), Ok(Some(End::Stored)));
}

/// A copy is answered, and an event that follows it overtakes one whose task has not gone on.
#[test]
fn a_copy_waits_until_the_record_is_over() {
    let ledger = Local::new(Fake::default());
    let (ticket, _) = mine(&ledger, "y");
    ledger.store.set_broken(true);
    assert!(now(ledger.record(&key("y"), ticket, record(&["a"]))).is_err());
    ledger.store.set_broken(false);
    let (ticket, _) = mine(&ledger, "x");
    let Ok(Claim::Busy(mut copy)) = now(ledger.claim(&key("x"), 7)) else { panic!("not busy") };
    ledger.store.hold(2);
    let x = key("x");
    let mut first = ledger.record(&x, ticket, record(&["a", "b"]));
    assert!((&mut first).now_or_never().is_none(), "it is being saved");
    ledger.store.let_go();
    assert!((&mut first).now_or_never().is_none(), "the facts of y are being saved");
    assert!((&mut copy).now_or_never().is_none());
    ledger.store.let_go();
    assert_eq!(now(first), Ok(Some(End::Delivered)));
    assert_eq!(now(copy), Ok(End::Delivered));
}

/// The end that is stored with an event leads to it.
#[test]
fn a_confirm_that_comes_while_an_event_is_accepted_leaves_its_end() {
    let ledger = Local::new(Fake::default());
    let (stale, _) = mine(&ledger, "x");
    ledger.release(&key("x"), stale, Reason::Timeout);
    let (ticket, _) = mine(&ledger, "x");
    let (x, event) = (key("x"), Arc::new(event()));
    ledger.store.hold(1);
    let accepted = Some(Arc::new(Accepted::new(Delivered { delivery: delivery(), event: None }, event, [])));
    let accept = Record { targets: vec![target("a")], facts: vec![Fact::Accepted], accepted, ..Record::default() };
    let mut accept = ledger.record(&x, ticket, accept);
    assert!((&mut accept).now_or_never().is_none(), "it is being saved");
    let late = Record { targets: vec![target("a")], ..record(&["a"]) };
    let mut late = ledger.record(&x, stale, late);
    assert!((&mut late).now_or_never().is_none(), "it waits for its turn");
    ledger.store.let_go();
    assert_eq!(now(accept), Ok(Some(End::Stored)));
    assert_eq!(now(late), Ok(Some(End::Stored)));
    let kept = ledger.store.kept.lock().get(&ledger.id(&x)).cloned();
    assert!(matches!(kept, Some(Stored::Closed { end: End::Stored, .. })), "{kept:?}");
    assert!(ledger.slots.lock().is_empty());
}

/// The letter is refused, and what else is recorded of the delivery meanwhile is saved: the death must not be in it.
#[test]
fn a_death_is_saved_with_its_letter_or_not_at_all() {
    let ledger = Local::new(Fake::default());
    let (stale, _) = mine(&ledger, "x");
    ledger.release(&key("x"), stale, Reason::Timeout);
    let (ticket, _) = mine(&ledger, "x");
    let x = key("x");
    ledger.store.hold(1);
    let facts = vec![Fact::Dead(target("b"), Reason::TooLarge)];
    let mut letter = ledger.record(&x, ticket, Record { facts, ..record(&[]) });
    assert!((&mut letter).now_or_never().is_none());
    let mut late = ledger.record(&x, stale, record(&["a"]));
    assert!((&mut late).now_or_never().is_none(), "it waits for its turn");
    ledger.store.set_broken(true);
    ledger.store.let_go();
    assert!(now(letter).is_err());
    ledger.store.set_broken(false);
    assert_eq!(now(late), Ok(None));
    ledger.release(&x, ticket, Reason::Store);
    let (_, known) = mine(&ledger, "x");
    assert_eq!((known.confirmed, known.dead.len()), (BTreeSet::from([target("a")]), 0));
}

/// A late confirm is known from the moment it is told of, whatever becomes of its record.
#[test]
fn a_record_that_is_dropped_while_it_looks_up_has_said_what_it_knows() {
    let ledger = Local::new(Fake::default());
    let (stale, _) = mine(&ledger, "x");
    ledger.release(&key("x"), stale, Reason::Timeout);
    ledger.store.hold(1);
    let x = key("x");
    let mut late = ledger.record(&x, stale, record(&["a"]));
    assert!((&mut late).now_or_never().is_none());
    drop(late);
    assert_eq!(mine(&ledger, "x").1.confirmed, BTreeSet::from([target("a")]));
}
