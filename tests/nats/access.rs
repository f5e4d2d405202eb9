//! Who we are, and how the server is reached.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use hookbridge::destination::settings::Tls;
use hookbridge::destination::{Destination, Health, Opening};
use hookbridge::message::Outcome;
use hookbridge::reason::{Failure, Reason};
use hookbridge::secret::Secret;
use nkeys::KeyPair;
use tempfile::TempDir;

use crate::rig::{AT_ONCE, Reloadable, STREAM, again, counted, down, open, opening, publish, up};
use crate::support::brokers::{Broker, Kind, With};
use crate::support::wait::{SOON, until};

/// A CA, and a certificate of it for the server and for a client.
pub struct Certificates(TempDir);

impl Certificates {
    pub fn make() -> Certificates {
        let dir = tempfile::tempdir().expect("a directory");
        let script = r#"set -e; cd "$1"; key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
            openssl req -x509 $key -days 2 -subj '/CN=Test CA' -keyout ca.key -out ca.pem
            for name in server client; do
              openssl req $key -subj "/CN=$name" -keyout $name.key -out $name.csr
              echo 'subjectAltName=DNS:localhost,IP:127.0.0.1' >$name.ext
              openssl x509 -req -days 2 -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile $name.ext -out $name.pem
            done"#;
        let output = Command::new("bash").args(["-c", script, "make"]).arg(dir.path()).output().expect("bash");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Certificates(dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What a server is configured with.
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

/// Publishes once with these settings.
async fn works(opening: Opening) {
    let destination = open(opening);
    up(&*destination).await;
    assert_eq!(publish(&*destination, "a", "msg_1").await, Outcome::Confirmed);
    destination.close(SOON).await;
}

/// Never gets in: says so, and does not count as reached.
async fn refused(opening: Opening) -> Failure {
    let destination = open(opening);
    let failure = destination.ensure().await.expect_err("it is not let in");
    assert_eq!(destination.health(), Health::Starting);
    assert_eq!(again(publish(&*destination, "a", "msg_1").await), failure.reason);
    failure
}

/// A server where nobody may do anything unless he says who he is.
fn with_users(users: &str) -> Broker {
    Broker::start_with(Kind::Nats, With { conf: &users_conf(users), ..With::default() })
}

fn users_conf(users: &str) -> String {
    // The start of a server is awaited by a client without a name.
    let nobody =
        "{ user: nobody, password: nobody, permissions: { publish: { deny: \">\" }, subscribe: { deny: \">\" } } }";
    format!("authorization {{ users = [ {nobody}, {users} ] }}\nno_auth_user: nobody\n")
}

fn with_user(broker: &Broker, user: &str) -> String {
    broker.url().replace("nats://", &format!("nats://{user}@"))
}

#[tokio::test(flavor = "multi_thread")]
async fn user_and_password() {
    let nats = with_users("{ user: \"us@er\", password: \"p/a%ss\" }");
    works(opening(&[&with_user(&nats, "us%40er:p%2Fa%25ss")], &["a"])).await;
    let failure = refused(opening(&[&with_user(&nats, "us%40er:s3cret")], &["a"])).await;
    assert_eq!(failure.reason, Reason::NotAuthorized);
    assert!(!failure.detail.contains("s3cret"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn token() {
    let files = Certificates::make();
    // Over TLS, as a server that asks for a token is not seen to be up otherwise.
    let conf = files.conf(false) + "authorization { token: \"t0ken\" }\n";
    let nats = Broker::start_with(Kind::Nats, With { conf: &conf, ..With::default() });
    let with = |url: &str, token: Option<&str>| {
        let mut opening = opening(&[url], &["a"]);
        opening.settings.tls.ca = Some(files.path("ca.pem"));
        opening.settings.auth.token = token.map(Secret::new);
        opening
    };
    works(with(nats.url(), Some("t0ken"))).await;
    works(with(&with_user(&nats, "t0ken"), None)).await;
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
    works(with(&key)).await;
    assert_eq!(refused(with(&other)).await.reason, Reason::NotAuthorized);
    let mut wrong = with(&key);
    wrong.settings.auth.nkey = Some(Secret::new(key.public_key()));
    let failure = hookbridge::destination::open(wrong).err().expect("no seed");
    assert!(!failure.detail.contains(&key.public_key()));
}

/// No provider is installed in this process: the destination brings its own.
#[tokio::test(flavor = "multi_thread")]
async fn tls_with_a_client_certificate() {
    let files = Certificates::make();
    let nats = Broker::start_with(Kind::Nats, With { conf: &files.conf(true), ..With::default() });
    let with = |url: &str, tls: Tls| {
        let mut opening = opening(&[url], &["a"]);
        opening.settings.tls = tls;
        opening
    };
    let tls_url = nats.url().replace("nats://", "tls://");
    works(with(&tls_url, files.client())).await;
    works(with(nats.url(), files.client())).await;
    let unknown = refused(with(&tls_url, Tls::default())).await;
    assert!(unknown.reason == Reason::Unreachable && unknown.detail.contains("certificate"), "{unknown}");
    refused(with(&tls_url, Tls { cert: None, key: None, ..files.client() })).await;
}

/// `tls://` to a server without TLS sends no credentials.
#[tokio::test(flavor = "multi_thread")]
async fn tls_is_not_given_up() {
    let nats = Broker::start(Kind::Nats);
    refused(opening(&[&nats.url().replace("nats://", "tls://")], &["a"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_of_several_addresses_will_do() {
    let nats = Broker::start(Kind::Nats);
    works(opening(&["nats://127.0.0.1:1", nats.url(), "nats://127.0.0.1:2"], &["a"])).await;
}

async fn promptly(destination: &dyn Destination, topic: &str) -> Outcome {
    let started = Instant::now();
    let outcome = publish(destination, topic, "msg_1").await;
    assert!(started.elapsed() < AT_ONCE, "not after a timeout");
    outcome
}

/// The server tells the connection, not the publish.
#[tokio::test(flavor = "multi_thread")]
async fn no_permission_to_publish() {
    let nats = with_users("{ user: us, password: pw, permissions: { publish: { deny: [\"denied\", \"no.*\"] } } }");
    let destination = open(opening(&[&with_user(&nats, "us:pw")], &["a", "denied", "no.way"]));
    up(&*destination).await;
    for _ in 0..3 {
        assert_eq!(again(promptly(&*destination, "denied").await), Reason::NotAuthorized);
        assert_eq!(again(promptly(&*destination, "no.way").await), Reason::NotAuthorized);
    }
    assert_eq!(promptly(&*destination, "a").await, Outcome::Confirmed);
    assert_eq!(destination.health(), Health::Up);
}

/// Who may not make a stream can use the one that is there.
#[tokio::test(flavor = "multi_thread")]
async fn no_permission_to_create() {
    let nats = with_users(
        "{ user: boss, password: pw }, \
         { user: us, password: pw, permissions: { publish: { allow: [\"a\", \"b\", \"$JS.API.STREAM.INFO.EVENTS\"] } } }",
    );
    let destination = open(opening(&[&with_user(&nats, "us:pw")], &["a"]));
    let failure = down(&*destination).await;
    assert!(failure.reason == Reason::NotAuthorized && failure.detail.contains(STREAM), "{failure}");
    assert_eq!(again(promptly(&*destination, "a").await), Reason::Unroutable);
    works(opening(&[&with_user(&nats, "boss:pw")], &["a"])).await;
    up(&*destination).await;
    assert_eq!(promptly(&*destination, "a").await, Outcome::Confirmed);
    let wider = open(opening(&[&with_user(&nats, "us:pw")], &["a", "b"]));
    assert_eq!(down(&*wider).await.reason, Reason::NotAuthorized);
    assert_eq!(promptly(&*wider, "a").await, Outcome::Confirmed);
}

/// Permissions that the server reads while we are connected count without another connection.
#[tokio::test(flavor = "multi_thread")]
async fn permissions_that_come_and_go() {
    let allowed = |subjects: &str| {
        let publish = format!("publish: {{ allow: [{subjects}] }}");
        users_conf(&format!("{{ user: us, password: pw, permissions: {{ {publish} }} }}"))
    };
    let server = Reloadable::start(&allowed("other"));
    let opening = opening(&[&with_user(&server.nats, "us:pw")], &["a"]);
    let metrics = std::sync::Arc::clone(&opening.metrics);
    let destination = open(opening);
    assert_eq!(down(&*destination).await.reason, Reason::NotAuthorized);
    server.reload(&allowed("a, \"$JS.API.>\""));
    up(&*destination).await;
    assert_eq!(promptly(&*destination, "a").await, Outcome::Confirmed);
    server.reload(&allowed("\"$JS.API.>\""));
    // A confirm of an earlier one could be on its way.
    let refused = async || Some(promptly(&*destination, "a").await).filter(|outcome| *outcome != Outcome::Confirmed);
    match until("refused", SOON, refused).await {
        Outcome::Unknown(failure) => assert_eq!(failure.reason, Reason::NotAuthorized),
        other => panic!("{other:?}"),
    }
    assert_eq!(again(promptly(&*destination, "a").await), Reason::NotAuthorized);
    assert_eq!(counted(&metrics).1, 1, "connections");
}

/// Nothing is sent whose answer could not come back.
#[tokio::test(flavor = "multi_thread")]
async fn no_permission_to_hear_answers() {
    let nats = with_users(
        "{ user: boss, password: pw }, { user: us, password: pw, permissions: { subscribe: { deny: \"_INBOX.>\" } } }",
    );
    works(opening(&[&with_user(&nats, "boss:pw")], &["a"])).await;
    let destination = open(opening(&[&with_user(&nats, "us:pw")], &["a"]));
    until("refused", SOON, async || (again(promptly(&*destination, "a").await) == Reason::NotAuthorized).then_some(()))
        .await;
    assert_ne!(destination.health(), Health::Up);
}
