//! The stream is created or extended, and never reduced.

use async_nats::Request;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use hookbridge::destination::Health;
use hookbridge::destination::settings::Topology;
use hookbridge::message::Outcome;
use hookbridge::reason::Reason;
use serde_json::{Value, json};

use crate::rig::{Log, STREAM, again, config, count, create_stream, down, open, opening, publish, ready, up};
use crate::support::brokers::{Broker, Kind, With};
use crate::support::wait::{SOON, until};

const HOUR: u64 = 3_600_000_000_000;

/// The stream's configuration as the server's JSON.
async fn config_of(url: &str) -> Value {
    let client = async_nats::connect(url).await.expect("a connection");
    let subject = format!("$JS.API.STREAM.INFO.{STREAM}");
    let answer = client.send_request(subject, Request::new()).await.expect("an answer");
    let mut answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    answer["config"].take()
}

/// Adds a consumer to the stream.
async fn consume(context: &async_nats::jetstream::Context) {
    let durable = pull::Config { durable_name: Some("worker".into()), ..pull::Config::default() };
    context.create_consumer_on_stream(durable, STREAM).await.expect("a consumer");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_stream_is_created_with_safe_settings() {
    let nats = Broker::start(Kind::Nats);
    let topics = ["file.ready", "file.failed", "by.*", "by.id"];
    let destination = ready(nats.url(), &topics).await;
    let created = config_of(nats.url()).await;
    for (key, expected) in [
        ("subjects", json!(["file.ready", "file.failed", "by.*"])),
        ("storage", "file".into()),
        ("retention", "limits".into()),
        ("discard", "new".into()),
        ("max_age", (7 * 24 * HOUR).into()),
        ("duplicate_window", (2 * HOUR).into()),
        ("num_replicas", 1.into()),
        ("max_msgs", (-1).into()),
    ] {
        assert_eq!(created[key], expected, "{key}");
    }
    assert!(created["max_bytes"].as_u64().is_some_and(|bytes| bytes > 0 && bytes <= 10 << 30));
    assert_eq!(publish(&*destination, "by.anything", "msg_1").await, Outcome::Confirmed);
    let report = destination.probe().await.expect("a report").join("\n");
    assert!(report.contains("one replica") && !report.contains("discard"), "{report}");
}

/// The server has less room than recommended and allows a shorter duplicate window.
#[tokio::test(flavor = "multi_thread")]
async fn small_server_gets_a_small_stream() {
    let data = tempfile::tempdir().expect("a directory");
    let conf = format!(
        "jetstream {{ store_dir: \"{}\", max_file_store: 1GB, limits {{ duplicate_window: \"30m\" }} }}\n",
        data.path().display()
    );
    let nats = Broker::start_with(Kind::Nats, With { conf: &conf, ..With::default() });
    let destination = ready(nats.url(), &["a"]).await;
    let created = config_of(nats.url()).await;
    assert!(created["max_bytes"].as_u64().is_some_and(|bytes| (512 << 20..=1 << 30).contains(&bytes)), "{created}");
    assert_eq!(created["duplicate_window"], HOUR / 2);
    assert_eq!(publish(&*destination, "a", "msg_1").await, Outcome::Confirmed);
    let report = destination.probe().await.expect("a report").join("\n");
    assert!(report.contains("duplicate_window is 1800 s"), "{report}");
}

/// A wildcard that covers every topic is enough. The report contains the stream's weaknesses.
#[tokio::test(flavor = "multi_thread")]
async fn stream_that_takes_every_topic_is_not_changed() {
    let nats = Broker::start(Kind::Nats);
    let config = Config {
        storage: StorageType::Memory,
        discard: DiscardPolicy::Old,
        retention: RetentionPolicy::Interest,
        max_messages: 1000,
        max_age: std::time::Duration::from_secs(600),
        ..config(&["file.>"])
    };
    let context = create_stream(nats.url(), config).await;
    consume(&context).await;
    let before = config_of(nats.url()).await;
    let destination = ready(nats.url(), &["file.ready", "file.*"]).await;
    assert_eq!(config_of(nats.url()).await, before);
    let report = destination.probe().await.expect("a report").join("\n");
    for word in ["memory", "discard old", "interest", "one replica", "duplicate_window is 120 s", "max_age is 600 s"] {
        assert!(report.contains(word), "{word}: {report}");
    }
}

/// Each weakness is logged once, not on each connection. A single server gets no warning about replicas, and `close`
/// logs no warning.
#[tokio::test]
async fn weaknesses_are_logged_once() {
    let (log, _guard) = Log::start();
    let nats = Broker::start_with(Kind::Nats, With { conf: "max_payload: 20000\n", ..With::default() });
    let duplicate_window = std::time::Duration::from_nanos(2 * HOUR);
    let config = Config { discard: DiscardPolicy::New, duplicate_window, ..config(&["a"]) };
    let context = create_stream(nats.url(), config.clone()).await;
    let destination = ready(nats.url(), &["a"]).await;
    until("a warning", SOON, async || (log.warnings("max_payload is 20000") == 1).then_some(())).await;
    assert_eq!(log.warnings(""), 1);
    context.update_stream(Config { max_messages_per_subject: 5, ..config }).await.expect("updated");
    nats.kill();
    down(&*destination).await;
    nats.start_again();
    until("a warning", SOON, async || (log.warnings("max_msgs_per_subject") == 1).then_some(())).await;
    assert_eq!(log.warnings("max_payload"), 1);
    let shown = destination.warnings();
    assert!(shown.len() == 2 && shown[1].contains("keeps its last 5 events"), "{shown:?}");
    let before = log.warnings("");
    destination.close(SOON).await;
    assert_eq!(log.warnings(""), before);
}

/// A new wildcard replaces the subjects that it covers. All other settings stay unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn missing_subjects_are_added() {
    let nats = Broker::start(Kind::Nats);
    let description = Some("the operator's".into());
    create_stream(nats.url(), Config { description, max_messages: 1000, ..config(&["old", "by.one"]) }).await;
    let mut before = config_of(nats.url()).await;
    ready(nats.url(), &["a", "by.*", "old"]).await;
    let mut after = config_of(nats.url()).await;
    assert_eq!(after["subjects"].take(), json!(["old", "a", "by.*"]));
    before["subjects"].take();
    assert_eq!(after, before);
}

/// The server has no compare-and-set, so a replica may remove the subjects that another one added.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_with_different_topics_extend_the_same_stream() {
    let nats = Broker::start(Kind::Nats);
    let topics: Vec<String> = (0..4).map(|number| format!("topic.{number}")).collect();
    let destinations: Vec<_> = topics.iter().map(|topic| open(opening(&[nats.url()], &[topic]))).collect();
    for (destination, topic) in destinations.iter().zip(&topics) {
        let confirmed = async || (publish(&**destination, topic, "msg_1").await == Outcome::Confirmed).then_some(());
        until("confirmed", SOON, confirmed).await;
    }
    for topic in &topics {
        assert!(config_of(nats.url()).await["subjects"].as_array().is_some_and(|all| all.contains(&json!(topic))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overlap_names_the_other_stream() {
    let nats = Broker::start(Kind::Nats);
    let context = create_stream(nats.url(), Config { name: "OTHER".into(), ..config(&["file.>"]) }).await;
    let destination = open(opening(&[nats.url()], &["free", "file.ready"]));
    for failure in [
        down(&*destination).await,
        destination.ensure().await.expect_err("another stream takes the subject"),
        destination.probe().await.expect_err("another stream takes the subject"),
    ] {
        assert_eq!(failure.reason, Reason::Topology);
        assert!(failure.detail.contains("OTHER") && failure.detail.contains("file.ready"), "{failure}");
    }
    assert_eq!(again(publish(&*destination, "file.ready", "msg_1").await), Reason::Topology);
    // The stream takes the other topic.
    assert_eq!(publish(&*destination, "free", "msg_1").await, Outcome::Confirmed);
    assert_eq!(config_of(nats.url()).await["subjects"], json!(["free"]));
    // The destination recovers when the cause is removed.
    context.delete_stream("OTHER").await.expect("deleted");
    up(&*destination).await;
    assert_eq!(publish(&*destination, "file.ready", "msg_1").await, Outcome::Confirmed);
}

/// A wildcard that overlaps in part does not take its single topics with it.
#[tokio::test(flavor = "multi_thread")]
async fn overlap_stays_alone_in_an_existing_stream() {
    let nats = Broker::start(Kind::Nats);
    let context = create_stream(nats.url(), Config { name: "OTHER".into(), ..config(&["file.mine"]) }).await;
    context.create_stream(config(&["a"])).await.expect("a stream");
    let destination = open(opening(&[nats.url()], &["a", "b", "file.*", "file.ready", "file.mine"]));
    let failure = down(&*destination).await;
    assert!(failure.detail.contains("OTHER already takes file.*; stream OTHER already takes file.mine"), "{failure}");
    assert_eq!(config_of(nats.url()).await["subjects"], json!(["a", "b", "file.ready"]));
    for topic in ["a", "b", "file.ready"] {
        assert_eq!(publish(&*destination, topic, "msg_1").await, Outcome::Confirmed, "{topic}");
    }
    assert_eq!(again(publish(&*destination, "file.mine", "msg_1").await), Reason::Topology);
}

/// With retention interest and no consumer, the server confirms events and stores none.
#[tokio::test(flavor = "multi_thread")]
async fn stream_without_a_consumer_takes_nothing_if_it_needs_one() {
    for topology in [Topology::Ensure, Topology::Verify] {
        let nats = Broker::start(Kind::Nats);
        let interest = Config { retention: RetentionPolicy::Interest, ..config(&["a"]) };
        let context = create_stream(nats.url(), interest).await;
        let mut opening = opening(&[nats.url()], &["a"]);
        opening.settings.topology = topology;
        let destination = open(opening);
        // The first publishes come before the stream was checked.
        until("down", SOON, async || {
            assert_ne!(publish(&*destination, "a", "msg_1").await, Outcome::Confirmed);
            matches!(destination.health(), Health::Down(_)).then_some(())
        })
        .await;
        for failure in [
            down(&*destination).await,
            destination.ensure().await.expect_err("there is no consumer"),
            destination.probe().await.expect_err("there is no consumer"),
        ] {
            assert!(failure.reason == Reason::Topology && failure.detail.contains("no consumer"), "{failure}");
        }
        assert_eq!(again(publish(&*destination, "a", "msg_1").await), Reason::Topology);
        consume(&context).await;
        up(&*destination).await;
        assert_eq!(publish(&*destination, "a", "msg_2").await, Outcome::Confirmed);
        assert_eq!(count(&context).await, 1);
        let report = destination.probe().await.expect("a report").join("\n");
        assert!(report.contains("topic without a consumer"), "{report}");
        context.delete_consumer_from_stream("worker", STREAM).await.expect("deleted");
        assert!(down(&*destination).await.detail.contains("no consumer"));
        assert_eq!(again(publish(&*destination, "a", "msg_3").await), Reason::Topology);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_does_not_change_the_stream() {
    let nats = Broker::start(Kind::Nats);
    let mut checking = opening(&[nats.url()], &["a", "b"]);
    checking.settings.topology = Topology::Verify;
    let destination = open(checking);
    let failure = destination.ensure().await.expect_err("no stream");
    assert!(failure.detail.contains("does not exist"), "{failure}");
    assert!(destination.probe().await.is_err());
    create_stream(nats.url(), config(&["a"])).await;
    let failure = destination.ensure().await.expect_err("a topic is missing");
    assert!(failure.reason == Reason::Topology && failure.detail.contains("does not take b:"), "{failure}");
    assert!(destination.probe().await.is_err());
    assert_eq!(config_of(nats.url()).await["subjects"], json!(["a"]));
    assert_eq!(publish(&*destination, "a", "msg_1").await, Outcome::Confirmed);
    assert_eq!(again(publish(&*destination, "b", "msg_1").await), Reason::Unroutable);
}

/// No publish can succeed on such a stream.
#[tokio::test(flavor = "multi_thread")]
async fn unusable_stream_is_reported() {
    let nats = Broker::start(Kind::Nats);
    let config = Config { no_ack: true, ..config(&["a"]) };
    let context = create_stream(nats.url(), config.clone()).await;
    let mut checking = opening(&[nats.url()], &["a"]);
    checking.settings.topology = Topology::Verify;
    for opening in [checking, opening(&[nats.url()], &["a"])] {
        let destination = open(opening);
        for failure in [
            down(&*destination).await,
            destination.ensure().await.expect_err("the stream confirms nothing"),
            destination.probe().await.expect_err("the stream confirms nothing"),
        ] {
            assert!(failure.reason == Reason::Topology && failure.detail.contains("no_ack"), "{failure}");
        }
    }
    context.update_stream(Config { no_ack: false, ..config.clone() }).await.expect("updated");
    let destination = ready(nats.url(), &["a"]).await;
    context.update_stream(Config { no_ack: false, sealed: true, ..config }).await.expect("updated");
    let failure = destination.ensure().await.expect_err("it is sealed");
    assert!(failure.reason == Reason::Topology && failure.detail.contains("sealed"), "{failure}");
    assert_eq!(again(publish(&*destination, "a", "msg_1").await), Reason::Topology);
    assert!(down(&*destination).await.detail.contains("sealed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_jetstream_is_reported() {
    let nats = Broker::start_with(Kind::Nats, With { conf: "jetstream: false\n", ..With::default() });
    let destination = open(opening(&[nats.url()], &["a"]));
    let failure = down(&*destination).await;
    assert!(failure.reason == Reason::Topology && failure.detail.contains("JetStream"), "{failure}");
    assert_eq!(again(publish(&*destination, "a", "msg_1").await), Reason::Unroutable);
}
