//! Fatal errors, after which the producer is replaced, and reports that librdkafka only infers. Both come from librdkafka's
//! mock cluster.

use futures_util::future::join_all;
use hookbridge::destination::Health;
use hookbridge::destination::settings::Topology;
use hookbridge::message::Outcome;
use hookbridge::reason::Reason;
use hookbridge::secret::Secret;
use hookbridge::telemetry::metrics::DestinationLabel;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::suite::Ending;
use crate::suite::bench::{outcome, publish_all, publish_until_confirmed, up};
use crate::suite::kafka::read;
use crate::suite::tally::Tally;
use crate::support::event::{event, message, scope};
use crate::support::wait::{SOON, until};
use crate::{assert_order, keyed, open, opening, reason};

#[tokio::test(flavor = "multi_thread")]
async fn fatal_errors_lose_no_event_and_keep_the_order() {
    const ROUNDS: usize = 3;
    let (mock, scope) = (MockCluster::new(3).expect("a mock cluster"), scope());
    let topic = format!("{scope}.a");
    mock.create_topic(&topic, 4, 1).expect("a topic");
    let mut opening = opening(&scope, &mock.bootstrap_servers(), &["a"]);
    opening.settings.topology = Topology::Verify;
    let metrics = std::sync::Arc::clone(&opening.metrics);
    let label = DestinationLabel { destination: opening.settings.name.to_string() };
    let handle = open(opening);
    up(&handle).await;
    let replaced = || metrics.kafka_replaced.get_or_create(&label).get() as usize;
    let tally = Tally::default();
    for round in 1..=ROUNDS {
        // A sequence number out of order: the producer no longer knows what is stored.
        mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
        let keys: Vec<_> = (0..8).map(|key| format!("round{round}key{key}")).collect();
        // Each event of a key is published until it is confirmed, then the next, as a courier does.
        let publishers = keys.iter().map(async |key| {
            for number in 0..50 {
                let message = keyed(&topic, key, number);
                for outcome in publish_until_confirmed(&handle, &message).await {
                    tally.note(&message.event.id, &outcome);
                }
                tally.note(&message.event.id, &Outcome::Confirmed);
            }
        });
        join_all(publishers).await;
        until("replaced", SOON, async || (replaced() >= round).then_some(())).await;
    }
    assert_eq!(replaced(), ROUNDS);
    assert!(tally.count(Ending::Unknown) > 0, "the event that raised the error may be stored");
    assert_eq!(tally.count(Ending::Never), 0);
    until("up", SOON, async || (handle.health() == Health::Up).then_some(())).await;
    handle.close(SOON).await;
    let stored = read(&mock.bootstrap_servers(), &topic);
    tally.check(&stored, false);
    assert_order(&stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn fatal_error_under_load_gives_every_publish_a_true_outcome() {
    let (mock, scope) = (MockCluster::new(1).expect("a mock cluster"), scope());
    let topic = format!("{scope}.a");
    mock.create_topic(&topic, 1, 1).expect("a topic");
    let mut opening = opening(&scope, &mock.bootstrap_servers(), &["a"]);
    opening.settings.topology = Topology::Verify;
    let handle = open(opening);
    up(&handle).await;
    assert_eq!(outcome(handle.publish(message(&topic, event("first")))).await, Outcome::Confirmed);
    mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
    let (tally, ids) = (Tally::default(), (0..2000).map(|number| format!("key_{number}")).collect::<Vec<_>>());
    tally.note("first", &Outcome::Confirmed);
    let outcomes = publish_all(&handle, ids.iter().map(|id| message(&topic, event(id)))).await;
    ids.iter().zip(&outcomes).for_each(|(id, outcome)| tally.note(id, outcome));
    assert!(tally.count(Ending::Unknown) > 0);
    let last = message(&topic, event("last"));
    for outcome in publish_until_confirmed(&handle, &last).await {
        tally.note("last", &outcome);
    }
    tally.note("last", &Outcome::Confirmed);
    handle.close(SOON).await;
    tally.check(&read(&mock.bootstrap_servers(), &topic), false);
}

/// A new leader refuses one batch and takes the next, which was already sent. librdkafka then reports both as stored.
#[tokio::test(flavor = "multi_thread")]
async fn inferred_reports_are_not_confirmed() {
    let (mock, scope) = (MockCluster::new(1).expect("a mock cluster"), scope());
    let topic = format!("{scope}.a");
    mock.create_topic(&topic, 1, 1).expect("a topic");
    let mut opening = opening(&scope, &mock.bootstrap_servers(), &["a"]);
    opening.settings.topology = Topology::Verify;
    // A batch per event, so that several batches are in flight.
    opening.settings.properties.push(("batch.num.messages".into(), Secret::new("1")));
    let handle = open(opening);
    up(&handle).await;
    mock.broker_round_trip_time(1, std::time::Duration::from_millis(100)).expect("a slow broker");
    mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION]);
    let tally = Tally::default();
    let messages: Vec<_> = (0..20).map(|number| keyed(&topic, "key", number)).collect();
    for (message, outcome) in messages.iter().zip(publish_all(&handle, messages.clone()).await) {
        tally.note(&message.event.id, &outcome);
    }
    assert!(tally.count(Ending::Unknown) > 0, "no batch was refused before another one");
    handle.close(SOON).await;
    tally.check(&read(&mock.bootstrap_servers(), &topic), false);
}

/// The mock cluster does not answer requests to create topics.
#[tokio::test(flavor = "multi_thread")]
async fn existing_topics_are_usable_while_others_are_created() {
    let (mock, scope) = (MockCluster::new(1).expect("a mock cluster"), scope());
    mock.create_topic(&format!("{scope}.a"), 1, 1).expect("a topic");
    let handle = open(opening(&scope, &mock.bootstrap_servers(), &["a", "b"]));
    publish_until_confirmed(&handle, &message(&format!("{scope}.a"), event("msg_1"))).await;
    assert_eq!(handle.health(), Health::Starting(None), "the first check is not over");
    let outcome = outcome(handle.publish(message(&format!("{scope}.b"), event("msg_1")))).await;
    assert_eq!((Ending::from(&outcome), reason(&outcome)), (Ending::Again, Some(Reason::Unroutable)));
    handle.close(SOON).await;
}

/// The broker may have stored the first attempt before it closed the connection, whatever it answers to the second.
#[tokio::test(flavor = "multi_thread")]
async fn refusal_after_a_lost_connection_is_unknown() {
    let (mock, scope) = (MockCluster::new(3).expect("a mock cluster"), scope());
    let topic = format!("{scope}.a");
    // The other brokers stay connected, so only one connection is lost.
    mock.create_topic(&topic, 1, 1).expect("a topic");
    let mut opening = opening(&scope, &mock.bootstrap_servers(), &["a"]);
    opening.settings.topology = Topology::Verify;
    let handle = open(opening);
    up(&handle).await;
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT, refused]);
    let outcome = outcome(handle.publish(message(&topic, event("msg_1")))).await;
    assert_eq!((Ending::from(&outcome), reason(&outcome)), (Ending::Unknown, Some(Reason::NotAuthorized)));
}
