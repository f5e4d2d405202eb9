//! The normalized event: CloudEvents 1.0 attributes, and the bytes that were signed.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// A CloudEvent (specification 1.0) made from a delivery. `Debug` does not show the data: it holds signed URLs.
#[derive(Clone)]
pub struct Event {
    /// `id`: the webhook-id.
    pub id: Arc<str>,
    /// The source's name in the configuration: `{source}` in templates.
    pub source_name: Arc<str>,
    /// `source`: the source's URI.
    pub source: Arc<str>,
    /// The sender's own name of the event, such as `file.analysis_completed`: `{event}` in templates.
    pub name: String,
    /// Whether topology exists for `name`.
    pub known: bool,
    /// `type`: prefix and name.
    pub kind: String,
    /// `subject`: the resource that the event is about.
    pub subject: Option<String>,
    /// `time`: RFC 3339, UTC.
    pub time: String,
    /// `partitionkey`: the ordering key.
    pub partitionkey: Option<String>,
    /// `traceparent`: the delivery's trace.
    pub traceparent: Option<String>,
    /// `tracestate`.
    pub tracestate: Option<String>,
    /// `urlexpiry`: RFC 3339 time at which the first signed URL inside the data expires.
    pub urlexpiry: Option<String>,
    /// Static attributes of the source; their names were checked.
    pub attributes: Arc<[(String, String)]>,
    /// `webhook-timestamp` and `webhook-signature`, where a destination forwards them.
    pub signed: Signed,
    /// The bytes that were signed, unchanged: valid UTF-8, a JSON object.
    pub data: Bytes,
}

/// What a worker needs, besides id and body, to verify a delivery again.
#[derive(Clone, Default)]
pub struct Signed {
    /// `webhook-timestamp` as received.
    pub timestamp: String,
    /// `webhook-signature` as received.
    pub signature: String,
}

/// The media type of `data`.
pub const DATA_CONTENT_TYPE: &str = "application/json";
/// The media type of a structured event.
pub const STRUCTURED_CONTENT_TYPE: &str = "application/cloudevents+json";

impl Event {
    /// Every attribute in a fixed order, except `datacontenttype`, which each binding carries in its own way.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        let optional = [
            ("subject", &self.subject),
            ("partitionkey", &self.partitionkey),
            ("traceparent", &self.traceparent),
            ("tracestate", &self.tracestate),
            ("urlexpiry", &self.urlexpiry),
        ];
        [("specversion", "1.0"), ("id", &self.id), ("source", &self.source), ("type", &self.kind), ("time", &self.time)]
            .into_iter()
            .chain(optional.into_iter().filter_map(|(name, value)| value.as_deref().map(|value| (name, value))))
            .chain(self.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod fixture {
    //! One event for all unit tests.

    use super::*;

    /// An event with every attribute that a delivery always brings; tests change what they are about.
    pub(crate) fn event() -> Event {
        Event {
            id: "msg_1".into(),
            source_name: "videogen".into(),
            source: "https://api.videogen.io".into(),
            name: "file.ready".into(),
            known: true,
            kind: "io.videogen.file.ready".into(),
            subject: Some("vg_file_1".into()),
            time: "2026-11-23T12:00:00Z".into(),
            partitionkey: Some("vg_file_1".into()),
            traceparent: None,
            tracestate: None,
            urlexpiry: None,
            attributes: Arc::new([]),
            signed: Signed { timestamp: "1795435200".into(), signature: "v1,c2ln".into() },
            data: Bytes::from_static(b"{ \"a\" : 1 }"),
        }
    }
}
