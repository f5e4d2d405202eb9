//! What every destination does while its broker is killed, restarted or frozen: every confirmed event is stored, and none
//! that ended in `Again` is.

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

/// A publish timeout.
const SHORT: Duration = Duration::from_secs(3);
const PUBLISHERS: usize = 16;
const EVENTS_EACH: usize = 40;
/// The pause between the publishes of one task.
const PACE: Duration = Duration::from_millis(10);

/// Publishes from many tasks, each event until it is confirmed, while `meanwhile` disturbs the broker, and at least until
/// `meanwhile` ends. Then compares the outcomes with what is stored.
async fn under_load<S: Subject>(bench: &Bench<S>, handle: &Handle, meanwhile: impl AsyncFnOnce(&Tally)) {
    let (tally, ended) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let (tally, ended, handle) = (Arc::clone(&tally), Arc::clone(&ended), handle.clone());
            let topic = bench.topic("a");
            tokio::spawn(async move {
                let mut events = 0;
                while events < EVENTS_EACH || !ended.load(Ordering::Relaxed) {
                    let message = message(&topic, event(&format!("msg_{publisher}_{events}")));
                    while !is_confirmed(&handle, &message, &tally).await {
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
    ended.store(true, Ordering::Relaxed);
    let all = tokio::time::timeout(4 * SOON, join_all(publishers)).await.expect("all are confirmed in time");
    let events: usize = all.into_iter().map(|events| events.expect("no panic")).sum();
    handle.close(SOON).await;
    assert_eq!(tally.count(Ending::Confirmed), events);
    tally.check(&bench.stored("a").await, S::DIFFERENCES.dedups);
}

/// Publishes once; returns whether the broker has confirmed.
async fn is_confirmed(handle: &Handle, message: &Message, tally: &Tally) -> bool {
    let outcome = outcome(handle.publish(message.clone())).await;
    tally.note(&message.event.id, &outcome);
    outcome == Outcome::Confirmed
}

async fn confirmed(tally: &Tally, least: usize) {
    until("some confirmed", SOON, async || (tally.count(Ending::Confirmed) >= least).then_some(())).await;
}

/// Without its broker it opens, is not up, and refuses publishes; it is up by itself once the broker starts.
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

/// Killed under load and started again after a while: every event is published.
pub async fn outage_loses_nothing<S: Subject>() {
    let bench = Bench::<S>::own().await;
    let handle = bench.ready_with(&["a"], |opening| opening.publish_timeout = SHORT).await;
    under_load(&bench, &handle, async |tally| {
        confirmed(tally, 50).await;
        bench.subject.kill().await;
        let failed = async || (tally.count(Ending::Again) + tally.count(Ending::Unknown) > 0).then_some(());
        until("a publish failed", SOON, failed).await;
        until("down", SOON, async || (handle.health() != Health::Up).then_some(())).await;
        bench.subject.start_again().await;
    })
    .await;
}

/// Killed and started again at once, several times: the client does not keep outdated state.
pub async fn restarts_lose_nothing<S: Subject>() {
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

/// Frozen for longer than the publish timeout: every publish has an outcome in time, none is confirmed, and none that ended
/// in `Again` is stored afterwards.
pub async fn frozen_broker_times_out<S: Subject>() {
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
    let outcomes = tokio::time::timeout(3 * SHORT, join_all(confirms)).await.expect("outcomes soon after the timeout");
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

/// Frozen for less than the publish timeout: the outcomes arrive after the freeze.
pub async fn short_freeze_is_survived<S: Subject>() {
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
    let outcomes = tokio::time::timeout(2 * SOON, outcomes).await.expect("outcomes after the freeze");
    for (number, outcome) in outcomes.iter().enumerate() {
        tally.note(&format!("msg_{number}"), outcome);
    }
    handle.close(SOON).await;
    tally.check(&bench.stored("a").await, S::DIFFERENCES.dedups);
    assert_eq!(tally.count(Ending::Never), 0);
}
