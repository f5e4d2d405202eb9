//! Bounds of time and memory while the broker is frozen, and the producer's statistics.

use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use futures_util::future::join_all;
use hookbridge::message::Outcome;
use hookbridge::reason::Reason;
use hookbridge::secret::Secret;
use hookbridge::telemetry::metrics::DestinationLabel;

use crate::suite::Ending;
use crate::suite::bench::{outcome, up};
use crate::suite::kafka::read;
use crate::suite::tally::Tally;
use crate::support::brokers::{Broker, Kind};
use crate::support::event::{event, message, scope};
use crate::support::wait::{SOON, until};
use crate::{open, opening, reason};

#[tokio::test(flavor = "multi_thread")]
async fn frozen_broker_delays_no_close_and_takes_only_what_may_be_in_flight() {
    const IN_FLIGHT: usize = 20;
    let (broker, scope) = (Broker::start(Kind::Kafka), scope());
    let mut opening = opening(&scope, broker.url(), &["a"]);
    opening.settings.in_flight = IN_FLIGHT;
    let (handle, topic, tally) = (open(opening), format!("{scope}.a"), Tally::default());
    up(&handle).await;
    let before = outcome(handle.publish(message(&topic, event("msg_before")))).await;
    assert_eq!(before, Outcome::Confirmed);
    tally.note("msg_before", &before);
    broker.pause();
    let ids: Vec<_> = (0..3 * IN_FLIGHT).map(|number| format!("msg_{number}")).collect();
    let confirms: Vec<_> = ids.iter().map(|id| handle.publish(message(&topic, event(id)))).collect();
    let started = Instant::now();
    let (at_most, grace) = (Duration::from_secs(2), Duration::from_secs(2));
    handle.close(at_most).await;
    assert!(started.elapsed() < at_most + grace, "{:?}", started.elapsed());
    let outcomes = tokio::time::timeout(Duration::from_secs(1), join_all(confirms)).await.expect("outcomes at once");
    ids.iter().zip(&outcomes).for_each(|(id, outcome)| tally.note(id, outcome));
    let count = |wanted| outcomes.iter().filter(|outcome| reason(outcome) == Some(wanted)).count();
    assert_eq!((count(Reason::Busy), count(Reason::Closing)), (2 * IN_FLIGHT, IN_FLIGHT), "{outcomes:?}");
    assert_eq!(tally.count(Ending::Confirmed), 1);
    assert_eq!(Ending::from(&outcomes[0]), Ending::Unknown, "the first message was sent");
    broker.resume();
    tally.check(&read(broker.url(), &topic), false);
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_set_metrics() {
    let (broker, scope) = (Broker::shared(Kind::Kafka), scope());
    let mut opening = opening(&scope, broker.url(), &["a"]);
    opening.settings.properties.push(("statistics.interval.ms".into(), Secret::new("1000")));
    let label = DestinationLabel { destination: opening.settings.name.to_string() };
    let metrics = Arc::clone(&opening.metrics);
    let handle = open(opening);
    up(&handle).await;
    assert_eq!(handle.publish(message(&format!("{scope}.a"), event("msg_1"))).await, Outcome::Confirmed);
    until("statistics", SOON, async || {
        let round_trip = metrics.kafka_round_trip.get_or_create(&label).get();
        (metrics.kafka_brokers.get_or_create(&label).get() == 1 && round_trip > 0.0).then_some(())
    })
    .await;
    assert_eq!(metrics.up.get_or_create(&label).get(), 1);
    assert_eq!(metrics.connects.get_or_create(&label).get(), 1);
    handle.close(SOON).await;
    assert_eq!(metrics.up.get_or_create(&label).get(), 0);
}
