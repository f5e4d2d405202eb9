//! Sends signed deliveries. The signatures come from the `standardwebhooks` crate, not from the code under test.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::RequestBuilder;
use serde_json::Value;
use standardwebhooks::Webhook;

use super::program::SECRET;

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The JSON body.
    pub body: Value,
    /// `Retry-After`.
    pub retry_after: Option<String>,
}

impl Answer {
    /// Status and word, such as `200 accepted` or `503 unreachable`.
    pub fn word(&self) -> String {
        let word = self.body["status"].as_str().or(self.body["type"].as_str()).unwrap_or_default();
        format!("{} {}", self.status, word.rsplit(':').next().unwrap_or_default())
    }
}

/// Unix time in seconds.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64
}

/// The `webhook-signature` of a delivery.
pub fn signature(id: &str, timestamp: i64, body: &[u8]) -> String {
    Webhook::new(SECRET).expect("a good secret").sign(id, timestamp, body).expect("signs")
}

/// An HTTP client that reuses connections.
pub fn client() -> reqwest::Client {
    hookbridge::tls::install_provider();
    reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("a client")
}

/// A request with a signed delivery.
pub fn request(client: &reqwest::Client, url: &str, id: &str, body: &[u8]) -> RequestBuilder {
    let now = now();
    client
        .post(url)
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", now)
        .header("webhook-signature", signature(id, now, body))
        .body(body.to_vec())
}

/// Sends a request and returns the answer.
///
/// # Errors
/// There is no answer.
pub async fn answer(request: RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = serde_json::from_slice(&response.bytes().await?).unwrap_or_default();
    Ok(Answer { status, body, retry_after })
}

/// Posts a signed delivery with a new client.
pub async fn post(url: &str, id: &str, body: &str) -> Answer {
    answer(request(&client(), url, id, body.as_bytes())).await.expect("an answer")
}

/// A small body: an event's name, and the id of a file.
pub fn body(event: &str, subject: &str) -> String {
    format!(r#"{{"event":"{event}","fileId":"{subject}","occurredAt":1745409600}}"#)
}

/// Posts until the answer is 200, as a sender's retries do. Returns the number of attempts.
pub async fn deliver(client: &reqwest::Client, url: &str, id: &str, body: &str) -> u32 {
    for attempt in 1.. {
        if let Ok(answer) = answer(request(client, url, id, body.as_bytes())).await
            && answer.status == 200
        {
            return attempt;
        }
        // Only paces the attempts.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    unreachable!("the loop ends by returning")
}
