//! A delivery: one signed POST whose signature was verified.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

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
    /// All headers as received; [`Delivery::kept_headers`] are those that may be stored.
    pub headers: HeaderMap,
    /// The bytes that were signed, unchanged.
    pub body: Bytes,
}

/// The header with the request's id, for answers and the log. Every request that becomes a delivery has one.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The headers that a dead letter keeps: what a replay or a search needs. Others may hold credentials of any gateway on the
/// way, under names that no list could complete.
const KEPT: [&str; 15] = [
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "svix-id",
    "svix-signature",
    "svix-timestamp",
    "traceparent",
    "tracestate",
    "user-agent",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
    "x-forwarded-for",
    "x-request-id",
];

impl Delivery {
    /// The request's id, for the log.
    pub fn request_id(&self) -> &str {
        self.headers.get(&REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default()
    }

    /// The headers that a dead letter keeps.
    pub fn kept_headers(&self) -> Vec<(String, String)> {
        let kept = self.headers.iter().filter(|(name, _)| KEPT.contains(&name.as_str()));
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

#[cfg(test)]
pub(crate) mod fixture {
    //! One delivery for all unit tests.

    use super::*;

    /// A delivery without headers; tests change what they are about.
    pub(crate) fn delivery() -> Delivery {
        Delivery {
            key: DeliveryKey { source: "videogen".into(), id: "msg_1".into() },
            timestamp: 1,
            signature: String::new(),
            traceparent: None,
            tracestate: None,
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"{}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_headers_are_kept() {
        let mut headers = HeaderMap::new();
        for name in [
            "webhook-id",
            "webhook-token",
            "svix-id",
            "svix-token",
            "content-type",
            "content-token",
            "user-agent",
            "host",
            "x-request-id",
            "authorization",
            "cookie",
            "x-auth-token",
            "cf-access-jwt-assertion",
            "x-goog-iap-jwt-assertion",
            "x-amzn-oidc-data",
            "x-forwarded-authorization",
            "x-some-later-invention",
        ] {
            headers.insert(name, "value".parse().unwrap());
        }
        let delivery = Delivery { headers, ..fixture::delivery() };
        let mut kept: Vec<_> = delivery.kept_headers().into_iter().map(|(name, _)| name).collect();
        kept.sort();
        assert_eq!(kept, ["content-type", "host", "svix-id", "user-agent", "webhook-id", "x-request-id"]);
    }
}
