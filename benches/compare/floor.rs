//! The floor: reads a delivery, verifies its Standard Webhooks signature, and answers 204. It parses, stores and publishes
//! nothing.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::net::TcpListener;

use super::support::program::SECRET;
use super::support::sender::now;

type Keyed = Hmac<Sha256>;

/// Serves until standard input ends, on the address that it prints.
pub async fn serve() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let key = STANDARD.decode(SECRET.trim_start_matches("whsec_")).expect("base64");
    let keyed = Keyed::new_from_slice(&key).expect("any length");
    let limit = DefaultBodyLimit::max(8 * 1024 * 1024);
    let app = Router::new().route("/webhooks/videogen", post(verify)).layer(limit).with_state(keyed);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("{}", listener.local_addr().expect("an address"));
    axum::serve(listener, app).await.expect("serves");
}

async fn verify(State(keyed): State<Keyed>, headers: HeaderMap, body: Bytes) -> StatusCode {
    match genuine(keyed, &headers, &body) {
        Some(()) => StatusCode::NO_CONTENT,
        None => StatusCode::UNAUTHORIZED,
    }
}

fn genuine(mut keyed: Keyed, headers: &HeaderMap, body: &[u8]) -> Option<()> {
    let (id, sent) = (headers.get("webhook-id")?, headers.get("webhook-timestamp")?);
    if now().abs_diff(sent.to_str().ok()?.parse().ok()?) > 300 {
        return None;
    }
    for part in [id.as_bytes(), b".", sent.as_bytes(), b".", body] {
        keyed.update(part);
    }
    headers.get("webhook-signature")?.to_str().ok()?.split(' ').find_map(|signature| {
        let claimed = STANDARD.decode(signature.strip_prefix("v1,")?).ok()?;
        keyed.clone().verify_slice(&claimed).ok()
    })
}
