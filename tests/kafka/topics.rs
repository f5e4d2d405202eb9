//! Topics: made, found, deleted, colliding, too small.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures_util::future::join_all;
use hookbridge::destination::Health;
use hookbridge::destination::settings::Topology;
use hookbridge::message::Outcome;
use hookbridge::reason::Reason;
use rdkafka::admin::AdminOptions;

use crate::suite::Ending;
use crate::suite::bench::{all, outcome, publish_all, publish_until_confirmed, up};
use crate::suite::kafka::{admin, configure, read, read_partitions};
use crate::support::brokers::{Broker, Kind};
use crate::support::event::{event, event_of, message, scope};
use crate::support::wait::{SOON, until};
use crate::{open, opening, reason};

#[tokio::test(flavor = "multi_thread")]
async fn deleted_under_load_it_is_made_again_with_its_partitions() {
    let (broker, scope) = (Broker::start(Kind::Kafka), scope());
    let mut opening = opening(&scope, broker.url(), &["a"]);
    opening.settings.partitions = 3;
    let (handle, topic) = (open(opening), format!("{scope}.a"));
    up(&handle).await;
    let confirmed = AtomicUsize::new(0);
    let publishers = (0..8).map(async |publisher| {
        for number in 0..100 {
            publish_until_confirmed(&handle, &message(&topic, event(&format!("msg_{publisher}_{number}")))).await;
            confirmed.fetch_add(1, Relaxed);
        }
    });
    let deleter = async {
        until("under way", SOON, async || (confirmed.load(Relaxed) > 100).then_some(())).await;
        let deleted = admin(broker.url()).delete_topics(&[&topic], &AdminOptions::new()).await.expect("an answer");
        assert_eq!(deleted, [Ok(topic.clone())]);
    };
    let all = async { futures_util::join!(join_all(publishers), deleter) };
    tokio::time::timeout(4 * SOON, all).await.expect("in time");
    publish_until_confirmed(&handle, &message(&topic, event("after"))).await;
    until("up", SOON, async || (handle.health() == Health::Up).then_some(())).await;
    let told = handle.probe().await.expect("it is well");
    assert!(told.iter().any(|line| line.starts_with(&format!("topic {topic}: 3 partition(s)"))), "{told:?}");
    handle.close(SOON).await;
    assert!(read(broker.url(), &topic).iter().any(|stored| stored.id() == "after"));
}

/// Those with a key have their partition by it; the others must not all fall on one.
#[tokio::test(flavor = "multi_thread")]
async fn records_without_a_key_are_spread() {
    const EACH: usize = 50;
    let (broker, scope) = (Broker::shared(Kind::Kafka), scope());
    let mut opening = opening(&scope, broker.url(), &["a"]);
    opening.settings.partitions = 4;
    let (handle, topic) = (open(opening), format!("{scope}.a"));
    up(&handle).await;
    let keyless = |number| {
        let mut message = message(&topic, event(&format!("msg_{number}")));
        Arc::get_mut(&mut message.event).expect("not shared").partitionkey = None;
        message
    };
    // One after the other: each in a batch of its own, as at a low rate.
    for number in 0..4 * EACH {
        let told = outcome(handle.publish(keyless(number))).await;
        assert_eq!(told, Outcome::Confirmed);
    }
    let stored = read_partitions(broker.url(), &topic);
    let mut counts = [0; 4];
    for (partition, stored) in &stored {
        assert_eq!(stored.key, None);
        counts[*partition as usize] += 1;
    }
    assert_eq!(counts.iter().sum::<usize>(), 4 * EACH);
    assert!(counts.iter().all(|count| (EACH / 4..2 * EACH).contains(count)), "{counts:?}");
    handle.close(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exists_is_left_as_it_is() {
    let (broker, scope) = (Broker::start(Kind::Kafka), scope());
    let topic = format!("{scope}.a");
    broker.tool(&["TopicCommand", "--create", "--topic", &topic, "--partitions", "5"]);
    let handle = open(opening(&scope, broker.url(), &["a", "b"]));
    up(&handle).await;
    let told = handle.probe().await.expect("it is well");
    let has = |start: &str, word: &str| told.iter().any(|line| line.starts_with(start) && line.contains(word));
    assert!(has("1 broker(s)", ""), "{told:?}");
    assert!(has(&format!("topic {topic}: "), "5 partition(s), 1 replica(s)"), "{told:?}");
    for word in ["one replica", "max.message.bytes", "5 partition(s)"] {
        assert!(has(&format!("warning: topic {topic}: "), word), "{word}: {told:?}");
    }
    let other = format!("{scope}.b");
    assert!(has(&format!("topic {other}: "), "1 partition(s)"), "{told:?}");
    assert!(!has(&format!("warning: topic {other}: "), "max.message.bytes"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_collide_are_reported() {
    let (broker, scope) = (Broker::start(Kind::Kafka), scope());
    let (dotted, underscored) = (format!("{scope}.a"), format!("{scope}_a"));
    broker.tool(&["TopicCommand", "--create", "--topic", &underscored, "--partitions", "1"]);
    let handle = open(opening(&scope, broker.url(), &["a"]));
    let failure = handle.ensure().await.expect_err("it collides");
    assert_eq!(failure.reason, Reason::Topology);
    assert!(failure.detail.contains(&dotted) && failure.detail.contains(&underscored), "{failure}");
    until("down", SOON, async || matches!(handle.health(), Health::Down(_)).then_some(())).await;
    let told = outcome(handle.publish(message(&dotted, event("msg_1")))).await;
    assert_eq!(reason(&told), Some(Reason::Unroutable), "{told:?}");
}

/// The broker would make them, with one partition: nothing here asks it to.
#[tokio::test(flavor = "multi_thread")]
async fn no_topic_is_made_behind_our_back() {
    let (broker, scope) = (Broker::start(Kind::Kafka), scope());
    let mut opening = opening(&scope, broker.url(), &["a"]);
    opening.settings.topology = Topology::Verify;
    let handle = open(opening);
    until("down", SOON, async || matches!(handle.health(), Health::Down(_)).then_some(())).await;
    let messages = ["a", "elsewhere"].map(|topic| message(&format!("{scope}.{topic}"), event("msg_1")));
    let outcomes = publish_all(&handle, messages).await;
    all(&outcomes, Ending::Again);
    assert_eq!(reason(&outcomes[1]), Some(Reason::Unroutable), "{outcomes:?}");
    let topics = broker.tool(&["TopicCommand", "--list"]);
    assert!(!topics.contains(&scope), "{topics}");
}

/// Around a topic's limit: only what is itself too large is `Never`, and a batch that is too large only as a whole harms none
/// of its messages for good.
#[tokio::test(flavor = "multi_thread")]
async fn too_large_alone_and_in_company() {
    let (broker, scope) = (Broker::start(Kind::Kafka), scope());
    let topic = format!("{scope}.a");
    broker.tool(&["TopicCommand", "--create", "--topic", &topic, "--partitions", "1"]);
    configure(broker.url(), &topic, &[("max.message.bytes", "20000")]).await;
    let handle = open(opening(&scope, broker.url(), &["a"]));
    up(&handle).await;
    for (bytes, ending) in [(18_000, Ending::Confirmed), (20_001, Ending::Never), (200_000, Ending::Never)] {
        let told = outcome(handle.publish(message(&topic, event_of("sized", bytes)))).await;
        assert_eq!(Ending::from(&told), ending, "{bytes}: {told:?}");
        assert!(told == Outcome::Confirmed || reason(&told) == Some(Reason::TooLarge));
    }
    // To the byte: the last that is taken, and beside it the first that is not, never anything between.
    let (mut taken, mut refused) = (18_000, 20_001);
    while taken + 1 < refused {
        let bytes = (taken + refused) / 2;
        match outcome(handle.publish(message(&topic, event_of("sized", bytes)))).await {
            Outcome::Confirmed => taken = bytes,
            Outcome::Never(_) => refused = bytes,
            other => panic!("{bytes}: {other:?}"),
        }
    }
    let ids: Vec<_> = (0..40).map(|number| format!("small_{number}")).collect();
    let messages: Vec<_> = ids.iter().map(|id| message(&topic, event_of(id, 5000))).collect();
    let outcomes = publish_all(&handle, messages.iter().cloned()).await;
    assert!(outcomes.iter().any(|told| Ending::from(told) == Ending::Again), "no batch was too large: {outcomes:?}");
    for message in &messages {
        publish_until_confirmed(&handle, message).await;
    }
    let stored = read(broker.url(), &topic);
    assert!(ids.iter().all(|id| stored.iter().any(|stored| stored.id() == *id)));
}
