//! KEDA and the example workers of each broker, by their own manifests: from 0 to 4 and back, and each event once.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use crate::downloads::Stub;
use crate::rig::{self, Namespace, SOON, inside, run};
use crate::support::brokers::{Broker, Kind, With};
use crate::support::sender::{answer, client, now, request};
use crate::support::wait::until;

const TOPIC: &str = "file.analysis_completed";
/// With 50 for each worker, KEDA wants four.
const EVENTS: usize = 200;
const WORKERS: usize = 4;

/// A broker's worker: its manifest, its ScaledObject, and the name of both.
struct Scaled<'a> {
    namespace: &'a Namespace,
    broker: &'static str,
    manifest: String,
}

impl Scaled<'_> {
    fn name(&self) -> String {
        format!("analysis-{}", self.broker)
    }

    /// Creates the Secrets by the commands at the top of the manifest and of the ScaledObject.
    fn create_secrets(&self, given: &[(&str, &str)]) {
        let files = [self.manifest.clone(), format!("deploy/keda/{}.yaml", self.broker)];
        for file in files {
            let text = read(&file);
            let head: Vec<&str> = text.lines().map_while(|line| line.strip_prefix('#')).collect();
            let command = head
                .iter()
                .map(|line| line.trim())
                .find(|line| line.starts_with("kubectl create secret generic") && !line.contains(" videogen "));
            let mut command = command.unwrap_or_else(|| panic!("{file}: no command for its Secret")).to_owned();
            for (placeholder, value) in given {
                command = command.replace(placeholder, value);
            }
            let command = command.replacen("kubectl", &format!("kubectl -n {}", self.namespace.name), 1);
            run("bash", &["-c", &command], "").unwrap_or_else(|out| panic!("{command}: {out}"));
        }
    }

    /// Creates the Deployment as its manifest has it, but without a first worker.
    fn create_workers(&self) {
        let replicas = "  # No `replicas`: an autoscaler sets them.\n";
        let manifest = read(&self.manifest);
        assert!(manifest.contains(replicas));
        self.apply(&manifest.replace(replicas, "  replicas: 0\n"));
    }

    /// Creates the ScaledObject, with shorter waits.
    fn scale(&self) {
        let object = read(&format!("deploy/keda/{}.yaml", self.broker));
        let waits = ["pollingInterval: 5\n", "cooldownPeriod: 60\n"];
        assert!(waits.iter().all(|wait| object.contains(wait)));
        self.apply(&object.replace(waits[0], "pollingInterval: 2\n").replace(waits[1], "cooldownPeriod: 10\n"));
    }

    fn apply(&self, manifest: &str) {
        let apply = ["-n", &self.namespace.name, "apply", "--validate=strict", "-f", "-"];
        let out = run("kubectl", &apply, manifest).unwrap_or_else(|out| panic!("{}: {out}", self.broker));
        println!("{out}");
    }

    /// The replicas that are wanted, and the pods that there are.
    fn replicas(&self) -> (usize, usize) {
        let wanted = self.namespace.kubectl(&["get", "deployment", &self.name(), "-o", "jsonpath={.spec.replicas}"]);
        let label = format!("app.kubernetes.io/name={}", self.name());
        let pods = self.namespace.kubectl(&["get", "pods", "-l", &label, "-o", "name"]);
        (wanted.expect("a Deployment").parse().expect("a number"), pods.expect("pods").lines().count())
    }

    /// Events and the pods that handled them: the workers' own record. Only while no worker has the database open.
    fn results(&self) -> Vec<(String, String)> {
        let volume = ["get", "pvc", &self.name(), "-o", "jsonpath={.spec.volumeName}"];
        let volume = self.namespace.kubectl(&volume).expect("a claim");
        let path = run("kubectl", &["get", "pv", &volume, "-o", "jsonpath={.spec.local.path}"], "").expect("a volume");
        let database = PathBuf::from(path).join("worker.sqlite");
        let database = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE).expect("a database");
        let mut results = database.prepare("SELECT id, worker FROM results").expect("a table");
        let rows = results.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        rows.collect::<Result<_, _>>().expect("a row")
    }

    async fn until_there_is_no_worker(&self) {
        until("no worker", SOON, async || (self.replicas() == (0, 0)).then_some(())).await;
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Brokers under the names in the namespace that `deploy/README.md` gives them.
fn brokers(namespace: &Namespace) -> [Broker; 3] {
    let nats = Broker::start_with(
        Kind::Nats,
        With { conf: "max_payload: 16MB\n", env: &[("NATS_PORT", "4222"), ("NATS_HTTP_PORT", "8222")] },
    );
    let rabbitmq = Broker::start_with(
        Kind::Rabbitmq,
        With { env: &[("RABBITMQ_PORT", "5672"), ("RABBITMQ_MANAGEMENT_PORT", "15672")], ..With::default() },
    );
    // Kafka tells clients where to go, so pods have a listener of their own, at the node's address.
    let conf = "listeners=PLAINTEXT://127.0.0.1:9192,CONTROLLER://127.0.0.1:9095,NODE://10.77.0.1:9092
advertised.listeners=PLAINTEXT://127.0.0.1:9192,NODE://10.77.0.1:9092
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,NODE:PLAINTEXT
";
    let ports = [("KAFKA_PORT", "9192"), ("KAFKA_CONTROLLER_PORT", "9095")];
    let kafka = Broker::start_with(Kind::Kafka, With { conf, env: &ports });
    for port in [4222, 8222, 5672, 15672] {
        rig::expose(port);
    }
    namespace.service("nats", &[4222]);
    namespace.service("nats-headless", &[8222]);
    namespace.service("rabbitmq", &[5672, 15672]);
    namespace.service("kafka-kafka-bootstrap", &[9092]);
    [nats, kafka, rabbitmq]
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_scale_by_their_topic_from_zero_and_back() {
    if !inside() {
        return;
    }
    let namespace = Namespace::new("events");
    let brokers = brokers(&namespace);
    let stub = Stub::start().await;
    let port = stub.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    rig::expose(port);
    let values = json!({"secrets": {"existing": "hookbridge"}, "config": {
        "sources": {"videogen": {"secrets": "${file:/run/secrets/hookbridge/signing-secret}"}},
        "destinations": {"nats": {"url": "nats://nats:4222"}, "kafka": {"url": "kafka://kafka-kafka-bootstrap:9092"},
            "rabbitmq": {"url": "amqp://guest:guest@rabbitmq:5672/%2f"}},
        "routes": [{"match": "**", "to": ["nats", "kafka", "rabbitmq"]}]}});
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    std::fs::write(file.path(), values.to_string()).expect("written");
    namespace.install(file.path().to_str().expect("UTF-8"), &[]);
    let workers = [("nats", "typescript"), ("kafka", "python"), ("rabbitmq", "python")].map(|(broker, language)| {
        let manifest = format!("examples/workers/{language}/{broker}.yaml");
        Scaled { namespace: &namespace, broker, manifest }
    });
    for worker in &workers {
        worker.create_secrets(&[("worker:…", "guest:guest"), ("USER:PASSWORD", "guest:guest")]);
        worker.create_workers();
    }

    let (client, url) = (client(), namespace.url());
    let deliver = async |id: &str, path: &str| {
        let (at, download) = (now(), format!("http://10.77.0.1:{port}{path}"));
        let body = json!({"event": TOPIC, "fileId": id, "occurredAt": at, "file": {"fileId": id, "scope": "GLOBAL",
            "downloadUrl": download, "downloadUrlExpiresAt": at + 3600}});
        let answer = answer(request(&client, &url, id, body.to_string().as_bytes())).await.expect("an answer");
        assert_eq!(answer.word(), "200 accepted");
    };
    for number in 0..EVENTS {
        deliver(&format!("e{number}"), "/work").await;
    }
    // No worker has run yet, so NATS has no consumer for them.
    let nats = async_nats::jetstream::new(async_nats::connect(brokers[0].url()).await.expect("a connection"));
    let stream = nats.get_stream("EVENTS").await.expect("the stream");
    assert!(stream.consumer_info("analysis").await.is_err(), "the consumer exists already");
    let since = tokio::time::Instant::now();
    for worker in &workers {
        assert_eq!(worker.replicas(), (0, 0), "{}", worker.broker);
        worker.scale();
    }
    // Those of NATS and RabbitMQ have an event in hand each, whose download waits. Kafka's first one has all partitions: it
    // gives some of them away when it asks for its next event.
    let in_hand = 2 * WORKERS + 1;
    until("work in every worker", SOON * 2, async || {
        let counts = workers.each_ref().map(Scaled::replicas);
        assert!(counts.iter().all(|(wanted, _)| *wanted <= WORKERS), "more workers than the backlog needs: {counts:?}");
        (counts == [(WORKERS, WORKERS); 3] && stub.waiting() >= in_hand).then_some(())
    })
    .await;
    println!("4 workers of each broker at work {:.0} s after their ScaledObjects", since.elapsed().as_secs_f64());
    stub.open();
    let since = tokio::time::Instant::now();
    for worker in &workers {
        worker.until_there_is_no_worker().await;
        println!("{}: no worker {:.0} s after the work began", worker.broker, since.elapsed().as_secs_f64());
        let results = worker.results();
        let ids: BTreeSet<&str> = results.iter().map(|(id, _)| id.as_str()).collect();
        let pods: BTreeSet<&str> = results.iter().map(|(_, pod)| pod.as_str()).collect();
        assert_eq!((ids.len(), results.len()), (EVENTS, EVENTS), "{}: lost or done twice", worker.broker);
        assert!(pods.len() == WORKERS || worker.broker == "kafka" && pods.len() > 1, "{}: {pods:?}", worker.broker);
    }

    // From 0 once more, for a single event.
    deliver("last", "/work/last").await;
    until("the last work", SOON, async || (stub.requests("/work/last") == 3).then_some(())).await;
    for worker in &workers {
        worker.until_there_is_no_worker().await;
        let results = worker.results();
        assert_eq!(results.len(), EVENTS + 1, "{}", worker.broker);
        assert_eq!(results.last().map(|(id, _)| id.as_str()), Some("last"), "{}", worker.broker);
    }
}
