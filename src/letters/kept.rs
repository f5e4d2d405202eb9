//! A dead letter that was read from the store.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::delivery::{Delivery, DeliveryKey};
use crate::protocol::Target;
use crate::reason::Reason;
use crate::trace_context::trace_context;

/// What a list shows of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterSummary {
    /// Its number, which no other dead letter gets.
    pub number: u64,
    /// What it was not published to.
    pub target: Target,
    /// The source's name.
    pub source: String,
    /// The `webhook-id`.
    pub webhook_id: String,
    /// The event's name, if it has one.
    pub event: Option<String>,
    /// Why it is dead, or why the last replay failed.
    pub reason: Reason,
    /// The same in the words of the broker.
    pub detail: String,
    /// When it was kept, in unix seconds.
    pub time: i64,
    /// Bytes of the body.
    pub bytes: u64,
}

/// A dead letter with its headers and body. `Debug` shows neither.
pub struct KeptLetter {
    /// What a list shows of it.
    pub summary: LetterSummary,
    /// The headers that were kept.
    pub headers: Vec<(String, String)>,
    /// The bytes that were signed.
    pub body: Bytes,
}

impl std::fmt::Debug for KeptLetter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KeptLetter").field(&self.summary.number).finish()
    }
}

impl KeptLetter {
    /// The delivery that it came from.
    pub fn delivery(&self) -> Delivery {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                headers.append(name, value);
            }
        }
        let signed = |name: &str| {
            let value = ["webhook", "svix"].iter().find_map(|prefix| headers.get(format!("{prefix}-{name}")));
            value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let (traceparent, tracestate) = trace_context(&headers);
        Delivery {
            key: DeliveryKey {
                source: self.summary.source.as_str().into(),
                id: self.summary.webhook_id.as_str().into(),
            },
            timestamp: signed("timestamp").parse().unwrap_or(self.summary.time),
            signature: signed("signature"),
            traceparent,
            tracestate,
            headers,
            body: self.body.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delivery_is_that_of_the_sender() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let summary = LetterSummary {
            number: 1,
            target: Target::whole(),
            source: "videogen".into(),
            webhook_id: "msg_1".into(),
            event: None,
            reason: Reason::NotJson,
            detail: String::new(),
            time: 9,
            bytes: 2,
        };
        for prefix in ["webhook", "svix"] {
            let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            let headers = vec![
                header(&format!("{prefix}-timestamp"), "1745409600"),
                header(&format!("{prefix}-signature"), "v1,abc"),
                header("traceparent", parent),
            ];
            let letter = KeptLetter { summary: summary.clone(), headers, body: Bytes::from_static(b"{}") };
            let delivery = letter.delivery();
            assert_eq!((delivery.timestamp, delivery.signature.as_str()), (1_745_409_600, "v1,abc"));
            assert_eq!((delivery.traceparent.as_deref(), &*delivery.key.id), (Some(parent), "msg_1"));
            assert_eq!(delivery.kept_headers().len(), 3);
        }
    }
}
