//! A message as a Kafka record, as the CloudEvents Kafka protocol binding defines it.

use bytes::Bytes;
use rdkafka::message::{Header, OwnedHeaders};

use crate::destination::cloudevents::{CONTENT_ENCODING, MessageBody};
use crate::destination::settings::Mode;
use crate::message::Message;

/// Headers and value. The client sets the record's timestamp to the time of publishing: with the event's own time,
/// `retention.ms` would delete a replayed event at once, or `message.timestamp.*.max.ms` would refuse it. The event's time
/// is in `ce_time`.
pub(in crate::destination) struct EncodedRecord {
    pub(super) headers: OwnedHeaders,
    pub(super) value: Bytes,
    /// Bytes of a batch that holds only this record, to which `max.message.bytes` applies.
    pub(in crate::destination) size: usize,
}

/// Bytes of a batch before its first record (Kafka's `RecordBatch.RECORD_BATCH_OVERHEAD`).
const BATCH_OVERHEAD: usize = 61;

impl EncodedRecord {
    pub(in crate::destination) fn new(message: &Message, mode: Mode, forward_signature: bool) -> EncodedRecord {
        let event = &message.event;
        let mut headers = RecordHeaders { all: OwnedHeaders::new_with_capacity(16), count: 0, size: 0 };
        if mode == Mode::Binary {
            let mut name = String::with_capacity(32);
            for (attribute, value) in event.attributes() {
                name.clear();
                name.push_str("ce_");
                name.push_str(attribute);
                headers = headers.with(&name, value);
            }
        }
        let body = MessageBody::new(message, mode);
        headers = headers.with("content-type", body.content_type);
        if let Some(encoding) = body.content_encoding {
            headers = headers.with(CONTENT_ENCODING, encoding);
        }
        let value = body.bytes;
        if forward_signature {
            headers = headers
                .with("webhook-id", &event.id)
                .with("webhook-timestamp", &event.signed.timestamp)
                .with("webhook-signature", &event.signed.signature);
        }
        // Attributes and the first record's two deltas (one byte each), key, value and headers, preceded by their length.
        let key = message.key().map_or(1, |key| varint(key.len()) + key.len());
        let record = 3 + key + varint(value.len()) + value.len() + varint(headers.count) + headers.size;
        EncodedRecord { headers: headers.all, value, size: BATCH_OVERHEAD + varint(record) + record }
    }
}

struct RecordHeaders {
    all: OwnedHeaders,
    count: usize,
    size: usize,
}

impl RecordHeaders {
    fn with(self, key: &str, value: &str) -> RecordHeaders {
        let size = self.size + varint(key.len()) + key.len() + varint(value.len()) + value.len();
        RecordHeaders { all: self.all.insert(Header { key, value: Some(value) }), count: self.count + 1, size }
    }
}

/// Bytes of an encoded length: zigzag, then seven bits per byte.
fn varint(length: usize) -> usize {
    let bits = usize::BITS - (length << 1 | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_the_size_that_kafka_writes() {
        for (length, bytes) in [(0, 1), (63, 1), (64, 2), (8191, 2), (8192, 3), (1_048_575, 3), (1_048_576, 4)] {
            assert_eq!(varint(length), bytes, "{length}");
        }
    }
}
