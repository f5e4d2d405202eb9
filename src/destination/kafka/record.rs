//! A message as a Kafka record: CloudEvents' Kafka protocol binding.

use bytes::Bytes;
use rdkafka::message::{Header, OwnedHeaders};

use crate::destination::cloudevents;
use crate::destination::settings::Mode;
use crate::event::{DATA_CONTENT_TYPE, STRUCTURED_CONTENT_TYPE};
use crate::message::Message;

/// Headers and value. The record's timestamp is left to the client (the time of publishing): with the event's own time,
/// a replayed event would be deleted at once by `retention.ms`, or refused by `message.timestamp.*.max.ms`. The event's
/// time is in `ce_time`.
pub(super) struct Record {
    pub headers: OwnedHeaders,
    pub value: Bytes,
    /// Bytes of a batch that holds nothing else: what `max.message.bytes` is about.
    pub size: usize,
}

/// A batch before its first record (`RecordBatch.RECORD_BATCH_OVERHEAD`).
const BATCH: usize = 61;

impl Record {
    pub fn new(message: &Message, mode: Mode, forward_signature: bool) -> Record {
        let event = &message.event;
        let mut headers = Headers { all: OwnedHeaders::new_with_capacity(16), count: 0, size: 0 };
        let value = match mode {
            Mode::Binary => {
                let mut name = String::with_capacity(32);
                for (attribute, value) in event.attributes() {
                    name.clear();
                    name.push_str("ce_");
                    name.push_str(attribute);
                    headers = headers.with(&name, value);
                }
                headers = headers.with("content-type", DATA_CONTENT_TYPE);
                event.data.clone()
            }
            Mode::Structured => {
                headers = headers.with("content-type", STRUCTURED_CONTENT_TYPE);
                cloudevents::structured(event)
            }
        };
        if forward_signature {
            headers = headers
                .with("webhook-id", &event.id)
                .with("webhook-timestamp", &event.signed.timestamp)
                .with("webhook-signature", &event.signed.signature);
        }
        // Attributes, two deltas of the first record (one byte each), key, value, headers; before them their length.
        let key = message.key().map_or(1, |key| varint(key.len()) + key.len());
        let record = 3 + key + varint(value.len()) + value.len() + varint(headers.count) + headers.size;
        Record { headers: headers.all, value, size: BATCH + varint(record) + record }
    }
}

struct Headers {
    all: OwnedHeaders,
    count: usize,
    size: usize,
}

impl Headers {
    fn with(self, key: &str, value: &str) -> Headers {
        let size = self.size + varint(key.len()) + key.len() + varint(value.len()) + value.len();
        Headers { all: self.all.insert(Header { key, value: Some(value) }), count: self.count + 1, size }
    }
}

/// Bytes of a length: zigzag, then seven bits to a byte.
fn varint(length: usize) -> usize {
    let bits = usize::BITS - (length << 1 | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_as_kafka_writes_them() {
        for (length, bytes) in [(0, 1), (63, 1), (64, 2), (8191, 2), (8192, 3), (1_048_575, 3), (1_048_576, 4)] {
            assert_eq!(varint(length), bytes, "{length}");
        }
    }
}
