//! TLS, SASL, and what a user without rights gets.

use std::path::PathBuf;
use std::time::Duration;

use hookbridge::destination::settings::Topology;
use hookbridge::destination::{Health, Opening};
use hookbridge::message::Outcome;
use hookbridge::reason::Reason;
use hookbridge::secret::Secret;

use crate::suite::bench::{outcome, publish_until_confirmed, up};
use crate::support::brokers::{Broker, Kind, With};
use crate::support::event::{event, message, scope};
use crate::support::wait::{SOON, until};
use crate::{open, opening, reason};

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
async fn tls_with_plain_scram_and_tokens() {
    let oauth = "listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,OAUTHBEARER\n\
        listener.name.secure.oauthbearer.sasl.jaas.config=\
        org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"b\";\n";
    let broker = secured(oauth);
    let password = broker.export("BROKERS_PASSWORD");
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "OAUTHBEARER"] {
        let scope = scope();
        let mut opening = secure(&scope, &broker, mechanism, password);
        if mechanism == "OAUTHBEARER" {
            let more =
                [("enable.sasl.oauthbearer.unsecure.jwt", "true"), ("sasl.oauthbearer.config", "principal=test")];
            opening.settings.properties.extend(more.map(|(name, value)| (name.to_owned(), Secret::new(value))));
        }
        let handle = open(opening);
        up(&handle).await;
        let told = outcome(handle.publish(message(&format!("{scope}.a"), event("msg_1")))).await;
        assert_eq!(told, Outcome::Confirmed, "{mechanism}");
        handle.close(SOON).await;
    }

    // A wrong password: never handed over, and the operator is told why.
    let scope = scope();
    let handle = open(secure(&scope, &broker, "PLAIN", "wrong"));
    let message = message(&format!("{scope}.a"), event("msg_1"));
    until("refused", SOON, async || {
        let told = outcome(handle.publish(message.clone())).await;
        assert!(matches!(told, Outcome::Again(_)), "{told:?}");
        (reason(&told) == Some(Reason::NotAuthorized)).then_some(())
    })
    .await;
    assert_ne!(handle.health(), Health::Up);
    // Asked for at once, as `check --connect` does, which waits 10 s.
    let handle = open(secure(&scope, &broker, "PLAIN", "wrong"));
    let told = tokio::time::timeout(Duration::from_secs(10), handle.probe()).await.expect("in time");
    assert_eq!(told.expect_err("a wrong password").reason, Reason::NotAuthorized);

    // Without the test's root the certificate is not trusted.
    let mut opening = secure(&scope, &broker, "PLAIN", password);
    opening.settings.tls.ca = None;
    let handle = open(opening);
    until("not trusted", SOON, async || {
        let told = outcome(handle.publish(message.clone())).await;
        let Outcome::Again(failure) = told else { panic!("{told:?}") };
        failure.detail.contains("certificate").then_some(())
    })
    .await;
    let told = handle.probe().await.expect_err("it is not trusted");
    assert!(told.detail.contains("certificate"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_missing() {
    let conf = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
        super.users=User:ANONYMOUS\n";
    let (broker, scope) = (secured(conf), scope());
    let topic = format!("{scope}.a");
    let publish = message(&topic, event("msg_1"));

    // Nothing allowed: it cannot be made, and is not there.
    let mut opening = secure(&scope, &broker, "PLAIN", broker.export("BROKERS_PASSWORD"));
    opening.publish_timeout = Duration::from_secs(5);
    let handle = open(opening);
    until("told why", SOON, async || match handle.health() {
        Health::Down(failure) if failure.reason == Reason::NotAuthorized => Some(()),
        _ => None,
    })
    .await;
    assert!(matches!(outcome(handle.publish(publish.clone())).await, Outcome::Again(_)));

    // It exists (an operator made it) and may be written to: neither to create nor to see its settings is needed.
    broker.tool(&["TopicCommand", "--create", "--topic", &topic, "--partitions", "1"]);
    let rights = ["--allow-principal", "User:test", "--operation", "Write", "--topic", &topic];
    broker.tool(&[&["AclCommand", "--add"], &rights[..]].concat());
    publish_until_confirmed(&handle, &publish).await;
    up(&handle).await;

    // Taken away again: said so, and not stored.
    broker.tool(&[&["AclCommand", "--remove", "--force"], &rights[..]].concat());
    until("refused", SOON, async || {
        let told = outcome(handle.publish(publish.clone())).await;
        assert!(!matches!(told, Outcome::Never(_)), "{told:?}");
        (reason(&told) == Some(Reason::NotAuthorized)).then_some(())
    })
    .await;
    handle.close(SOON).await;
}

#[tokio::test]
async fn settings_that_no_hour_will_mend() {
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
    // This build has no libcurl, which librdkafka needs to fetch tokens, and no Kerberos.
    assert!(property("sasl.oauthbearer.method", "oidc").contains("sasl.oauthbearer.method"));
    let detail = refused(&|opening| {
        opening.settings.properties.push(("security.protocol".into(), Secret::new("SSL")));
        opening.settings.tls.ca = Some("/nonexistent/ca.pem".into());
    });
    assert!(detail.contains("ssl.ca.location"), "{detail}");
}
