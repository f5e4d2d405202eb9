//! The courier takes events to their targets. [`Courier::drive`] publishes to one target; [`Courier::deliver`] drives a
//! claimed delivery to all that are not settled yet, records what becomes known, and returns what the ledger says of it (P5).
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
use crate::delivered::Delivered;
use crate::delivery::Delivery;
use crate::destination::{Confirm, Handle};
use crate::event::Event;
use crate::ledger::{Ledger, Record};
use crate::letters::Letters;
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
    /// Where the ledger keeps dead letters, if it does.
    letters: Option<Arc<Letters>>,
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
    NoRoom,
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

/// What the publish to one target led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Driven {
    /// Its broker has confirmed.
    Confirmed(Target),
    /// It can never take the event. Its dead letter is published already, or the store has to keep it with the fact.
    Dead(Target, Failure),
    /// It is still open.
    Open(Reason),
}

/// A publish in progress. Dropping it does not stop the publish: its outcome is then lost.
pub type Driving = BoxFuture<'static, Driven>;

impl Courier {
    /// A courier for these destinations.
    pub fn new(
        destinations: impl IntoIterator<Item = Handle>,
        ledger: Arc<dyn Ledger>,
        letters: Option<Arc<Letters>>,
        dead_letters_to: Option<Arc<str>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let destinations = destinations.into_iter().map(|handle| (Arc::clone(handle.name()), handle)).collect();
        Courier { destinations, ledger, letters, dead_letters_to, metrics, lines: Throttle::default() }
    }

    /// Every destination.
    pub fn destinations(&self) -> impl Iterator<Item = &Handle> {
        self.destinations.values()
    }

    /// Publishes to every target that is not settled (G5) and records the outcomes. Returns how the delivery ended.
    ///
    /// # Errors
    /// It is still open: why the last target that failed was not confirmed, or why the facts could not be recorded.
    pub async fn deliver(self: &Arc<Self>, job: Job) -> Result<End, Reason> {
        let started = Instant::now();
        let Job { delivery, event, planned, known, ticket, body_hash } = job;
        let targets: Vec<Target> = planned.iter().map(|planned| planned.target.clone()).collect();
        let delivered = Arc::new(Delivered { delivery, event: event.map(|event| event.name.clone()) });
        let open = planned.into_iter().filter(|planned| !known.skips(&planned.target));
        let mut publishes: FuturesUnordered<Driving> = open.map(|planned| self.drive(&delivered, planned)).collect();
        let mut record = Record { targets, body_hash, ..Record::default() };
        let mut why = Reason::InFlight;
        loop {
            let next = publishes.next();
            let next = if record.facts.is_empty() { Ok(next.await) } else { timeout(PARTIAL, next).await };
            match next {
                Ok(None) => break,
                Ok(Some(Driven::Confirmed(target))) => record.facts.push(Fact::Confirmed(target)),
                Ok(Some(Driven::Dead(target, failure))) => {
                    record.facts.push(Fact::Dead(target, failure.reason));
                    if self.ledger.keeps_dead_letters() {
                        record.dead.get_or_insert_with(|| delivered.letter(failure));
                    }
                }
                Ok(Some(Driven::Open(reason))) => why = reason,
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
        for target in &targets {
            delivered.log_end(end, target, started.elapsed());
        }
        Ok(end)
    }

    /// Publishes to one target. The publish is in flight when this returns.
    pub fn drive(self: &Arc<Self>, delivered: &Arc<Delivered>, planned: Planned) -> Driving {
        let target = planned.target.clone();
        let publish = self.publish(planned);
        let (this, delivered) = (Arc::clone(self), Arc::clone(delivered));
        async move { this.driven(&delivered, target, publish.await).await }.boxed()
    }

    /// Publishes to one target, without a word about it in the log or in a dead letter.
    pub fn publish(&self, planned: Planned) -> Confirm {
        let Planned { target, message } = planned;
        let handle = target.destination.as_ref().and_then(|destination| self.destinations.get(destination));
        match (message, handle) {
            (Err(failure), _) => std::future::ready(Outcome::Never(failure)).boxed(),
            (Ok(message), Some(handle)) => handle.publish(message),
            (Ok(_), None) => {
                let detail = "an earlier configuration's destination is missing from this one: restore it, or wait until \
                              the id expires";
                std::future::ready(Outcome::Again(Failure::new(Reason::Topology, detail))).boxed()
            }
        }
    }

    /// What the end of a publish means for its target. If it can never take the event and the store keeps no dead letters,
    /// its dead letter is published.
    async fn driven(&self, delivered: &Delivered, target: Target, outcome: Outcome) -> Driven {
        let word = outcome.word();
        match outcome {
            Outcome::Confirmed => Driven::Confirmed(target),
            Outcome::Again(failure) | Outcome::Unknown(failure) => {
                if let Some(suppressed) = self.admit(Line::NotConfirmed, target.destination.as_ref(), &failure) {
                    delivered.log_unconfirmed(&target, word, &failure, suppressed);
                }
                Driven::Open(failure.reason)
            }
            Outcome::Never(failure) => {
                // What the whole delivery is refused for concerns its source: each has a first line.
                let about = target.destination.as_ref().unwrap_or(&delivered.delivery.key.source);
                if let Some(suppressed) = self.admit(Line::DeadLetter, Some(about), &failure) {
                    delivered.log_dead(&target, &failure, suppressed);
                }
                if self.ledger.keeps_dead_letters() {
                    return self.room_for(delivered).map_or_else(Driven::Open, |()| Driven::Dead(target, failure));
                }
                // It is never dropped silently (G7).
                let Some(to) = &self.dead_letters_to else { return Driven::Open(Reason::NoDeadLetters) };
                let letter = self.publish(dead_letter::planned(to, &delivered.letter(failure.clone()), &target));
                match letter.await.failure() {
                    None => Driven::Dead(target, failure),
                    Some(refused) => {
                        self.log_letter(delivered, to, refused);
                        Driven::Open(refused.reason)
                    }
                }
            }
        }
    }

    /// Whether another dead letter may be kept.
    fn room_for(&self, delivered: &Delivered) -> Result<(), Reason> {
        let Some(letters) = &self.letters else { return Ok(()) };
        letters.room(delivered.delivery.body.len()).map_err(|failure| {
            if let Some(suppressed) = self.admit(Line::NoRoom, None, &failure) {
                tracing::error!(webhook_id = %delivered.delivery.key.id, %failure, suppressed, "dead letter not kept");
            }
            failure.reason
        })
    }

    fn log_letter(&self, delivered: &Delivered, to: &Arc<str>, failure: &Failure) {
        if let Some(suppressed) = self.admit(Line::LetterNotConfirmed, Some(to), failure) {
            tracing::warn!(
                webhook_id = %delivered.delivery.key.id, destination = %to, %failure, suppressed,
                "dead letter not confirmed"
            );
        }
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
