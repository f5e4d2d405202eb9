//! Credentials in a file that is renewed while the destination is open.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hookbridge::destination::Opening;
use hookbridge::message::Outcome;
use hookbridge::reason::Reason;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::access::Certificates;
use crate::rig::{AT_ONCE, counted, open, opening, publish, up};
use crate::support::brokers::{Broker, Kind, With};
use crate::support::wait::{SOON, until};

/// A signed JWT (NATS decentralized JWT authentication).
fn jwt(issuer: &KeyPair, subject: &KeyPair, kind: &str, mut nats: Value, expires: Option<u64>) -> String {
    nats["type"] = kind.into();
    nats["version"] = 2.into();
    let mut claims = json!({ "jti": subject.public_key(), "iat": 1_700_000_000, "iss": issuer.public_key(),
        "name": kind, "sub": subject.public_key(), "nats": nats });
    if let Some(time) = expires {
        claims["exp"] = time.into();
    }
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

/// A server with decentralized JWT authentication, and an account on it.
struct JwtServer {
    nats: Broker,
    files: Certificates,
    account: KeyPair,
    user: KeyPair,
}

impl JwtServer {
    fn start() -> JwtServer {
        let (operator, system) = (KeyPair::new_operator(), KeyPair::new_account());
        let (account, user) = (KeyPair::new_account(), KeyPair::new_user());
        let limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1 });
        let files = Certificates::create();
        let conf = format!(
            "{}operator: {}\nresolver: MEMORY\nsystem_account: {system}\nresolver_preload: {{ {system}: {}, {}: {} }}\n",
            files.conf(false),
            jwt(&operator, &operator, "operator", json!({}), None),
            jwt(&operator, &system, "account", json!({}), None),
            account.public_key(),
            jwt(&operator, &account, "account", json!({ "limits": limits }), None),
            system = system.public_key(),
        );
        let nats = Broker::start_with(Kind::Nats, With { conf: &conf, ..With::default() });
        JwtServer { nats, files, account, user }
    }

    fn opening(&self) -> Opening {
        let mut opening = opening(&[self.nats.url()], &["a"]);
        opening.settings.tls.ca = Some(self.files.path("ca.pem"));
        opening.settings.auth.creds = Some(self.files.path("user.creds"));
        opening
    }

    /// Writes credentials that the account, or another one, issued.
    fn write(&self, issuer: &KeyPair, expires: Option<u64>) {
        let claims = json!({ "subs": -1, "data": -1, "payload": -1 });
        write_creds(&self.files.path("user.creds"), &jwt(issuer, &self.user, "user", claims, expires), &self.user);
    }
}

/// The file is read again for each client.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_can_be_replaced() {
    let server = JwtServer::start();
    assert!(hookbridge::destination::open(server.opening()).is_err(), "no file yet");
    server.write(&KeyPair::new_account(), None);
    let destination = open(server.opening());
    assert_eq!(destination.ensure().await.expect_err("an unknown account").reason, Reason::NotAuthorized);
    server.write(&server.account, None);
    up(&*destination).await;
    assert_eq!(publish(&*destination, "a", "msg_1").await, Outcome::Confirmed);
}

/// The file holds valid credentials by then. A new client reads them, before the library has tried the old ones eight times.
#[tokio::test(flavor = "multi_thread")]
async fn expired_credentials_are_replaced_at_once() {
    let server = JwtServer::start();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    server.write(&server.account, Some(now.as_secs() + 5));
    let started = Instant::now();
    let opening = server.opening();
    let metrics = Arc::clone(&opening.metrics);
    let destination = open(opening);
    up(&*destination).await;
    server.write(&server.account, None);
    // In the second of their expiry, the server accepts the old credentials once more, for a moment.
    until("a confirm on another connection", SOON, async || {
        let another = counted(&metrics).1 >= 2;
        (another && publish(&*destination, "a", "msg_1").await == Outcome::Confirmed).then_some(())
    })
    .await;
    assert!(started.elapsed() < 2 * AT_ONCE, "{:?}", started.elapsed());
}
