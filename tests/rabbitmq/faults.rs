//! Alarms, frozen links, restarts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// Memory alarm: what was sent waits, what comes is refused at once, and after the alarm both get through.
#[tokio::test(flavor = "multi_thread")]
async fn alarm_that_ends_in_time() {
    let broker = Broker::start(Kind::Rabbitmq);
    let scope = scope();
    let opening = opening(&[broker.url()], &scope, &["a"]);
    let metrics = Arc::clone(&opening.metrics);
    let destination = open(opening);
    up(&*destination).await;
    let topic = format!("{scope}.a");
    alarm(&broker, true);
    // The broker tells only who publishes. What is on its way when it does has no answer yet.
    let waiting = destination.publish(message(&topic, event("msg_waiting")));
    down(&*destination, Reason::Blocked).await;
    let before = Instant::now();
    let refused = publish_all(&*destination, (0..100).map(|id| message(&topic, event(&format!("refused_{id}"))))).await;
    assert_eq!(counts(&refused), [("again blocked".to_owned(), 100)].into());
    assert!(before.elapsed() < Duration::from_secs(5));
    // A new connection finds out before any event is sent.
    let other = open(crate::rig::opening(&[broker.url()], &scope, &[]));
    down(&*other, Reason::Blocked).await;
    assert_eq!(shown(&publish(&*other, message(&topic, event("refused_other"))).await), "again blocked");
    for destination in [&destination, &other] {
        let asked = async { (destination.ensure().await.err(), destination.probe().await.err()) };
        let (ensured, probed) = tokio::time::timeout(SOON, asked).await.expect("it does not wait for the alarm's end");
        for failure in [ensured, probed] {
            assert_eq!(failure.expect("it is blocked").reason, Reason::Blocked);
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

/// Memory alarm that outlasts a publish's life: unknown, the connection is given up, and nothing was told confirmed.
#[tokio::test(flavor = "multi_thread")]
async fn alarm_that_lasts() {
    let broker = Broker::start(Kind::Rabbitmq);
    let scope = scope();
    let mut opening = opening(&[broker.url()], &scope, &["a"]);
    opening.publish_timeout = Duration::from_secs(2);
    let destination = open(opening);
    up(&*destination).await;
    let topic = format!("{scope}.a");
    alarm(&broker, true);
    let sent = publish_all(&*destination, (0..200).map(|id| message(&topic, event(&format!("msg_{id}"))))).await;
    let told = counts(&sent);
    assert_eq!(told.get("confirmed"), None, "{told:?}");
    assert!(
        told.keys()
            .all(|kind| kind.starts_with("again ") || kind == "unknown timeout" || kind == "unknown connection_lost"),
        "{told:?}"
    );
    // Reconnected while the alarm lasts: known at once.
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

/// A link that neither answers nor ends is given up after two heartbeats, also when nothing is published.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_link_is_noticed() {
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

/// Closing does not wait longer than it may, even for a frozen broker; what was sent is told so.
#[tokio::test(flavor = "multi_thread")]
async fn close_in_time() {
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
    let told = counts(&outcomes);
    assert!(told.keys().all(|kind| kind == "unknown connection_lost" || kind.starts_with("again ")), "{told:?}");
    assert!(matches!(destination.health(), Health::Down(failure) if failure.reason == Reason::Closing));
    broker.resume();
}

/// Restarted in order, again and again, under load.
#[tokio::test(flavor = "multi_thread")]
async fn restarts() {
    let rounds = if std::env::var_os("HOOKBRIDGE_LONG").is_some() { 20 } else { 2 };
    let broker = Broker::start(Kind::Rabbitmq);
    let scope = scope();
    let mut opening = opening(&[broker.url()], &scope, &["a"]);
    opening.publish_timeout = Duration::from_secs(10);
    let metrics = Arc::clone(&opening.metrics);
    let destination = open(opening);
    up(&*destination).await;
    let topic = format!("{scope}.a");
    let told = Arc::new(Mutex::new(BTreeMap::<String, Vec<String>>::new()));
    let over = tokio_util::sync::CancellationToken::new();
    let publishers: Vec<_> = (0..8)
        .map(|publisher| {
            let (destination, told, over, topic) =
                (Arc::clone(&destination), Arc::clone(&told), over.clone(), topic.clone());
            tokio::spawn(async move {
                for number in 0.. {
                    let id = format!("msg_{publisher}_{number}");
                    loop {
                        let outcome = shown(&publish(&*destination, message(&topic, event(&id))).await);
                        told.lock().entry(id.clone()).or_default().push(outcome.clone());
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
        let before = told.lock().len();
        until("some progress", 2 * SOON, async || (told.lock().len() > before + 50).then_some(())).await;
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
    for (id, told) in &*told.lock() {
        let perhaps = told.iter().filter(|told| told.starts_with("unknown")).count();
        let copies = stored.get(id).copied().unwrap_or(0);
        assert!((1..=1 + perhaps).contains(&copies), "{id}: stored {copies} times, told {told:?}");
    }
}

/// What waits for its channel when the broker dies was surely not sent, however much of it there is.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_refused_whole() {
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
    let told = counts(&outcomes);
    assert!(told.keys().all(|kind| kind == "unknown connection_lost" || kind == "again unreachable"), "{told:?}");
    // What a channel takes at most is perhaps there.
    assert!(told.get("unknown connection_lost").is_none_or(|lost| *lost <= 1024), "{told:?}");
}
