//! Replays a dead letter: publishes it again with the same event id, and waits for the outcome.
//!
//! ```text
//! letter ─ ledger.claim ─ normalize, route by the current settings ─ publish ─┬ confirmed ─ fact, letter deleted
//!                                                                              └ else ──── letter stays, with the new reason
//! ```
//! Only what is dead is published. The letter of a whole delivery goes where the routes lead now; with the first confirm, it
//! becomes one letter for each of the other targets, so that none of them is lost, and no later replay repeats a confirmed
//! one. It is deleted after the confirm: when the process dies in between, the next replay publishes again.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio_util::task::TaskTracker;

use crate::courier::Courier;
use crate::delivery::{Delivery, DeliveryKey};
use crate::ledger::{Claim, HeldClaim, Ledger, Record};
use crate::letters::{KeptLetter, Letters, ReservedLetters};
use crate::message::Outcome;
use crate::normalize::normalize;
use crate::pipeline::hash;
use crate::protocol::{End, Fact, Known, Target, Ticket};
use crate::reason::{Failure, Reason};
use crate::route::{Plan, Planned, Routes};
use crate::source::Source;

/// Replays dead letters.
pub struct Replayer {
    /// Where they are.
    pub letters: Arc<Letters>,
    /// Knows which deliveries are in flight, and learns what was confirmed.
    pub ledger: Arc<dyn Ledger>,
    /// Publishes.
    pub courier: Arc<Courier>,
    /// The current sources, by name.
    pub sources: HashMap<Arc<str>, Source>,
    /// The current routes.
    pub routes: Routes,
    /// Replays in progress: they end even if their callers leave.
    pub work: TaskTracker,
    /// Deliveries that are being replayed or discarded.
    pub reserved: ReservedLetters,
}

/// How a replay ended.
#[derive(Debug)]
pub struct ReplayReport {
    /// What became of each target.
    pub targets: Vec<TargetReplay>,
}

impl ReplayReport {
    /// Whether every target has confirmed, so that nothing is dead any more.
    pub fn is_confirmed(&self) -> bool {
        self.targets.iter().all(|target| target.outcome == Outcome::Confirmed)
    }
}

/// What became of a target.
#[derive(Debug)]
pub struct TargetReplay {
    /// The target.
    pub target: Target,
    /// How its publish ended.
    pub outcome: Outcome,
    /// The number of its dead letter, if it still has one.
    pub letter: Option<u64>,
}

/// Why a dead letter was not replayed.
#[derive(Debug)]
pub enum ReplayRefusal {
    /// There is none of this number.
    Missing,
    /// It is being replayed, or its delivery is in flight.
    InFlight,
    /// A later delivery of its id went to every target of its own.
    Delivered,
    /// The configuration does not say where it goes.
    NotConfigured(String),
    /// The store cannot be used. If the event was confirmed before, its letter is still there.
    Store(Failure),
}

impl Replayer {
    /// Publishes a dead letter again, in a task of its own.
    ///
    /// # Errors
    /// It was not published.
    pub async fn replay(self: &Arc<Self>, number: u64) -> Result<ReplayReport, ReplayRefusal> {
        let this = Arc::clone(self);
        let task = self.work.spawn(async move { this.replay_reserved(number).await });
        task.await.unwrap_or_else(|_| Err(ReplayRefusal::Store(Reason::Failed.into())))
    }

    async fn replay_reserved(&self, number: u64) -> Result<ReplayReport, ReplayRefusal> {
        let missing = ReplayRefusal::Missing;
        let key = match self.letters.load(number).await.map_err(ReplayRefusal::Store)? {
            Some(letter) => letter.delivery().key,
            None => return Err(missing),
        };
        let _reserved = self.reserved.reserve(key.clone()).ok_or(ReplayRefusal::InFlight)?;
        // Another replay may have ended since.
        let letter = self.letters.load(number).await.map_err(ReplayRefusal::Store)?.ok_or(missing)?;
        let delivery = letter.delivery();
        let body_hash = hash(&delivery.body);
        let (ticket, known) = match self.ledger.claim(&key, body_hash).await.map_err(ReplayRefusal::Store)? {
            Claim::Mine(ticket, known) => (ticket, known),
            Claim::Busy(_) => return Err(ReplayRefusal::InFlight),
            Claim::Closed { end: End::Delivered, .. } => return Err(ReplayRefusal::Delivered),
            // Only its dead letters are open. Late facts need no current ticket.
            Claim::Closed { .. } => (Ticket { process: rand::random(), number: 0 }, Known::default()),
        };
        let _claim = HeldClaim { ledger: &*self.ledger, key: &key, ticket, why: Reason::InFlight };
        let Replayable { planned, all } = self.plan(&letter, &delivery)?;
        if planned.iter().any(|planned| self.courier.is_late(&key, &planned.target)) {
            return Err(ReplayRefusal::InFlight); // its first publish may still be confirmed
        }
        let remembered = self.ledger.look_up(&key).await.map_err(ReplayRefusal::Store)?.unwrap_or_default();
        if planned.iter().any(|planned| remembered.waiting.contains(&planned.target)) {
            return Err(ReplayRefusal::InFlight); // a later copy is in the spool
        }
        let mut replaying = Replaying { replayer: self, key: &key, ticket, all, body_hash, letter: number, rest: None };
        let report = replaying.publish(planned, &known).await.map_err(ReplayRefusal::Store)?;
        for TargetReplay { target, outcome, .. } in &report.targets {
            tracing::info!(
                dead_letter = number, webhook_id = %key.id, source = %key.source,
                destination = target.destination.as_deref(), topic = target.topic.as_deref(), outcome = outcome.word(),
                reason = outcome.failure().map(|failure| failure.reason.word()), "dead letter replayed"
            );
        }
        Ok(report)
    }

    /// What a letter is published to.
    fn plan(&self, letter: &KeptLetter, delivery: &Delivery) -> Result<Replayable, ReplayRefusal> {
        let not_configured = |what: String| ReplayRefusal::NotConfigured(what);
        let source = self.sources.get(&delivery.key.source).ok_or_else(|| {
            not_configured(format!("the source `{}` is not configured any more: restore it", delivery.key.source))
        })?;
        let target = &letter.summary.target;
        let event = match normalize(source, delivery) {
            Ok(event) => Arc::new(event),
            Err(failure) => {
                let planned = vec![Planned::never(target.clone(), failure)];
                return Ok(Replayable { all: vec![target.clone()], planned });
            }
        };
        let routed = match self.routes.plan(&event) {
            Plan::To(planned) => planned,
            Plan::DeadLetter(reason) => vec![Planned::never(Target::whole(), reason.into())],
            Plan::Ignore => Vec::new(),
        };
        // Also those that are not published now: if the ledger has forgotten the id, a resend has to reach them.
        let mut all: Vec<Target> = routed.iter().map(|planned| planned.target.clone()).collect();
        let planned = match (&target.destination, &target.topic) {
            (Some(_), Some(topic)) => vec![self.routes.planned_before(&event, target, topic)],
            // It still has no topic. The destination's other topics are not dead.
            (Some(_), None) if all.contains(target) => {
                routed.into_iter().filter(|planned| planned.target == *target).collect()
            }
            (Some(name), None) => {
                routed.into_iter().filter(|planned| planned.target.destination.as_ref() == Some(name)).collect()
            }
            (None, _) => routed,
        };
        if planned.is_empty() {
            let to = target.destination.as_ref().map_or_else(String::new, |name| format!(" to `{name}`"));
            let what =
                format!("the routes do not send this event anywhere{to}: change them, or discard the dead letter");
            return Err(not_configured(what));
        }
        for planned in &planned {
            let Some(name) = &planned.target.destination else { continue };
            if !self.courier.destinations().any(|handle| handle.name() == name) {
                let what = format!("the destination `{name}` is not configured any more: restore it");
                return Err(not_configured(what));
            }
            if !all.contains(&planned.target) {
                all.push(planned.target.clone());
            }
        }
        Ok(Replayable { planned, all })
    }
}

/// What a letter is published to.
struct Replayable {
    planned: Vec<Planned>,
    /// All targets of its delivery: those that other copies still have to reach are among them.
    all: Vec<Target>,
}

/// A replay in progress.
struct Replaying<'a> {
    replayer: &'a Replayer,
    key: &'a DeliveryKey,
    ticket: Ticket,
    all: Vec<Target>,
    body_hash: u32,
    letter: u64,
    /// The letters of the other targets, once the first has confirmed.
    rest: Option<HashMap<Target, u64>>,
}

impl Replaying<'_> {
    async fn publish(&mut self, planned: Vec<Planned>, known: &Known) -> Result<ReplayReport, Failure> {
        let targets: Vec<Target> = planned.iter().map(|planned| planned.target.clone()).collect();
        let publish = |planned: Planned| {
            let target = planned.target.clone();
            let confirmed = known.confirmed.contains(&target);
            let outcome = if confirmed {
                std::future::ready(Outcome::Confirmed).boxed()
            } else {
                self.replayer.courier.publish(planned)
            };
            async move { (target, outcome.await) }
        };
        let mut open: FuturesUnordered<_> = planned.into_iter().map(publish).collect();
        let mut ended: HashMap<Target, Outcome> = HashMap::new();
        while let Some((target, outcome)) = open.next().await {
            if outcome == Outcome::Confirmed {
                self.confirm(&target, &targets).await?;
            }
            ended.insert(target, outcome);
        }
        drop(open);
        let mut report = ReplayReport { targets: Vec::with_capacity(targets.len()) };
        for target in targets {
            let Some(outcome) = ended.remove(&target) else { continue };
            let letter = self.letter_of(&target).filter(|_| outcome != Outcome::Confirmed);
            let stays_dead = self.rest.is_some() || matches!(outcome, Outcome::Never(_));
            if let (Some(letter), Some(failure), true) = (letter, outcome.failure(), stays_dead) {
                self.replayer.letters.set_failure(letter, failure.clone()).await?;
            }
            report.targets.push(TargetReplay { target, outcome, letter });
        }
        Ok(report)
    }

    /// Records a confirm, then deletes its letter.
    async fn confirm(&mut self, target: &Target, targets: &[Target]) -> Result<(), Failure> {
        let facts = vec![Fact::Confirmed(target.clone())];
        let record = Record { targets: self.all.clone(), facts, body_hash: self.body_hash, ..Record::default() };
        self.replayer.ledger.record(self.key, self.ticket, record).await?;
        let letters = &self.replayer.letters;
        match &self.rest {
            Some(rest) => {
                if let Some(letter) = rest.get(target) {
                    letters.delete(*letter).await?;
                }
            }
            None => {
                let others: Vec<Target> = targets.iter().filter(|other| *other != target).cloned().collect();
                let numbers = letters.split(self.letter, others.clone()).await?.unwrap_or_default();
                self.rest = Some(others.into_iter().zip(numbers).collect());
            }
        }
        Ok(())
    }

    fn letter_of(&self, target: &Target) -> Option<u64> {
        self.rest.as_ref().map_or(Some(self.letter), |rest| rest.get(target).copied())
    }
}
