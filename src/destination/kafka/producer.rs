//! The producer in use, and how one ends: nothing handed over is left without an outcome, nothing blocks an async thread.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{BaseRecord, Producer as _, PurgeConfig, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::oneshot;

use super::context::{Context, Ticket};
use super::outcome;
use super::record::Record;
use crate::message::{Message, Outcome};
use crate::reason::{Failure, Reason};

pub(super) type Producer = ThreadedProducer<Context>;

/// The topics that were found, and the largest message that each takes, where the broker tells.
pub(super) type Limits = Arc<RwLock<HashMap<String, Option<usize>>>>;

/// Holds the producer. The lock is held for a `produce` call, which only copies the message into librdkafka's queue.
pub(super) struct Slot(RwLock<State>);

enum State {
    Ready(Producer),
    /// The old one is ending, the new one not there yet.
    Replacing,
    Closed,
}

/// How long purged messages may take to report, at most: a quarter of all the time there is.
const PURGE: Duration = Duration::from_secs(2);

/// Makes a producer; does not wait for brokers.
pub(super) fn make(config: &ClientConfig, context: Context) -> KafkaResult<Producer> {
    config.create_with_context(context)
}

impl Slot {
    pub fn new(producer: Producer) -> Slot {
        Slot(RwLock::new(State::Ready(producer)))
    }

    /// Hands a record over.
    pub fn produce(&self, message: &Message, record: Record) -> Result<oneshot::Receiver<Outcome>, Outcome> {
        let (sender, receiver) = oneshot::channel();
        let Record { headers, value, size } = record;
        let state = self.0.read();
        let producer = match &*state {
            State::Ready(producer) => producer,
            State::Replacing => return Err(outcome::of_refusal(Code::Fatal)),
            State::Closed => return Err(Outcome::Again(Reason::Closing.into())),
        };
        let ticket = Ticket { outcome: sender, handed_over: Instant::now(), size };
        let mut record = BaseRecord::with_opaque_to(&message.topic, Box::new(ticket)).payload(&*value).headers(headers);
        record.key = message.key();
        producer.send(record).map(|()| receiver).map_err(|(error, _)| match error {
            KafkaError::MessageProduction(code) => {
                let context = producer.context();
                if code == Code::Fatal {
                    context.link.suspect();
                } else if outcome::is_topic_gone(code) && context.limits.read().contains_key(&*message.topic) {
                    context.link.look_at_topics();
                }
                outcome::of_refusal(code)
            }
            // A name with a NUL: names were checked.
            other => Outcome::Again(Failure::new(Reason::IllegalName, other.to_string())),
        })
    }

    /// The producer, for a question that may block. To be dropped on a thread that may block.
    pub fn get(&self) -> Option<Producer> {
        match &*self.0.read() {
            State::Ready(producer) => Some(producer.clone()),
            State::Replacing | State::Closed => None,
        }
    }

    /// The producer's fatal error, if it has one.
    pub fn fatal(&self) -> Option<Failure> {
        match &*self.0.read() {
            State::Ready(producer) => producer.client().fatal_error().map(|(code, about)| outcome::fatal(code, &about)),
            State::Replacing | State::Closed => None,
        }
    }

    /// Takes the producer out. When this returns, no hand-over to it is under way.
    pub fn take(&self) -> Option<Producer> {
        let mut state = self.0.write();
        match std::mem::replace(&mut *state, State::Replacing) {
            State::Ready(producer) => Some(producer),
            State::Replacing => None,
            State::Closed => {
                *state = State::Closed;
                None
            }
        }
    }

    /// Puts a new producer in; gives it back when this destination was closed meanwhile.
    pub fn put(&self, producer: Producer) -> Option<Producer> {
        let mut state = self.0.write();
        if let State::Closed = *state {
            return Some(producer);
        }
        *state = State::Ready(producer);
        None
    }

    /// From now on nothing is taken.
    pub fn close(&self) -> Option<Producer> {
        match std::mem::replace(&mut *self.0.write(), State::Closed) {
            State::Ready(producer) => Some(producer),
            State::Replacing | State::Closed => None,
        }
    }
}

/// Waits for outcomes at most as long as given, gives up on the rest (they report that they were purged), and says how
/// many those were. Blocks.
pub(super) fn drain(producer: &Producer, at_most: Duration, closing: bool) -> usize {
    producer.context().closing.store(closing, Relaxed);
    let purge = PURGE.min(at_most / 4);
    if producer.flush(at_most - purge).is_ok() {
        return 0;
    }
    let left = usize::try_from(producer.in_flight_count()).unwrap_or(0);
    producer.purge(PurgeConfig::default().queue().inflight());
    // All that can be missing now is the reports of the purge.
    let _ = producer.flush(purge);
    left
}

/// Runs what may block on a thread of its own, so that a runtime's end does not wait for it.
pub(super) fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    let spawned = std::thread::Builder::new().name("kafka-aside".into()).spawn(move || {
        let _ = sender.send(work());
    });
    if let Err(error) = spawned {
        tracing::error!("no thread for Kafka: {error}");
    }
    receiver
}

/// Drops a producer where it may block.
pub(super) fn discard(producer: Option<Producer>) {
    if let Some(producer) = producer {
        drop(aside(move || drop(producer)));
    }
}
