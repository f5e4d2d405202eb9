//! The courier takes a claimed delivery to its targets: it publishes to those that are not settled yet, records what
//! becomes known, and returns what the ledger says of it (P5).
//!
//! ```text
//! job ─ publish to every open target ─ outcomes ─┬ confirmed ─────────────────────── fact
//!                                                ├ never ─ dead letter kept, or published likewise ─ fact
//!                                                └ again, unknown ─ logged, counted
//! facts ─ ledger.record (at once when a slow target holds the rest up) ─ how the delivery ended
//! ```
//! Who waits for the result, and what is tried again when, is the caller's concern.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, timeout};

use crate::dead_letter;
use crate::delivery::Delivery;
use crate::destination::Handle;
use crate::event::Event;
use crate::ledger::{DeadLetter, Ledger, Record};
use crate::message::{Message, Outcome};
use crate::protocol::{End, Fact, Known, Target, Ticket};
use crate::reason::{Failure, Reason};
use crate::route::{Planned, Routes};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::throttle::Throttle;

/// How long confirmed targets wait for slow ones before their facts are recorded alone. Until then a delivery costs one
/// commit.
const PARTIAL: Duration = Duration::from_millis(200);

/// All destinations, and where facts and dead letters go.
pub struct Courier {
    destinations: HashMap<Arc<str>, Handle>,
    ledger: Arc<dyn Ledger>,
    /// The destination that takes dead letters if the ledger keeps none.
    dead_letters_to: Option<Arc<str>>,
    metrics: Arc<Metrics>,
    /// In an outage, every delivery fails: not each failure is logged.
    lines: Throttle<(Line, Option<Arc<str>>, Reason)>,
}

/// What a log line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Line {
    NotConfirmed,
    DeadLetter,
    LetterNotConfirmed,
    NotRecorded,
}

/// A delivery that is claimed and planned.
pub struct Job {
    /// What dead letters keep.
    pub delivery: Delivery,
    /// The event; `None` if the delivery cannot be normalized.
    pub event: Option<Arc<Event>>,
    /// Its targets, settled or not.
    pub planned: Vec<Planned>,
    /// What is known of them.
    pub known: Known,
    /// The right to publish.
    pub ticket: Ticket,
    /// Hash of the body.
    pub body_hash: u32,
}

/// Publishes in progress. Dropping this does not stop them: their outcomes are then lost.
type OpenPublishes = FuturesUnordered<BoxFuture<'static, (Published, Outcome)>>;

/// What was published.
enum Published {
    /// The event, to this target.
    Event(Target),
    /// The dead letter of this target, which can never take the event for this reason.
    Letter(Target, Reason),
}

/// What the end of a publish means for its target.
enum Progress {
    /// The target is settled.
    Settled(Fact),
    /// It is settled once its dead letter is confirmed.
    Letter(BoxFuture<'static, (Published, Outcome)>),
    /// It is still open.
    Open(Reason),
}

impl Courier {
    /// A courier for these destinations.
    pub fn new(
        destinations: impl IntoIterator<Item = Handle>,
        ledger: Arc<dyn Ledger>,
        dead_letters_to: Option<Arc<str>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let destinations = destinations.into_iter().map(|handle| (Arc::clone(handle.name()), handle)).collect();
        Courier { destinations, ledger, dead_letters_to, metrics, lines: Throttle::default() }
    }

    /// Every destination.
    pub fn destinations(&self) -> impl Iterator<Item = &Handle> {
        self.destinations.values()
    }

    /// Publishes to every target that is not settled (G5) and records the outcomes. Returns how the delivery ended.
    ///
    /// # Errors
    /// It is still open: why the last target that failed was not confirmed, or why the facts could not be recorded.
    pub async fn deliver(&self, job: Job) -> Result<End, Reason> {
        let started = Instant::now();
        let Job { delivery, event, planned, known, ticket, body_hash } = job;
        let targets: Vec<Target> = planned.iter().map(|planned| planned.target.clone()).collect();
        let open = planned.into_iter().filter(|planned| !known.skips(&planned.target));
        let begun = open.map(|planned| self.publish(Published::Event(planned.target.clone()), planned));
        let mut publishes: OpenPublishes = begun.collect();
        let event = event.map(|event| event.name.clone());
        let delivered = Delivered { delivery, event };
        let mut record = Record { targets, body_hash, ..Record::default() };
        let mut why = Reason::InFlight;
        loop {
            let next = publishes.next();
            let next = if record.facts.is_empty() { Ok(next.await) } else { timeout(PARTIAL, next).await };
            match next {
                Ok(None) => break,
                Ok(Some((published, outcome))) => {
                    match self.progress(&delivered, published, outcome, &mut record.dead) {
                        Progress::Settled(fact) => record.facts.push(fact),
                        Progress::Letter(publish) => publishes.push(publish),
                        Progress::Open(reason) => why = reason,
                    }
                }
                Err(_) => {
                    // Other targets are slow. What is known now must survive this process.
                    let rest = Record { targets: record.targets.clone(), body_hash, ..Record::default() };
                    let partial = std::mem::replace(&mut record, rest);
                    if let Err(reason) = self.record(&delivered, ticket, partial).await {
                        why = reason;
                    }
                }
            }
        }
        let targets = tracing::enabled!(tracing::Level::DEBUG).then(|| record.targets.clone()).unwrap_or_default();
        let end = self.record(&delivered, ticket, record).await?.ok_or(why)?;
        delivered.log_end(end, &targets, started.elapsed());
        Ok(end)
    }

    /// Starts a publish; in progress when this returns.
    fn publish(&self, published: Published, planned: Planned) -> BoxFuture<'static, (Published, Outcome)> {
        let Planned { target, message } = planned;
        let handle = target.destination.as_ref().and_then(|destination| self.destinations.get(destination));
        let outcome = match (message, handle) {
            (Err(failure), _) => std::future::ready(Outcome::Never(failure)).boxed(),
            (Ok(message), Some(handle)) => handle.publish(message),
            (Ok(_), None) => {
                let detail = "an earlier configuration's destination is missing from this one: restore it, or wait until \
                              the id expires";
                std::future::ready(Outcome::Again(Failure::new(Reason::Topology, detail))).boxed()
            }
        };
        outcome.map(|outcome| (published, outcome)).boxed()
    }

    /// What an outcome means. The dead letter of a target that can never take the event is published here, or put into
    /// `letter` for the ledger.
    fn progress(
        &self,
        delivered: &Delivered,
        published: Published,
        outcome: Outcome,
        letter: &mut Option<DeadLetter>,
    ) -> Progress {
        let target = match published {
            Published::Event(target) => target,
            Published::Letter(target, reason) => return self.letter_progress(delivered, target, reason, &outcome),
        };
        let word = outcome.word();
        match outcome {
            Outcome::Confirmed => Progress::Settled(Fact::Confirmed(target)),
            Outcome::Again(failure) | Outcome::Unknown(failure) => {
                if let Some(suppressed) = self.admit(Line::NotConfirmed, target.destination.as_ref(), &failure) {
                    delivered.log(&target, word, &failure, suppressed);
                }
                Progress::Open(failure.reason)
            }
            Outcome::Never(failure) => {
                // What the whole delivery is refused for concerns its source: each has a first line.
                let about = target.destination.as_ref().unwrap_or(&delivered.delivery.key.source);
                if let Some(suppressed) = self.admit(Line::DeadLetter, Some(about), &failure) {
                    delivered.log_dead(&target, &failure, suppressed);
                }
                let reason = failure.reason;
                if self.ledger.keeps_dead_letters() {
                    letter.get_or_insert_with(|| delivered.letter(failure));
                    return Progress::Settled(Fact::Dead(target, reason));
                }
                // It is never dropped silently (G7).
                let Some(to) = &self.dead_letters_to else { return Progress::Open(Reason::NoDeadLetters) };
                let planned = dead_letter::planned(to, &delivered.letter(failure), &target);
                Progress::Letter(self.publish(Published::Letter(target, reason), planned))
            }
        }
    }

    /// What the outcome of a dead letter's own publish means.
    fn letter_progress(&self, delivered: &Delivered, target: Target, reason: Reason, outcome: &Outcome) -> Progress {
        let Some(failure) = outcome.failure() else { return Progress::Settled(Fact::Dead(target, reason)) };
        let to = self.dead_letters_to.as_ref();
        if let Some(suppressed) = self.admit(Line::LetterNotConfirmed, to, failure) {
            tracing::warn!(
                webhook_id = %delivered.delivery.key.id, destination = to.map(|to| &**to), %failure, suppressed,
                "dead letter not confirmed"
            );
        }
        Progress::Open(failure.reason)
    }

    /// Whether a line is logged, and the number suppressed before it.
    fn admit(&self, line: Line, about: Option<&Arc<str>>, failure: &Failure) -> Option<u64> {
        self.lines.admit((line, about.cloned(), failure.reason))
    }

    async fn record(&self, delivered: &Delivered, ticket: Ticket, record: Record) -> Result<Option<End>, Reason> {
        let started = Instant::now();
        let key = &delivered.delivery.key;
        let recorded = self.ledger.record(key, ticket, record).await;
        self.metrics.settle_seconds.observe(started.elapsed().as_secs_f64());
        recorded.map_err(|failure| {
            if let Some(suppressed) = self.admit(Line::NotRecorded, None, &failure) {
                tracing::warn!(webhook_id = %key.id, %failure, suppressed, "facts not recorded");
            }
            failure.reason
        })
    }
}

/// A delivery on its way, for log lines and dead letters.
struct Delivered {
    delivery: Delivery,
    /// The event's name.
    event: Option<String>,
}

impl Delivered {
    fn letter(&self, failure: Failure) -> DeadLetter {
        DeadLetter { delivery: self.delivery.clone(), event: self.event.clone(), failure }
    }

    fn log_end(&self, end: End, targets: &[Target], took: Duration) {
        for target in targets {
            tracing::debug!(
                webhook_id = %self.delivery.key.id, request_id = self.delivery.request_id(),
                source = %self.delivery.key.source, event = self.event, destination = target.destination.as_deref(),
                topic = target.topic.as_deref(), milliseconds = took.as_secs_f64() * 1e3, end = end.word(), "ended"
            );
        }
    }

    fn log_dead(&self, target: &Target, failure: &Failure, suppressed: u64) {
        tracing::warn!(
            webhook_id = %self.delivery.key.id, request_id = self.delivery.request_id(),
            source = %self.delivery.key.source, event = self.event, destination = target.destination.as_deref(),
            topic = target.topic.as_deref(), reason = %failure.reason, detail = %failure.detail, suppressed,
            "dead letter"
        );
    }

    fn log(&self, target: &Target, outcome: &str, failure: &Failure, suppressed: u64) {
        tracing::warn!(
            webhook_id = %self.delivery.key.id, request_id = self.delivery.request_id(),
            source = %self.delivery.key.source, event = self.event, destination = target.destination.as_deref(),
            topic = target.topic.as_deref(), outcome, reason = %failure.reason, detail = %failure.detail, suppressed,
            "not confirmed"
        );
    }
}

/// The targets that a delivery still has. Once frozen, they are those of the first confirm, whatever the routes say now
/// (P7).
pub fn reconcile(mut planned: Vec<Planned>, known: &Known, event: &Arc<Event>, routes: &Routes) -> Vec<Planned> {
    let Some(frozen) = &known.frozen else { return planned };
    planned.retain(|planned| frozen.contains(&planned.target));
    for target in frozen {
        if planned.iter().any(|planned| planned.target == *target) {
            continue;
        }
        let message = match &target.topic {
            Some(topic) => {
                let (event, topic, key) = (Arc::clone(event), Arc::clone(topic), routes.key(event, target));
                Ok(Message { event, topic, key })
            }
            None => Err(Failure::from(Reason::IllegalName)), // none could be made then
        };
        planned.push(Planned { target: target.clone(), message });
    }
    planned
}

#[cfg(test)]
mod tests;
