//! Messages in flight and the producer that carries them. A message is a copy in librdkafka's queue until its delivery
//! report arrives; a producer that ends first reports every message that it still carries.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::Instant;

use parking_lot::RwLock;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, Producer as _, PurgeConfig};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::oneshot;

use super::connection::Producer;
use super::context::PendingReport;
use super::message::EncodedRecord;
use super::{blocking, outcome};
use crate::message::{Message, Outcome};
use crate::reason::{Failure, Reason};

/// Longest time for the reports of purged messages. At most a quarter of the time to drain is used for them.
const PURGE: Duration = Duration::from_secs(2);

/// Holds the producer. Publishes share the lock for the `produce` call, which only copies the message into librdkafka's
/// queue.
pub(super) struct ProducerSlot(RwLock<SlotState>);

struct SlotState {
    /// `None` while the producer is being replaced, and after the slot was closed.
    producer: Option<Producer>,
    closed: bool,
}

impl ProducerSlot {
    pub(super) fn new(producer: Producer) -> ProducerSlot {
        ProducerSlot(RwLock::new(SlotState { producer: Some(producer), closed: false }))
    }

    /// Copies a message into the producer's queue. The receiver gets the outcome; it fails if the producer ends without a
    /// report.
    ///
    /// # Errors
    /// The outcome of a message that librdkafka does not take.
    pub(super) fn produce(
        &self,
        message: &Message,
        record: EncodedRecord,
    ) -> Result<oneshot::Receiver<Outcome>, Outcome> {
        let (reply, report) = oneshot::channel();
        let EncodedRecord { headers, value, size } = record;
        let state = self.0.read();
        let Some(producer) = &state.producer else {
            return Err(if state.closed {
                Outcome::Again(Reason::Closing.into())
            } else {
                outcome::of_refusal(Code::Fatal)
            });
        };
        let pending = Box::new(PendingReport { reply, produced: Instant::now(), size });
        let mut record = BaseRecord::with_opaque_to(&message.topic, pending).payload(&*value).headers(headers);
        record.key = message.key();
        producer.send(record).map(|()| report).map_err(|(error, _)| match error {
            KafkaError::MessageProduction(code) => {
                let cluster = &producer.context().cluster;
                if code == Code::Fatal {
                    cluster.suspect_producer();
                } else if outcome::is_topic_suspect(code) {
                    cluster.suspect_topic(&message.topic);
                }
                outcome::of_refusal(code)
            }
            // A NUL in the topic, which the check of names excludes.
            other => Outcome::Again(Failure::new(Reason::IllegalName, other.to_string())),
        })
    }

    /// The producer, for a call that blocks. The last clone blocks when it is dropped.
    pub(super) fn get(&self) -> Option<Producer> {
        self.0.read().producer.clone()
    }

    /// The producer's fatal error, if it has one.
    pub(super) fn fatal_error(&self) -> Option<Failure> {
        let (code, about) = self.0.read().producer.as_ref()?.client().fatal_error()?;
        Some(outcome::of_fatal_error(code, &about))
    }

    /// Takes the producer out, to replace it. No `produce` call on it is under way when this returns.
    pub(super) fn take(&self) -> Option<Producer> {
        self.0.write().producer.take()
    }

    /// Puts a new producer in. Returns it if the slot was closed in the meantime.
    pub(super) fn put(&self, producer: Producer) -> Option<Producer> {
        let mut state = self.0.write();
        if state.closed { Some(producer) } else { state.producer.replace(producer) }
    }

    /// Refuses messages from now on. Returns the producer.
    pub(super) fn close(&self) -> Option<Producer> {
        let mut state = self.0.write();
        state.closed = true;
        state.producer.take()
    }
}

/// Waits for the outcomes of all messages in flight, then purges the rest, which are reported as such. Returns the number
/// of purged messages. Blocks, at most for the given time.
pub(super) fn drain(producer: &Producer, at_most: Duration, closing: bool) -> usize {
    producer.context().closing.store(closing, Relaxed);
    let purge = PURGE.min(at_most / 4);
    if producer.flush(at_most - purge).is_ok() {
        return 0;
    }
    let left = usize::try_from(producer.in_flight_count()).unwrap_or(0);
    producer.purge(PurgeConfig::default().queue().inflight());
    // An error means that reports are still missing. Their receivers then fail with the producer.
    let _ = producer.flush(purge);
    left
}

/// Drops a producer on a thread that may block.
pub(super) fn discard(producer: Option<Producer>) {
    if let Some(producer) = producer {
        drop(blocking::spawn(move || drop(producer)));
    }
}
