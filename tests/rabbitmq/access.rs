//! Access: users, vhosts, addresses and TLS.

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tokio::time::Instant;

use hookbridge::destination::Health;
use hookbridge::destination::settings::{Mode, Tls};
use hookbridge::message::Outcome;
use hookbridge::reason::{Failure, Reason};
use serde_json::{Value, json};

use crate::rig::{Admin, confirmed, connects, down, open, opening, publish, shared, shown, up};
use crate::support::brokers::{Broker, Kind, With};
use crate::support::event::{event, message, scope};
use crate::support::wait::{SOON, until};

/// The address of the broker with another user, password and vhost.
pub fn url(broker: &Broker, user: &str, password: &str, vhost: &str) -> String {
    let (_, rest) = broker.url().split_once('@').expect("a user");
    let (address, _) = rest.split_once('/').expect("a vhost");
    format!("amqp://{user}:{password}@{address}/{vhost}")
}

/// While the vhost, the user or the password is missing, connecting is retried, and the destination stays starting.
#[tokio::test(flavor = "multi_thread")]
async fn refused_logins_are_retried_until_they_succeed() {
    let scope = scope();
    let (user, vhost) = (format!("{scope}-user"), format!("{scope}-vhost"));
    let vhostless = open(opening(&[&url(shared(), "guest", "guest", &vhost)], &scope, &["a"]));
    let userless = open(opening(&[&url(shared(), &user, "right", "%2f")], &scope, &["a"]));
    for destination in [&vhostless, &userless] {
        assert_eq!(destination.ensure().await.expect_err("the login is refused").reason, Reason::NotAuthorized);
        assert_eq!(destination.probe().await.expect_err("the login is refused").reason, Reason::NotAuthorized);
        assert!(matches!(destination.health(), Health::Starting(Some(_))));
        let outcome = publish(&**destination, message(&format!("{scope}.a"), event("msg_1"))).await;
        assert_eq!(shown(&outcome), "again not_authorized");
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

/// A user that may not create topology publishes to what exists. A user that may not write publishes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn missing_permissions_refuse_only_what_needs_them() {
    let scope = scope();
    let user = format!("{scope}-user");
    let creator = open(opening(&[shared().url()], &scope, &["a"]));
    up(&*creator).await;
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
    down(&*reader, Reason::NotAuthorized).await;
    let outcome = publish(&*reader, message(&format!("{scope}.a"), event("msg_2"))).await;
    assert_eq!(shown(&outcome), "again not_authorized");
    assert_eq!(Admin::of(shared()).await.depth(&format!("{scope}.a")).await, 2);
}

/// A user that may create everything finds out without an event that it may not publish, and when it may.
#[tokio::test(flavor = "multi_thread")]
async fn missing_permission_to_publish_is_found_without_a_message() {
    let scope = scope();
    let (user, topics) = (format!("{scope}-user"), ["denied", "good", "other.*"]);
    shared().tool(&["add_user", &user, "secret"]);
    shared().tool(&["set_permissions", &user, ".*", ".*", ".*"]);
    shared().tool(&["set_topic_permissions", &user, &scope, "good$", ".*"]);
    let opening = opening(&[&url(shared(), &user, "secret", "%2f")], &scope, &topics);
    let metrics = opening.metrics.clone();
    let destination = open(opening);
    let named = |failure: &Failure| {
        let has = |topic: &str| failure.detail.contains(&format!("may not publish to `{scope}.{topic}`"));
        (failure.reason, topics.map(has))
    };
    let both = (Reason::NotAuthorized, [true, false, true]);
    assert_eq!(named(&destination.ensure().await.expect_err("two topics are denied")), both);
    down(&*destination, Reason::NotAuthorized).await;
    for _ in 0..10 {
        assert_eq!(named(&destination.probe().await.expect_err("two topics are denied")), both);
    }
    assert_eq!(publish(&*destination, message(&format!("{scope}.good"), event("msg_1"))).await, Outcome::Confirmed);
    let Health::Down(failure) = destination.health() else { panic!("it came up") };
    assert_eq!(named(&failure), both);
    // Without the right to write to the exchange at all.
    shared().tool(&["set_permissions", &user, ".*", "^$", ".*"]);
    let none = open(self::opening(&[&url(shared(), &user, "secret", "%2f")], &scope, &topics));
    until("all topics are denied", SOON, async || {
        let Health::Down(failure) = none.health() else { return None };
        (named(&failure) == (Reason::NotAuthorized, [true; 3])).then_some(())
    })
    .await;
    shared().tool(&["set_permissions", &user, ".*", ".*", ".*"]);
    shared().tool(&["clear_topic_permissions", &user, &scope]);
    for destination in [&destination, &none] {
        up(&**destination).await;
        for _ in 0..10 {
            destination.probe().await.expect("everything is permitted");
        }
    }
    let admin = Admin::of(shared()).await;
    for (topic, stored) in [("denied", 0), ("good", 1), ("other.*", 0)] {
        assert_eq!(admin.depth(&format!("{scope}.{topic}")).await, stored, "{topic}");
    }
    // Where only some values of a part are denied, the first event finds out.
    shared().tool(&["set_topic_permissions", &user, &scope, "(denied|good|sample)$", ".*"]);
    let secret = format!("{scope}.other.secret");
    until("refused", SOON, async || {
        let outcome = publish(&*destination, message(&secret, event("msg_2"))).await;
        (shown(&outcome) == "again not_authorized").then_some(())
    })
    .await;
    down(&*destination, Reason::NotAuthorized).await;
    let failure = destination.ensure().await.expect_err("one value is denied");
    assert!(failure.detail.contains(&format!("`{secret}`")), "{failure}");
    shared().tool(&["clear_topic_permissions", &user, &scope]);
    up(&*destination).await;
    assert_eq!(connects(&metrics), 1);
}

/// A user, or a broker, that allows few channels: topics share them, which is named. With too few, there is no connection.
#[tokio::test(flavor = "multi_thread")]
async fn limit_of_channels_is_named() {
    let (scope, topics) = (scope(), ["a", "b", "c", "d", "e", "f"]);
    let user = format!("{scope}-user");
    shared().tool(&["add_user", &user, "secret"]);
    shared().tool(&["set_permissions", &user, ".*", ".*", ".*"]);
    shared().tool(&["set_user_limits", &user, "{\"max-channels\": 4}"]);
    let few = Broker::start_with(Kind::Rabbitmq, With { conf: "channel_max = 4\n", ..With::default() });
    let limited_user = url(shared(), &user, "secret", "%2f");
    for url in [&*limited_user, few.url()] {
        let destination = open(opening(&[url], &scope, &topics));
        up(&*destination).await;
        for topic in topics {
            let outcome = publish(&*destination, message(&format!("{scope}.{topic}"), event("msg_1"))).await;
            assert_eq!(outcome, Outcome::Confirmed);
        }
        let warnings = destination.warnings();
        assert!(warnings.iter().any(|line| line.contains("raise the limit of channels")), "{warnings:?}");
        destination.close(SOON).await;
    }
    shared().tool(&["set_user_limits", &user, "{\"max-channels\": 1}"]);
    let destination = open(opening(&[&limited_user], &scope, &["a"]));
    down(&*destination, Reason::NotAuthorized).await;
    let Health::Down(failure) = destination.health() else { panic!("it came up") };
    assert!(failure.detail.contains("raise the limit"), "{failure}");
    let outcome = publish(&*destination, message(&format!("{scope}.a"), event("msg_1"))).await;
    assert!(outcome.failure().is_some_and(|failure| failure.detail.contains("channels")), "{outcome:?}");
    shared().tool(&["clear_user_limits", &user, "all"]);
    up(&*destination).await;
    let all = open(opening(&[&limited_user], &scope, &topics));
    up(&*all).await;
    assert!(!all.warnings().iter().any(|line| line.contains("channels")), "{:?}", all.warnings());
}

/// Of several addresses, the first that answers is used.
#[tokio::test(flavor = "multi_thread")]
async fn unreachable_addresses_are_skipped() {
    let scope = scope();
    let urls = ["amqp://guest:guest@127.0.0.1:1/%2f", "amqp://guest:guest@[::1]:1/%2f", shared().url()];
    let destination = open(opening(&urls, &scope, &["a"]));
    up(&*destination).await;
    confirmed(&*destination, &message(&format!("{scope}.a"), event("msg_1"))).await;
}

/// A broker that accepts the login and refuses every publish is not reconnected to.
#[tokio::test(flavor = "multi_thread")]
async fn refused_publishes_cause_no_reconnect() {
    let scope = scope();
    let user = format!("{scope}-user");
    up(&*open(opening(&[shared().url()], &scope, &["a"]))).await;
    shared().tool(&["add_user", &user, "secret"]);
    shared().tool(&["set_permissions", &user, "^$", "^$", "^$"]);
    let urls = ["amqp://guest:guest@127.0.0.1:1/%2f", &url(shared(), &user, "secret", "%2f")];
    let opening = opening(&urls, &scope, &["a"]);
    let metrics = opening.metrics.clone();
    let destination = open(opening);
    down(&*destination, Reason::NotAuthorized).await;
    let end = Instant::now() + Duration::from_secs(3);
    until("publishes for some seconds", SOON, async || {
        publish(&*destination, message(&format!("{scope}.a"), event("msg_1"))).await;
        (Instant::now() > end).then_some(())
    })
    .await;
    assert_eq!(connects(&metrics), 1);
}

fn openssl(directory: &Path, arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().expect("openssl");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// TLS with the CA of the broker, and a client certificate that the broker requires.
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
    std::fs::write(directory.join("client.ext"), "extendedKeyUsage=clientAuth\n").expect("written");
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
    let found = destination.probe().await.expect("the destination is up");
    assert!(found[0].starts_with("RabbitMQ "), "{found:?}");

    let anonymous = with(Tls { ca: Some(ca), ..Tls::default() });
    let stranger = with(Tls { cert, key, ca: None });
    for destination in [anonymous, stranger] {
        let refused = destination.probe().await.expect_err("the handshake fails");
        assert_eq!(
            (refused.reason, destination.health()),
            (Reason::Unreachable, Health::Starting(Some(refused.clone())))
        );
        let outcome = publish(&*destination, message(&format!("{scope}.a"), event("msg_2"))).await;
        assert_eq!(shown(&outcome), "again unreachable");
    }
    assert_eq!(Admin::of(&broker).await.depth(&format!("{scope}.a")).await, 1);
}

/// Only one side uses TLS: `check --connect` prints what to change.
#[tokio::test(flavor = "multi_thread")]
async fn tls_on_one_side_only_is_named() {
    let broker = Broker::start_with(Kind::Rabbitmq, With { env: &[("BROKERS_TLS", "1")], ..With::default() });
    let (plain_to_tls, tls_to_plain) =
        (broker.export("AMQPS_URL").replace("amqps://", "amqp://"), broker.url().replace("amqp://", "amqps://"));
    for (url, hint) in [(plain_to_tls, "with TLS (amqps://)"), (tls_to_plain, "without TLS (amqp://)")] {
        let failure = open(opening(&[&url], &scope(), &["a"])).probe().await.expect_err("only one side uses TLS");
        assert!(failure.reason == Reason::Unreachable && failure.detail.contains(hint), "{failure}");
    }
}

/// TLS files are read again at each attempt to connect: after a certificate is rotated, no restart is needed. An
/// unreadable file still stops the start.
#[tokio::test(flavor = "multi_thread")]
async fn rotated_tls_files_need_no_restart() {
    let broker = Broker::start_with(Kind::Rabbitmq, With { env: &[("BROKERS_TLS", "1")], ..With::default() });
    let directory = tempfile::tempdir().expect("a directory");
    let ca = directory.path().join("ca.pem");
    let scope = scope();
    let with_ca = || {
        let mut opening = opening(&[broker.export("AMQPS_URL")], &scope, &["a"]);
        opening.settings.tls = Tls { ca: Some(ca.clone()), ..Tls::default() };
        opening
    };
    let missing = hookbridge::destination::open(with_ca()).err().expect("the CA file does not exist");
    assert_eq!(missing.reason, Reason::Io);

    openssl(
        directory.path(),
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=wrong -keyout ca.key -out ca.pem",
    );
    let destination = open(with_ca());
    let refused = destination.ensure().await.expect_err("the broker's certificate is from another CA");
    assert_eq!((refused.reason, destination.health()), (Reason::Unreachable, Health::Starting(Some(refused.clone()))));

    std::fs::copy(broker.export("BROKERS_CA"), &ca).expect("the CA file is replaced");
    up(&*destination).await;
    confirmed(&*destination, &message(&format!("{scope}.a"), event("msg_1"))).await;
    let found = destination.probe().await.expect("the destination is up");
    assert!(found[0].starts_with("RabbitMQ "), "{found:?}");
}

/// Messages are read back over HTTP with the broker's management plugin, without an AMQP library.
#[tokio::test(flavor = "multi_thread")]
async fn management_plugin_reads_every_property_back() {
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
