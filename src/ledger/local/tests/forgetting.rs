//! What operators see and forget, whatever a ledger does at the same time.

use super::*;

#[test]
fn an_id_is_forgotten_only_while_no_task_publishes_it() {
    let ledger = Local::new(Fake::default());
    let x = key("x");
    assert_eq!(now(ledger.forget(&x)), Ok(Forgotten::Unknown));
    let (ticket, _) = mine(&ledger, "x");
    assert_eq!(now(ledger.forget(&x)), Ok(Forgotten::InFlight));
    assert!(now(ledger.look_up(&x)).expect("readable").expect("known").in_flight);
    now(ledger.record(&x, ticket, record(&["a"]))).expect("saved");
    ledger.release(&x, ticket, Reason::Timeout);
    let known = now(ledger.look_up(&x)).expect("readable").expect("known").known;
    assert!(known.confirmed.contains(&target("a")) && known.frozen.is_some());
    // A copy that arrives meanwhile waits, and is published by its next attempt.
    ledger.store.hold(1);
    let mut forget = ledger.forget(&x);
    assert!((&mut forget).now_or_never().is_none());
    let Ok(Claim::Busy(waiting)) = now(ledger.claim(&x, 7)) else { panic!("it is given out") };
    ledger.store.let_go();
    assert_eq!(now(forget), Ok(Forgotten::Done));
    assert_eq!(now(waiting), Err(Reason::InFlight));
    assert!(ledger.slots.lock().is_empty());
    let (_, known) = mine(&ledger, "x");
    assert_eq!(known, Known::default());
}

#[test]
fn what_only_memory_knows_is_shown_and_forgotten() {
    let ledger = Local::new(Fake::default());
    let (x, (ticket, _)) = (key("x"), mine(&ledger, "x"));
    ledger.store.set_broken(true);
    assert!(now(ledger.record(&x, ticket, record(&["a"]))).is_err());
    ledger.release(&x, ticket, Reason::Store);
    assert!(now(ledger.forget(&x)).is_err(), "the store may still have it");
    ledger.store.set_broken(false);
    let known = now(ledger.look_up(&x)).expect("readable").expect("known").known;
    assert!(known.confirmed.contains(&target("a")));
    assert_eq!(now(ledger.forget(&x)), Ok(Forgotten::Done));
    assert!(ledger.slots.lock().is_empty() && now(ledger.look_up(&x)).expect("readable").is_none());
}
