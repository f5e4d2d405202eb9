//! `deploy/keda/`: the names that KEDA watches are those that the bridge publishes to and that the example workers read.

mod support;

use hookbridge::config::schema;
use serde_json::Value;
use support::command::run;
use support::program::SECRET;

const TOPIC: &str = "file.analysis_completed";

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn documents(path: &str) -> Vec<Value> {
    let text = read(path);
    text.split("\n---\n")
        .map(|part| serde_saphyr::from_str(part).unwrap_or_else(|error| panic!("{path}: {error}")))
        .collect()
}

/// A file of `deploy/keda`: the ScaledObject's spec, its one trigger's type and metadata.
struct Scaling {
    name: String,
    spec: Value,
    kind: String,
    metadata: Value,
}

fn scaling(broker: &str) -> Scaling {
    let documents = documents(&format!("deploy/keda/{broker}.yaml"));
    let [object, authentication] = &documents[..] else { panic!("{broker}: two documents") };
    assert_eq!((&object["kind"], &authentication["kind"]), (&"ScaledObject".into(), &"TriggerAuthentication".into()));
    let triggers = object["spec"]["triggers"].as_array().expect("triggers");
    let [trigger] = &triggers[..] else { panic!("{broker}: one trigger") };
    assert_eq!(trigger["authenticationRef"]["name"], authentication["metadata"]["name"]);
    let metadata = &trigger["metadata"];
    for (key, value) in metadata.as_object().expect("metadata") {
        assert!(value.is_string(), "{broker}: {key}: KEDA takes text only");
    }
    Scaling {
        name: object["metadata"]["name"].as_str().expect("a name").to_owned(),
        spec: object["spec"].clone(),
        kind: trigger["type"].as_str().expect("a type").to_owned(),
        metadata: metadata.clone(),
    }
}

/// The default of a destination's setting.
fn default(setting: &str) -> String {
    let schema = schema();
    let about = schema["definitions"]["destination"]["properties"][setting]["description"].as_str().expect("text");
    let (_, default) = about.split_once("Default: ").expect("a default");
    default.trim_end_matches('.').to_owned()
}

/// The topic that the bridge would publish the event to with this destination.
fn topic_of_the_bridge(url: &str) -> Value {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("hookbridge.yaml");
    std::fs::write(&path, format!("destinations: {{broker: {{url: '{url}'}}}}\n")).expect("written");
    let path = path.to_str().expect("UTF-8");
    let arguments = ["check", "--config", path, "--secret", SECRET, "--event", TOPIC, "--json"];
    let (code, out, err) = run(&arguments, &[], "");
    assert_eq!(code, 0, "{out}{err}");
    let answer: Value = serde_json::from_str(&out).expect("JSON");
    answer["targets"][0]["topic"].clone()
}

/// The Deployment of a worker.
fn deployment(file: &str) -> Value {
    let documents = documents(&format!("examples/workers/{file}"));
    documents.into_iter().find(|document| document["kind"] == "Deployment").expect("a Deployment")
}

/// The cell of a row in the workers' table of names: NATS, Kafka, RabbitMQ.
fn names(row: &str, column: usize) -> String {
    let readme = read("examples/workers/README.md");
    let start = format!("| {row} |");
    let line = readme.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no row {row}"));
    line.split('|').nth(column + 1).expect("a cell").to_owned()
}

fn scales(scaling: &Scaling, manifests: &[&str]) {
    assert_eq!(scaling.spec["scaleTargetRef"]["name"], scaling.name.as_str());
    for manifest in manifests {
        let deployment = deployment(manifest);
        assert_eq!(deployment["metadata"]["name"], scaling.name.as_str(), "{manifest}");
        assert!(deployment["spec"]["replicas"].is_null(), "{manifest}: KEDA sets the replicas");
    }
}

/// KEDA runs in a namespace of its own, and resolves names there.
#[test]
fn addresses_for_keda_name_the_namespace_of_the_broker() {
    for (file, host) in [
        ("deploy/README.md", "nats-headless.events:8222"),
        ("deploy/keda/nats.yaml", "nats-headless.events:8222"),
        ("deploy/keda/rabbitmq.yaml", "@rabbitmq.events:15672/"),
        // KEDA reads this variable of the worker.
        ("examples/workers/python/kafka.yaml", "KAFKA_BROKERS=kafka-kafka-bootstrap.events:9092"),
    ] {
        let text = read(file);
        let commands: Vec<&str> = text.lines().filter(|line| line.contains("kubectl create secret generic")).collect();
        assert!(commands.iter().any(|command| command.contains(host)), "{file}: {commands:?}");
    }
    assert!(read("deploy/README.md").contains("kubectl create namespace events"));
}

#[test]
fn nats_names_are_those_of_bridge_and_worker() {
    let scaling = scaling("nats");
    assert_eq!(scaling.kind, "nats-jetstream");
    assert_eq!(topic_of_the_bridge("nats://127.0.0.1"), TOPIC);
    assert_eq!(scaling.metadata["stream"], default("stream").as_str());
    scales(&scaling, &["rust/nats.yaml", "typescript/nats.yaml"]);
    let consumer = scaling.metadata["consumer"].as_str().expect("a consumer");
    assert!(names("workers of one kind share", 1).contains(&format!("durable pull consumer `{consumer}`")));
    assert!(names("reads", 1).contains(&format!("stream `{}`", default("stream"))));
    assert!(names("Deployment", 1).contains(&scaling.name));
    let worker = read("examples/workers/rust/src/main.rs");
    assert!(worker.contains(&format!("const CONSUMER: &str = \"{consumer}\";")), "the worker's own source");
    assert!(!worker.contains("inactive_threshold"), "the consumer stays while there are no workers");
    let fallback = &scaling.spec["fallback"];
    assert_eq!(fallback["replicas"], 1, "a worker creates the consumer, without which KEDA knows no backlog");
    assert_eq!(fallback["behavior"], "currentReplicasIfHigher", "an outage of the monitoring port ends no workers");
}

#[test]
fn kafka_names_are_those_of_bridge_and_worker() {
    let scaling = scaling("kafka");
    assert_eq!(scaling.kind, "kafka");
    assert_eq!(scaling.metadata["topic"], topic_of_the_bridge("kafka://127.0.0.1:9092"));
    assert_eq!(
        scaling.spec["maxReplicaCount"].to_string(),
        default("partitions"),
        "a worker without a partition has no work"
    );
    scales(&scaling, &["python/kafka.yaml"]);
    let group = scaling.metadata["consumerGroup"].as_str().expect("a group");
    assert!(names("workers of one kind share", 2).contains(&format!("consumer group `{group}`")));
    assert!(names("reads", 2).contains(&format!("topic `{TOPIC}`")));
    assert!(names("Deployment", 2).contains(&scaling.name));
    let worker = read("examples/workers/python/kafka_worker.py");
    assert!(worker.contains(&format!("GROUP, DEAD = \"{group}\"")), "the worker's own source");
    let reset = scaling.metadata["offsetResetPolicy"].as_str().expect("a policy");
    assert!(worker.contains(&format!("\"{reset}\"")), "the worker begins where KEDA thinks it does");
    let variable = scaling.metadata["bootstrapServersFromEnv"].as_str().expect("a variable");
    let environment = &deployment("python/kafka.yaml")["spec"]["template"]["spec"]["containers"][0]["env"];
    let has = |entry: &Value| entry["name"] == variable;
    assert!(environment.as_array().expect("variables").iter().any(has), "{variable}");
}

#[test]
fn rabbitmq_names_are_those_of_bridge_and_worker() {
    let scaling = scaling("rabbitmq");
    assert_eq!(scaling.kind, "rabbitmq");
    assert_eq!(scaling.metadata["queueName"], topic_of_the_bridge("amqp://127.0.0.1"));
    scales(&scaling, &["python/rabbitmq.yaml", "typescript/rabbitmq.yaml"]);
    assert!(names("reads", 3).contains(&format!("queue `{TOPIC}`")));
    assert!(names("Deployment", 3).contains(&scaling.name));
    let source = read("examples/workers/python/work.py");
    assert!(source.contains(&format!("TOPIC = \"{TOPIC}\"")), "the worker's own source");
}
