//! The life of a verified delivery: claim, normalize, route, publish, settle.
//!
//! It runs in a task of its own: a client that hangs up, or a request that runs out of time, stops only the waiting.
//!
//! ```text
//! ledger.claim ─ Closed → duplicate │ Busy → wait → duplicate or unavailable
//!      │ Mine(ticket, known)
//! normalize, route          unusable → dead letter
//!      │
//! courier.drive → facts → ledger.record → the ledger's merged answer (P5)
//! ```

use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::Duration;

use siphasher::sip::SipHasher13;
use tokio::time::{Instant, timeout, timeout_at};

use crate::admission::Admission;
use crate::courier::{Courier, reconcile};
use crate::dead_letter;
use crate::delivery::{Delivery, DeliveryKey};
use crate::event::Event;
use crate::ledger::{Claim, DeadLetter, Ledger, Record, Standing};
use crate::message::Outcome;
use crate::normalize::normalize;
use crate::protocol::{End, Fact, Known, Target, Ticket};
use crate::reason::{Failure, Reason};
use crate::route::{Plan, Planned, Routes};
use crate::source::Source;
use crate::telemetry::metrics::{Metrics, OfSource};
use crate::telemetry::sparse::Sparse;

/// How long confirmed targets wait for slow ones before their facts are recorded alone. Until then the delivery costs
/// one commit.
const PARTIAL: Duration = Duration::from_millis(200);

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Every target has confirmed.
    Accepted,
    /// It was done before.
    Duplicate,
    /// At least one target, or all of it, is a dead letter.
    DeadLettered,
    /// The routes send it nowhere.
    Ignored,
    /// Not safe: the sender should try again.
    Unavailable(Reason),
}

/// What all deliveries share.
pub struct Pipeline {
    /// Who is at which delivery, and what is done.
    pub ledger: Arc<dyn Ledger>,
    /// Who publishes.
    pub courier: Courier,
    /// Event to targets.
    pub routes: Routes,
    /// Where dead letters go if the ledger keeps none.
    pub dead_letters_to: Option<Arc<str>>,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// Which of the refusals of an outage are logged.
    pub refusals: Sparse<(String, Reason)>,
}

/// A claimed delivery; gives its claim back when it ends without a record.
struct Claimed<'a> {
    ledger: &'a dyn Ledger,
    key: &'a DeliveryKey,
    ticket: Ticket,
    why: Reason,
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.ledger.release(self.key, self.ticket, self.why);
    }
}

impl Pipeline {
    /// Takes a delivery to its end. `until` bounds only the waiting for another copy.
    pub async fn accept(
        &self,
        source: &Source,
        delivery: Delivery,
        mut admission: Admission,
        until: Instant,
    ) -> Answer {
        let body_hash = hash(&delivery.body);
        match self.ledger.claim(&delivery.key, body_hash).await {
            Err(failure) => {
                tracing::warn!(webhook_id = %delivery.key.id, %failure, "not claimed");
                Answer::Unavailable(Reason::Store)
            }
            Ok(Claim::Closed { same_body, .. }) => {
                if !same_body {
                    let label = OfSource { source: source.name.to_string() };
                    self.metrics.body_differs.get_or_create(&label).inc();
                }
                Answer::Duplicate
            }
            Ok(Claim::Busy(other)) => {
                drop(delivery); // a copy holds no body while it waits (G3)
                admission.release_bytes();
                match timeout_at(until, other).await {
                    Ok(Standing::Closed(_)) => Answer::Duplicate,
                    Ok(Standing::Open(why)) => Answer::Unavailable(why),
                    Ok(Standing::Owned(..)) | Err(_) => Answer::Unavailable(Reason::InFlight),
                }
            }
            Ok(Claim::Mine(ticket, known)) => {
                let key = delivery.key.clone();
                let mut claimed = Claimed { ledger: &*self.ledger, key: &key, ticket, why: Reason::Failed };
                let answer = self.publish(source, delivery, ticket, known, body_hash).await;
                if let Answer::Unavailable(why) = answer {
                    claimed.why = why;
                }
                answer
            }
        }
    }

    async fn publish(
        &self,
        source: &Source,
        delivery: Delivery,
        ticket: Ticket,
        known: Known,
        body_hash: u32,
    ) -> Answer {
        let event = match normalize(source, &delivery) {
            Ok(event) => Arc::new(event),
            Err(failure) => return self.bury(&delivery, None, ticket, &known, failure, body_hash).await,
        };
        let planned = match self.routes.plan(&event) {
            Plan::To(planned) => planned,
            Plan::DeadLetter(reason) if known.frozen.is_none() => {
                return self.bury(&delivery, Some(&event), ticket, &known, reason.into(), body_hash).await;
            }
            Plan::DeadLetter(_) | Plan::Ignore => Vec::new(),
        };
        let planned = reconcile(planned, &known, &event);
        let delivery = Unsettled { delivery: &delivery, event: &event, ticket, body_hash };
        self.drive(delivery, planned, known).await
    }

    /// Publishes to all targets, records what becomes known, and answers what the ledger says (P5).
    async fn drive(&self, it: Unsettled<'_>, planned: Vec<Planned>, known: Known) -> Answer {
        let targets: Vec<Target> = planned.iter().map(|planned| planned.target.clone()).collect();
        let mut drive = self.courier.drive(planned, &known);
        let mut facts = Vec::new();
        let mut letter: Option<DeadLetter> = None;
        let mut why = Reason::InFlight;
        loop {
            let next = if facts.is_empty() { Ok(drive.next().await) } else { timeout(PARTIAL, drive.next()).await };
            match next {
                Ok(None) => break,
                Ok(Some((target, Outcome::Confirmed))) => facts.push(Fact::Confirmed(target)),
                Ok(Some((target, Outcome::Never(failure)))) => {
                    it.log(&target, "never", &failure, 0);
                    if let Err(reason) = self.send_away(&it.letter(failure.clone()), &target).await {
                        why = reason;
                        continue;
                    }
                    facts.push(Fact::Dead(target, failure.reason));
                    if self.ledger.keeps_dead_letters() {
                        letter.get_or_insert_with(|| it.letter(failure));
                    }
                }
                Ok(Some((target, Outcome::Again(failure)))) => {
                    // Not each of an outage: the destination says once that it is down, and all are counted.
                    if let Some(left_out) = self.refusals.due((target.destination().to_owned(), failure.reason)) {
                        it.log(&target, "again", &failure, left_out);
                    }
                    why = failure.reason;
                }
                Ok(Some((target, Outcome::Unknown(failure)))) => {
                    it.log(&target, "unknown", &failure, 0);
                    why = failure.reason;
                }
                Err(_) => {
                    // Others are slow: what is known now must survive this process.
                    let record = it.record(targets.clone(), std::mem::take(&mut facts), letter.take());
                    if let Err(failure) = self.ledger.record(&it.delivery.key, it.ticket, record).await {
                        tracing::warn!(webhook_id = %it.delivery.key.id, %failure, "facts not recorded yet");
                        why = failure.reason;
                    }
                }
            }
        }
        self.settle(it.delivery, it.ticket, it.record(targets, facts, letter), why).await
    }

    async fn settle(&self, delivery: &Delivery, ticket: Ticket, record: Record, why: Reason) -> Answer {
        let started = Instant::now();
        let standing = self.ledger.record(&delivery.key, ticket, record).await;
        self.metrics.settle_seconds.observe(started.elapsed().as_secs_f64());
        match standing {
            Ok(Standing::Closed(End::Delivered | End::Stored)) => Answer::Accepted,
            Ok(Standing::Closed(End::DeadLettered)) => Answer::DeadLettered,
            Ok(Standing::Closed(End::Ignored)) => Answer::Ignored,
            Ok(Standing::Open(_) | Standing::Owned(..)) => Answer::Unavailable(why),
            Err(failure) => {
                tracing::warn!(webhook_id = %delivery.key.id, %failure, "not recorded");
                Answer::Unavailable(failure.reason)
            }
        }
    }

    /// A delivery that can have no targets becomes a dead letter: as a whole, or for those that an earlier body of the same
    /// id was not confirmed by.
    async fn bury(
        &self,
        delivery: &Delivery,
        event: Option<&Arc<Event>>,
        ticket: Ticket,
        known: &Known,
        failure: Failure,
        body_hash: u32,
    ) -> Answer {
        tracing::warn!(webhook_id = %delivery.key.id, request_id = delivery.request_id(), %failure, "dead letter");
        let reason = failure.reason;
        let event = event.map(|event| event.name.clone());
        let letter = DeadLetter { delivery: delivery.clone(), event, failure };
        let targets = known.frozen.clone().unwrap_or_else(|| vec![Target::whole()]);
        let mut facts = Vec::new();
        for target in targets.iter().filter(|target| !known.skips(target)) {
            if let Err(reason) = self.send_away(&letter, target).await {
                return Answer::Unavailable(reason);
            }
            facts.push(Fact::Dead(target.clone(), reason));
        }
        let letter = Some(letter).filter(|_| self.ledger.keeps_dead_letters());
        self.settle(delivery, ticket, Record { targets, facts, dead: letter, body_hash }, reason).await
    }

    /// Where the ledger keeps no dead letters, a destination may take them; nothing is dropped silently.
    async fn send_away(&self, letter: &DeadLetter, target: &Target) -> Result<(), Reason> {
        if self.ledger.keeps_dead_letters() {
            return Ok(());
        }
        let to = self.dead_letters_to.as_ref().ok_or(Reason::NoDeadLetters)?;
        let planned = dead_letter::planned(to, letter, target);
        let mut drive = self.courier.drive(vec![planned], &Known::default());
        match drive.next().await {
            Some((_, Outcome::Confirmed)) => Ok(()),
            Some((_, Outcome::Again(failure) | Outcome::Unknown(failure) | Outcome::Never(failure))) => {
                tracing::warn!(webhook_id = %letter.delivery.key.id, %failure, "dead letter not taken");
                Err(failure.reason)
            }
            None => Err(Reason::Failed),
        }
    }
}

/// A delivery between claim and settle.
struct Unsettled<'a> {
    delivery: &'a Delivery,
    event: &'a Arc<Event>,
    ticket: Ticket,
    body_hash: u32,
}

impl Unsettled<'_> {
    fn record(&self, targets: Vec<Target>, facts: Vec<Fact>, dead: Option<DeadLetter>) -> Record {
        Record { targets, facts, dead, body_hash: self.body_hash }
    }

    fn letter(&self, failure: Failure) -> DeadLetter {
        DeadLetter { delivery: self.delivery.clone(), event: Some(self.event.name.clone()), failure }
    }

    fn log(&self, target: &Target, outcome: &str, failure: &Failure, left_out: u64) {
        tracing::warn!(
            webhook_id = %self.delivery.key.id, request_id = self.delivery.request_id(),
            source = %self.delivery.key.source, event = %self.event.name, target = %target.0, outcome,
            reason = %failure.reason, detail = %failure.detail, like_it_left_out = left_out, "not confirmed"
        );
    }
}

/// Notices another body under the same id; nothing else depends on it.
fn hash(body: &[u8]) -> u32 {
    let mut hasher = SipHasher13::new();
    hasher.write(body);
    hasher.finish() as u32
}
