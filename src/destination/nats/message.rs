//! An event as a NATS message: subject, headers, body.

use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue, NATS_EXPECTED_STREAM, NATS_MESSAGE_ID};
use bytes::Bytes;

use crate::destination::cloudevents::{self, CONTENT_ENCODING, MessageBody};
use crate::destination::settings::{DestinationSettings, Mode};
use crate::event::Event;
use crate::message::Message;

/// What the client library sends.
pub(in crate::destination) struct NatsMessage {
    pub(super) subject: Arc<str>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl NatsMessage {
    /// The event in the content mode of the settings (CloudEvents NATS protocol binding). Binary mode does not copy the
    /// body.
    pub(in crate::destination) fn new(settings: &DestinationSettings, message: &Message) -> NatsMessage {
        let event = &*message.event;
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, value(&message_id(event, &message.topic)));
        headers.insert(NATS_EXPECTED_STREAM, value(&settings.stream));
        let body = MessageBody::new(message, settings.mode);
        let content_type = match settings.mode {
            Mode::Binary => {
                for (name, text) in event.attributes() {
                    if let Some(name) = attribute_header(name) {
                        headers.insert(name, value(&cloudevents::percent_encode(text)));
                    }
                }
                "ce-datacontenttype"
            }
            Mode::Structured => "content-type",
        };
        headers.insert(HeaderName::from_static(content_type), value(body.content_type));
        if let Some(encoding) = body.content_encoding {
            headers.insert(HeaderName::from_static(CONTENT_ENCODING), value(encoding));
        }
        if settings.forward_signature {
            headers.insert(HeaderName::from_static("webhook-id"), value(&event.id));
            headers.insert(HeaderName::from_static("webhook-timestamp"), value(&event.signed.timestamp));
            headers.insert(HeaderName::from_static("webhook-signature"), value(&event.signed.signature));
        }
        NatsMessage { subject: Arc::clone(&message.topic), headers, body: body.bytes }
    }

    /// Headers and body in bytes, nearly as the server counts them.
    pub(in crate::destination) fn size(&self) -> usize {
        let bytes = |name: &HeaderName, values: &[HeaderValue]| {
            let name: &[u8] = name.as_ref();
            values.iter().map(|value| name.len() + value.as_str().len() + 4).sum::<usize>()
        };
        self.headers.iter().map(|(name, values)| bytes(name, values)).sum::<usize>() + self.body.len()
    }
}

/// `{source}/{id}/{subject}`. The subject is part of it, so that a second target on the same stream is no duplicate of
/// the first. In the id, `/` is escaped too, so that two ids never give the same text.
fn message_id(event: &Event, subject: &str) -> String {
    let id = cloudevents::percent_encode(&event.id);
    let id = if id.contains('/') { id.replace('/', "%2F").into() } else { id };
    format!("{}/{id}/{subject}", cloudevents::percent_encode(&event.source_name))
}

/// The library panics on a line break in a header value. Values from HTTP headers contain none; others are escaped.
fn value(text: &str) -> HeaderValue {
    text.parse().unwrap_or_else(|_| HeaderValue::from(&*cloudevents::percent_encode(text)))
}

/// `ce-` and the attribute's name, without an allocation for the standard attributes.
fn attribute_header(name: &str) -> Option<HeaderName> {
    Some(HeaderName::from_static(match name {
        "specversion" => "ce-specversion",
        "id" => "ce-id",
        "source" => "ce-source",
        "type" => "ce-type",
        "time" => "ce-time",
        "subject" => "ce-subject",
        "partitionkey" => "ce-partitionkey",
        "traceparent" => "ce-traceparent",
        "tracestate" => "ce-tracestate",
        "urlexpiry" => "ce-urlexpiry",
        other => return format!("ce-{other}").parse().ok(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::settings::BrokerUrl;
    use crate::event::Signed;
    use crate::event::fixture::event;

    #[test]
    fn message_ids_are_legal_and_differ() {
        let id = |id: &str, subject: &str| message_id(&Event { id: id.into(), ..event() }, subject);
        assert_eq!(id("msg_1", "file.ready"), "videogen/msg_1/file.ready");
        assert_eq!(id("a b\n", "s"), "videogen/a%20b%0A/s");
        assert_ne!(id("a/b", "c"), id("a", "b/c"));
        assert_ne!(id("a%2Fb", "c"), id("a/b", "c"));
        // The longest id of a delivery.
        assert_eq!(id(&"\"".repeat(255), "s"), format!("videogen/{}/s", "%22".repeat(255)));
    }

    #[test]
    fn header_values_contain_no_line_break() {
        let event = Event {
            subject: Some("file 1%".into()),
            attributes: Arc::new([("env".into(), "pröd\r\nx: y".into())]),
            signed: Signed { timestamp: "1".into(), signature: "v1,a v1,b".into() },
            ..event()
        };
        let message = Message::new(Arc::new(event), "file.ready");
        let mut settings = DestinationSettings::new("nats", BrokerUrl::Nats(Vec::new()));
        settings.forward_signature = true;
        let sent = NatsMessage::new(&settings, &message);
        let header = |name: &str| sent.headers.get(name).map(|value| value.as_str().to_string());
        assert_eq!(header("ce-env").as_deref(), Some("pr%C3%B6d%0D%0Ax:%20y"));
        assert_eq!(header("ce-subject").as_deref(), Some("file%201%25"));
        assert_eq!(header("ce-datacontenttype").as_deref(), Some("application/json"));
        assert_eq!(header("webhook-signature").as_deref(), Some("v1,a v1,b"));
        assert_eq!(header("Nats-Msg-Id").as_deref(), Some("videogen/msg_1/file.ready"));
        assert_eq!(sent.body.as_ptr(), message.event.data.as_ptr());

        settings.mode = Mode::Structured;
        let sent = NatsMessage::new(&settings, &message);
        assert_eq!(sent.headers.get("content-type").map(HeaderValue::as_str), Some("application/cloudevents+json"));
        assert!(sent.headers.get("ce-id").is_none());
        assert!(sent.body.starts_with(b"{\"specversion\":\"1.0\""));
    }
}
