//! Each values file as it is: installed, tested, and used.

use std::process::Command;

use async_nats::jetstream;

use crate::rig::{self, Namespace, inside, values};
use crate::stub::{self, Stub};
use crate::suite::Subject;
use crate::support::brokers::Kind;
use crate::support::sender::body;

const TOPIC: &str = "file.analysis_completed";

/// Installs, runs `helm test`, and posts a delivery through the Service.
async fn install_and_use(namespace: &Namespace, file: &str, extra: &[&str]) {
    let since = tokio::time::Instant::now();
    namespace.install(&values(file), extra);
    println!("{file}: installed and ready in {:.1} s", since.elapsed().as_secs_f64());
    let tested = namespace.helm(&["test", "hb"], &["--logs"]).unwrap_or_else(|out| panic!("{out}"));
    assert!(tested.contains("200 accepted") && tested.contains("200 duplicate"), "{tested}");
    assert_eq!(namespace.post("through-the-service", &body(TOPIC, "f1")).await.word(), "200 accepted");
    assert_eq!(namespace.post("through-the-service", &body(TOPIC, "f1")).await.word(), "200 duplicate");
    let token = namespace.kubectl(&["get", "pod", &namespace.pod().name, "-o", "jsonpath={.spec.volumes[*].name}"]);
    assert!(!token.expect("volumes").contains("kube-api-access"), "the pod has a token");
}

/// The delivery of `install_and_use`, and the one of `helm test`, once each.
fn assert_stored(ids: Vec<String>) {
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert!(ids.contains(&"through-the-service".to_owned()), "{ids:?}");
}

async fn stored_ids<S: Subject>(subject: &S) -> Vec<String> {
    subject.stored("EVENTS", TOPIC).await.iter().map(|stored| stored.id()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn minimal() {
    if !inside() {
        return;
    }
    let (namespace, nats) = (Namespace::new("minimal"), rig::nats());
    namespace.broker("nats", 4222);
    install_and_use(&namespace, "minimal", &[]).await;
    assert_stored(stored_ids(&nats).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_with_tls() {
    if !inside() {
        return;
    }
    let namespace = Namespace::new("nats");
    let nats = rig::with_tls(Kind::Nats, &[("NATS_PORT", "4222")], "max_payload: 16MB\n");
    let ca = nats.export("BROKERS_CA");
    let text = std::fs::read_to_string(ca).expect("the CA");
    let secret = crate::support::program::SECRET;
    namespace.secret("hookbridge", &[("signing-secret", secret), ("nats-password", "s3cret"), ("nats-ca.pem", &text)]);
    namespace.broker("nats", 4222);
    install_and_use(&namespace, "nats", &[]).await;
    let options = async_nats::ConnectOptions::with_user_and_password("hookbridge".into(), "s3cret".into());
    let options = options.add_root_certificates(ca.into());
    let client = options.connect(nats.url()).await.expect("a connection");
    let mut stream = jetstream::new(client).get_stream("EVENTS").await.expect("the stream");
    assert_eq!(stream.info().await.expect("its state").state.messages, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_with_sasl_and_tls() {
    if !inside() {
        return;
    }
    let (namespace, (kafka, ca)) = (Namespace::new("kafka"), rig::kafka());
    let secret = crate::support::program::SECRET;
    namespace.secret("hookbridge", &[("signing-secret", secret), ("kafka-password", "s3cret")]);
    namespace.secret("kafka-cluster-ca-cert", &[("ca.crt", &ca)]);
    namespace.broker("kafka-kafka-bootstrap", 9093);
    install_and_use(&namespace, "kafka", &[]).await;
    assert_stored(stored_ids(&kafka).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq() {
    if !inside() {
        return;
    }
    let (namespace, rabbitmq) = (Namespace::new("rabbitmq"), rig::rabbitmq());
    namespace.secret("rabbitmq-default-user", &[("username", "guest"), ("password", "guest")]);
    namespace.broker("rabbitmq", 5672);
    install_and_use(&namespace, "rabbitmq", &[]).await;
    assert_stored(stored_ids(&rabbitmq).await);
}

/// No ledger on a disk: a Deployment.
#[tokio::test(flavor = "multi_thread")]
async fn memory_store() {
    if !inside() {
        return;
    }
    let (namespace, nats) = (Namespace::new("memory"), rig::nats());
    namespace.broker("nats", 4222);
    install_and_use(&namespace, "minimal", &["--set", "config.store=memory"]).await;
    assert_stored(stored_ids(&nats).await);
}

/// The first step of VideoGen's own guide feeds `secrets.existing`.
#[tokio::test(flavor = "multi_thread")]
async fn a_created_endpoint_is_the_secret_of_the_chart() {
    if !inside() {
        return;
    }
    let (namespace, _nats, stub) = (Namespace::new("endpoint"), rig::nats(), Stub::start().await);
    namespace.kubectl(&["delete", "secret", "hookbridge"]).expect("deleted");
    namespace.broker("nats", 4222);
    let mut create = Command::new(env!("CARGO_BIN_EXE_hookbridge"));
    create.args([
        "endpoints",
        "create",
        "--url",
        "https://hooks.example.com/webhooks/videogen",
        "--api-url",
        &stub.url,
    ]);
    create.args(["--kubernetes-secret", "hookbridge/signing-secret"]).env("VIDEOGEN_API_KEY", stub::KEY);
    let created = tokio::task::spawn_blocking(move || create.output().expect("it runs")).await.expect("no panic");
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    let manifest = String::from_utf8(created.stdout).expect("UTF-8");
    rig::run("kubectl", &["-n", &namespace.name, "apply", "-f", "-"], &manifest).expect("applied");
    namespace.install(&values("minimal"), &[]);
    let tested = namespace.helm(&["test", "hb"], &["--logs"]).unwrap_or_else(|out| panic!("{out}"));
    assert!(tested.contains("200 duplicate"), "{tested}");
    // It is that secret and no other.
    assert_eq!(namespace.post("another-secret", &body(TOPIC, "f1")).await.status, 401);
}
