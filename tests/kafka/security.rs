//! TLS, SASL, missing rights, and settings that cannot be used.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hookbridge::destination::settings::{BrokerUrl, Topology};
use hookbridge::destination::{Handle, Health, Opening};
use hookbridge::message::Outcome;
use hookbridge::reason::{Failure, Reason};
use hookbridge::secret::Secret;
use hookbridge::telemetry::metrics::DestinationLabel;

use crate::suite::bench::{outcome, publish_all, publish_until_confirmed, up};
use crate::support::brokers::{Broker, Kind, With};
use crate::support::event::{event, message, scope};
use crate::support::wait::{SOON, until};
use crate::{open, opening, reason};

/// The configuration of a broker where users need rights.
const AUTHORIZER: &str =
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\nsuper.users=User:ANONYMOUS\n";

/// A broker with TLS and SASL.
fn secured(conf: &str) -> Broker {
    Broker::start_with(Kind::Kafka, With { conf, env: &[("BROKERS_TLS", "1")] })
}

fn secure(scope: &str, broker: &Broker, mechanism: &str, password: &str) -> Opening {
    let mut opening = opening(scope, broker.export("KAFKA_SASL_SSL_BROKERS"), &["a"]);
    opening.settings.tls.ca = Some(PathBuf::from(broker.export("BROKERS_CA")));
    let properties = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", mechanism),
        ("sasl.username", broker.export("BROKERS_USER")),
        ("sasl.password", password),
    ];
    opening.settings.properties =
        properties.map(|(name, value)| (name.to_owned(), Secret::new(value))).into_iter().collect();
    opening
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_plain_scram_and_oauthbearer() {
    let oauth = "listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,OAUTHBEARER\n\
        listener.name.secure.oauthbearer.sasl.jaas.config=\
        org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"b\";\n";
    let broker = secured(oauth);
    let password = broker.export("BROKERS_PASSWORD");
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "OAUTHBEARER"] {
        let scope = scope();
        let mut opening = secure(&scope, &broker, mechanism, password);
        if mechanism == "OAUTHBEARER" {
            let token =
                [("enable.sasl.oauthbearer.unsecure.jwt", "true"), ("sasl.oauthbearer.config", "principal=test")];
            opening.settings.properties.extend(token.map(|(name, value)| (name.to_owned(), Secret::new(value))));
        }
        let handle = open(opening);
        up(&handle).await;
        let outcome = outcome(handle.publish(message(&format!("{scope}.a"), event("msg_1")))).await;
        assert_eq!(outcome, Outcome::Confirmed, "{mechanism}");
        handle.close(SOON).await;
    }

    // A wrong password: nothing is produced, and the outcome has the reason.
    let scope = scope();
    let handle = open(secure(&scope, &broker, "PLAIN", "wrong"));
    let message = message(&format!("{scope}.a"), event("msg_1"));
    until("refused", SOON, async || {
        let outcome = outcome(handle.publish(message.clone())).await;
        assert!(matches!(outcome, Outcome::Again(_)), "{outcome:?}");
        (reason(&outcome) == Some(Reason::NotAuthorized)).then_some(())
    })
    .await;
    assert_ne!(handle.health(), Health::Up);
    // A probe right after the start has the reason too.
    let handle = open(secure(&scope, &broker, "PLAIN", "wrong"));
    let probed = tokio::time::timeout(Duration::from_secs(10), handle.probe()).await.expect("in time");
    assert_eq!(probed.expect_err("a wrong password").reason, Reason::NotAuthorized);

    // Without the test's root certificate, the broker is not trusted.
    let mut opening = secure(&scope, &broker, "PLAIN", password);
    opening.settings.tls.ca = None;
    let handle = open(opening);
    until("not trusted", SOON, async || {
        let outcome = outcome(handle.publish(message.clone())).await;
        let Outcome::Again(failure) = outcome else { panic!("{outcome:?}") };
        failure.detail.contains("certificate").then_some(())
    })
    .await;
    let failure = handle.probe().await.expect_err("it is not trusted");
    assert!(failure.detail.contains("certificate"), "{failure}");
}

/// How many producers were replaced.
fn replaced(opening: &Opening) -> u64 {
    let label = DestinationLabel { destination: opening.settings.name.to_string() };
    opening.metrics.kafka_replaced.get_or_create(&label).get()
}

fn openssl(directory: &Path, arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().expect("openssl");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// librdkafka reads TLS files when a producer is created: after a change, the producer is replaced. Files that cannot be
/// used replace nothing.
#[tokio::test(flavor = "multi_thread")]
async fn renewed_tls_files_need_no_restart() {
    let (broker, scope) = (secured(""), scope());
    let directory = tempfile::tempdir().expect("a directory");
    let ca = directory.path().join("ca.pem");
    openssl(
        directory.path(),
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=wrong -keyout ca.key -out ca.pem",
    );
    let mut opening = secure(&scope, &broker, "PLAIN", broker.export("BROKERS_PASSWORD"));
    opening.settings.tls.ca = Some(ca.clone());
    let opened = opening.clone();
    let replaced = || replaced(&opened);
    let handle = open(opening);
    let message = message(&format!("{scope}.a"), event("msg_1"));
    until("not trusted", SOON, async || {
        let outcome = outcome(handle.publish(message.clone())).await;
        outcome.failure()?.detail.contains("certificate").then_some(())
    })
    .await;
    assert!(matches!(handle.health(), Health::Starting(Some(_))) && replaced() == 0);

    std::fs::copy(broker.export("BROKERS_CA"), &ca).expect("the CA file is replaced");
    up(&handle).await;
    publish_until_confirmed(&handle, &message).await;
    assert_eq!(replaced(), 1);

    std::fs::write(&ca, "half of a file").expect("written");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((handle.health(), replaced()), (Health::Up, 1));
    assert_eq!(outcome(handle.publish(message.clone())).await, Outcome::Confirmed);

    // A renewal under load refuses no event.
    for count in 2..=4 {
        std::fs::copy(broker.export("BROKERS_CA"), &ca).expect("the CA file is replaced");
        until("replaced", SOON, async || {
            assert_eq!(outcome(handle.publish(message.clone())).await, Outcome::Confirmed);
            (replaced() == count).then_some(())
        })
        .await;
        assert_eq!(outcome(handle.publish(message.clone())).await, Outcome::Confirmed);
    }
    up(&handle).await;
    handle.close(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_are_reported_and_granted_rights_are_noticed() {
    let (broker, scope) = (secured(AUTHORIZER), scope());
    let topic = format!("{scope}.a");
    let publish = message(&topic, event("msg_1"));

    // Without any right, the topic is not visible and cannot be created.
    let mut opening = secure(&scope, &broker, "PLAIN", broker.export("BROKERS_PASSWORD"));
    opening.publish_timeout = Duration::from_secs(5);
    let handle = open(opening);
    until("the reason", SOON, async || match handle.health() {
        Health::Down(failure) if failure.reason == Reason::NotAuthorized => Some(()),
        _ => None,
    })
    .await;
    assert!(matches!(outcome(handle.publish(publish.clone())).await, Outcome::Again(_)));

    // An operator creates the topic and grants only the right to write: other rights are not needed.
    broker.tool(&["TopicCommand", "--create", "--topic", &topic, "--partitions", "1"]);
    let rights = ["--allow-principal", "User:test", "--operation", "Write", "--topic", &topic];
    broker.tool(&[&["AclCommand", "--add"], &rights[..]].concat());
    publish_until_confirmed(&handle, &publish).await;
    up(&handle).await;

    // The operator revokes the right.
    broker.tool(&[&["AclCommand", "--remove", "--force"], &rights[..]].concat());
    until("refused", SOON, async || {
        let outcome = outcome(handle.publish(publish.clone())).await;
        assert!(!matches!(outcome, Outcome::Never(_)), "{outcome:?}");
        (reason(&outcome) == Some(Reason::NotAuthorized)).then_some(())
    })
    .await;
    handle.close(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_without_rights_harm_no_other_topic() {
    let (broker, scope) = (secured(AUTHORIZER), scope());
    let topic = |name: &str| format!("{scope}.{name}");
    let grant = |name: &str, operation: &str| {
        let rights = ["--allow-principal", "User:test", "--operation", operation, "--topic", &topic(name)];
        broker.tool(&[&["AclCommand", "--add"], &rights[..]].concat());
    };
    // A user without the right to write to any topic is refused before the first event.
    grant("c", "Describe");
    broker.tool(&["TopicCommand", "--create", "--topic", &topic("c"), "--partitions", "1"]);
    let mut only_c = secure(&scope, &broker, "PLAIN", broker.export("BROKERS_PASSWORD"));
    only_c.topics = vec![topic("c")];
    let mut verify = only_c.clone();
    verify.settings.topology = Topology::Verify;
    for opening in [only_c.clone(), verify] {
        let handle = open(opening);
        until("down", SOON, async || match handle.health() {
            Health::Down(failure) => (failure.reason == Reason::NotAuthorized).then_some(()),
            health => {
                assert_ne!(health, Health::Up);
                None
            }
        })
        .await;
        // Each producer that replaces it is refused as well.
        until("three producers", SOON, async || {
            assert_ne!(handle.health(), Health::Up);
            (replaced(&only_c) >= 3).then_some(())
        })
        .await;
        assert_eq!(handle.probe().await.expect_err("it may not write").reason, Reason::NotAuthorized);
        handle.close(SOON).await;
    }
    // `a` cannot be created, `b` is created, and `c` exists and cannot be written to.
    grant("b", "Create");
    grant("b", "Write");
    let mut opening = secure(&scope, &broker, "PLAIN", broker.export("BROKERS_PASSWORD"));
    opening.topics = ["a", "b", "c"].map(topic).into();
    let handle = open(opening);
    let failure = handle.ensure().await.expect_err("one topic cannot be created");
    let checked = |failure: &Failure| {
        failure.reason == Reason::NotAuthorized
            && failure.detail.contains(&topic("a"))
            && !failure.detail.contains(&topic("b"))
    };
    assert!(checked(&failure), "{failure}");
    until("down", SOON, async || match handle.health() {
        Health::Down(failure) => checked(&failure).then_some(()),
        _ => None,
    })
    .await;
    let messages = (0..100).flat_map(|number| {
        let event = || event(&format!("msg_{number}"));
        ["a", "b", "c"].map(|name| message(&topic(name), event()))
    });
    for (outcomes, number) in publish_all(&handle, messages).await.chunks(3).zip(0..) {
        assert_eq!(reason(&outcomes[0]), Some(Reason::Unroutable), "{number}: {outcomes:?}");
        assert_eq!(outcomes[1], Outcome::Confirmed, "{number}");
        assert_eq!(reason(&outcomes[2]), Some(Reason::NotAuthorized), "{number}: {outcomes:?}");
    }
    let warned =
        || handle.warnings().iter().any(|warning| warning.starts_with(&format!("topic {}: this user", topic("c"))));
    assert!(warned(), "{:?}", handle.warnings());
    grant("c", "Write");
    publish_until_confirmed(&handle, &message(&topic("c"), event("msg_last"))).await;
    assert!(!warned(), "{:?}", handle.warnings());
    handle.close(SOON).await;
}

/// The Kafka twin of `reload.rs`: a user that may not write takes the place of no user that may.
#[tokio::test(flavor = "multi_thread")]
async fn new_credentials_are_used_once_they_may_write() {
    let (broker, scope) = (secured(AUTHORIZER), scope());
    let topic = format!("{scope}.a");
    broker.tool(&["TopicCommand", "--create", "--topic", &topic, "--partitions", "1"]);
    let grant = |operation: &str| {
        let rights = ["--allow-principal", "User:test", "--operation", operation, "--topic", &topic];
        broker.tool(&[&["AclCommand", "--add"], &rights[..]].concat());
    };
    grant("Describe");
    // The users without a password may do everything.
    let first = opening(&scope, broker.url(), &["a"]);
    let (settings, timeout, metrics) = (first.settings.clone(), first.publish_timeout, Arc::clone(&first.metrics));
    let destination = hookbridge::destination::open(first).expect("it is opened");
    let handle = Handle::new(Arc::clone(&destination) as _, &settings, timeout, metrics);
    up(&handle).await;
    let renew = async || {
        let new = secure(&scope, &broker, "PLAIN", broker.export("BROKERS_PASSWORD")).settings;
        destination.renew(|opening| opening.settings = new).await
    };
    let confirmed = async |id: &str| {
        assert_eq!(outcome(handle.publish(message(&topic, event(id)))).await, Outcome::Confirmed, "{id}");
    };
    assert_eq!(renew().await.expect_err("it may not write").reason, Reason::NotAuthorized);
    confirmed("msg_1").await;
    grant("Write");
    until("renewed", SOON, async || renew().await.ok()).await;
    confirmed("msg_2").await;
    handle.close(SOON).await;
}

/// A topic that refuses what we publish makes the destination down, and only itself: the others are confirmed.
#[tokio::test(flavor = "multi_thread")]
async fn refused_topic_is_down_until_it_confirms() {
    let (broker, scope) = (secured(AUTHORIZER), scope());
    let topics @ [a, b] = &["a", "b"].map(|name| format!("{scope}.{name}"));
    let right = |action: &[&str], topic: &str, operation: &str| {
        let rights = ["--allow-principal", "User:test", "--operation", operation, "--topic", topic];
        broker.tool(&[&["AclCommand"], action, &rights[..]].concat());
    };
    for topic in topics {
        broker.tool(&["TopicCommand", "--create", "--topic", topic, "--partitions", "1"]);
        right(&["--add"], topic, "Describe");
    }
    right(&["--add"], b, "Write");
    let mut opening = secure(&scope, &broker, "PLAIN", broker.export("BROKERS_PASSWORD"));
    opening.topics = topics.to_vec();
    let handle = open(opening);
    up(&handle).await;
    let refused = outcome(handle.publish(message(a, event("msg_1")))).await;
    assert_eq!(reason(&refused), Some(Reason::NotAuthorized), "{refused:?}");
    let named = |failure: &Failure| {
        failure.reason == Reason::NotAuthorized && failure.detail.contains(a) && !failure.detail.contains(b)
    };
    let is_down = || matches!(handle.health(), Health::Down(failure) if named(&failure));
    assert!(is_down(), "{:?}", handle.health());
    for number in 0..20 {
        assert_eq!(outcome(handle.publish(message(b, event(&format!("msg_{number}"))))).await, Outcome::Confirmed);
    }
    handle.ensure().await.expect("the topics exist");
    assert!(is_down(), "{:?}", handle.health());
    right(&["--add"], a, "Write");
    publish_until_confirmed(&handle, &message(a, event("msg_2"))).await;
    assert_eq!(handle.health(), Health::Up);
    handle.close(SOON).await;
}

#[tokio::test]
async fn unusable_properties_and_files_are_refused_when_opened() {
    let scope = scope();
    let refused = |tweak: &dyn Fn(&mut Opening)| {
        let mut opening = opening(&scope, "127.0.0.1:1", &["a"]);
        opening.settings.topology = Topology::Verify;
        tweak(&mut opening);
        hookbridge::destination::open(opening).err().expect("it cannot be opened").detail.into_owned()
    };
    let property = |name: &'static str, value: &'static str| {
        refused(&|opening| opening.settings.properties.push((name.into(), Secret::new(value))))
    };
    assert!(property("no.such.property", "hunter2").contains("no.such.property: there is no such property"));
    let detail = property("security.protocol", "hunter2");
    assert!(detail.contains("security.protocol") && !detail.contains("hunter2"), "{detail}");
    // This build has neither libcurl, which librdkafka needs to fetch tokens, nor Kerberos.
    assert!(property("sasl.oauthbearer.method", "oidc").contains("sasl.oauthbearer.method"));
    let detail = refused(&|opening| {
        opening.settings.properties.push(("security.protocol".into(), Secret::new("SSL")));
        opening.settings.tls.ca = Some("/nonexistent/ca.pem".into());
    });
    assert!(detail.contains("ssl.ca.location"), "{detail}");
}

/// `check --connect` prints these failures.
#[tokio::test(flavor = "multi_thread")]
async fn failures_of_a_first_connection_name_their_cause() {
    let broker = secured("");
    let secure = || secure(&scope(), &broker, "PLAIN", broker.export("BROKERS_PASSWORD"));
    let plain = |servers: &str| opening(&scope(), servers, &["a"]);
    let (_, tls_port) = broker.export("KAFKA_SASL_SSL_BROKERS").rsplit_once(':').expect("a port");
    let mut wrong_password = secure();
    wrong_password.settings.properties.retain(|(name, _)| name != "sasl.password");
    wrong_password.settings.properties.push(("sasl.password".into(), Secret::new("wrong")));
    let mut unknown_ca = secure();
    unknown_ca.settings.tls.ca = None;
    let mut other_name = secure();
    other_name.settings.url = BrokerUrl::Kafka(vec![format!("127.1:{tls_port}")]);
    let mut tls_to_plain = secure();
    tls_to_plain.settings.url = plain(broker.url()).settings.url;
    let mut no_sasl = secure();
    no_sasl.settings.properties.clear();
    let plain_to_tls = plain(broker.export("KAFKA_SASL_SSL_BROKERS"));
    let cases = [
        ("wrong password", wrong_password, Reason::NotAuthorized, "Invalid username or password"),
        ("unknown CA", unknown_ca, Reason::Unreachable, "certificate is not trusted"),
        ("another name", other_name, Reason::Unreachable, "another host name"),
        ("TLS to plain text", tls_to_plain, Reason::Unreachable, "without TLS"),
        ("plain text to TLS", plain_to_tls, Reason::Unreachable, "with TLS"),
        ("no SASL", no_sasl, Reason::Unreachable, "may require SASL"),
        ("refused", plain("127.0.0.1:1"), Reason::Unreachable, "Connection refused"),
        ("no such host", plain("nosuchhost.invalid:9092"), Reason::Unreachable, "resolve 'nosuchhost.invalid:9092'"),
    ];
    let checks = cases.map(async |(what, opening, expected, words)| {
        let topic = opening.topics[0].clone();
        let handle = open(opening);
        let checked = |failure: &Failure| failure.reason == expected && failure.detail.contains(words);
        for failure in [handle.ensure().await.expect_err(what), handle.probe().await.expect_err(what)] {
            assert!(checked(&failure), "{what}: {failure}");
        }
        // The health has it too, and refuses each publish with it.
        until(what, SOON, async || {
            outcome(handle.publish(message(&topic, event("msg_1"))))
                .await
                .failure()
                .filter(|failure| checked(failure))?;
            Some(())
        })
        .await;
    });
    join_all(checks).await;
}
