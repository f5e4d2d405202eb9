//! An event as an AMQP 0.9.1 message. In binary mode, an AMQP 1.0 consumer gets the `cloudEvents_` headers as a binary
//! CloudEvent.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::destination::cloudevents::MessageBody;
use crate::destination::settings::Mode;
use crate::event::Event;
use crate::message::Message;
use crate::reason::{Failure, Reason};

const PREFIX: &str = "cloudEvents_";
const PERSISTENT: u8 = 2;

/// A message in the form that lapin takes.
pub(in crate::destination) struct Encoded {
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(in crate::destination) body: Bytes,
    /// An upper bound of the bytes of headers and properties on the wire: they must fit into one frame.
    pub(in crate::destination) header_bytes: usize,
    /// Identifies a returned message.
    pub(super) tag: u64,
}

/// Encodes the messages of one destination.
pub(in crate::destination) struct Encoder {
    mode: Mode,
    forward_signature: bool,
    hasher: RandomState,
}

impl Encoder {
    pub(in crate::destination) fn new(mode: Mode, forward_signature: bool) -> Self {
        Encoder { mode, forward_signature, hasher: RandomState::new() }
    }

    /// # Errors
    /// A name that AMQP cannot carry.
    pub(in crate::destination) fn encode(&self, message: &Message) -> Result<Encoded, Failure> {
        let event = &*message.event;
        let routing_key = short(&message.topic).ok_or(Reason::IllegalName)?;
        let mut headers = HeaderFields::default();
        if self.mode == Mode::Binary {
            for (name, value) in event.attributes() {
                headers.add(&format!("{PREFIX}{name}"), value)?;
            }
        }
        let body = MessageBody::new(message, self.mode);
        if self.forward_signature {
            headers.add("webhook-id", &event.id)?;
            headers.add("webhook-timestamp", &event.signed.timestamp)?;
            headers.add("webhook-signature", &event.signed.signature)?;
        }
        let mut properties = BasicProperties::default()
            .with_app_id("hookbridge".into())
            .with_content_type(body.content_type.into())
            .with_delivery_mode(PERSISTENT);
        if let Some(encoding) = body.content_encoding {
            properties = properties.with_content_encoding(encoding.into());
        }
        // A property holds at most 255 bytes. Longer values are only in the headers or the structured body.
        let message_id = short(&event.id);
        let tag = self.tag(message_id.as_ref(), &routing_key);
        if let Some(id) = message_id {
            properties = properties.with_message_id(id);
        }
        if let Some(kind) = short(&event.kind) {
            properties = properties.with_type(kind);
        }
        if let Some(seconds) = seconds(event) {
            properties = properties.with_timestamp(seconds);
        }
        let header_bytes = headers.bytes + MOST_PROPERTY_BYTES;
        Ok(Encoded {
            routing_key,
            properties: properties.with_headers(headers.table),
            body: body.bytes,
            header_bytes,
            tag,
        })
    }

    /// Identifies a message that the broker returns: no two messages with the same tag are in flight on a channel. An id
    /// that is too long for the property counts as empty, so only one such message per topic is in flight at a time.
    pub(super) fn tag(&self, message_id: Option<&ShortString>, routing_key: &ShortString) -> u64 {
        self.hasher.hash_one((message_id.map_or("", ShortString::as_str), routing_key.as_str()))
    }
}

/// Five properties of at most 256 bytes, and some numbers.
const MOST_PROPERTY_BYTES: usize = 1344;

#[derive(Default)]
struct HeaderFields {
    table: FieldTable,
    bytes: usize,
}

impl HeaderFields {
    fn add(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        // Name: length (1 byte) and text. Value: type (1 byte), length (4 bytes) and text.
        self.bytes += 1 + name.len() + 1 + 4 + value.len();
        self.table.insert(short(name).ok_or(Reason::IllegalName)?, AMQPValue::LongString(value.into()));
        Ok(())
    }
}

/// A text of at most 255 bytes. `ShortString::from` panics above that, so every name goes through this function.
pub(super) fn short(text: &str) -> Option<ShortString> {
    ShortString::try_new(text).ok()
}

fn seconds(event: &Event) -> Option<u64> {
    event.time.parse::<jiff::Timestamp>().ok()?.as_second().try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::fixture::event;

    fn message(id: &str, kind: &str, topic: &str) -> Message {
        let attributes = Arc::new([("env".into(), "prod".into())]);
        let (time, subject) = ("2026-11-23T12:00:00.5Z".into(), Some("größe".into()));
        let event = Event { id: id.into(), kind: kind.into(), subject, time, attributes, ..event() };
        Message::new(Arc::new(event), topic)
    }

    fn header(encoded: &Encoded, name: &str) -> Option<String> {
        let header = encoded.properties.headers().as_ref()?.inner().get(name)?;
        let AMQPValue::LongString(value) = header else { panic!("{name} is not a long string") };
        Some(value.to_string())
    }

    #[test]
    fn binary_mode_carries_attributes_in_headers() {
        let encoded =
            Encoder::new(Mode::Binary, false).encode(&message("msg_1", "io.videogen.file.ready", "file.ready"));
        let encoded = encoded.unwrap();
        let properties = &encoded.properties;
        assert_eq!(&*encoded.body, b"{ \"a\" : 1 }", "the signed bytes are unchanged");
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "msg_1");
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), "io.videogen.file.ready");
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
        assert_eq!(properties.app_id().as_ref().unwrap().as_str(), "hookbridge");
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(*properties.timestamp(), Some(1_795_435_200));
        for (name, value) in [
            ("specversion", "1.0"),
            ("id", "msg_1"),
            ("source", "https://api.videogen.io"),
            ("type", "io.videogen.file.ready"),
            ("subject", "größe"),
            ("time", "2026-11-23T12:00:00.5Z"),
            ("partitionkey", "vg_file_1"),
            ("env", "prod"),
        ] {
            assert_eq!(header(&encoded, &format!("cloudEvents_{name}")).as_deref(), Some(value), "{name}");
        }
        assert_eq!(header(&encoded, "cloudEvents_datacontenttype"), None, "the content-type property carries it");
        assert_eq!(header(&encoded, "webhook-signature"), None);
    }

    #[test]
    fn structured_mode_carries_one_json_object_and_the_signature() {
        let encoded = Encoder::new(Mode::Structured, true).encode(&message("msg_1", "t", "file.ready")).unwrap();
        assert_eq!(encoded.properties.content_type().as_ref().unwrap().as_str(), "application/cloudevents+json");
        let body: serde_json::Value = serde_json::from_slice(&encoded.body).unwrap();
        assert_eq!(body["id"], "msg_1");
        assert_eq!(header(&encoded, "cloudEvents_id"), None);
        assert_eq!(header(&encoded, "webhook-id").as_deref(), Some("msg_1"));
        assert_eq!(header(&encoded, "webhook-timestamp").as_deref(), Some("1795435200"));
        assert_eq!(header(&encoded, "webhook-signature").as_deref(), Some("v1,c2ln"));
    }

    #[test]
    fn no_length_of_a_name_panics() {
        let encoder = Encoder::new(Mode::Binary, true);
        for bytes in [0, 1, 254, 255, 256, 257, 4096, 65_536, 8 << 20] {
            let text = "x".repeat(bytes);
            let encoded = encoder.encode(&message(&text, &text, "file.ready")).unwrap();
            assert_eq!(encoded.properties.message_id().is_some(), bytes <= 255);
            assert_eq!(encoded.properties.kind().is_some(), bytes <= 255);
            assert_eq!(header(&encoded, "cloudEvents_id"), Some(text.clone()));
            assert!(encoded.header_bytes > 2 * bytes);
            let named = encoder.encode(&message("msg_1", "t", &text));
            assert_eq!(named.is_ok(), bytes <= 255);
        }
    }

    #[test]
    fn a_tag_depends_on_id_and_topic() {
        let encoder = Encoder::new(Mode::Binary, false);
        let tag = |id: &str, topic: &str| encoder.encode(&message(id, "t", topic)).unwrap().tag;
        assert_eq!(tag("msg_1", "a.b"), tag("msg_1", "a.b"));
        assert_ne!(tag("msg_1", "a.b"), tag("msg_1", "a.c"));
        assert_ne!(tag("msg_1", "a.b"), tag("msg_2", "a.b"));
        assert_eq!(tag(&"x".repeat(256), "a.b"), tag(&"y".repeat(300), "a.b"), "ids that are too long share a tag");
    }
}
