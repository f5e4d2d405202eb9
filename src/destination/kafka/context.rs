//! Callbacks of librdkafka, on the producer's own polling thread: delivery reports, errors, statistics, log lines. A callback
//! that panics would end that thread, and no message would have an outcome any more: the destination ends instead, and is
//! opened again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

use parking_lot::RwLock;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{NoCustomPartitioner, ProducerContext};
use rdkafka::types::RDKafkaErrorCode as Code;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::cluster::Cluster;
use super::outcome::{self, History};
use super::trouble;
use crate::destination::keeper;
use crate::message::Outcome;

/// Largest batch, in bytes. It is small because the broker's limit applies to the batch: a larger message is alone in its
/// batch, so a refusal as too large is about that message.
pub(super) const BATCH_BYTES: usize = 128 * 1024;

/// librdkafka suppresses a repeated error of a broker for 30 s.
const SUPPRESSED: Duration = Duration::from_secs(35);
/// A message that waited this long may have been sent and refused before, and librdkafka may have suppressed that error.
const LINGERED: Duration = Duration::from_secs(2);

/// The callbacks of one producer.
pub(super) struct Context {
    pub(super) cluster: Arc<Cluster>,
    /// Whether the producer is closed for a shutdown, which then explains purged messages.
    pub(super) closing: AtomicBool,
    oversize: Oversize,
    /// When a connection last failed.
    disturbed: RwLock<Option<Instant>>,
}

/// What librdkafka keeps with a message and returns with its delivery report.
pub(super) struct PendingReport {
    pub(super) reply: oneshot::Sender<Outcome>,
    pub(super) produced: Instant,
    /// Bytes of a batch that holds only this message.
    pub(super) size: usize,
}

/// Decides whether a message that was refused as too large is itself too large, not only its batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Oversize {
    /// Messages are compressed, so their size on the wire is not known.
    pub(super) compressed: bool,
}

impl Oversize {
    /// Whether a message of this size is itself too large for a topic with this limit, where that is known.
    fn applies(self, size: usize, limit: Option<usize>) -> bool {
        size > BATCH_BYTES || (!self.compressed && limit.is_some_and(|limit| size > limit))
    }
}

impl Context {
    pub(super) fn new(cluster: Arc<Cluster>, oversize: Oversize) -> Context {
        Context { cluster, closing: AtomicBool::new(false), oversize, disturbed: RwLock::new(None) }
    }

    /// A connection failed: an attempt before this one may have stored a message whose last attempt was refused.
    fn disturb(&self) {
        *self.disturbed.write() = Some(Instant::now());
    }

    fn outcome_of(&self, code: Code, topic: &str, pending: &PendingReport) -> Outcome {
        let history = History {
            disturbed: self.disturbed.read().is_some_and(|at| at + SUPPRESSED > pending.produced),
            lingered: pending.produced.elapsed() > LINGERED,
            oversized: self.oversize.applies(pending.size, self.cluster.limit(topic)),
            closing: self.closing.load(Relaxed),
        };
        outcome::of_report(code, history)
    }
}

impl ProducerContext<NoCustomPartitioner> for Context {
    type DeliveryOpaque = Box<PendingReport>;

    fn delivery(&self, report: &DeliveryResult<'_>, pending: Box<PendingReport>) {
        self.callback("delivery report", || self.reported(report, *pending));
    }
}

impl Context {
    fn callback(&self, name: &'static str, work: impl FnOnce()) {
        keeper::callback(name, work, |failure| self.cluster.end(failure));
    }

    fn reported(&self, report: &DeliveryResult<'_>, pending: PendingReport) {
        let outcome = match report {
            Ok(message) => {
                self.cluster.topic_confirmed(message.topic());
                outcome::of_success(message.offset())
            }
            Err((error, message)) => {
                let (code, topic) = (error.rdkafka_error_code().unwrap_or(Code::Unknown), message.topic());
                if outcome::is_topic_suspect(code) {
                    self.cluster.suspect_topic(topic);
                } else if code == Code::TopicAuthorizationFailed {
                    self.cluster.topic_refused(topic);
                }
                self.outcome_of(code, topic, &pending)
            }
        };
        // The publisher may have stopped waiting.
        let _ = pending.reply.send(outcome);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.callback("log line", || self.logged(level, facility, line));
    }

    fn error(&self, error: KafkaError, about: &str) {
        self.callback("error", || self.failed(&error, about));
    }

    fn stats_raw(&self, json: &[u8]) {
        self.callback("statistics", || self.counted(json));
    }
}

impl Context {
    fn logged(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        // librdkafka raises no error for a connection that the broker closed, nor for a request without an answer. It only
        // logs them, before it reports the messages.
        if matches!(facility, "FAIL" | "REQTMOUT") {
            self.disturb();
            self.cluster.connection_closed(trouble::of_line(line));
        }
        log(self.cluster.status().name(), level, facility, line);
    }

    // rdkafka 0.39 calls this twice for each error (`poll_event`, then `BaseProducer::poll`), so it must be idempotent.
    fn failed(&self, error: &KafkaError, about: &str) {
        self.disturb();
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        match trouble::of_error(code, about) {
            Some(failure) => self.cluster.connection_failed(failure),
            None if code == Code::AllBrokersDown => self.cluster.connections_lost(),
            // librdkafka raises a fatal error as `Fatal` or as the error that caused it.
            None => self.cluster.suspect_producer(),
        }
    }

    fn counted(&self, json: &[u8]) {
        let Ok(statistics) = serde_json::from_slice::<Statistics>(json) else { return };
        let brokers = statistics.brokers.values().filter(|broker| broker.nodeid >= 0);
        let round_trip = brokers.clone().filter_map(|broker| broker.rtt.as_ref()).map(|rtt| rtt.p99).max();
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let (metrics, label) = self.cluster.status().metrics();
        metrics.kafka_queue.get_or_create(label).set(gauge(statistics.msg_cnt));
        metrics.kafka_queue_bytes.get_or_create(label).set(gauge(statistics.msg_size));
        metrics.kafka_round_trip.get_or_create(label).set(round_trip.unwrap_or(0) as f64 / 1e6);
        let up = brokers.clone().filter(|broker| broker.state == "UP").count();
        metrics.kafka_brokers.get_or_create(label).set(gauge(up as u64));
        self.cluster.connections_counted(up);
    }
}

/// Writes a line of librdkafka to the log, one level lower than librdkafka rates it: a change of state has its own line.
pub(super) fn log(destination: &str, level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::warn!(destination, facility, "librdkafka: {line}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::info!(destination, facility, "librdkafka: {line}");
        }
        _ => tracing::debug!(destination, facility, "librdkafka: {line}"),
    }
}

/// The fields that are read of librdkafka's statistics (its `STATISTICS.md`).
#[derive(Deserialize)]
struct Statistics {
    msg_cnt: u64,
    msg_size: u64,
    brokers: HashMap<String, BrokerStatistics>,
}

#[derive(Deserialize)]
struct BrokerStatistics {
    /// -1 for a bootstrap address.
    nodeid: i32,
    state: String,
    rtt: Option<RoundTrip>,
}

/// In microseconds.
#[derive(Deserialize)]
struct RoundTrip {
    p99: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oversize_is_certain_only_without_compression_or_above_the_batch_size() {
        let (plain, compressed) = (Oversize { compressed: false }, Oversize { compressed: true });
        for (size, limit, of_plain, of_compressed) in [
            (1000, Some(1000), false, false),
            (1001, Some(1000), true, false),
            (1001, None, false, false),
            (BATCH_BYTES + 1, None, true, true),
        ] {
            assert_eq!(plain.applies(size, limit), of_plain, "{size} {limit:?}");
            assert_eq!(compressed.applies(size, limit), of_compressed, "{size} {limit:?} compressed");
        }
    }
}
