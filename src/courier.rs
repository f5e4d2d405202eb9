//! The courier takes events to their targets. [`Courier::drive`] publishes to one target; [`Courier::deliver`] drives a
//! claimed delivery to all that are not settled yet, records what becomes known, and returns what the ledger says of it (P5).
//!
//! ```text
//! job ─ publish to every open target ─ outcomes ─┬ confirmed ─────────────────────── fact
//!                                                ├ never ─ dead letter kept, or published likewise ─ fact
//!                                                └ again, unknown ─ logged, counted; an optional target: dead letter
//! facts ─ ledger.record (at once when a slow target holds the rest up) ─ how the delivery ended
//! ```
//! Who waits for the result, and what is tried again when, is the caller's concern.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::dead_letter::{self, DeadLetter};
use crate::delivered::Delivered;
use crate::delivery::{Delivery, DeliveryKey};
use crate::destination::{Confirm, Handle};
use crate::event::Event;
use crate::fail_point::{Step, fail_point};
use crate::ledger::{Ledger, Record};
use crate::letters::{LetterRoom, Letters};
use crate::message::Outcome;
use crate::protocol::{End, Fact, Known, Target, Ticket};
use crate::reason::{Failure, Reason};
use crate::route::{Planned, Routes};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::throttle::Throttle;
pub use driven::{Driven, Driving, UnkeptLetter};
use late::LatePublishes;

mod driven;
mod late;

/// How long confirmed targets wait for slow ones before their facts are recorded alone. Until then a delivery costs one
/// commit.
const PARTIAL: Duration = Duration::from_millis(200);

/// How long the publish of a dead letter may take where the store can keep it: the sender waits for its answer.
const LETTER: Duration = Duration::from_secs(2);

/// All destinations, and where facts and dead letters go.
pub struct Courier {
    destinations: HashMap<Arc<str>, Handle>,
    ledger: Arc<dyn Ledger>,
    /// Where the ledger keeps dead letters, if it does.
    letters: Option<Arc<Letters>>,
    /// The destination that takes dead letters instead of the store, if there is one.
    dead_letters_to: Option<Arc<str>>,
    metrics: Arc<Metrics>,
    late: LatePublishes,
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
        let (late, lines) = (LatePublishes::default(), Throttle::default());
        Courier { destinations, ledger, letters, dead_letters_to, metrics, late, lines }
    }

    /// Every destination.
    pub fn destinations(&self) -> impl Iterator<Item = &Handle> {
        self.destinations.values()
    }

    /// Publishes to every target that is not settled (G5) and records the outcomes. Returns how the delivery ended.
    ///
    /// What an optional target misses becomes a dead letter, once every required target is settled. A publish to an optional
    /// target that has no outcome after `patience` is not waited for: its dead letter is deleted if it is confirmed later.
    ///
    /// # Errors
    /// It is still open: why the last target that failed was not confirmed, or why the facts could not be recorded.
    pub async fn deliver(self: &Arc<Self>, job: Job, patience: Duration) -> Result<End, Reason> {
        let started = Instant::now();
        let Job { delivery, event, planned, known, ticket, body_hash } = job;
        let targets: Vec<Target> = planned.iter().map(|planned| planned.target.clone()).collect();
        let delivered = Arc::new(Delivered { delivery, event: event.map(|event| event.name.clone()) });
        let mut record = Record { targets, body_hash, ..Record::default() };
        let mut publishes: FuturesUnordered<Driving> = FuturesUnordered::new();
        // Optional targets without a confirm, and why; without a failure, there is no outcome yet.
        let mut missed: BTreeMap<Target, Option<Failure>> = BTreeMap::new();
        // How many publishes have to end.
        let mut needed = 0_usize;
        for planned in planned.into_iter().filter(|planned| !known.skips(&planned.target)) {
            let late = !planned.required && self.is_late(&delivered.delivery.key, &planned.target);
            match planned.required {
                true => needed += 1,
                false => drop(missed.insert(planned.target.clone(), late.then(no_outcome))),
            }
            if !late {
                publishes.push(self.drive(&delivered, planned));
            }
        }
        let mut why = None;
        let mut rooms: Vec<LetterRoom> = Vec::new(); // until all is recorded
        loop {
            let driven = tokio::select! {
                biased;
                driven = publishes.next() => driven,
                () = sleep(PARTIAL), if !record.facts.is_empty() => {
                    // Other targets are slow. What is known now must survive this process.
                    why = self.record_so_far(&delivered, ticket, &mut record).await.err().or(why);
                    continue;
                }
                () = sleep_until(started + patience), if needed == 0 && !missed.is_empty() => {
                    let late = missed.iter().filter(|(_, failure)| failure.is_none()).map(|(target, _)| target);
                    self.wait_for_late(&delivered, ticket, &record, std::mem::take(&mut publishes), late);
                    None
                }
            };
            let Some(driven) = driven else {
                if why.is_some() || missed.is_empty() {
                    break;
                }
                // Everything required is settled.
                for (target, failure) in std::mem::take(&mut missed) {
                    let (this, delivered) = (Arc::clone(self), Arc::clone(&delivered));
                    let failure = failure.unwrap_or_else(no_outcome);
                    publishes.push(async move { this.dead_letter(&delivered, target, failure).await }.boxed());
                    needed += 1;
                }
                continue;
            };
            let optional = missed.remove(driven.target()).is_some();
            needed = needed.saturating_sub(usize::from(!optional));
            match driven {
                Driven::Confirmed(target) => record.facts.push(Fact::Confirmed(target)),
                Driven::Dead(target, failure, letter) => {
                    // A record has one letter for all its deaths.
                    let has_others = record.facts.iter().any(|fact| matches!(fact, Fact::Dead(..)));
                    let (letter, room) = letter.map(|it| (it.letter, it.room)).unzip();
                    rooms.extend(room.flatten());
                    let kept = |letter: Option<&DeadLetter>| letter.map(|letter| letter.failure.clone());
                    if has_others && kept(record.dead.as_ref()) != kept(letter.as_ref()) {
                        why = self.record_so_far(&delivered, ticket, &mut record).await.err().or(why);
                    }
                    record.facts.push(Fact::Dead(target, failure.reason));
                    record.dead = letter;
                }
                Driven::Open(target, failure) if optional => drop(missed.insert(target, Some(failure))),
                Driven::Open(_, failure) => why = Some(failure.reason),
            }
        }
        let targets = tracing::enabled!(tracing::Level::DEBUG).then(|| record.targets.clone()).unwrap_or_default();
        let end = self.record(&delivered, ticket, record).await?.ok_or(why.unwrap_or(Reason::InFlight))?;
        for target in &targets {
            delivered.log_end(end, target, started.elapsed());
        }
        Ok(end)
    }

    /// Records what a record has so far, and leaves an empty one of the same delivery.
    async fn record_so_far(&self, delivered: &Delivered, ticket: Ticket, record: &mut Record) -> Result<(), Reason> {
        let rest = Record { targets: record.targets.clone(), body_hash: record.body_hash, ..Record::default() };
        self.record(delivered, ticket, std::mem::replace(record, rest)).await.map(drop)
    }

    /// Records the confirms of publishes that the delivery does not wait for.
    fn wait_for_late<'a>(
        self: &Arc<Self>,
        delivered: &Arc<Delivered>,
        ticket: Ticket,
        record: &Record,
        mut publishes: FuturesUnordered<Driving>,
        late: impl Iterator<Item = &'a Target>,
    ) {
        let key = &delivered.delivery.key;
        let late: Vec<_> = late.map(|target| self.late.add(key.clone(), target.clone())).collect();
        let (this, delivered) = (Arc::clone(self), Arc::clone(delivered));
        let (targets, body_hash) = (record.targets.clone(), record.body_hash);
        self.late.tasks.spawn(async move {
            while let Some(driven) = publishes.next().await {
                if let Driven::Confirmed(target) = driven {
                    let facts = vec![Fact::Confirmed(target)];
                    let record = Record { targets: targets.clone(), facts, body_hash, ..Record::default() };
                    let _ = this.record(&delivered, ticket, record).await; // it logs a failure
                }
            }
            drop(late);
        });
    }

    /// Whether a publish to an optional target is in flight although its delivery was answered.
    pub fn is_late(&self, key: &DeliveryKey, target: &Target) -> bool {
        self.late.contains(key, target)
    }

    /// Resolves once the outcome of every late publish is recorded.
    pub async fn settled(&self) {
        self.late.tasks.close();
        self.late.tasks.wait().await;
    }

    /// Publishes to one target. The publish is in flight when this returns.
    pub fn drive(self: &Arc<Self>, delivered: &Arc<Delivered>, planned: Planned) -> Driving {
        let target = planned.target.clone();
        let publish = self.publish(planned);
        fail_point(Step::Publishing);
        let (this, delivered) = (Arc::clone(self), Arc::clone(delivered));
        async move { this.driven(&delivered, target, publish.await).await }.boxed()
    }

    /// Publishes to one target, without a word about it in the log or in a dead letter.
    pub fn publish(&self, planned: Planned) -> Confirm {
        let Planned { target, message, .. } = planned;
        let handle = target.destination.as_ref().and_then(|destination| self.destinations.get(destination));
        match (message, handle) {
            (Err(failure), _) if failure.reason.is_about_event() => std::future::ready(Outcome::Never(failure)).boxed(),
            (Err(failure), _) => std::future::ready(Outcome::Again(failure)).boxed(),
            (Ok(message), Some(handle)) => handle.publish(message),
            (Ok(_), None) => {
                let detail = "an earlier configuration's destination is missing from this one: restore it, or wait until \
                              the id expires";
                std::future::ready(Outcome::Again(Failure::new(Reason::Topology, detail))).boxed()
            }
        }
    }

    /// What the end of a publish means for its target.
    async fn driven(&self, delivered: &Delivered, target: Target, outcome: Outcome) -> Driven {
        let word = outcome.word();
        match outcome {
            Outcome::Confirmed => {
                fail_point(Step::Confirmed);
                Driven::Confirmed(target)
            }
            Outcome::Again(failure) | Outcome::Unknown(failure) => {
                if let Some(suppressed) = self.admit(Line::NotConfirmed, target.destination.as_ref(), &failure) {
                    delivered.log_unconfirmed(&target, word, &failure, suppressed);
                }
                Driven::Open(target, failure)
            }
            Outcome::Never(failure) => self.dead_letter(delivered, target, failure).await,
        }
    }

    /// Makes a dead letter of what a target did not take. It is published where a destination takes dead letters; the store
    /// keeps what that does not confirm. If there is no place for it, the target is still open.
    async fn dead_letter(&self, delivered: &Delivered, target: Target, failure: Failure) -> Driven {
        fail_point(Step::Never);
        // What the whole delivery is refused for concerns its source: each has a first line.
        let about = target.destination.as_ref().unwrap_or(&delivered.delivery.key.source);
        if let Some(suppressed) = self.admit(Line::DeadLetter, Some(about), &failure) {
            delivered.log_dead(&target, &failure, suppressed);
        }
        let letter = delivered.letter(failure.clone());
        let refused = match &self.dead_letters_to {
            None => Reason::NoDeadLetters.into(),
            Some(to) => match self.publish_letter(dead_letter::planned(to, &letter, &target)).await {
                Outcome::Confirmed => return Driven::Dead(target, failure, None),
                Outcome::Again(refused) | Outcome::Unknown(refused) | Outcome::Never(refused) => {
                    self.log_letter(delivered, to, &refused);
                    refused
                }
            },
        };
        // It is never dropped silently (G7).
        match self.ledger.keeps_dead_letters().then(|| self.room_for(&letter)) {
            Some(Ok(room)) => Driven::Dead(target, failure, Some(Box::new(UnkeptLetter { letter, room }))),
            Some(Err(full)) => Driven::Open(target, full),
            None => Driven::Open(target, refused),
        }
    }

    /// Without a store for dead letters, there is no other place to fall back to.
    async fn publish_letter(&self, planned: Planned) -> Outcome {
        let publish = self.publish(planned);
        if !self.ledger.keeps_dead_letters() {
            return publish.await;
        }
        // The destination holds the message until the publish ends, so the publish keeps its place there until then.
        let publish = self.late.tasks.spawn(publish);
        match timeout(LETTER, publish).await {
            Ok(outcome) => outcome.unwrap_or_else(|_| Outcome::Unknown(Reason::Failed.into())),
            Err(_) => Outcome::Unknown(Failure::new(Reason::Timeout, "no confirm in time: the store keeps it too")),
        }
    }

    /// Room for another dead letter.
    fn room_for(&self, letter: &DeadLetter) -> Result<Option<LetterRoom>, Failure> {
        let Some(letters) = &self.letters else { return Ok(None) };
        letters.room(letter).map(Some).inspect_err(|failure| {
            if let Some(suppressed) = self.admit(Line::NoRoom, None, failure) {
                tracing::error!(webhook_id = %letter.delivery.key.id, %failure, suppressed, "dead letter not kept");
            }
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
        fail_point(Step::Recorded);
        recorded.map_err(|failure| {
            if let Some(suppressed) = self.admit(Line::NotRecorded, None, &failure) {
                tracing::warn!(webhook_id = %key.id, %failure, suppressed, "facts not recorded");
            }
            failure.reason
        })
    }
}

/// For a publish to an optional target.
fn no_outcome() -> Failure {
    Failure::new(Reason::Timeout, "there was no confirm when the delivery was answered: the broker may have the event")
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
        planned.push(match &target.topic {
            Some(topic) => routes.planned_before(event, target, topic),
            None if *target == Target::whole() => Planned::never(target.clone(), Reason::Unrouted.into()),
            None => Planned::never(target.clone(), Reason::IllegalName.into()), // none could be made then
        });
    }
    planned
}

#[cfg(test)]
mod tests;
