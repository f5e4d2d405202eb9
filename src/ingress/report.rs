//! What operators see of each request: metrics and log lines.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use axum::http::{HeaderMap, HeaderValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::answer::{Refused, Reply};
use crate::delivery::REQUEST_ID;
use crate::reason::Reason;
use crate::signature::{LEGACY_NAMES, STANDARD_NAMES};
use crate::source::Source;
use crate::telemetry::metrics::{AnswerLabel, KeyLabel, LetterLabel, Metrics, RefusalLabel, SourceLabel};
use crate::telemetry::throttle::Throttle;

/// Most characters of a value from a request in a log line.
const MOST_CHARACTERS: usize = 128;

/// Counts and logs what becomes of the requests of one source.
pub(super) struct SourceReport {
    source: Arc<str>,
    metrics: Arc<Metrics>,
    /// Every delivery changes it: looked up once.
    accepted: Counter,
    /// Absent before the first delivery.
    last_delivery: OnceLock<(Gauge<f64, AtomicU64>, Gauge)>,
    lines: Throttle<(u16, &'static str)>,
}

/// What a log line says of a request that was refused. Nothing in it is verified.
pub(super) struct RequestFacts {
    webhook_id: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
    peer: Option<SocketAddr>,
}

impl RequestFacts {
    pub(super) fn new(headers: &HeaderMap, legacy_headers: bool, peer: Option<SocketAddr>) -> Self {
        let legacy = || headers.get(&LEGACY_NAMES[0]).filter(|_| legacy_headers);
        let webhook_id = headers.get(&STANDARD_NAMES[0]).or_else(legacy).cloned();
        RequestFacts { webhook_id, request_id: headers.get(&REQUEST_ID).cloned(), peer }
    }
}

/// A header's value for a log line: escaped and cut.
struct Shown<'a>(&'a HeaderValue);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.as_bytes();
        write!(f, "{}", bytes[..bytes.len().min(MOST_CHARACTERS)].escape_ascii())
    }
}

impl SourceReport {
    /// Creates every series of the source, so that the first count of each is a change that alerts can see.
    pub(super) fn new(source: &Source, metrics: &Arc<Metrics>) -> Self {
        let name = || source.name.to_string();
        let label = SourceLabel { source: name() };
        for family in [&metrics.clock_refusals, &metrics.body_differs, &metrics.late] {
            drop(family.get_or_create(&label));
        }
        for outcome in Reply::OUTCOMES {
            drop(metrics.deliveries.get_or_create(&AnswerLabel { source: name(), outcome }));
        }
        for reason in Reason::ALL.iter().filter(|reason| reason.is_about_event()) {
            drop(metrics.dead_letters.get_or_create(&LetterLabel { source: name(), reason: reason.word() }));
        }
        for refused in Refused::all() {
            drop(metrics.refusals.get_or_create(&refusal_label(&source.name, refused)));
        }
        SourceReport {
            source: Arc::clone(&source.name),
            accepted: metrics.answered(&source.name, "accepted"),
            metrics: Arc::clone(metrics),
            last_delivery: OnceLock::new(),
            lines: Throttle::default(),
        }
    }

    /// A delivery was verified with the key at this position, counted from 0. `now` and `timestamp` are unix seconds.
    pub(super) fn verified(&self, key: usize, now: i64, timestamp: i64) {
        let source = || self.source.to_string();
        let (last_delivery, clock_offset) = self.last_delivery.get_or_init(|| {
            let label = SourceLabel { source: source() };
            (
                self.metrics.last_delivery.get_or_create_owned(&label),
                self.metrics.clock_offset.get_or_create_owned(&label),
            )
        });
        last_delivery.set(now as f64);
        clock_offset.set(now - timestamp);
        self.metrics.verified.get_or_create(&KeyLabel { source: source(), key: key as u64 + 1 }).inc();
    }

    /// A delivery has a good signature, but its time is outside the tolerance.
    pub(super) fn bad_clock(&self, id: &str, offset_seconds: i64) {
        self.metrics.clock_refusals.get_or_create(&SourceLabel { source: self.source.to_string() }).inc();
        tracing::warn!(
            source = %self.source, webhook_id = id, offset_seconds,
            "a good signature with a bad time: check this machine's clock"
        );
    }

    /// The work on a delivery ended after its request was answered.
    pub(super) fn late(&self) {
        self.metrics.late.get_or_create(&SourceLabel { source: self.source.to_string() }).inc();
    }

    /// A request is answered. One that is refused has a line: one in ten seconds for each status and reason.
    pub(super) fn answered(&self, reply: &Reply, request: &RequestFacts) {
        match reply {
            Reply::Done { status: "accepted", .. } => drop(self.accepted.inc()),
            Reply::Done { status, .. } => drop(self.metrics.answered(&self.source, status).inc()),
            Reply::Refused(refused) => {
                let (status, reason) = (refused.status().as_u16(), refused.word());
                self.metrics.refusals.get_or_create(&refusal_label(&self.source, *refused)).inc();
                let outcome = if status == 503 { "unavailable" } else { "refused" };
                self.metrics.answered(&self.source, outcome).inc();
                let Some(suppressed) = self.lines.admit((status, reason)) else { return };
                tracing::warn!(
                    status, reason, source = %self.source,
                    webhook_id = request.webhook_id.as_ref().map(|id| tracing::field::display(Shown(id))),
                    request_id = request.request_id.as_ref().map(|id| tracing::field::display(Shown(id))),
                    peer = request.peer.map(tracing::field::display), suppressed, "refused"
                );
            }
        }
    }
}

fn refusal_label(source: &str, refused: Refused) -> RefusalLabel {
    RefusalLabel { source: source.into(), status: refused.status().as_u16(), reason: refused.word() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_requests_are_escaped_and_cut() {
        let value = HeaderValue::from_bytes(&[b"\xff\"".as_slice(), &[b'a'; 500]].concat()).unwrap();
        let shown = Shown(&value).to_string();
        assert_eq!(shown, format!("\\xff\\\"{}", "a".repeat(126)));
    }
}
