//! A destination for a test, and the server's own view beside it.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use hookbridge::destination::settings::{BrokerUrl, DestinationSettings};
use hookbridge::destination::{self, Destination, Health, Opening};
use hookbridge::message::Outcome;
use hookbridge::reason::{Failure, Reason};
use hookbridge::secret::Secret;
use hookbridge::telemetry::metrics::{Metrics, OfDestination};
use tempfile::TempDir;

use crate::support::brokers::{Broker, Kind, With};
use crate::support::event::{event, message};
use crate::support::wait::{SOON, until};

pub const STREAM: &str = "EVENTS";

/// What a destination of these addresses and topics is opened with.
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

/// Opens it for these topics and waits until it is up.
pub async fn ready(url: &str, topics: &[&str]) -> Arc<dyn Destination> {
    let destination = open(opening(&[url], topics));
    up(&*destination).await;
    destination
}

pub async fn up(destination: &dyn Destination) {
    until("up", SOON, async || (destination.health() == Health::Up).then_some(())).await;
}

/// Waits until it is down, and gives the cause.
pub async fn down(destination: &dyn Destination) -> Failure {
    until("down", SOON, async || match destination.health() {
        Health::Down(failure) => Some(failure),
        _ => None,
    })
    .await
}

/// The outcome of one publish, which must come before its life is over.
pub async fn publish(destination: &dyn Destination, topic: &str, id: &str) -> Outcome {
    let confirm = destination.publish(message(topic, event(id)));
    tokio::time::timeout(SOON / 2, confirm).await.expect("an outcome at once")
}

/// The reason of an `Again`.
#[track_caller]
pub fn again(outcome: Outcome) -> Reason {
    match outcome {
        Outcome::Again(failure) => failure.reason,
        other => panic!("{other:?}"),
    }
}

/// The server as an administrator sees it.
pub async fn jetstream(url: &str) -> jetstream::Context {
    jetstream::new(async_nats::connect(url).await.expect("a connection"))
}

/// How many messages the stream holds.
pub async fn count(context: &jetstream::Context) -> u64 {
    let mut stream = context.get_stream(STREAM).await.expect("the stream");
    stream.info().await.expect("its state").state.messages
}

/// Metrics `up` and `connects`.
pub fn counted(metrics: &Metrics) -> (i64, u64) {
    let label = OfDestination { destination: "nats".into() };
    (metrics.up.get_or_create(&label).get(), metrics.connects.get_or_create(&label).get())
}

pub const AT_ONCE: Duration = Duration::from_secs(5);

/// A server whose further configuration can be changed while it runs.
pub struct Reloadable {
    pub nats: Broker,
    dir: TempDir,
}

impl Reloadable {
    pub fn start(conf: &str) -> Reloadable {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("more.conf"), conf).expect("written");
        let path = dir.path().display();
        // An include is looked for from the directory of the file that includes.
        let up = "../".repeat(20);
        let conf = format!("pid_file: \"{path}/pid\"\ninclude \"{up}{path}/more.conf\"\n");
        let nats = Broker::start_with(Kind::Nats, With { conf: &conf, ..With::default() });
        Reloadable { nats, dir }
    }

    /// Tells it to read this. Returns before it has.
    pub fn reload(&self, conf: &str) {
        std::fs::write(self.dir.path().join("more.conf"), conf).expect("written");
        let pid = std::fs::read_to_string(self.dir.path().join("pid")).expect("its number");
        let told = std::process::Command::new("kill").args(["-HUP", pid.trim()]).status();
        assert!(told.expect("kill runs").success());
    }
}

/// What is logged on this thread while the guard lives: only of use on a runtime of one thread.
#[derive(Clone, Default)]
pub struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl Log {
    pub fn start() -> (Log, tracing::subscriber::DefaultGuard) {
        let log = Log::default();
        let writer = log.clone();
        let format = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        (log, tracing::subscriber::set_default(format.finish()))
    }

    /// How many lines of warnings hold the words.
    pub fn warnings(&self, words: &str) -> usize {
        let log = String::from_utf8_lossy(&self.0.lock().expect("its lines")).into_owned();
        log.lines().filter(|line| line.contains("WARN") && line.contains(words)).count()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("its lines").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
