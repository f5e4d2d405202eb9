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

/// The confirm comes from a publish that was in flight when the id was forgotten.
#[test]
fn a_late_confirm_does_not_bring_back_what_was_forgotten() {
    let ledger = Local::new(Fake::default());
    let (x, (stale, _)) = (key("x"), mine(&ledger, "x"));
    now(ledger.record(&x, stale, record(&["a"]))).expect("saved");
    ledger.release(&x, stale, Reason::Timeout);
    ledger.store.hold(2);
    let mut forget = ledger.forget(&x);
    assert!((&mut forget).now_or_never().is_none());
    let mut late = ledger.record(&x, stale, record(&["b"]));
    assert!((&mut late).now_or_never().is_none());
    ledger.store.hold(0);
    ledger.store.let_go();
    assert_eq!(now(forget), Ok(Forgotten::Done));
    assert_eq!(now(late), Ok(None));
    let (_, known) = mine(&ledger, "x");
    assert_eq!(known.confirmed, BTreeSet::from([target("b")]), "only the late confirm is known");
}

/// A dead letter from before the id was forgotten: its target had no legal name then.
#[test]
fn a_delivered_event_withdraws_the_letters_of_its_destinations() {
    let ledger = Local::new(Fake::default());
    let (ticket, _) = mine(&ledger, "x");
    now(ledger.record(&key("x"), ticket, record(&["a"]))).expect("saved");
    assert!(ledger.store.withdrawn.lock().is_empty(), "`b` is open");
    now(ledger.record(&key("x"), ticket, record(&["b"]))).expect("saved");
    let expected = BTreeSet::from([target("a"), target("b"), Target::unnamed("stream"), Target::whole()]);
    assert_eq!(*ledger.store.withdrawn.lock(), expected);
}

/// As a replay records it: the routes lead to one topic now, and the dead letter without a topic is still of use.
#[test]
fn a_confirm_after_the_end_leaves_the_letters_of_other_topics() {
    let ledger = Local::new(Fake::default());
    let (ticket, _) = mine(&ledger, "x");
    let targets = vec![target("a"), Target::unnamed("stream")];
    let facts = targets.iter().map(|target| Fact::Dead(target.clone(), Reason::Unrouted)).collect();
    let end = now(ledger.record(&key("x"), ticket, Record { targets, facts, ..record(&[]) }));
    assert_eq!(end, Ok(Some(End::DeadLettered)));
    ledger.store.withdrawn.lock().clear();
    let late = Record { targets: vec![target("a")], ..record(&["a"]) };
    now(ledger.record(&key("x"), ticket, late)).expect("saved");
    assert_eq!(*ledger.store.withdrawn.lock(), BTreeSet::from([target("a"), Target::whole()]));
}
