//! A fatal error ends a producer for good, and not the destination; a success that is only inferred is none. On librdkafka's mock
//! cluster, which can raise both.

use futures_util::future::join_all;
use hookbridge::destination::Health;
use hookbridge::destination::settings::Topology;
use hookbridge::message::Outcome;
use hookbridge::reason::Reason;
use hookbridge::secret::Secret;
use hookbridge::telemetry::metrics::OfDestination;
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
async fn a_fatal_error_costs_no_event() {
    const ROUNDS: usize = 3;
    let (mock, scope) = (MockCluster::new(3).expect("a mock cluster"), scope());
    let topic = format!("{scope}.a");
    mock.create_topic(&topic, 4, 1).expect("a topic");
    let mut opening = opening(&scope, &mock.bootstrap_servers(), &["a"]);
    opening.settings.topology = Topology::Verify;
    let metrics = std::sync::Arc::clone(&opening.metrics);
    let label = OfDestination { destination: opening.settings.name.to_string() };
    let handle = open(opening);
    up(&handle).await;
    let replaced = || metrics.kafka_replaced.get_or_create(&label).get() as usize;
    let tally = Tally::default();
    for round in 1..=ROUNDS {
        // Sequence numbers out of order at the head of the line: the producer cannot know any more what is stored.
        mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
        let keys: Vec<_> = (0..8).map(|key| format!("round{round}key{key}")).collect();
        // Each key's events one after the other, each until it is confirmed, as a courier drives them.
        let publishers = keys.iter().map(async |key| {
            for number in 0..50 {
                let message = keyed(&topic, key, number);
                for told in publish_until_confirmed(&handle, &message).await {
                    tally.note(&message.event.id, &told);
                }
                tally.note(&message.event.id, &Outcome::Confirmed);
            }
        });
        join_all(publishers).await;
        until("replaced", SOON, async || (replaced() >= round).then_some(())).await;
    }
    assert_eq!(replaced(), ROUNDS);
    assert!(tally.count(Ending::Unknown) > 0, "the one that raised it may be stored");
    assert_eq!(tally.count(Ending::Never), 0);
    until("up", SOON, async || (handle.health() == Health::Up).then_some(())).await;
    handle.close(SOON).await;
    let stored = read(&mock.bootstrap_servers(), &topic);
    tally.check(&stored, false);
    assert_order(&stored);
}

/// Many on their way at once when it happens: each has an outcome, none is lost, and what is told is true.
#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_error_under_load_leaves_no_publish_without_outcome() {
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
    ids.iter().zip(&outcomes).for_each(|(id, told)| tally.note(id, told));
    assert!(tally.count(Ending::Unknown) > 0);
    let last = message(&topic, event("last"));
    for told in publish_until_confirmed(&handle, &last).await {
        tally.note("last", &told);
    }
    tally.note("last", &Outcome::Confirmed);
    handle.close(SOON).await;
    tally.check(&read(&mock.bootstrap_servers(), &topic), false);
}

/// A broker that leads a partition since a moment ago refuses one batch and takes the next, which was on its way. librdkafka
/// then reports both as stored.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_inferred_is_not_confirmed() {
    let (mock, scope) = (MockCluster::new(1).expect("a mock cluster"), scope());
    let topic = format!("{scope}.a");
    mock.create_topic(&topic, 1, 1).expect("a topic");
    let mut opening = opening(&scope, &mock.bootstrap_servers(), &["a"]);
    opening.settings.topology = Topology::Verify;
    // A batch for each event, so that several are on their way.
    opening.settings.properties.push(("batch.num.messages".into(), Secret::new("1")));
    let handle = open(opening);
    up(&handle).await;
    mock.broker_round_trip_time(1, std::time::Duration::from_millis(100)).expect("a slow broker");
    mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION]);
    let tally = Tally::default();
    let messages: Vec<_> = (0..20).map(|number| keyed(&topic, "key", number)).collect();
    for (message, told) in messages.iter().zip(publish_all(&handle, messages.clone()).await) {
        tally.note(&message.event.id, &told);
    }
    assert!(tally.count(Ending::Unknown) > 0, "none was refused with another behind it");
    handle.close(SOON).await;
    tally.check(&read(&mock.bootstrap_servers(), &topic), false);
}

/// Topics that cannot be made (the mock cluster answers no such request) hold up none that exists.
#[tokio::test(flavor = "multi_thread")]
async fn what_exists_is_usable_while_the_rest_is_being_made() {
    let (mock, scope) = (MockCluster::new(1).expect("a mock cluster"), scope());
    mock.create_topic(&format!("{scope}.a"), 1, 1).expect("a topic");
    let handle = open(opening(&scope, &mock.bootstrap_servers(), &["a", "b"]));
    publish_until_confirmed(&handle, &message(&format!("{scope}.a"), event("msg_1"))).await;
    assert_eq!(handle.health(), Health::Starting, "the first look is not over");
    let told = outcome(handle.publish(message(&format!("{scope}.b"), event("msg_1")))).await;
    assert_eq!((Ending::from(&told), reason(&told)), (Ending::Again, Some(Reason::Unroutable)));
    handle.close(SOON).await;
}

/// The broker may have stored the first attempt before it closed the connection, whatever it answers to the second.
#[tokio::test(flavor = "multi_thread")]
async fn refused_after_its_connection_was_closed_it_is_perhaps_stored() {
    let (mock, scope) = (MockCluster::new(3).expect("a mock cluster"), scope());
    let topic = format!("{scope}.a");
    // Others stay connected: no more is lost than one connection.
    mock.create_topic(&topic, 1, 1).expect("a topic");
    let mut opening = opening(&scope, &mock.bootstrap_servers(), &["a"]);
    opening.settings.topology = Topology::Verify;
    let handle = open(opening);
    up(&handle).await;
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT, refused]);
    let told = outcome(handle.publish(message(&topic, event("msg_1")))).await;
    assert_eq!((Ending::from(&told), reason(&told)), (Ending::Unknown, Some(Reason::NotAuthorized)));
}
