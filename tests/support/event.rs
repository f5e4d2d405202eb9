//! Sample events and messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use hookbridge::event::{Event, Signed};
use hookbridge::message::Message;

/// A name that no other test uses, for topics, streams and exchanges. Legal on every broker.
pub fn scope() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let random: u32 = rand::random();
    format!("t{random:08x}n{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An event with every attribute, and with text that each binding must encode.
pub fn event(id: &str) -> Event {
    let data = format!(
        "{{ \"event\" : \"file.analysis_completed\",\n  \"fileId\" : \"{id}\", \"text\": \"a b \\\" é €\", \"n\": 1.50 }}"
    );
    Event {
        id: id.into(),
        source_name: "videogen".into(),
        source: "https://api.videogen.io".into(),
        name: "file.analysis_completed".into(),
        known: true,
        kind: "io.videogen.file.analysis_completed".into(),
        subject: Some(format!("vg file 100% \"é€\" {id}")),
        time: "2026-11-23T12:00:00Z".into(),
        partitionkey: Some("the key €".into()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        tracestate: Some("vendor=a b,other=1".into()),
        urlexpiry: Some("2026-11-30T12:00:00Z".into()),
        attributes: Arc::new([("env".into(), "prod".into()), ("tenant".into(), "größe".into())]),
        signed: Signed { timestamp: "1795435200".into(), signature: "v1,c2lnbmF0dXJl".into() },
        data: data.into_bytes().into(),
    }
}

/// The same event with a body of exactly this many bytes.
pub fn event_of(id: &str, bytes: usize) -> Event {
    let (head, tail) = ("{\"text\":\"", "\"}");
    let text = "x".repeat(bytes.checked_sub(head.len() + tail.len()).expect("larger than the JSON around the text"));
    Event { data: Bytes::from(format!("{head}{text}{tail}")), ..event(id) }
}

/// A message with an event for a topic.
pub fn message(topic: &str, event: Event) -> Message {
    Message::new(Arc::new(event), topic)
}
