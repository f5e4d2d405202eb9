//! Alarms, frozen connections and restarts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use hookbridge::destination::Health;
use hookbridge::message::{Message, Outcome};
use hookbridge::reason::Reason;
use parking_lot::Mutex;

use crate::rig::{Admin, confirmed, connects, counts, down, open, opening, publish, publish_all, shown, up};
use crate::support::brokers::{Broker, Kind};
use crate::support::event::{event, message, scope};
use crate::support::wait::{SOON, until};

fn alarm(broker: &Broker, on: bool) {
    broker.tool(&["set_vm_memory_high_watermark", if on { "0.00000001" } else { "0.9" }]);
}

/// During a memory alarm, a publish that was sent waits, and new ones are refused at once. Both succeed after the alarm.
#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_blocks_publishes_until_it_ends() {
    let broker = Broker::start(Kind::Rabbitmq);
    let scope = scope();
    let opening = opening(&[broker.url()], &scope, &["a"]);
    let metrics = Arc::clone(&opening.metrics);
    let destination = open(opening);
    up(&*destination).await;
    let topic = format!("{scope}.a");
    alarm(&broker, true);
    // The broker reports the alarm only to a connection that publishes, and does not answer that publish.
    let waiting = destination.publish(message(&topic, event("msg_waiting")));
    down(&*destination, Reason::Blocked).await;
    let before = Instant::now();
    let refused = publish_all(&*destination, (0..100).map(|id| message(&topic, event(&format!("refused_{id}"))))).await;
    assert_eq!(counts(&refused), [("again blocked".to_owned(), 100)].into());
    assert!(before.elapsed() < Duration::from_secs(5));
    // A new connection detects the alarm before any event is sent.
    let other = open(crate::rig::opening(&[broker.url()], &scope, &[]));
    down(&*other, Reason::Blocked).await;
    assert_eq!(shown(&publish(&*other, message(&topic, event("refused_other"))).await), "again blocked");
    for destination in [&destination, &other] {
        let asked = async { (destination.ensure().await.err(), destination.probe().await.err()) };
        let (ensured, probed) =
            tokio::time::timeout(SOON, asked).await.expect("neither waits for the end of the alarm");
        for failure in [ensured, probed] {
            assert_eq!(failure.expect("the connection is blocked").reason, Reason::Blocked);
        }
    }
    alarm(&broker, false);
    assert_eq!(waiting.await, Outcome::Confirmed);
    for destination in [&destination, &other] {
        up(&**destination).await;
    }
    confirmed(&*destination, &message(&topic, event("msg_after"))).await;
    assert_eq!(connects(&metrics), 1);
    let stored = Admin::of(&broker).await.ids(&topic).await;
    assert_eq!(stored, [("msg_waiting".to_owned(), 1), ("msg_after".to_owned(), 1)].into());
}

/// A memory alarm outlasts the publish timeout: publishes in flight are unknown, the connection is abandoned, and nothing
/// is confirmed.
#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_longer_than_the_publish_timeout_confirms_nothing() {
    let broker = Broker::start(Kind::Rabbitmq);
    let scope = scope();
    let mut opening = opening(&[broker.url()], &scope, &["a"]);
    opening.publish_timeout = Duration::from_secs(2);
    let destination = open(opening);
    up(&*destination).await;
    let topic = format!("{scope}.a");
    alarm(&broker, true);
    let sent = publish_all(&*destination, (0..200).map(|id| message(&topic, event(&format!("msg_{id}"))))).await;
    let outcomes = counts(&sent);
    assert!(
        outcomes
            .keys()
            .all(|kind| kind.starts_with("again ") || kind == "unknown timeout" || kind == "unknown connection_lost"),
        "{outcomes:?}"
    );
    // The next connection detects the alarm at once.
    down(&*destination, Reason::Blocked).await;
    assert_eq!(shown(&publish(&*destination, message(&topic, event("msg_blocked"))).await), "again blocked");
    alarm(&broker, false);
    confirmed(&*destination, &message(&topic, event("msg_after"))).await;
    let stored = Admin::of(&broker).await.ids(&topic).await;
    for (number, outcome) in sent.iter().enumerate() {
        let copies = stored.get(&format!("msg_{number}")).copied().unwrap_or(0);
        let most = usize::from(matches!(outcome, Outcome::Unknown(_)));
        assert!(copies <= most, "{number}: {outcome:?}, stored {copies} times");
    }
}

/// A connection that neither answers nor ends is abandoned after two heartbeats, even if nothing is published.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_connection_is_detected() {
    let broker = Broker::start(Kind::Rabbitmq);
    let scope = scope();
    let url = format!("{}?heartbeat=1&connection_timeout=2000", broker.url());
    let destination = open(opening(&[&url], &scope, &["a"]));
    up(&*destination).await;
    broker.pause();
    let before = Instant::now();
    down(&*destination, Reason::Unreachable).await;
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
    assert_eq!(
        shown(&publish(&*destination, message(&format!("{scope}.a"), event("msg_1"))).await),
        "again unreachable"
    );
    broker.resume();
    confirmed(&*destination, &message(&format!("{scope}.a"), event("msg_2"))).await;
    assert_eq!(Admin::of(&broker).await.ids(&format!("{scope}.a")).await, [("msg_2".to_owned(), 1)].into());
}

/// Closing keeps its time limit, even with a frozen broker. What was sent is unknown.
#[tokio::test(flavor = "multi_thread")]
async fn close_keeps_its_time_limit() {
    let broker = Broker::start(Kind::Rabbitmq);
    let scope = scope();
    let destination = open(opening(&[broker.url()], &scope, &["a"]));
    up(&*destination).await;
    broker.pause();
    let confirms: Vec<_> =
        (0..50).map(|id| destination.publish(message(&format!("{scope}.a"), event(&format!("msg_{id}"))))).collect();
    let before = Instant::now();
    destination.close(Duration::from_secs(2)).await;
    assert!(before.elapsed() < Duration::from_millis(2500), "{:?}", before.elapsed());
    let outcomes = tokio::time::timeout(SOON, futures_util::future::join_all(confirms)).await.expect("outcomes");
    let outcomes = counts(&outcomes);
    assert!(
        outcomes.keys().all(|kind| kind == "unknown connection_lost" || kind.starts_with("again ")),
        "{outcomes:?}"
    );
    assert!(matches!(destination.health(), Health::Down(failure) if failure.reason == Reason::Closing));
    broker.resume();
}

/// The broker is restarted in order several times under load.
#[tokio::test(flavor = "multi_thread")]
async fn restarts_under_load_lose_and_double_nothing() {
    #[expect(clippy::disallowed_methods, reason = "tests/run --all sets it")]
    let rounds = if std::env::var_os("HOOKBRIDGE_LONG").is_some() { 20 } else { 2 };
    let broker = Broker::start(Kind::Rabbitmq);
    let scope = scope();
    let mut opening = opening(&[broker.url()], &scope, &["a"]);
    opening.publish_timeout = Duration::from_secs(10);
    let metrics = Arc::clone(&opening.metrics);
    let destination = open(opening);
    up(&*destination).await;
    let topic = format!("{scope}.a");
    let outcomes = Arc::new(Mutex::new(BTreeMap::<String, Vec<String>>::new()));
    let over = tokio_util::sync::CancellationToken::new();
    let publishers: Vec<_> = (0..8)
        .map(|publisher| {
            let (destination, outcomes, over, topic) =
                (Arc::clone(&destination), Arc::clone(&outcomes), over.clone(), topic.clone());
            tokio::spawn(async move {
                for number in 0.. {
                    let id = format!("msg_{publisher}_{number}");
                    loop {
                        let outcome = shown(&publish(&*destination, message(&topic, event(&id))).await);
                        outcomes.lock().entry(id.clone()).or_default().push(outcome.clone());
                        if outcome == "confirmed" {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    if over.is_cancelled() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
        })
        .collect();
    for round in 1..=rounds {
        let before = outcomes.lock().len();
        until("some progress", 2 * SOON, async || (outcomes.lock().len() > before + 50).then_some(())).await;
        broker.restart();
        until("connected again", 2 * SOON, async || (connects(&metrics) > round).then_some(())).await;
    }
    up(&*destination).await;
    over.cancel();
    for publisher in publishers {
        tokio::time::timeout(4 * SOON, publisher).await.expect("in time").expect("a publisher ends");
    }
    destination.close(SOON).await;
    let stored = Admin::of(&broker).await.ids(&topic).await;
    for (id, outcomes) in &*outcomes.lock() {
        let unknown = outcomes.iter().filter(|outcome| outcome.starts_with("unknown")).count();
        let copies = stored.get(id).copied().unwrap_or(0);
        assert!((1..=1 + unknown).contains(&copies), "{id}: stored {copies} times, outcomes {outcomes:?}");
    }
}

/// Publishes that wait for their channel when the broker dies were surely not sent, however many there are.
#[tokio::test(flavor = "multi_thread")]
async fn queued_publishes_are_refused_when_the_broker_dies() {
    let broker = Broker::start(Kind::Rabbitmq);
    let scope = scope();
    let destination = open(opening(&[broker.url()], &scope, &["a"]));
    up(&*destination).await;
    broker.pause();
    let topic = format!("{scope}.a");
    let one = |number: usize| Message { key: Some("one".into()), ..message(&topic, event(&format!("msg_{number}"))) };
    let confirms: Vec<_> = (0..3000).map(|number| destination.publish(one(number))).collect();
    broker.kill();
    let outcomes = tokio::time::timeout(2 * SOON, futures_util::future::join_all(confirms)).await.expect("outcomes");
    let outcomes = counts(&outcomes);
    assert!(
        outcomes.keys().all(|kind| kind == "unknown connection_lost" || kind == "again unreachable"),
        "{outcomes:?}"
    );
    // The broker may have what was in flight on the channel: at most 1024 publishes.
    assert!(outcomes.get("unknown connection_lost").is_none_or(|lost| *lost <= 1024), "{outcomes:?}");
}
