//! Topics: created, existing, deleted, colliding, too small.

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
async fn topic_deleted_under_load_is_created_again_with_its_partitions() {
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
    let lines = handle.probe().await.expect("no problem");
    assert!(lines.iter().any(|line| line.starts_with(&format!("topic {topic}: 3 partition(s)"))), "{lines:?}");
    handle.close(SOON).await;
    assert!(read(broker.url(), &topic).iter().any(|stored| stored.id() == "after"));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_without_a_key_use_all_partitions() {
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
    // One at a time, so that each has its own batch, as at a low rate.
    for number in 0..4 * EACH {
        assert_eq!(outcome(handle.publish(keyless(number))).await, Outcome::Confirmed);
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
async fn existing_topics_are_not_changed() {
    let (broker, scope) = (Broker::start(Kind::Kafka), scope());
    let topic = format!("{scope}.a");
    broker.tool(&["TopicCommand", "--create", "--topic", &topic, "--partitions", "5"]);
    let handle = open(opening(&scope, broker.url(), &["a", "b"]));
    up(&handle).await;
    let lines = handle.probe().await.expect("no problem");
    let has = |start: &str, word: &str| lines.iter().any(|line| line.starts_with(start) && line.contains(word));
    assert!(has("1 broker(s)", ""), "{lines:?}");
    assert!(has(&format!("topic {topic}: "), "5 partition(s), 1 replica(s)"), "{lines:?}");
    for word in ["one replica", "max.message.bytes", "5 partition(s)"] {
        assert!(has(&format!("warning: topic {topic}: "), word), "{word}: {lines:?}");
    }
    let other = format!("{scope}.b");
    assert!(has(&format!("topic {other}: "), "1 partition(s)"), "{lines:?}");
    assert!(!has(&format!("warning: topic {other}: "), "max.message.bytes"), "{lines:?}");
}

/// Such topics confirm events and throw some of them away.
#[tokio::test(flavor = "multi_thread")]
async fn topics_that_throw_events_away_are_reported() {
    let (broker, scope) = (Broker::start(Kind::Kafka), scope());
    let topic = |name: &str| format!("{scope}.{name}");
    for (name, setting) in
        [("a", "cleanup.policy=compact"), ("b", "retention.ms=60000"), ("c", "retention.bytes=100000")]
    {
        let config = ["--partitions", "1", "--config", setting];
        broker.tool(&[&["TopicCommand", "--create", "--topic", &topic(name)], &config[..]].concat());
    }
    for topology in [Topology::Ensure, Topology::Verify] {
        let mut opening = opening(&scope, broker.url(), &["a", "b", "c"]);
        opening.settings.topology = topology;
        let handle = open(opening);
        up(&handle).await;
        let lines = handle.probe().await.expect("no problem");
        for (name, warning) in [
            ("a", "only the last event of each key is kept"),
            ("b", "retention.ms is 60000: "),
            ("c", "retention.bytes is 100000: "),
        ] {
            let start = format!("warning: topic {}: ", topic(name));
            let warned = lines.iter().any(|line| line.starts_with(&start) && line.contains(warning));
            assert!(warned, "{warning}: {lines:?}");
        }
        handle.close(SOON).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn colliding_name_is_reported_and_harms_no_other_topic() {
    let (broker, scope) = (Broker::start(Kind::Kafka), scope());
    let (dotted, underscored) = (format!("{scope}.a"), format!("{scope}_a"));
    broker.tool(&["TopicCommand", "--create", "--topic", &underscored, "--partitions", "1"]);
    let handle = open(opening(&scope, broker.url(), &["a", "b"]));
    let failure = handle.ensure().await.expect_err("it collides");
    assert_eq!(failure.reason, Reason::Topology);
    assert!(failure.detail.contains(&dotted) && failure.detail.contains(&underscored), "{failure}");
    until("down", SOON, async || matches!(handle.health(), Health::Down(_)).then_some(())).await;
    let refused = outcome(handle.publish(message(&dotted, event("msg_1")))).await;
    assert_eq!(reason(&refused), Some(Reason::Unroutable), "{refused:?}");
    // The other topic is created and takes events.
    let taken = outcome(handle.publish(message(&format!("{scope}.b"), event("msg_1")))).await;
    assert_eq!(taken, Outcome::Confirmed);
    assert!(matches!(handle.health(), Health::Down(failure) if failure.detail.contains(&dotted)));
}

/// The broker's default is to create topics that a client asks about.
#[tokio::test(flavor = "multi_thread")]
async fn verify_creates_no_topic() {
    let (broker, scope) = (Broker::start(Kind::Kafka), scope());
    let mut opening = opening(&scope, broker.url(), &["a"]);
    opening.settings.topology = Topology::Verify;
    let handle = open(opening);
    until("down", SOON, async || matches!(handle.health(), Health::Down(_)).then_some(())).await;
    for failure in [handle.ensure().await.expect_err("missing"), handle.probe().await.expect_err("missing")] {
        assert_eq!(failure.reason, Reason::Topology);
        assert!(failure.detail.contains(&format!("missing topics: {scope}.a")), "{failure}");
    }
    let messages = ["a", "elsewhere"].map(|topic| message(&format!("{scope}.{topic}"), event("msg_1")));
    let outcomes = publish_all(&handle, messages).await;
    all(&outcomes, Ending::Again);
    assert_eq!(reason(&outcomes[1]), Some(Reason::Unroutable), "{outcomes:?}");
    let topics = broker.tool(&["TopicCommand", "--list"]);
    assert!(!topics.contains(&scope), "{topics}");
}

/// Only a message that is itself larger than the topic's limit is `Never`. Messages of a batch that is too large as a whole
/// can be published later.
#[tokio::test(flavor = "multi_thread")]
async fn only_messages_above_the_limit_are_never() {
    let (broker, scope) = (Broker::start(Kind::Kafka), scope());
    let topic = format!("{scope}.a");
    broker.tool(&["TopicCommand", "--create", "--topic", &topic, "--partitions", "1"]);
    configure(broker.url(), &topic, &[("max.message.bytes", "20000")]).await;
    let handle = open(opening(&scope, broker.url(), &["a"]));
    up(&handle).await;
    for (bytes, ending) in [(18_000, Ending::Confirmed), (20_001, Ending::Never), (200_000, Ending::Never)] {
        let result = outcome(handle.publish(message(&topic, event_of("sized", bytes)))).await;
        assert_eq!(Ending::from(&result), ending, "{bytes}: {result:?}");
        assert!(result == Outcome::Confirmed || reason(&result) == Some(Reason::TooLarge));
    }
    // The largest body that is confirmed is one byte smaller than the smallest that is `Never`.
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
    assert!(
        outcomes.iter().any(|outcome| Ending::from(outcome) == Ending::Again),
        "no batch was too large: {outcomes:?}"
    );
    for message in &messages {
        publish_until_confirmed(&handle, message).await;
    }
    let stored = read(broker.url(), &topic);
    assert!(ids.iter().all(|id| stored.iter().any(|stored| stored.id() == *id)));
}
