//! What every destination does when its broker is killed, restarted or frozen: nothing that was told confirmed is
//! missing, nothing that was told `Again` is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use hookbridge::destination::{Handle, Health};
use hookbridge::message::{Message, Outcome};

use super::bench::{Bench, all, outcome, publish_all, publish_until_confirmed, up};
use super::tally::Tally;
use super::{Ending, Subject};
use crate::support::event::{event, message};
use crate::support::wait::{SOON, until};

const SHORT: Duration = Duration::from_secs(3);
const PUBLISHERS: usize = 16;
const EVENTS_EACH: usize = 40;
/// Between the tries of one courier.
const PACE: Duration = Duration::from_millis(10);

/// Drives events to their confirm from many tasks at once, as couriers do, while `meanwhile` breaks things: as long as it
/// does, so that no broker is too fast for it.
async fn under_load<S: Subject>(bench: &Bench<S>, handle: &Handle, meanwhile: impl AsyncFnOnce(&Tally)) {
    let (tally, over) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let (tally, over, handle) = (Arc::clone(&tally), Arc::clone(&over), handle.clone());
            let topic = bench.topic("a");
            tokio::spawn(async move {
                let mut events = 0;
                while events < EVENTS_EACH || !over.load(Ordering::Relaxed) {
                    let message = message(&topic, event(&format!("msg_{publisher}_{events}")));
                    while !tried(&handle, &message, &tally).await {
                        tokio::time::sleep(PACE).await;
                    }
                    events += 1;
                    tokio::time::sleep(PACE).await;
                }
                events
            })
        })
        .collect();
    meanwhile(&tally).await;
    over.store(true, Ordering::Relaxed);
    let all = tokio::time::timeout(4 * SOON, join_all(publishers)).await.expect("all are confirmed in time");
    let events: usize = all.into_iter().map(|events| events.expect("a publisher ends")).sum();
    handle.close(SOON).await;
    assert_eq!(tally.count(Ending::Confirmed), events);
    tally.check(&bench.stored("a").await, S::DIFFERENCES.dedups);
}

/// One try; says whether it was confirmed.
async fn tried(handle: &Handle, message: &Message, tally: &Tally) -> bool {
    let told = outcome(handle.publish(message.clone())).await;
    tally.note(&message.event.id, &told);
    told == Outcome::Confirmed
}

async fn confirmed(tally: &Tally, least: usize) {
    until("some confirmed", SOON, async || (tally.count(Ending::Confirmed) >= least).then_some(())).await;
}

/// It opens without its broker, says so, and goes on by itself when that comes.
pub async fn starts_while_down<S: Subject>() {
    let bench = Bench::<S>::own().await;
    bench.subject.kill().await;
    let handle = bench.open(&["a"]);
    let tally = Tally::default();
    let down = publish_all(&handle, (0..5).map(|number| bench.message("a", event(&format!("msg_{number}"))))).await;
    all(&down, Ending::Again);
    (0..5).for_each(|number| tally.note(&format!("msg_{number}"), &down[number]));
    assert_ne!(handle.health(), Health::Up);
    bench.subject.start_again().await;
    up(&handle).await;
    let message = bench.message("a", event("msg_after"));
    for before in publish_until_confirmed(&handle, &message).await {
        tally.note("msg_after", &before);
    }
    tally.note("msg_after", &Outcome::Confirmed);
    tally.check(&bench.stored("a").await, S::DIFFERENCES.dedups);
}

/// Killed under load, away for a while, back: every event gets through.
pub async fn outage_and_return<S: Subject>() {
    let bench = Bench::<S>::own().await;
    let handle = bench.ready_with(&["a"], |opening| opening.publish_timeout = SHORT).await;
    under_load(&bench, &handle, async |tally| {
        confirmed(tally, 50).await;
        bench.subject.kill().await;
        let missed = async || (tally.count(Ending::Again) + tally.count(Ending::Unknown) > 0).then_some(());
        until("the outage noticed", SOON, missed).await;
        until("down", SOON, async || (handle.health() != Health::Up).then_some(())).await;
        bench.subject.start_again().await;
    })
    .await;
}

/// Killed and at once back, several times: no state of the client survives that should not.
pub async fn restart_is_survived<S: Subject>() {
    let bench = Bench::<S>::own().await;
    let handle = bench.ready_with(&["a"], |opening| opening.publish_timeout = SHORT).await;
    under_load(&bench, &handle, async |tally| {
        for _ in 0..3 {
            confirmed(tally, tally.count(Ending::Confirmed) + 60).await;
            bench.subject.kill().await;
            bench.subject.start_again().await;
        }
    })
    .await;
}

/// Frozen for longer than a publish lives: each has an outcome in time, none is told confirmed, and none that was told
/// `Again` is there after the thaw.
pub async fn freeze_times_out<S: Subject>() {
    let bench = Bench::<S>::own().await;
    let handle = bench.ready_with(&["a"], |opening| opening.publish_timeout = SHORT).await;
    let tally = Tally::default();
    let first = outcome(handle.publish(bench.message("a", event("msg_before")))).await;
    tally.note("msg_before", &first);
    if S::DIFFERENCES.can_pause {
        bench.subject.pause().await;
    }
    let confirms: Vec<_> =
        (0..50).map(|number| handle.publish(bench.message("a", event(&format!("msg_{number}"))))).collect();
    let outcomes = tokio::time::timeout(3 * SHORT, join_all(confirms)).await.expect("outcomes soon after their time");
    for (number, outcome) in outcomes.iter().enumerate() {
        tally.note(&format!("msg_{number}"), outcome);
    }
    if S::DIFFERENCES.can_pause {
        assert_eq!(tally.count(Ending::Confirmed), 1, "a frozen broker confirms nothing");
        bench.subject.resume().await;
    }
    let message = bench.message("a", event("msg_after"));
    for before in publish_until_confirmed(&handle, &message).await {
        tally.note("msg_after", &before);
    }
    tally.note("msg_after", &Outcome::Confirmed);
    handle.close(SOON).await;
    tally.check(&bench.stored("a").await, S::DIFFERENCES.dedups);
}

/// Frozen for less than a publish lives: the late outcome comes by itself after the thaw.
pub async fn freeze_ends_in_time<S: Subject>() {
    let bench = Bench::<S>::own().await;
    let handle = bench.ready_with(&["a"], |opening| opening.publish_timeout = 2 * SOON).await;
    let tally = Tally::default();
    if S::DIFFERENCES.can_pause {
        bench.subject.pause().await;
    }
    let confirms = (0..50).map(|number| handle.publish(bench.message("a", event(&format!("msg_{number}")))));
    let mut outcomes = join_all(confirms.collect::<Vec<_>>());
    if S::DIFFERENCES.can_pause {
        let early = tokio::time::timeout(Duration::from_secs(1), &mut outcomes).await;
        assert!(early.is_err(), "a frozen broker confirms nothing");
        bench.subject.resume().await;
    }
    let outcomes = tokio::time::timeout(2 * SOON, outcomes).await.expect("outcomes after the thaw");
    for (number, outcome) in outcomes.iter().enumerate() {
        tally.note(&format!("msg_{number}"), outcome);
    }
    handle.close(SOON).await;
    tally.check(&bench.stored("a").await, S::DIFFERENCES.dedups);
    assert_eq!(tally.count(Ending::Never), 0);
}
