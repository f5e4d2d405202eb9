//! Producers that reach no broker although the cluster can be reached, and brokers that cannot be reached at the address that
//! they advertise.

use std::sync::Arc;
use std::time::Duration;

use hookbridge::destination::Health;
use hookbridge::message::Outcome;
use hookbridge::reason::{Failure, Reason};
use hookbridge::secret::Secret;
use hookbridge::telemetry::metrics::DestinationLabel;

use crate::proxy::{Proxy, advertising};
use crate::suite::Ending;
use crate::suite::bench::{outcome, publish_all, publish_until_confirmed, up};
use crate::suite::kafka::read;
use crate::suite::tally::Tally;
use crate::support::event::scope;
use crate::support::wait::{SOON, until};
use crate::{assert_order, keyed, open, opening};

/// A single broker that was frozen for some seconds has lost its session: for a moment, its answers name no broker. Then
/// librdkafka drops all brokers and stops its timer for another bootstrap (librdkafka issue 5301).
#[tokio::test(flavor = "multi_thread")]
async fn producer_that_has_dropped_all_brokers_is_replaced() {
    let (proxy, scope) = (Proxy::bind().await, scope());
    let (broker, _, upstream) = advertising(&proxy.address, None);
    proxy.open(&upstream);
    let mut opening = opening(&scope, &proxy.address, &["a"]);
    opening.publish_timeout = Duration::from_secs(60);
    opening.settings.properties.push(("topic.metadata.refresh.interval.ms".into(), Secret::new("1000")));
    let metrics = Arc::clone(&opening.metrics);
    let label = DestinationLabel { destination: opening.settings.name.to_string() };
    let replaced = || metrics.kafka_replaced.get_or_create(&label).get();
    let (handle, topic, tally) = (open(opening), format!("{scope}.a"), Tally::default());
    up(&handle).await;
    let first: Vec<_> = (0..10).map(|number| keyed(&topic, "key", number)).collect();
    for (message, outcome) in first.iter().zip(publish_all(&handle, first.clone()).await) {
        assert_eq!(outcome, Outcome::Confirmed);
        tally.note(&message.event.id, &outcome);
    }

    proxy.hide_brokers(true);
    let mut waiting = Vec::new();
    until("down", SOON, async || {
        let message = keyed(&topic, "key", 10 + waiting.len());
        waiting.push((message.event.id.clone(), handle.publish(message)));
        matches!(handle.health(), Health::Down(_)).then_some(())
    })
    .await;
    proxy.hide_brokers(false);
    // Nothing is wrong with the broker any more.
    up(&crate::open(crate::opening(&scope, &proxy.address, &["b"]))).await;
    for (id, confirm) in waiting {
        let outcome = outcome(confirm).await;
        assert_ne!(Ending::from(&outcome), Ending::Never, "{outcome:?}");
        tally.note(&id, &outcome);
    }
    let last = keyed(&topic, "key", 1_000_000);
    for outcome in publish_until_confirmed(&handle, &last).await {
        tally.note(&last.event.id, &outcome);
    }
    tally.note(&last.event.id, &Outcome::Confirmed);
    up(&handle).await;
    assert_eq!(replaced(), 1);
    handle.close(SOON).await;
    let stored = read(broker.url(), &topic);
    tally.check(&stored, false);
    assert_order(&stored);
}

/// Nothing listens on port 1.
#[tokio::test(flavor = "multi_thread")]
async fn advertised_address_out_of_reach_is_named() {
    let ((broker, _, url), scope) = (advertising("127.0.0.1:1", None), scope());
    let topic = format!("{scope}.a");
    let names_address = |failure: &Failure| {
        failure.reason == Reason::Unreachable
            && failure.detail.contains("127.0.0.1:1")
            && failure.detail.contains("advertised.listeners")
            && failure.detail.contains("Connection refused")
    };
    // Through the first address, the topic is created.
    let reachable = open(opening(&scope, broker.url(), &["a"]));
    up(&reachable).await;
    let handle = open(opening(&scope, &url, &["a"]));
    let failure = handle.ensure().await.expect_err("no leader answers");
    assert!(names_address(&failure), "{failure}");
    let failure = handle.probe().await.expect_err("no leader answers");
    assert!(names_address(&failure), "{failure}");
    let message = keyed(&topic, "key", 0);
    until("the address", SOON, async || {
        let outcome = outcome(handle.publish(message.clone())).await;
        assert!(matches!(outcome, Outcome::Again(_)), "{outcome:?}");
        outcome.failure().filter(|failure| names_address(failure)).map(drop)
    })
    .await;
    assert!(matches!(handle.health(), Health::Starting(Some(_))));
    assert_eq!(outcome(reachable.publish(message)).await, Outcome::Confirmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_out_of_reach_is_reported_and_harms_no_other_topic() {
    let (near, far, scope) = (Proxy::bind().await, Proxy::bind().await, scope());
    let (first, controller, near_upstream) = advertising(&near.address, None);
    let (second, _, far_upstream) = advertising(&far.address, Some(controller));
    near.open(&near_upstream);
    far.open(&far_upstream);
    let [a, b] = ["a", "b"].map(|name| format!("{scope}.{name}"));
    for (topic, broker) in [(&a, "1"), (&b, "2")] {
        first.tool(&["TopicCommand", "--create", "--topic", topic, "--replica-assignment", broker]);
    }
    let mut opening = opening(&scope, &near.address, &["a", "b"]);
    opening.publish_timeout = Duration::from_secs(5);
    let (handle, tally) = (open(opening), Tally::default());
    up(&handle).await;
    let publish = async |topic: &str, number| {
        let message = keyed(topic, topic, number);
        let outcome = outcome(handle.publish(message.clone())).await;
        tally.note(&message.event.id, &outcome);
        outcome
    };
    assert_eq!((publish(&a, 0).await, publish(&b, 0).await), (Outcome::Confirmed, Outcome::Confirmed));

    far.close();
    assert_ne!(publish(&b, 1).await, Outcome::Confirmed);
    until("down", SOON, async || match handle.health() {
        Health::Down(failure) => {
            failure.detail.contains(&format!("topic {b} does not answer at {}", far.address)).then_some(())
        }
        _ => None,
    })
    .await;
    assert_eq!(publish(&a, 1).await, Outcome::Confirmed);
    let failure = handle.probe().await.expect_err("a leader does not answer");
    assert!(failure.detail.contains(&far.address) && !failure.detail.contains(&a), "{failure}");

    far.open(&far_upstream);
    up(&handle).await;
    assert_eq!(publish(&b, 2).await, Outcome::Confirmed);
    handle.close(SOON).await;
    let servers = format!("{},{}", first.url(), second.url());
    tally.check(&[read(&servers, &a), read(&servers, &b)].concat(), false);
}
