//! The workers in `examples/workers`, as processes behind the real bridge and broker: they share the load, do each event's
//! work once whatever is killed, keep the order where it is promised, renew links, and end with a dead letter.

#[path = "workers/files.rs"]
mod files;
#[path = "workers/stub.rs"]
mod stub;
#[path = "destinations/mod.rs"]
mod suite;
mod support;
#[path = "workers/worker.rs"]
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use stub::{BYTES, Stub};
use suite::Subject;
use suite::place::Place;
use support::command::run;
use support::program::{Program, SECRET};
use support::sender::{now, post};
use support::wait::until;
use worker::{Example, Worker, attempts, results};

const TOPIC: &str = "file.analysis_completed";
/// A broker notices within 45 s that a worker is gone.
const FAILOVER: Duration = Duration::from_secs(150);

/// What differs between brokers.
trait Broker: Subject {
    /// The variable with the address.
    const VARIABLE: &str;
    /// Whether events with the same key are handled in order.
    const ORDERED: bool;
    /// The scope of the dead letters.
    const DEAD: &str;

    /// The number of events in the topic that no worker has acknowledged.
    async fn unacknowledged(&self, address: &str) -> u64;
}

impl Broker for suite::nats::Nats {
    const VARIABLE: &str = "NATS_URL";
    const ORDERED: bool = false;
    const DEAD: &str = "ANALYSIS_DEAD";

    async fn unacknowledged(&self, address: &str) -> u64 {
        let context = async_nats::jetstream::new(async_nats::connect(address).await.expect("a connection"));
        let stream = context.get_stream("EVENTS").await.expect("the stream");
        let info = stream.consumer_info("analysis").await.expect("the consumer of the workers");
        info.num_pending + info.num_ack_pending as u64
    }
}

impl Broker for suite::kafka::Kafka {
    const VARIABLE: &str = "KAFKA_BROKERS";
    const ORDERED: bool = true;
    const DEAD: &str = "";

    async fn unacknowledged(&self, address: &str) -> u64 {
        let servers = address.trim_start_matches("kafka://").to_owned();
        tokio::task::spawn_blocking(move || kafka_lag(&servers)).await.expect("no panic")
    }
}

fn kafka_lag(servers: &str) -> u64 {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
    let mut config = rdkafka::ClientConfig::new();
    let consumer: BaseConsumer =
        config.set("bootstrap.servers", servers).set("group.id", "analysis").create().expect("a consumer");
    let time = Duration::from_secs(30);
    let metadata = consumer.fetch_metadata(Some(TOPIC), time).expect("metadata");
    let mut all = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        all.add_partition(TOPIC, partition.id());
    }
    let committed = consumer.committed_offsets(all, time).expect("offsets");
    let lag = |it: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
        let (low, high) = consumer.fetch_watermarks(TOPIC, it.partition(), time).expect("watermarks");
        let next = if let Offset::Offset(next) = it.offset() { next } else { low };
        u64::try_from(high - next).expect("not ahead")
    };
    committed.elements().iter().map(lag).sum()
}

impl Broker for suite::rabbitmq::Rabbitmq {
    const VARIABLE: &str = "AMQP_URL";
    const ORDERED: bool = false;
    const DEAD: &str = "";

    /// Without a consumer, everything that is not acknowledged is ready.
    async fn unacknowledged(&self, address: &str) -> u64 {
        let connection = lapin::Connection::connect(address, Default::default()).await.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        let passive = lapin::options::QueueDeclareOptions { passive: true, durable: true, ..Default::default() };
        let queue = channel.queue_declare(TOPIC.into(), passive, Default::default()).await.expect("the queue");
        u64::from(queue.message_count())
    }
}

/// A broker, a bridge, a stub of VideoGen, and a database for workers.
struct Rig<B> {
    place: Place<B>,
    bridge: Program,
    stub: Stub,
    database: PathBuf,
    example: Example,
}

impl<B: Broker> Rig<B> {
    async fn new(place: Place<B>, example: Example) -> Self {
        let bridge = place.serve();
        bridge.ready().await;
        let database = place.directory().join("worker.sqlite");
        Rig { place, bridge, stub: Stub::start().await, database, example }
    }

    fn address(&self) -> String {
        self.place.url().trim_start_matches("kafka://").to_owned()
    }

    fn worker(&self, name: &str) -> Worker {
        let address = self.address();
        tokio::task::block_in_place(|| {
            Worker::start(self.example, name, (B::VARIABLE, &address), &self.database, &self.stub)
        })
    }

    /// Delivers an event about a file, whose link is a path of the stub and expires after some seconds.
    async fn deliver(&self, id: &str, file: &str, path: &str, expires: i64) {
        let at = now();
        let (url, expires) = (format!("{}{path}", self.stub.url), at + expires);
        let body = json!({"event": TOPIC, "fileId": file, "occurredAt": at, "file": {
            "fileId": file, "scope": "GLOBAL", "transcriptText": "größe", "downloadUrl": url, "downloadUrlExpiresAt": expires,
        }});
        assert_eq!(post(&self.bridge.url("videogen"), id, &body.to_string()).await.word(), "200 accepted", "{id}");
    }

    async fn until_done(&self, count: usize) -> Vec<worker::Row> {
        until("all work is done", FAILOVER, async || {
            let results = results(&self.database);
            (results.len() >= count).then_some(results)
        })
        .await
    }
}

const FILES: usize = 12;
const EACH: usize = 5;

/// One worker is killed in the middle of its work. Two others take over what it had, and share the rest.
async fn killed_worker_loses_nothing<B: Broker>(place: Place<B>, example: Example) {
    let rig = Rig::new(place, example).await;
    for number in 0..EACH {
        for file in 0..FILES {
            rig.deliver(
                &format!("f{file}_{number}"),
                &format!("vg_file_{file}"),
                &format!("/gate/{file}/{number}"),
                3600,
            )
            .await;
        }
    }
    let mut first = rig.worker("first");
    until("work in the first worker", FAILOVER, async || (rig.stub.waiting() == 1).then_some(())).await;
    first.kill();
    until("the download is gone", FAILOVER, async || (rig.stub.waiting() == 0).then_some(())).await;
    let (second, third) = (rig.worker("second"), rig.worker("third"));
    // Each handles one event at a time.
    until("work in both", FAILOVER, async || (rig.stub.waiting() == 2).then_some(())).await;
    rig.stub.open();

    let results = rig.until_done(FILES * EACH).await;
    let ids: BTreeSet<&str> = results.iter().map(|row| row.0.as_str()).collect();
    assert_eq!((ids.len(), results.len()), (FILES * EACH, FILES * EACH), "work was done twice");
    let names: BTreeSet<&str> = results.iter().map(|row| row.4.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["second", "third"]), "the workers share the load");
    assert!(results.iter().all(|row| row.2.as_deref() == Some("größe") && row.3 == Some(BYTES as i64)), "{results:?}");
    let again: Vec<i64> = ids.iter().map(|id| attempts(&rig.database, id)).filter(|count| *count != 1).collect();
    assert_eq!(again, [2], "only what the killed worker had in hand is attempted again");
    if B::ORDERED {
        let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for row in &results {
            files.entry(&row.1).or_default().push(&row.0);
        }
        for (file, ids) in files {
            assert!(ids.is_sorted(), "{file}: {ids:?}");
        }
    }
    for mut worker in [second, third] {
        worker.term();
        assert!(worker.wait().success(), "{}", worker.output());
    }
    assert_eq!(rig.place.subject.unacknowledged(&rig.place.url()).await, 0, "everything is acknowledged");
    assert_eq!(rig.place.subject.stored(B::DEAD, "analysis.dead").await, []);
}

async fn links_are_renewed_and_failures_end_in_dead_letters<B: Broker>(place: Place<B>, example: Example) {
    let rig = Rig::new(place, example).await;
    let mut worker = rig.worker("only");
    // A sample, from `send`.
    let url = rig.bridge.url("videogen");
    let send = ["send", "--url", &url, "--secret", SECRET, "--event", TOPIC, "--id", "sample"];
    let (code, _, err) = tokio::task::block_in_place(|| run(&send, &[], ""));
    assert_eq!(code, 0, "{err}");
    rig.deliver("expired", "vg_file_old", "/old", -60).await;
    rig.deliver("flaky", "vg_file_flaky", "/flaky", 3600).await;
    rig.deliver("broken", "vg_file_broken", "/broken?signature=secret", 3600).await;
    let nonsense = format!(r#"{{"event":"{TOPIC}","fileId":"vg_file_secret","file":"vg_secret"}}"#);
    assert_eq!(post(&url, "nonsense", &nonsense).await.word(), "200 accepted");

    let results = rig.until_done(3).await;
    let row = |id: &str| results.iter().find(|row| row.0 == id).unwrap_or_else(|| panic!("{id}: {results:?}"));
    assert_eq!((row("sample").2.as_deref(), row("sample").3), (Some("Hello from a sample"), None));
    assert_eq!((row("expired").2.as_deref(), row("expired").3), (Some("renewed"), Some(BYTES as i64)));
    assert_eq!((rig.stub.requests("/old"), rig.stub.requests("/v1/files/vg_file_old/hydrate")), (0, 1));
    assert_eq!((row("flaky").3, attempts(&rig.database, "flaky")), (Some(BYTES as i64), 3));

    let dead = until("both dead letters", FAILOVER, async || {
        let dead = rig.place.subject.stored(B::DEAD, "analysis.dead").await;
        (dead.len() >= 2).then_some(dead)
    })
    .await;
    let letter = |id: &str| dead.iter().find(|stored| stored.attributes.get("id").is_some_and(|it| it == id));
    let (broken, malformed) = (letter("broken").expect("a dead letter"), letter("nonsense").expect("a dead letter"));
    assert_eq!(dead.len(), 2);
    assert_eq!(attempts(&rig.database, "broken"), 3);
    assert_eq!(attempts(&rig.database, "nonsense"), 1, "no further attempt could help");
    assert_eq!(malformed.body, nonsense, "the bytes are unchanged");
    assert_eq!(broken.attributes["type"], format!("io.videogen.{TOPIC}"), "so are the attributes");
    assert!(broken.headers["dead-letter-reason"].contains("500"), "{:?}", broken.headers);
    assert!(malformed.headers["dead-letter-reason"].contains(&format!("not a {TOPIC}")), "{:?}", malformed.headers);

    // The same event once more: from a bridge that does not know it.
    let to = rig.place.url();
    let forgetful = Program::serve(&["--to", &to, "--secret", SECRET, "--store", "memory"]);
    forgetful.ready().await;
    let sample: Value = serde_json::from_str(&hookbridge::samples::sample(TOPIC, 1, now()).body).expect("JSON");
    assert_eq!(post(&forgetful.url("videogen"), "sample", &sample.to_string()).await.word(), "200 accepted");

    // A worker that is asked to end finishes what it has in hand.
    rig.deliver("last", "vg_file_last", "/gate/last", 3600).await;
    until("the last work", FAILOVER, async || (rig.stub.waiting() == 1).then_some(())).await;
    worker.term();
    assert!(tokio::task::block_in_place(|| worker.goes_on()), "{}", worker.output());
    rig.stub.open();
    assert!(tokio::task::block_in_place(|| worker.wait()).success(), "{}", worker.output());
    let results = worker::results(&rig.database);
    let ids: Vec<&str> = results.iter().map(|row| row.0.as_str()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
    assert_eq!((ids.len(), ids.last()), (4, Some(&"last")));
    assert_eq!(rig.place.subject.unacknowledged(&rig.place.url()).await, 0, "dead letters are acknowledged too");
    for secret in ["http", "signature", "secret", stub::KEY] {
        assert!(!worker.output().contains(secret), "{}", worker.output());
        assert!(!broken.headers["dead-letter-reason"].contains(secret), "{:?}", broken.headers);
        assert!(!malformed.headers["dead-letter-reason"].contains(secret), "{:?}", malformed.headers);
    }
}

/// An event that takes each worker with it is not tried for ever. Only where the broker notices at once that a worker is gone.
async fn event_that_kills_workers_becomes_a_dead_letter<B: Broker>(place: Place<B>, example: Example) {
    let rig = Rig::new(place, example).await;
    rig.deliver("deadly", "vg_file_deadly", "/gate/deadly", 3600).await;
    for name in ["first", "second", "third"] {
        let mut worker = rig.worker(name);
        until("work", FAILOVER, async || (rig.stub.waiting() == 1).then_some(())).await;
        worker.kill();
        until("the download is gone", FAILOVER, async || (rig.stub.waiting() == 0).then_some(())).await;
    }
    let worker = rig.worker("fourth");
    worker.printed("dead: deadly: 3 attempts did not end");
    let dead = until("the dead letter", FAILOVER, async || {
        rig.place.subject.stored(B::DEAD, "analysis.dead").await.into_iter().next()
    })
    .await;
    assert_eq!((dead.id().as_str(), rig.stub.waiting()), ("deadly", 0));
}

macro_rules! examples {
    ($($name:ident: $broker:ty, $example:ident;)*) => {
        $(mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn killed_worker_loses_nothing() {
                super::killed_worker_loses_nothing(Place::<$broker>::new().await, Example::$example).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn links_are_renewed_and_failures_end_in_dead_letters() {
                let place = Place::<$broker>::new().await;
                super::links_are_renewed_and_failures_end_in_dead_letters(place, Example::$example).await;
            }
        })*
    };
}

examples! {
    rust_nats: suite::nats::Nats, RustNats;
    typescript_nats: suite::nats::Nats, TypescriptNats;
    python_kafka: suite::kafka::Kafka, PythonKafka;
    python_rabbitmq: suite::rabbitmq::Rabbitmq, PythonRabbitmq;
    typescript_rabbitmq: suite::rabbitmq::Rabbitmq, TypescriptRabbitmq;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_that_kills_python_workers_becomes_a_dead_letter() {
    let place = Place::<suite::rabbitmq::Rabbitmq>::new().await;
    event_that_kills_workers_becomes_a_dead_letter(place, Example::PythonRabbitmq).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_that_kills_typescript_workers_becomes_a_dead_letter() {
    let place = Place::<suite::rabbitmq::Rabbitmq>::new().await;
    event_that_kills_workers_becomes_a_dead_letter(place, Example::TypescriptRabbitmq).await;
}
