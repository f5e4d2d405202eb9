//! Who we are, and how the server is reached.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hookbridge::config::{Secret, Tls};
use hookbridge::destination::{Destination, Health, Opening, Outcome};
use hookbridge::reason::{Failure, Reason};
use nkeys::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::rig::{AT_ONCE, Reloadable, STREAM, again, counted, down, open, opening, publish, up};
use crate::support::brokers::{Broker, Kind, With};
use crate::support::wait::{SOON, until};

/// A CA, and a certificate of it for the server and for a client.
struct Certificates(TempDir);

impl Certificates {
    fn make() -> Certificates {
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

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What a server is configured with.
    fn conf(&self, verify: bool) -> String {
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

/// A JWT of decentralised authentication.
fn jwt(issuer: &KeyPair, subject: &KeyPair, kind: &str, mut nats: Value) -> String {
    nats["type"] = kind.into();
    nats["version"] = 2.into();
    let claims = json!({ "jti": subject.public_key(), "iat": 1_700_000_000, "iss": issuer.public_key(),
        "name": kind, "sub": subject.public_key(), "nats": nats });
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(&json!({ "typ": "JWT", "alg": "ed25519-nkey" })), encode(&claims));
    let signature = issuer.sign(text.as_bytes()).expect("a signature");
    format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

fn write_creds(path: &Path, jwt: &str, user: &KeyPair) {
    let seed = user.seed().expect("a seed");
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    std::fs::write(path, text).expect("written");
}

/// Credentials are read again for each client, so that those that were wrong, or ran out, can be replaced.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_file() {
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let system = KeyPair::new_account();
    let limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1 });
    let files = Certificates::make();
    let conf = format!(
        "{}operator: {}\nresolver: MEMORY\nsystem_account: {system}\nresolver_preload: {{ {system}: {}, {}: {} }}\n",
        files.conf(false),
        jwt(&operator, &operator, "operator", json!({})),
        jwt(&operator, &system, "account", json!({})),
        account.public_key(),
        jwt(&operator, &account, "account", json!({ "limits": limits })),
        system = system.public_key(),
    );
    let nats = Broker::start_with(Kind::Nats, With { conf: &conf, ..With::default() });
    let path = files.path("user.creds");
    let opening = || {
        let mut opening = opening(&[nats.url()], &["a"]);
        opening.settings.tls.ca = Some(files.path("ca.pem"));
        opening.settings.auth.creds = Some(path.clone());
        opening
    };
    assert!(hookbridge::destination::open(opening()).is_err(), "no file yet");
    let stranger = KeyPair::new_account();
    write_creds(&path, &jwt(&stranger, &user, "user", json!({ "subs": -1, "data": -1, "payload": -1 })), &user);
    let destination = open(opening());
    assert_eq!(destination.ensure().await.expect_err("an unknown account").reason, Reason::NotAuthorized);
    write_creds(&path, &jwt(&account, &user, "user", json!({ "subs": -1, "data": -1, "payload": -1 })), &user);
    up(&*destination).await;
    assert_eq!(publish(&*destination, "a", "msg_1").await, Outcome::Confirmed);
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
