//! The stream: made, widened, never narrowed.

use async_nats::Request;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use hookbridge::destination::settings::Topology;
use hookbridge::message::Outcome;
use hookbridge::reason::Reason;
use serde_json::{Value, json};

use crate::rig::{Log, STREAM, again, down, jetstream, open, opening, publish, ready, up};
use crate::support::brokers::{Broker, Kind, With};
use crate::support::wait::{SOON, until};

const HOUR: u64 = 3_600_000_000_000;

/// The settings as the server writes them.
async fn settings(url: &str) -> Value {
    let client = async_nats::connect(url).await.expect("a connection");
    let subject = format!("$JS.API.STREAM.INFO.{STREAM}");
    let answer = client.send_request(subject, Request::new()).await.expect("an answer");
    let mut answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    answer["config"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_stream_is_made_safe() {
    let nats = Broker::start(Kind::Nats);
    let topics = ["file.ready", "file.failed", "by.*", "by.id"];
    let destination = ready(nats.url(), &topics).await;
    let made = settings(nats.url()).await;
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
        assert_eq!(made[key], expected, "{key}");
    }
    assert!(made["max_bytes"].as_u64().is_some_and(|bytes| bytes > 0 && bytes <= 10 << 30));
    assert_eq!(publish(&*destination, "by.anything", "msg_1").await, Outcome::Confirmed);
    let told = destination.probe().await.expect("it is well").join("\n");
    assert!(told.contains("one replica") && !told.contains("discard"), "{told}");
}

/// Less room than the stream would like, and a shorter window: it is made all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_server_gets_a_small_stream() {
    let data = tempfile::tempdir().expect("a directory");
    let conf = format!(
        "jetstream {{ store_dir: \"{}\", max_file_store: 1GB, limits {{ duplicate_window: \"30m\" }} }}\n",
        data.path().display()
    );
    let nats = Broker::start_with(Kind::Nats, With { conf: &conf, ..With::default() });
    let destination = ready(nats.url(), &["a"]).await;
    let made = settings(nats.url()).await;
    assert!(made["max_bytes"].as_u64().is_some_and(|bytes| (512 << 20..=1 << 30).contains(&bytes)), "{made}");
    assert_eq!(made["duplicate_window"], HOUR / 2);
    assert_eq!(publish(&*destination, "a", "msg_1").await, Outcome::Confirmed);
    let told = destination.probe().await.expect("it is well").join("\n");
    assert!(told.contains("duplicate_window is 1800 s"), "{told}");
}

/// A wildcard that covers every topic is enough; nothing of the operator's stream changes, and its weak points are told.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_covers_is_left_alone() {
    let nats = Broker::start(Kind::Nats);
    let config = Config {
        name: STREAM.into(),
        subjects: vec!["file.>".into()],
        storage: StorageType::Memory,
        discard: DiscardPolicy::Old,
        retention: RetentionPolicy::Interest,
        max_messages: 1000,
        max_age: std::time::Duration::from_secs(600),
        ..Config::default()
    };
    jetstream(nats.url()).await.create_stream(config).await.expect("a stream");
    let before = settings(nats.url()).await;
    let destination = ready(nats.url(), &["file.ready", "file.*"]).await;
    assert_eq!(settings(nats.url()).await, before);
    let told = destination.probe().await.expect("it is well").join("\n");
    for word in ["memory", "discard old", "interest", "one replica", "duplicate_window is 120 s", "max_age is 600 s"] {
        assert!(told.contains(word), "{word}: {told}");
    }
}

/// Once, not with each connection; what cannot be helped is not told, and to be closed is no trouble.
#[tokio::test]
async fn weak_points_are_logged() {
    let (log, _guard) = Log::start();
    let nats = Broker::start_with(Kind::Nats, With { conf: "max_payload: 20000\n", ..With::default() });
    let context = jetstream(nats.url()).await;
    let mut config = Config { name: STREAM.into(), subjects: vec!["a".into()], ..Config::default() };
    config.discard = DiscardPolicy::New;
    config.duplicate_window = std::time::Duration::from_nanos(2 * HOUR);
    context.create_stream(config.clone()).await.expect("a stream");
    let destination = ready(nats.url(), &["a"]).await;
    until("told", SOON, async || (log.warnings("max_payload is 20000") == 1).then_some(())).await;
    assert_eq!(log.warnings(""), 1);
    context.update_stream(Config { max_messages_per_subject: 5, ..config }).await.expect("other settings");
    nats.kill();
    down(&*destination).await;
    nats.start_again();
    until("told", SOON, async || (log.warnings("max_msgs_per_subject") == 1).then_some(())).await;
    assert_eq!(log.warnings("max_payload"), 1);
    let before = log.warnings("");
    destination.close(SOON).await;
    assert_eq!(log.warnings(""), before);
}

/// What is missing is added, even where it takes in a subject that was there; all else stays as it was.
#[tokio::test(flavor = "multi_thread")]
async fn missing_subjects_are_added() {
    let nats = Broker::start(Kind::Nats);
    let config = Config {
        name: STREAM.into(),
        subjects: vec!["old".into(), "by.one".into()],
        description: Some("the operator's".into()),
        max_messages: 1000,
        ..Config::default()
    };
    jetstream(nats.url()).await.create_stream(config).await.expect("a stream");
    let mut before = settings(nats.url()).await;
    ready(nats.url(), &["a", "by.*", "old"]).await;
    let mut after = settings(nats.url()).await;
    assert_eq!(after["subjects"].take(), json!(["old", "a", "by.*"]));
    before["subjects"].take();
    assert_eq!(after, before);
}

/// Several replicas start at once, with different routes: in the end the stream takes the topics of all, though the
/// server has no compare-and-set and one may have undone what another did.
#[tokio::test(flavor = "multi_thread")]
async fn several_at_once_agree() {
    let nats = Broker::start(Kind::Nats);
    let topics: Vec<String> = (0..4).map(|number| format!("topic.{number}")).collect();
    let destinations: Vec<_> = topics.iter().map(|topic| open(opening(&[nats.url()], &[topic]))).collect();
    for (destination, topic) in destinations.iter().zip(&topics) {
        let confirmed = async || (publish(&**destination, topic, "msg_1").await == Outcome::Confirmed).then_some(());
        until("confirmed", SOON, confirmed).await;
    }
    for topic in &topics {
        assert!(settings(nats.url()).await["subjects"].as_array().is_some_and(|all| all.contains(&json!(topic))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overlap_names_the_other_stream() {
    let nats = Broker::start(Kind::Nats);
    let context = jetstream(nats.url()).await;
    let other = Config { name: "OTHER".into(), subjects: vec!["file.>".into()], ..Config::default() };
    context.create_stream(other).await.expect("a stream");
    let destination = open(opening(&[nats.url()], &["free", "file.ready"]));
    for failure in [
        down(&*destination).await,
        destination.ensure().await.expect_err("two streams on one subject"),
        destination.probe().await.expect_err("two streams on one subject"),
    ] {
        assert_eq!(failure.reason, Reason::Topology);
        assert!(failure.detail.contains("OTHER") && failure.detail.contains("file.ready"), "{failure}");
    }
    assert_eq!(again(publish(&*destination, "file.ready", "msg_1").await), Reason::Topology);
    // It mends itself when the cause is gone.
    context.delete_stream("OTHER").await.expect("deleted");
    up(&*destination).await;
    assert_eq!(publish(&*destination, "file.ready", "msg_1").await, Outcome::Confirmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_changes_nothing() {
    let nats = Broker::start(Kind::Nats);
    let mut checking = opening(&[nats.url()], &["a", "b"]);
    checking.settings.topology = Topology::Verify;
    let destination = open(checking);
    let failure = destination.ensure().await.expect_err("no stream");
    assert!(failure.detail.contains("does not exist"), "{failure}");
    assert!(destination.probe().await.is_err());
    let config = Config { name: STREAM.into(), subjects: vec!["a".into()], ..Config::default() };
    jetstream(nats.url()).await.create_stream(config).await.expect("a stream");
    let failure = destination.ensure().await.expect_err("a topic is missing");
    assert!(failure.reason == Reason::Topology && failure.detail.ends_with("b"), "{failure}");
    assert!(destination.probe().await.is_err());
    assert_eq!(settings(nats.url()).await["subjects"], json!(["a"]));
    assert_eq!(publish(&*destination, "a", "msg_1").await, Outcome::Confirmed);
    assert_eq!(again(publish(&*destination, "b", "msg_1").await), Reason::Unroutable);
}

/// On which no publish can succeed.
#[tokio::test(flavor = "multi_thread")]
async fn a_useless_stream_is_told() {
    let nats = Broker::start(Kind::Nats);
    let context = jetstream(nats.url()).await;
    let config = Config { name: STREAM.into(), subjects: vec!["a".into()], no_ack: true, ..Config::default() };
    context.create_stream(config.clone()).await.expect("a stream");
    let mut checking = opening(&[nats.url()], &["a"]);
    checking.settings.topology = Topology::Verify;
    for opening in [checking, opening(&[nats.url()], &["a"])] {
        let destination = open(opening);
        for failure in [
            down(&*destination).await,
            destination.ensure().await.expect_err("no answer"),
            destination.probe().await.expect_err("no answer"),
        ] {
            assert!(failure.reason == Reason::Topology && failure.detail.contains("no_ack"), "{failure}");
        }
    }
    context.update_stream(Config { no_ack: false, ..config.clone() }).await.expect("other settings");
    let destination = ready(nats.url(), &["a"]).await;
    context.update_stream(Config { no_ack: false, sealed: true, ..config }).await.expect("other settings");
    let failure = destination.ensure().await.expect_err("it is sealed");
    assert!(failure.reason == Reason::Topology && failure.detail.contains("sealed"), "{failure}");
    assert_eq!(again(publish(&*destination, "a", "msg_1").await), Reason::Topology);
    assert!(down(&*destination).await.detail.contains("sealed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_jetstream_is_told() {
    let nats = Broker::start_with(Kind::Nats, With { conf: "jetstream: false\n", ..With::default() });
    let destination = open(opening(&[nats.url()], &["a"]));
    let failure = down(&*destination).await;
    assert!(failure.reason == Reason::Topology && failure.detail.contains("JetStream"), "{failure}");
    assert_eq!(again(publish(&*destination, "a", "msg_1").await), Reason::Unroutable);
}
