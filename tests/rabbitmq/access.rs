//! How one gets in: users, vhosts, addresses, TLS.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hookbridge::destination::Health;
use hookbridge::destination::settings::{Mode, Tls};
use hookbridge::message::Outcome;
use hookbridge::reason::Reason;
use serde_json::{Value, json};

use crate::rig::{Admin, confirmed, connects, down, open, opening, publish, shared, shown, up};
use crate::support::brokers::{Broker, Kind, With};
use crate::support::event::{event, message, scope};
use crate::support::wait::{SOON, until};

/// The address with another user, password and vhost.
fn url(broker: &Broker, user: &str, password: &str, vhost: &str) -> String {
    let (_, rest) = broker.url().split_once('@').expect("a user");
    let (address, _) = rest.split_once('/').expect("a vhost");
    format!("amqp://{user}:{password}@{address}/{vhost}")
}

/// A vhost, user or password that is not there yet is waited for, for ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_yet() {
    let scope = scope();
    let (user, vhost) = (format!("{scope}-user"), format!("{scope}-vhost"));
    let vhostless = open(opening(&[&url(shared(), "guest", "guest", &vhost)], &scope, &["a"]));
    let userless = open(opening(&[&url(shared(), &user, "right", "%2f")], &scope, &["a"]));
    for destination in [&vhostless, &userless] {
        down(&**destination, Reason::NotAuthorized).await;
        let told = publish(&**destination, message(&format!("{scope}.a"), event("msg_1"))).await;
        assert_eq!(shown(&told), "again not_authorized");
        assert_eq!(destination.ensure().await.expect_err("not there").reason, Reason::NotAuthorized);
        assert_eq!(destination.probe().await.expect_err("not there").reason, Reason::NotAuthorized);
    }
    shared().tool(&["add_vhost", &vhost]);
    shared().tool(&["set_permissions", "-p", &vhost, "guest", ".*", ".*", ".*"]);
    shared().tool(&["add_user", &user, "wrong"]);
    shared().tool(&["set_permissions", &user, ".*", ".*", ".*"]);
    up(&*vhostless).await;
    shared().tool(&["change_password", &user, "right"]);
    up(&*userless).await;
    for destination in [&vhostless, &userless] {
        confirmed(&**destination, &message(&format!("{scope}.a"), event("msg_1"))).await;
    }
}

/// Without the permission to make anything, what exists is published to. Without the permission to write, nothing is.
#[tokio::test(flavor = "multi_thread")]
async fn permissions() {
    let scope = scope();
    let user = format!("{scope}-user");
    let maker = open(opening(&[shared().url()], &scope, &["a"]));
    up(&*maker).await;
    shared().tool(&["add_user", &user, "secret"]);
    shared().tool(&["set_permissions", &user, "^$", &format!("^{scope}$"), "^$"]);
    let url = url(shared(), &user, "secret", "%2f");
    let destination = open(opening(&[&url], &scope, &["a"]));
    up(&*destination).await;
    confirmed(&*destination, &message(&format!("{scope}.a"), event("msg_1"))).await;

    let missing = open(opening(&[&url], &scope, &["a", "b"]));
    down(&*missing, Reason::NotAuthorized).await;
    confirmed(&*missing, &message(&format!("{scope}.a"), event("msg_1"))).await;

    shared().tool(&["set_permissions", &user, "^$", "^$", "^$"]);
    let reader = open(opening(&[&url], &scope, &["a"]));
    up(&*reader).await;
    let told = publish(&*reader, message(&format!("{scope}.a"), event("msg_2"))).await;
    assert_eq!(shown(&told), "again not_authorized");
    assert_eq!(Admin::of(shared()).await.depth(&format!("{scope}.a")).await, 2);
}

/// Of several addresses the first that answers is taken.
#[tokio::test(flavor = "multi_thread")]
async fn several_addresses() {
    let scope = scope();
    let urls = ["amqp://guest:guest@127.0.0.1:1/%2f", "amqp://guest:guest@[::1]:1/%2f", shared().url()];
    let destination = open(opening(&urls, &scope, &["a"]));
    up(&*destination).await;
    confirmed(&*destination, &message(&format!("{scope}.a"), event("msg_1"))).await;
}

/// A broker that lets us in and refuses what we publish is not connected to without a pause, also if another address was
/// tried in vain before it.
#[tokio::test(flavor = "multi_thread")]
async fn several_addresses_and_no_permission() {
    let scope = scope();
    let user = format!("{scope}-user");
    up(&*open(opening(&[shared().url()], &scope, &["a"]))).await;
    shared().tool(&["add_user", &user, "secret"]);
    shared().tool(&["set_permissions", &user, "^$", "^$", "^$"]);
    let urls = ["amqp://guest:guest@127.0.0.1:1/%2f", &url(shared(), &user, "secret", "%2f")];
    let opening = opening(&urls, &scope, &["a"]);
    let metrics = opening.metrics.clone();
    let destination = open(opening);
    up(&*destination).await;
    let end = Instant::now() + Duration::from_secs(3);
    until("some tries", SOON, async || {
        publish(&*destination, message(&format!("{scope}.a"), event("msg_1"))).await;
        (Instant::now() > end).then_some(())
    })
    .await;
    let connected = connects(&metrics);
    assert!((2..10).contains(&connected), "{connected} connections");
}

fn openssl(directory: &Path, arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().expect("openssl");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// TLS with the broker's own authority, and a client certificate that the broker asks for.
#[tokio::test(flavor = "multi_thread")]
async fn tls_with_a_client_certificate() {
    let conf = "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n";
    let broker = Broker::start_with(Kind::Rabbitmq, With { conf, env: &[("BROKERS_TLS", "1")] });
    let ca = Path::new(broker.export("BROKERS_CA")).to_owned();
    let directory = ca.parent().expect("a directory");
    openssl(
        directory,
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=bridge -keyout client.key -out client.csr",
    );
    std::fs::write(directory.join("client.ext"), "extendedKeyUsage=clientAuth\n").expect("its extensions");
    openssl(
        directory,
        "x509 -req -days 2 -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile client.ext -out client.pem",
    );
    let scope = scope();
    let with = |tls: Tls| {
        let mut opening = opening(&[broker.export("AMQPS_URL")], &scope, &["a"]);
        opening.settings.tls = tls;
        open(opening)
    };
    let (cert, key) = (Some(directory.join("client.pem")), Some(directory.join("client.key")));
    let destination = with(Tls { ca: Some(ca.clone()), cert: cert.clone(), key: key.clone() });
    up(&*destination).await;
    confirmed(&*destination, &message(&format!("{scope}.a"), event("msg_1"))).await;
    let found = destination.probe().await.expect("it is well");
    assert!(found[0].starts_with("RabbitMQ "), "{found:?}");

    let anonymous = with(Tls { ca: Some(ca), ..Tls::default() });
    let stranger = with(Tls { cert, key, ca: None });
    for destination in [anonymous, stranger] {
        let refused = destination.probe().await.expect_err("the broker does not let it in");
        assert_eq!((refused.reason, destination.health()), (Reason::Unreachable, Health::Starting));
        let told = publish(&*destination, message(&format!("{scope}.a"), event("msg_2"))).await;
        assert_eq!(shown(&told), "again unreachable");
    }
    assert_eq!(Admin::of(&broker).await.depth(&format!("{scope}.a")).await, 1);
}

/// Read back over HTTP by the broker's own management plugin: no AMQP library between.
#[tokio::test(flavor = "multi_thread")]
async fn read_back_by_the_management_plugin() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let port = port.to_string();
    let broker =
        Broker::start_with(Kind::Rabbitmq, With { conf: "", env: &[("RABBITMQ_MANAGEMENT_PORT", port.as_str())] });
    hookbridge::tls::install_provider();
    let scope = scope();
    let mut opened = opening(&[broker.url()], &scope, &["a"]);
    opened.settings.forward_signature = true;
    let binary = open(opened);
    up(&*binary).await;
    let sent = event("msg_1");
    assert_eq!(publish(&*binary, message(&format!("{scope}.a"), sent.clone())).await, Outcome::Confirmed);
    let mut opened = opening(&[broker.url()], &scope, &["a"]);
    opened.settings.mode = Mode::Structured;
    let structured = open(opened);
    up(&*structured).await;
    assert_eq!(publish(&*structured, message(&format!("{scope}.a"), sent.clone())).await, Outcome::Confirmed);

    let body = json!({"count": 10, "ackmode": "ack_requeue_false", "encoding": "auto"});
    let answer = reqwest::Client::new()
        .post(format!("http://127.0.0.1:{port}/api/queues/%2f/{scope}.a/get"))
        .basic_auth("guest", Some("guest"))
        .json(&body)
        .send()
        .await
        .expect("an answer");
    let messages: Vec<Value> = answer.json().await.expect("messages");
    assert_eq!(messages.len(), 2);
    let first = &messages[0];
    assert_eq!(first["payload"].as_str().expect("text").as_bytes(), &*sent.data);
    assert_eq!(first["routing_key"], format!("{scope}.a"));
    let properties = &first["properties"];
    assert_eq!(properties["message_id"], "msg_1");
    assert_eq!(properties["type"], sent.kind.as_str());
    assert_eq!(properties["app_id"], "hookbridge");
    assert_eq!(properties["content_type"], "application/json");
    assert_eq!(properties["delivery_mode"], 2);
    assert_eq!(properties["timestamp"], 1_795_435_200_u64);
    for (name, value) in sent.attributes() {
        assert_eq!(properties["headers"][format!("cloudEvents_{name}")], value, "{name}");
    }
    assert_eq!(properties["headers"]["webhook-signature"], sent.signed.signature.as_str());
    assert_eq!(messages[1]["properties"]["content_type"], "application/cloudevents+json");
    let whole: Value = serde_json::from_str(messages[1]["payload"].as_str().expect("text")).expect("JSON");
    assert_eq!(whole["id"], "msg_1");
    assert_eq!(whole["data"], serde_json::from_slice::<Value>(&sent.data).expect("JSON"));
}
