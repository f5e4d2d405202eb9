//! All three brokers over TLS in one process, each of them first once. Two crypto providers are compiled in: a library that
//! relies on rustls to choose one panics at its first connection, unless another library has installed one before.

mod support;

use std::process::Command;

use support::brokers::{Broker, Kind, With};
use support::program::SECRET;

#[tokio::test(flavor = "multi_thread")]
async fn each_broker_can_be_the_first_over_tls() {
    let with = With { env: &[("BROKERS_TLS", "1")], ..With::default() };
    let nats = Broker::start_with(Kind::Nats, with);
    let kafka = Broker::start_with(Kind::Kafka, with);
    let rabbitmq = Broker::start_with(Kind::Rabbitmq, with);
    let (user, password) = (kafka.export("BROKERS_USER"), kafka.export("BROKERS_PASSWORD"));
    let tls = |broker: &Broker| format!("tls: {{ca: '{}'}}", broker.export("BROKERS_CA"));
    let nats = format!("nats: {{url: '{}', {}}}", nats.export("NATS_URL"), tls(&nats));
    let amqp = format!("rabbitmq: {{url: '{}', {}}}", rabbitmq.export("AMQPS_URL"), tls(&rabbitmq));
    let sasl = format!("sasl.mechanism: PLAIN, sasl.username: {user}, sasl.password: {password}");
    let servers = kafka.export("KAFKA_SASL_SSL_BROKERS");
    let kafka = format!("kafka: {{url: 'kafka://{servers}', {}, properties: {{{sasl}}}}}", tls(&kafka));
    let all = [nats.as_str(), amqp.as_str(), kafka.as_str()];
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0]] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("hookbridge.yaml");
        let destinations = order.map(|index| format!("  {}\n", all[index])).concat();
        let text = format!(
            "destinations:\n{destinations}routes: [{{match: '**', to: [nats, kafka, rabbitmq]}}]\ndata: '{}'\n",
            directory.path().join("data").display()
        );
        std::fs::write(&path, text).expect("written");
        let mut check = Command::new(env!("CARGO_BIN_EXE_hookbridge"));
        check.args(["check", "--connect", "--secret", SECRET, "--config"]).arg(&path);
        let output = tokio::task::spawn_blocking(move || check.output().expect("it runs")).await.expect("no panic");
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{order:?}\n{stdout}\n{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}
