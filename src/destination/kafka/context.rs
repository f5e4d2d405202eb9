//! What librdkafka calls back, on the producer's own polling thread: delivery reports, errors, statistics, log lines.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{NoCustomPartitioner, ProducerContext};
use rdkafka::types::RDKafkaErrorCode as Code;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::client::Alone;
use super::link::Link;
use super::outcome::{self, History};
use super::producer::Limits;
use crate::message::Outcome;
use crate::reason::{Failure, Reason};
use crate::telemetry::metrics::{Metrics, OfDestination};

/// One per producer.
pub(super) struct Context {
    pub link: Arc<Link>,
    pub limits: Limits,
    pub metrics: Arc<Metrics>,
    pub label: OfDestination,
    alone: Alone,
    /// When a connection last failed.
    disturbed: RwLock<Option<Instant>>,
    /// Whether what is purged from now on is purged by a shutdown.
    pub closing: AtomicBool,
}

/// What goes with a message, and comes back with its report.
pub(super) struct Ticket {
    pub outcome: oneshot::Sender<Outcome>,
    pub handed_over: Instant,
    pub size: usize,
}

/// librdkafka keeps the same error of the same broker to itself for 30 s.
const SUPPRESSED: Duration = Duration::from_secs(35);
/// A message that has waited this long may have been refused in a way that librdkafka repeats silently.
const LINGERED: Duration = Duration::from_secs(2);

impl Context {
    pub fn new(link: Arc<Link>, limits: Limits, metrics: Arc<Metrics>, label: OfDestination, alone: Alone) -> Context {
        Context { link, limits, metrics, label, alone, disturbed: RwLock::new(None), closing: AtomicBool::new(false) }
    }

    /// From now on what is refused may be stored all the same, by an attempt before the one that was refused.
    fn disturb(&self) {
        *self.disturbed.write() = Some(Instant::now());
    }

    fn judge(&self, code: Code, topic: &str, ticket: &Ticket) -> Outcome {
        let disturbed = self.disturbed.read().is_some_and(|at| at + SUPPRESSED > ticket.handed_over);
        let limit = self.limits.read().get(topic).copied().flatten();
        let history = History {
            disturbed,
            lingered: ticket.handed_over.elapsed() > LINGERED,
            oversized: self.alone.too_large(ticket.size, limit),
            closing: self.closing.load(Relaxed),
        };
        outcome::of_report(code, history)
    }
}

impl ProducerContext<NoCustomPartitioner> for Context {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, report: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let outcome = match report {
            Ok(message) => outcome::of_success(message.offset()),
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                // Others than those of the routes are nobody's to make.
                if outcome::is_topic_gone(code) && self.limits.read().contains_key(message.topic()) {
                    self.link.look_at_topics();
                }
                self.judge(code, message.topic(), &ticket)
            }
        };
        // Nobody may be waiting any more.
        let _ = ticket.outcome.send(outcome);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        // A connection that the other side closed, or a request without an answer, is no error to librdkafka: only its
        // log tells, before the reports that come of it.
        if matches!(facility, "FAIL" | "REQTMOUT") {
            self.disturb();
        }
        log(&self.label.destination, level, facility, line);
    }

    // Called twice for each error by rdkafka 0.39 (`poll_event`, then `BaseProducer::poll`): all of it can be repeated.
    fn error(&self, error: KafkaError, about: &str) {
        self.disturb();
        let reason = match error.rdkafka_error_code().unwrap_or(Code::Unknown) {
            Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
                Reason::NotAuthorized
            }
            Code::BrokerTransportFailure | Code::Resolve | Code::SSL | Code::AllBrokersDown => Reason::Unreachable,
            Code::OperationTimedOut | Code::TimedOutQueue | Code::NetworkException => Reason::Unreachable,
            // Perhaps fatal: librdkafka tells a fatal error by `Fatal` or by what caused it.
            _ => return self.link.suspect(),
        };
        if error.rdkafka_error_code() == Some(Code::AllBrokersDown) {
            self.link.lost();
        } else {
            self.link.trouble(Failure::new(reason, about.to_string()));
        }
    }

    fn stats_raw(&self, json: &[u8]) {
        let Ok(statistics) = serde_json::from_slice::<Statistics>(json) else { return };
        let brokers = statistics.brokers.values().filter(|broker| broker.nodeid >= 0);
        let rtt = brokers.clone().filter_map(|broker| broker.rtt.as_ref()).map(|rtt| rtt.p99).max();
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let (metrics, label) = (&self.metrics, &self.label);
        metrics.kafka_queue.get_or_create(label).set(gauge(statistics.msg_cnt));
        metrics.kafka_queue_bytes.get_or_create(label).set(gauge(statistics.msg_size));
        metrics.kafka_round_trip.get_or_create(label).set(rtt.unwrap_or(0) as f64 / 1e6);
        let up = brokers.clone().filter(|broker| broker.state == "UP").count();
        metrics.kafka_brokers.get_or_create(label).set(gauge(up as u64));
        if up == 0 {
            self.link.doubt();
        }
    }
}

/// librdkafka's lines, one level lower than it thinks: what matters is said once, when the state changes.
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

/// The few statistics that are read.
#[derive(Deserialize)]
struct Statistics {
    msg_cnt: u64,
    msg_size: u64,
    brokers: HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    nodeid: i32,
    state: String,
    rtt: Option<Window>,
}

#[derive(Deserialize)]
struct Window {
    p99: i64,
}
