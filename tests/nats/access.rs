//! Credentials, permissions and TLS.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use tokio::time::Instant;

use futures_util::future::join_all;
use hookbridge::destination::settings::Tls;
use hookbridge::destination::{Destination, Health, Opening};
use hookbridge::message::Outcome;
use hookbridge::reason::{Failure, Reason};
use hookbridge::secret::Secret;
use nkeys::KeyPair;
use tempfile::TempDir;

use crate::rig::{AT_ONCE, Reloadable, STREAM, again, count, counted, down, open, opening, publish, unconfirmed, up};
use crate::support::brokers::{Broker, Kind, With};
use crate::support::wait::{SOON, until};

/// A CA, and its certificates for a server and a client.
pub struct Certificates(TempDir);

impl Certificates {
    pub fn create() -> Certificates {
        let dir = tempfile::tempdir().expect("a directory");
        let script = r#"set -e; cd "$1"; key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
            openssl req -x509 $key -days 2 -subj '/CN=Test CA' -keyout ca.key -out ca.pem
            for name in server client; do
              openssl req $key -subj "/CN=$name" -keyout $name.key -out $name.csr
              echo 'subjectAltName=DNS:localhost,IP:127.0.0.1' >$name.ext
              openssl x509 -req -days 2 -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile $name.ext -out $name.pem
            done"#;
        let output = Command::new("bash").args(["-c", script, "create"]).arg(dir.path()).output().expect("bash");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Certificates(dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The configuration of a server. `verify`: it asks for a client certificate.
    pub fn conf(&self, verify: bool) -> String {
        let dir = self.0.path().display();
        format!(
            "tls {{ cert_file: \"{dir}/server.pem\", key_file: \"{dir}/server.key\", ca_file: \"{dir}/ca.pem\", verify: {verify} }}\n"
        )
    }

    fn client(&self) -> Tls {
        let (cert, key) = (Some(self.path("client.pem")), Some(self.path("client.key")));
        Tls { ca: Some(self.path("ca.pem")), cert, key }
    }
}

/// Connects with these settings and publishes once.
async fn connects(opening: Opening) {
    let destination = open(opening);
    up(&*destination).await;
    assert_eq!(publish(&*destination, "a", "msg_1").await, Outcome::Confirmed);
    destination.close(SOON).await;
}

/// Fails to connect, and stays starting. Returns the failure.
async fn refused(opening: Opening) -> Failure {
    let destination = open(opening);
    let failure = destination.ensure().await.expect_err("it cannot connect");
    assert_eq!(destination.health(), Health::Starting(Some(failure.clone())));
    assert_eq!(again(publish(&*destination, "a", "msg_1").await), failure.reason);
    failure
}

/// A server with these users. A client without credentials has no permissions.
fn with_users(users: &str) -> Broker {
    Broker::start_with(Kind::Nats, With { conf: &users_conf(users), ..With::default() })
}

fn users_conf(users: &str) -> String {
    // The test support waits for the server's start with a client without credentials.
    let nothing = "permissions: { publish: { deny: \">\" }, subscribe: { deny: \">\" } }";
    let anonymous = format!("{{ user: anonymous, password: anonymous, {nothing} }}");
    format!("authorization {{ users = [ {anonymous}, {users} ] }}\nno_auth_user: anonymous\n")
}

fn with_user(broker: &Broker, user: &str) -> String {
    broker.url().replace("nats://", &format!("nats://{user}@"))
}

#[tokio::test(flavor = "multi_thread")]
async fn user_and_password() {
    let nats = with_users("{ user: \"us@er\", password: \"p/a%ss\" }");
    connects(opening(&[&with_user(&nats, "us%40er:p%2Fa%25ss")], &["a"])).await;
    let failure = refused(opening(&[&with_user(&nats, "us%40er:s3cret")], &["a"])).await;
    assert_eq!(failure.reason, Reason::NotAuthorized);
    assert!(!failure.detail.contains("s3cret"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn token() {
    let files = Certificates::create();
    // Over TLS, because the test support cannot see otherwise that a server with a token has started.
    let conf = files.conf(false) + "authorization { token: \"t0ken\" }\n";
    let nats = Broker::start_with(Kind::Nats, With { conf: &conf, ..With::default() });
    let with = |url: &str, token: Option<&str>| {
        let mut opening = opening(&[url], &["a"]);
        opening.settings.tls.ca = Some(files.path("ca.pem"));
        opening.settings.auth.token = token.map(Secret::new);
        opening
    };
    connects(with(nats.url(), Some("t0ken"))).await;
    connects(with(&with_user(&nats, "t0ken"), None)).await;
    assert_eq!(refused(with(nats.url(), Some("other"))).await.reason, Reason::NotAuthorized);
}

#[tokio::test(flavor = "multi_thread")]
async fn nkey() {
    let (key, other) = (KeyPair::new_user(), KeyPair::new_user());
    let nats = with_users(&format!("{{ nkey: {} }}", key.public_key()));
    let with = |key: &KeyPair| {
        let mut opening = opening(&[nats.url()], &["a"]);
        opening.settings.auth.nkey = Some(Secret::new(key.seed().expect("a seed")));
        opening
    };
    connects(with(&key)).await;
    assert_eq!(refused(with(&other)).await.reason, Reason::NotAuthorized);
    let mut wrong = with(&key);
    wrong.settings.auth.nkey = Some(Secret::new(key.public_key()));
    let failure = hookbridge::destination::open(wrong).err().expect("it is not a seed");
    assert!(!failure.detail.contains(&key.public_key()));
}

/// This process installs no TLS provider: the destination uses its own.
#[tokio::test(flavor = "multi_thread")]
async fn tls_with_a_client_certificate() {
    let files = Certificates::create();
    let nats = Broker::start_with(Kind::Nats, With { conf: &files.conf(true), ..With::default() });
    let with = |url: &str, tls: Tls| {
        let mut opening = opening(&[url], &["a"]);
        opening.settings.tls = tls;
        opening
    };
    let tls_url = nats.url().replace("nats://", "tls://");
    connects(with(&tls_url, files.client())).await;
    connects(with(nats.url(), files.client())).await;
    let unknown_ca = refused(with(&tls_url, Tls::default())).await;
    assert!(unknown_ca.reason == Reason::Unreachable && unknown_ca.detail.contains("certificate"), "{unknown_ca}");
    refused(with(&tls_url, Tls { cert: None, key: None, ..files.client() })).await;
}

/// The client does not fall back to plain text.
#[tokio::test(flavor = "multi_thread")]
async fn tls_address_needs_a_server_with_tls() {
    let nats = Broker::start(Kind::Nats);
    let failure = refused(opening(&[&nats.url().replace("nats://", "tls://")], &["a"])).await;
    assert!(failure.detail.contains("the server may not use TLS"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_reachable_address_is_enough() {
    let nats = Broker::start(Kind::Nats);
    connects(opening(&["nats://127.0.0.1:1", nats.url(), "nats://127.0.0.1:2"], &["a"])).await;
}

/// The outcome of one publish, which must not wait for a timeout.
async fn publish_promptly(destination: &dyn Destination, topic: &str) -> Outcome {
    let started = Instant::now();
    let outcome = publish(destination, topic, "msg_1").await;
    assert!(started.elapsed() < AT_ONCE, "it waited for a timeout");
    outcome
}

/// The server reports the subject to the connection, not to the publish.
#[tokio::test(flavor = "multi_thread")]
async fn denied_subjects_are_not_authorized_and_others_confirmed() {
    let nats = with_users("{ user: bridge, password: pw, permissions: { publish: { deny: [\"denied\", \"no.*\"] } } }");
    let destination = open(opening(&[&with_user(&nats, "bridge:pw")], &["a", "denied", "no.way"]));
    assert_eq!(down(&*destination).await.reason, Reason::NotAuthorized);
    for _ in 0..3 {
        assert_eq!(again(publish_promptly(&*destination, "denied").await), Reason::NotAuthorized);
        assert_eq!(again(publish_promptly(&*destination, "no.way").await), Reason::NotAuthorized);
    }
    assert_eq!(publish_promptly(&*destination, "a").await, Outcome::Confirmed);
    assert_eq!(down(&*destination).await.reason, Reason::NotAuthorized);
}

/// A user that may do everything else finds out without an event that it may not publish, and when it may.
#[tokio::test(flavor = "multi_thread")]
async fn missing_permission_to_publish_is_found_without_a_message() {
    let denied = |subjects: &str| {
        let publish = format!("publish: {{ deny: [{subjects}] }}");
        let admin = "{ user: admin, password: pw }";
        users_conf(&format!("{admin}, {{ user: bridge, password: pw, permissions: {{ {publish} }} }}"))
    };
    let server = Reloadable::start(&denied("a, \"b.>\""));
    let opening = opening(&[&with_user(&server.nats, "bridge:pw")], &["a", "b.*", "c"]);
    let metrics = Arc::clone(&opening.metrics);
    let destination = open(opening);
    let named = |failure: &Failure| {
        let has = |topic: &str| failure.detail.contains(&format!("may not publish to `{topic}`"));
        (failure.reason, has("a"), has("b.*"), has("c"))
    };
    let both = (Reason::NotAuthorized, true, true, false);
    assert_eq!(named(&destination.ensure().await.expect_err("two topics are denied")), both);
    assert_eq!(named(&down(&*destination).await), both);
    checks_at_the_same_time_name(&destination, &["`a`", "`b.*`"]).await;
    let options = async_nats::ConnectOptions::with_user_and_password("admin".into(), "pw".into());
    let admin = async_nats::jetstream::new(options.connect(server.nats.url()).await.expect("a connection"));
    // The first checks are those of an empty stream.
    for stored in [0, 1] {
        for _ in 0..10 {
            assert_eq!(named(&destination.probe().await.expect_err("two topics are denied")), both);
        }
        assert_eq!(count(&admin).await, stored);
        let id = format!("msg_{stored}");
        assert_eq!(publish(&*destination, "c", &id).await, Outcome::Confirmed);
    }
    assert_eq!(named(&down(&*destination).await), both);
    server.reload(&denied("a"));
    until("only one is denied", SOON, async || {
        let Health::Down(failure) = destination.health() else { return None };
        (named(&failure) == (Reason::NotAuthorized, true, false, false)).then_some(())
    })
    .await;
    server.reload(&denied("other"));
    up(&*destination).await;
    for _ in 0..10 {
        destination.probe().await.expect("everything is permitted");
    }
    assert_eq!(count(&admin).await, 2);
    assert_eq!(publish_promptly(&*destination, "a").await, Outcome::Confirmed);
    // Where only some values of a part are denied, the first event finds out.
    server.reload(&denied("b.secret"));
    let refused = async || again_with(publish(&*destination, "b.secret", "msg_3").await, Reason::NotAuthorized);
    until("refused", SOON, refused).await;
    let failure = down(&*destination).await;
    assert!(failure.reason == Reason::NotAuthorized && failure.detail.contains("`b.secret`"), "{failure}");
    checks_at_the_same_time_name(&destination, &["`b.secret`"]).await;
    server.reload(&denied("other"));
    up(&*destination).await;
    assert_eq!(counted(&metrics).1, 1, "connections");
}

/// Checks at the same time do not forget each other's refusals.
async fn checks_at_the_same_time_name(destination: &Arc<dyn Destination>, subjects: &'static [&'static str]) {
    let named = |failure: &Failure| subjects.iter().all(|subject| failure.detail.contains(subject));
    let checks = (0..4).map(|_| {
        let destination = Arc::clone(destination);
        tokio::spawn(async move {
            for _ in 0..200 {
                let failure = destination.ensure().await.expect_err("a subject is denied");
                assert!(failure.reason == Reason::NotAuthorized && named(&failure), "{failure}");
            }
        })
    });
    for checked in join_all(checks).await {
        checked.expect("every check names the subject");
    }
}

fn again_with(outcome: Outcome, reason: Reason) -> Option<()> {
    outcome.failure().is_some_and(|failure| failure.reason == reason).then_some(())
}

/// A user that may not create the stream can use an existing one.
#[tokio::test(flavor = "multi_thread")]
async fn user_without_permission_to_create_uses_an_existing_stream() {
    let nats = with_users(
        "{ user: admin, password: pw }, { user: bridge, password: pw, \
         permissions: { publish: { allow: [\"a\", \"b\", \"$JS.API.STREAM.INFO.EVENTS\"] } } }",
    );
    let destination = open(opening(&[&with_user(&nats, "bridge:pw")], &["a"]));
    let failure = down(&*destination).await;
    assert!(failure.reason == Reason::NotAuthorized && failure.detail.contains(STREAM), "{failure}");
    assert_eq!(again(publish_promptly(&*destination, "a").await), Reason::Unroutable);
    connects(opening(&[&with_user(&nats, "admin:pw")], &["a"])).await;
    up(&*destination).await;
    assert_eq!(publish_promptly(&*destination, "a").await, Outcome::Confirmed);
    let wider = open(opening(&[&with_user(&nats, "bridge:pw")], &["a", "b"]));
    assert_eq!(down(&*wider).await.reason, Reason::NotAuthorized);
    assert_eq!(publish_promptly(&*wider, "a").await, Outcome::Confirmed);
}

/// The server changes the permissions of an existing connection.
#[tokio::test(flavor = "multi_thread")]
async fn permission_changes_apply_without_a_reconnect() {
    let allowed = |subjects: &str| {
        let publish = format!("publish: {{ allow: [{subjects}] }}");
        users_conf(&format!("{{ user: bridge, password: pw, permissions: {{ {publish} }} }}"))
    };
    let server = Reloadable::start(&allowed("other"));
    let opening = opening(&[&with_user(&server.nats, "bridge:pw")], &["a"]);
    let metrics = std::sync::Arc::clone(&opening.metrics);
    let destination = open(opening);
    assert_eq!(down(&*destination).await.reason, Reason::NotAuthorized);
    server.reload(&allowed("a, \"$JS.API.>\""));
    up(&*destination).await;
    assert_eq!(publish_promptly(&*destination, "a").await, Outcome::Confirmed);
    server.reload(&allowed("\"$JS.API.>\""));
    // A confirm of an earlier publish could still arrive.
    let refused =
        async || Some(publish_promptly(&*destination, "a").await).filter(|outcome| *outcome != Outcome::Confirmed);
    assert_eq!(unconfirmed(until("refused", SOON, refused).await), ("unknown", Reason::NotAuthorized));
    assert_eq!(again(publish_promptly(&*destination, "a").await), Reason::NotAuthorized);
    assert_eq!(counted(&metrics).1, 1, "connections");
}

/// Nothing is sent, because no answer could arrive.
#[tokio::test(flavor = "multi_thread")]
async fn user_without_permission_to_receive_answers_publishes_nothing() {
    let nats = with_users(
        "{ user: admin, password: pw }, \
         { user: bridge, password: pw, permissions: { subscribe: { deny: \"_INBOX.>\" } } }",
    );
    connects(opening(&[&with_user(&nats, "admin:pw")], &["a"])).await;
    let destination = open(opening(&[&with_user(&nats, "bridge:pw")], &["a"]));
    // What `check --connect` prints has the cause, and does not wait for a timeout.
    let started = Instant::now();
    for failure in [destination.ensure().await, destination.probe().await.map(drop)].map(Result::unwrap_err) {
        assert_eq!(failure.reason, Reason::NotAuthorized, "{failure}");
        assert!(failure.detail.contains("may not subscribe to `_INBOX.>`"), "{failure}");
    }
    assert!(started.elapsed() < AT_ONCE, "it waited for a timeout");
    until("refused", SOON, async || {
        (again(publish_promptly(&*destination, "a").await) == Reason::NotAuthorized).then_some(())
    })
    .await;
    assert_ne!(destination.health(), Health::Up);
}
