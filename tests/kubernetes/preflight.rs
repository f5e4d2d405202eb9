//! What is wrong stops the upgrade before the old pod ends.

use crate::rig::{self, Namespace, inside, values};
use crate::support::sender::body;

const TOPIC: &str = "file.playback_ready";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_stops_the_upgrade() {
    if !inside() {
        return;
    }
    let (namespace, _rabbitmq) = (Namespace::new("preflight"), rig::rabbitmq());
    namespace.secret("rabbitmq-default-user", &[("username", "guest"), ("password", "guest")]);
    namespace.broker("rabbitmq", 5672);
    let file = values("rabbitmq");
    namespace.install(&file, &[]);
    let before = namespace.ready_pod(None).await;
    let wrong_password = r#"config.destinations.rabbit.url="amqp://guest:wrong@rabbitmq:5672/%2f""#;
    let short = r#"secrets={"existing": ["hookbridge", "rabbitmq-default-user"], "values": {"signing-secret": "whsec_c2hvcnQ="}}"#;
    let cases = [
        // a configuration that the schema cannot judge
        (r#"config.routes=[{"match": "**", "to": ["rabit"]}]"#, "did you mean `rabbit`?"),
        // a secret that is missing, and one that is too short
        (r#"config.sources.videogen.secrets="${file:/run/secrets/hookbridge/nope}""#, "/run/secrets/hookbridge/nope"),
        (short, "the secret is shorter than 24 bytes"),
        (wrong_password, "not_authorized"),
        (r#"config.destinations.rabbit.url="amqp://guest:guest@rabbitmq:5673/%2f""#, "unreachable"),
    ];
    for (number, (setting, expected)) in cases.into_iter().enumerate() {
        let out = namespace.upgrade(&file, &["--set-json", setting]).expect_err("it stops");
        println!("{setting}\n{out}");
        assert!(out.contains("pre-upgrade") && out.contains(expected), "{setting}\n{out}");
        assert_eq!(namespace.pod(), before, "{setting}");
        assert_eq!(namespace.post(&format!("p{number}"), &body(TOPIC, "f1")).await.word(), "200 accepted");
    }
    // The same as before is still good, and the release is not stuck.
    namespace.upgrade(&file, &[]).unwrap_or_else(|out| panic!("{out}"));
    assert_eq!(namespace.pod().uid, before.uid, "an upgrade that changes nothing restarts nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_stops_the_installation() {
    if !inside() {
        return;
    }
    let (namespace, _nats) = (Namespace::new("first"), rig::nats());
    namespace.broker("nats", 4222);
    let wrong = r#"config.routes=[{"match": "**", "to": ["evnts"]}]"#;
    let chart = ["install", "hb", "deploy/helm/hookbridge"];
    let out = namespace.helm(&chart, &["-f", &values("minimal"), "--set-json", wrong]).expect_err("it stops");
    assert!(out.contains("pre-install") && out.contains("did you mean `events`?"), "{out}");
    let made =
        namespace.kubectl(&["get", "statefulsets,services", "-l", "app.kubernetes.io/name=hookbridge", "-o", "name"]);
    assert_eq!(made.expect("a list"), "");
}
