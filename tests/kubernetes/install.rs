//! Each values file as it is: installed, tested, and used.

use async_nats::jetstream;

use crate::rig::{self, Namespace, inside, values};
use crate::suite::Subject;
use crate::support::brokers::Kind;
use crate::support::sender::body;

const TOPIC: &str = "file.analysis_completed";

/// Installs, runs `helm test`, and posts a delivery through the Service.
async fn install_and_use(namespace: &Namespace, file: &str, extra: &[&str]) {
    let since = std::time::Instant::now();
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
