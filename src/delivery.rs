//! A delivery: one signed POST whose signature was verified.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

/// What makes a delivery unique: the source's name and the `webhook-id`, which is the same on every retry
/// (Standard Webhooks, "Webhook id").
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryKey {
    /// The source's name in the configuration.
    pub source: Arc<str>,
    /// The `webhook-id` header: 1 to 255 bytes of visible ASCII.
    pub id: Arc<str>,
}

impl fmt::Display for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.source, self.id)
    }
}

/// A verified delivery, unchanged. `Debug` shows neither the body nor the headers: they hold signed URLs.
#[derive(Clone)]
pub struct Delivery {
    /// Source and `webhook-id`.
    pub key: DeliveryKey,
    /// The `webhook-timestamp` header: unix seconds of this attempt.
    pub timestamp: i64,
    /// The `webhook-signature` header as received, for workers that verify again.
    pub signature: String,
    /// W3C trace context, if the sender sent one.
    pub traceparent: Option<String>,
    /// W3C trace state; only with a `traceparent`.
    pub tracestate: Option<String>,
    /// All headers as received; [`Delivery::kept_headers`] leaves the credentials out.
    pub headers: HeaderMap,
    /// The bytes that were signed, unchanged.
    pub body: Bytes,
}

/// The header with the request's id, for answers and the log. Every request that becomes a delivery has one.
pub const REQUEST_ID: &str = "x-request-id";

/// Headers that carry credentials: never kept.
const CREDENTIALS: [&str; 5] =
    ["authorization", "cookie", "proxy-authorization", "x-api-key", "x-forwarded-client-cert"];

impl Delivery {
    /// The request's id, for the log.
    pub fn request_id(&self) -> &str {
        self.headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default()
    }

    /// The headers that a dead letter keeps: all but credentials.
    pub fn kept_headers(&self) -> Vec<(String, String)> {
        let kept = self.headers.iter().filter(|(name, _)| !CREDENTIALS.contains(&name.as_str()));
        kept.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect()
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("key", &self.key)
            .field("timestamp", &self.timestamp)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
