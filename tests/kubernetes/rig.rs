//! A namespace with brokers, an installation of the chart, and what happens to it.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::suite::kafka::Kafka;
use crate::suite::nats::Nats;
use crate::suite::rabbitmq::Rabbitmq;
use crate::support::brokers::{Broker, Kind, With};
use crate::support::program::SECRET;
use crate::support::sender::{self, Answer, answer, request};
use crate::support::wait::{eventually, until};

/// The image with the program under test. Its tag is the chart's appVersion.
pub const IMAGE: &str = concat!("hookbridge:", env!("CARGO_PKG_VERSION"));

/// Time limit for what a cluster on a busy machine does at once.
pub const SOON: Duration = Duration::from_secs(120);

const CHART: &str = "deploy/helm/hookbridge";

/// Whether this process is in the cluster's network namespace. Tests elsewhere do nothing: see `kubernetes.rs`.
pub fn inside() -> bool {
    crate::is_set(crate::INSIDE)
}

/// Runs a command with this input. The error is everything that it printed.
pub fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stdout) + &text(&output.stderr)),
    }
}

/// Lets pods reach a port of the loopback inside, at the node's address.
pub fn expose(port: u16) {
    run("tests/kube", &["expose", &port.to_string()], "").expect("exposed");
}

/// A path of the chart's values file.
pub fn values(name: &str) -> String {
    format!("{CHART}/values-{name}.yaml")
}

/// A namespace that enforces Pod Security `restricted`. It is deleted at the end, with all that it contains.
pub struct Namespace {
    /// Its name.
    pub name: String,
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for what in [&["get", "pods,events"][..], &["logs", "--tail=40", "-l", "app.kubernetes.io/name=hookbridge"]]
            {
                eprintln!("{}", self.kubectl(what).unwrap_or_else(|error| error));
            }
        }
        let _ = run("kubectl", &["delete", "namespace", &self.name, "--wait=false"], "");
    }
}

impl Namespace {
    /// A new one with the Secret `hookbridge`.
    pub fn new(name: &str) -> Namespace {
        let label = "pod-security.kubernetes.io/enforce";
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {label: "restricted"}}});
        // One that an earlier run left may still be on its way out.
        eventually(SOON, || run("kubectl", &["create", "-f", "-"], &object.to_string()).is_ok());
        let namespace = Namespace { name: name.into() };
        namespace.secret("hookbridge", &[("signing-secret", SECRET)]);
        namespace
    }

    /// Runs kubectl in it.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        run("kubectl", &[&["-n", &self.name], arguments].concat(), "")
    }

    /// Creates or replaces an object.
    pub fn apply(&self, object: &Value) {
        run(
            "kubectl",
            &["-n", &self.name, "apply", "--server-side", "--force-conflicts", "-f", "-"],
            &object.to_string(),
        )
        .expect("applied");
    }

    /// Creates or replaces a Secret.
    pub fn secret(&self, name: &str, data: &[(&str, &str)]) {
        let data: serde_json::Map<String, Value> =
            data.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        self.apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}));
    }

    /// Gives a broker on the loopback inside a name in this namespace.
    pub fn broker(&self, name: &str, port: u16) {
        expose(port);
        self.service(name, &[port]);
    }

    /// Gives ports of the node's address a name in this namespace: a Service without pods.
    pub fn service(&self, name: &str, ports: &[u16]) {
        let ports: Vec<Value> =
            ports.iter().map(|port| json!({"name": format!("port-{port}"), "port": port})).collect();
        self.apply(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"clusterIP": "None", "ports": ports}}));
        self.apply(&json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "ports": ports, "endpoints": [{"addresses": ["10.77.0.1"]}]}));
    }

    /// Runs a Helm command on the release `hb`.
    pub fn helm(&self, verb: &[&str], arguments: &[&str]) -> Result<String, String> {
        run("helm", &[verb, &["-n", &self.name], arguments].concat(), "")
    }

    /// `helm install --wait`, then the release.
    pub fn install(&self, values: &str, arguments: &[&str]) {
        let fixed = ["-f", values, "--wait", "--timeout", "120s"];
        self.helm(&["install", "hb", CHART], &[&fixed[..], arguments].concat()).unwrap_or_else(|out| panic!("{out}"));
    }

    /// `helm upgrade --wait`.
    pub fn upgrade(&self, values: &str, arguments: &[&str]) -> Result<String, String> {
        let fixed = ["-f", values, "--wait", "--timeout", "120s"];
        self.helm(&["upgrade", "hb", CHART], &[&fixed[..], arguments].concat())
    }

    /// The URL of the source `videogen` through the Service.
    pub fn url(&self) -> String {
        let address =
            self.kubectl(&["get", "service", "hb-hookbridge", "-o", "jsonpath={.spec.clusterIP}"]).expect("a Service");
        format!("http://{address}:8080/webhooks/videogen")
    }

    /// Posts a signed delivery through the Service.
    pub async fn post(&self, id: &str, body: &str) -> Answer {
        answer(request(&sender::client(), &self.url(), id, body.as_bytes())).await.expect("an answer")
    }

    /// The pod of the bridge.
    pub fn pod(&self) -> Pod {
        let bridge = "app.kubernetes.io/component=bridge";
        let listed = self.kubectl(&["get", "pods", "-l", bridge, "-o", "json"]).expect("pods");
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        let pods = listed["items"].as_array().expect("a list");
        assert_eq!(pods.len(), 1, "{listed}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let status = &pods[0]["status"]["containerStatuses"][0];
        Pod {
            name: text(&pods[0]["metadata"]["name"]),
            uid: text(&pods[0]["metadata"]["uid"]),
            address: text(&pods[0]["status"]["podIP"]),
            restarts: status["restartCount"].as_u64().unwrap_or_default(),
            ready: status["ready"] == true,
        }
    }

    /// Waits until there is one pod, and it is ready.
    pub async fn ready_pod(&self, differs_from: Option<&Pod>) -> Pod {
        until("a ready pod", SOON, async || {
            let names =
                self.kubectl(&["get", "pods", "-l", "app.kubernetes.io/component=bridge", "-o", "name"]).ok()?;
            let pod = (names.lines().count() == 1).then(|| self.pod())?;
            let new = differs_from.is_none_or(|old| (&old.uid, old.restarts) != (&pod.uid, pod.restarts));
            (pod.ready && new).then_some(pod)
        })
        .await
    }

    /// The value of a metric, read on the pod's admin port.
    pub async fn metric(&self, name: &str) -> f64 {
        let url = format!("http://{}:9464/metrics", self.pod().address);
        let page = client().get(url).send().await.expect("an answer").text().await.expect("text");
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()).unwrap_or_default()
    }
}

/// The pod of the bridge at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    pub address: String,
    pub restarts: u64,
    pub ready: bool,
}

/// A client that gives up after two seconds: a packet to a pod that is gone is not always refused.
pub fn client() -> reqwest::Client {
    hookbridge::tls::install_provider();
    reqwest::Client::builder().timeout(Duration::from_secs(2)).build().expect("a client")
}

/// NATS on port 4222, as the values files have it.
pub fn nats() -> Nats {
    Nats::Own(Broker::start_with(Kind::Nats, With { conf: "max_payload: 16MB\n", env: &[("NATS_PORT", "4222")] }))
}

/// RabbitMQ on port 5672. Clients of the cluster come from the loopback, so its user `guest` may log in.
pub fn rabbitmq() -> Rabbitmq {
    Rabbitmq::of(Broker::start_with(Kind::Rabbitmq, With { env: &[("RABBITMQ_PORT", "5672")], ..With::default() }))
}

/// A broker with TLS for these names, and the user that the values files have.
pub fn with_tls(kind: Kind, ports: &[(&str, &str)], conf: &str) -> Broker {
    let names = "DNS:nats,DNS:kafka-kafka-bootstrap";
    let tls = [
        ("BROKERS_TLS", "1"),
        ("BROKERS_TLS_NAMES", names),
        ("BROKERS_USER", "hookbridge"),
        ("BROKERS_PASSWORD", "s3cret"),
    ];
    Broker::start_with(kind, With { conf, env: &[&tls[..], ports].concat() })
}

/// Kafka that workers in the cluster reach at `kafka-kafka-bootstrap:9093` by TLS and SASL, and the tests at its plain port.
pub fn kafka() -> (Kafka, String) {
    let conf = "advertised.listeners=PLAINTEXT://127.0.0.1:9092,SECURE://kafka-kafka-bootstrap:9093\n";
    let ports = [("KAFKA_PORT", "9092"), ("KAFKA_TLS_PORT", "9093"), ("KAFKA_CONTROLLER_PORT", "9095")];
    let broker = with_tls(Kind::Kafka, &ports, conf);
    let ca = std::fs::read_to_string(broker.export("BROKERS_CA")).expect("the CA");
    (Kafka::Own(Box::new(broker)), ca)
}
