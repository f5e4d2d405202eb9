//! A destination for a test, and an administrator's view of the server.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::stream::Config;
use hookbridge::destination::settings::{BrokerUrl, DestinationSettings};
use hookbridge::destination::{self, Destination, Health, Opening};
use hookbridge::message::Outcome;
use hookbridge::reason::{Failure, Reason};
use hookbridge::secret::Secret;
use hookbridge::telemetry::metrics::{DestinationLabel, Metrics};
use tempfile::TempDir;

use crate::support::brokers::{Broker, Kind, With};
use crate::support::event::{event, message};
use crate::support::wait::{SOON, until};

pub const STREAM: &str = "EVENTS";

/// The parameters of a destination with these addresses and topics.
pub fn opening(urls: &[&str], topics: &[&str]) -> Opening {
    let settings = DestinationSettings {
        stream: STREAM.into(),
        ..DestinationSettings::new("nats", BrokerUrl::Nats(urls.iter().map(|url| Secret::new(*url)).collect()))
    };
    Opening {
        settings,
        topics: topics.iter().map(ToString::to_string).collect(),
        publish_timeout: SOON,
        body_limit: 8 << 20,
        metrics: Arc::new(Metrics::default()),
    }
}

pub fn open(opening: Opening) -> Arc<dyn Destination> {
    destination::open(opening).expect("settings that can be opened")
}

/// Opens a destination and waits until it is up.
pub async fn ready(url: &str, topics: &[&str]) -> Arc<dyn Destination> {
    let destination = open(opening(&[url], topics));
    up(&*destination).await;
    destination
}

pub async fn up(destination: &dyn Destination) {
    until("up", SOON, async || (destination.health() == Health::Up).then_some(())).await;
}

/// Waits until the destination is down. Returns the cause.
pub async fn down(destination: &dyn Destination) -> Failure {
    until("down", SOON, async || match destination.health() {
        Health::Down(failure) => Some(failure),
        _ => None,
    })
    .await
}

/// The outcome of one publish, which must arrive before the publish times out.
pub async fn publish(destination: &dyn Destination, topic: &str, id: &str) -> Outcome {
    let confirm = destination.publish(message(topic, event(id)));
    tokio::time::timeout(SOON / 2, confirm).await.expect("an outcome in time")
}

/// The word and the reason of an outcome that must not be a confirm.
#[track_caller]
pub fn unconfirmed(outcome: Outcome) -> (&'static str, Reason) {
    (outcome.word(), outcome.failure().expect("no confirm").reason)
}

/// The reason of an outcome that must be `Again`.
#[track_caller]
pub fn again(outcome: Outcome) -> Reason {
    let (word, reason) = unconfirmed(outcome);
    assert_eq!(word, "again", "{reason}");
    reason
}

/// JetStream, with a client of the test.
pub async fn jetstream(url: &str) -> jetstream::Context {
    jetstream::new(async_nats::connect(url).await.expect("a connection"))
}

/// The configuration of a stream with the destination's name and these subjects.
pub fn config(subjects: &[&str]) -> Config {
    let subjects = subjects.iter().map(ToString::to_string).collect();
    Config { name: STREAM.into(), subjects, ..Config::default() }
}

/// Creates a stream before the destination does. Returns the test's client.
pub async fn create_stream(url: &str, config: Config) -> jetstream::Context {
    let context = jetstream(url).await;
    context.create_stream(config).await.expect("a stream");
    context
}

/// The number of messages in the stream.
pub async fn count(context: &jetstream::Context) -> u64 {
    let mut stream = context.get_stream(STREAM).await.expect("the stream");
    stream.info().await.expect("its state").state.messages
}

/// The metrics `up` and `connects`.
pub fn counted(metrics: &Metrics) -> (i64, u64) {
    let label = DestinationLabel { destination: "nats".into() };
    (metrics.up.get_or_create(&label).get(), metrics.connects.get_or_create(&label).get())
}

/// The limit for what must not wait for a timeout.
pub const AT_ONCE: Duration = Duration::from_secs(5);

/// A server that reloads a part of its configuration.
pub struct Reloadable {
    pub nats: Broker,
    dir: TempDir,
}

impl Reloadable {
    pub fn start(conf: &str) -> Reloadable {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("more.conf"), conf).expect("written");
        let path = dir.path().display();
        // The path of an include is relative to the directory of the including file.
        let root = "../".repeat(20);
        let conf = format!("pid_file: \"{path}/pid\"\ninclude \"{root}{path}/more.conf\"\n");
        let nats = Broker::start_with(Kind::Nats, With { conf: &conf, ..With::default() });
        Reloadable { nats, dir }
    }

    /// Sends the signal to load this configuration. Returns before the server has loaded it.
    pub fn reload(&self, conf: &str) {
        std::fs::write(self.dir.path().join("more.conf"), conf).expect("written");
        let pid = std::fs::read_to_string(self.dir.path().join("pid")).expect("a process id");
        let status = std::process::Command::new("kill").args(["-HUP", pid.trim()]).status();
        assert!(status.expect("kill runs").success());
    }
}

/// The log of this thread while the guard lives. Needs a runtime of one thread.
#[derive(Clone, Default)]
pub struct Log(Arc<parking_lot::Mutex<Vec<u8>>>);

impl Log {
    pub fn start() -> (Log, tracing::subscriber::DefaultGuard) {
        // With a single subscriber, tracing asks only the thread that reaches a log line first whether the line is wanted,
        // and that may be the thread of another test, which has none.
        static SECOND: OnceLock<tracing::Dispatch> = OnceLock::new();
        SECOND.get_or_init(|| tracing::Dispatch::new(tracing_subscriber::registry()));
        let log = Log::default();
        let writer = log.clone();
        let format = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        (log, tracing::subscriber::set_default(format.finish()))
    }

    /// The number of warnings that contain the text.
    pub fn warnings(&self, text: &str) -> usize {
        let log = String::from_utf8_lossy(&self.0.lock()).into_owned();
        log.lines().filter(|line| line.contains("WARN") && line.contains(text)).count()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
