//! The life of a verified delivery: claim, normalize, route; then the [`Courier`] publishes and settles, or the [`Lanes`] store
//! the event first.
//!
//! It outlives its request: a client that hangs up, or a request that times out, ends only the waiting.
//!
//! ```text
//! ledger.claim ─ Closed → duplicate │ Busy → wait → duplicate or unavailable
//!      │ Mine(ticket, known)
//! normalize, route          not usable → a target that can never take it
//!      │
//!      ├ published: courier.deliver ─ the ledger's merged answer (P5)
//!      └ stored: lanes.accept ─ event and id on disk; published afterwards
//! ```

use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::Duration;

use siphasher::sip::SipHasher13;
use tokio::time::{Instant, timeout, timeout_at};

use crate::admission::Admission;
use crate::courier::{Courier, Job, reconcile};
use crate::delivery::Delivery;
use crate::event::Event;
use crate::fail_point::{Step, fail_point};
use crate::lanes::Lanes;
use crate::ledger::{Claim, HeldClaim, Ledger};
use crate::normalize::normalize;
use crate::protocol::{End, Known, Target};
use crate::reason::{Failure, Reason};
use crate::route::{Plan, Planned, Routes};
use crate::source::Source;
use crate::telemetry::metrics::{Metrics, SourceLabel};
use crate::telemetry::throttle::Throttle;

/// How long before its deadline a request stops waiting, so that it can still be answered.
const ANSWER: Duration = Duration::from_secs(1);
/// How long a delivery waits for optional targets at most, and at most half of the request's remaining time.
const OPTIONAL: Duration = Duration::from_secs(2);

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Every target has confirmed.
    Accepted,
    /// It ended before.
    Duplicate,
    /// At least one target, or all of it, is a dead letter.
    DeadLettered,
    /// The routes send it nowhere.
    Ignored,
    /// Not safe: the sender should try again.
    Unavailable(Reason),
}

impl From<End> for Answer {
    fn from(end: End) -> Self {
        match end {
            End::Delivered | End::Stored => Answer::Accepted,
            End::DeadLettered => Answer::DeadLettered,
            End::Ignored => Answer::Ignored,
        }
    }
}

/// What all deliveries share.
pub struct Pipeline {
    /// Which deliveries are in flight, and what is known of each.
    pub ledger: Arc<dyn Ledger>,
    /// Publishes and settles.
    pub courier: Arc<Courier>,
    /// Takes events from the spool to their brokers; `None` without a store on disk.
    pub lanes: Option<Arc<Lanes>>,
    /// Whether the lanes take every event. Otherwise they only drain what an earlier process left.
    pub stored: bool,
    /// Event to targets.
    pub routes: Routes,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// While the store is down, no delivery can be claimed: not each failure is logged.
    pub claim_failures: Throttle<Reason>,
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
                if let Some(suppressed) = self.claim_failures.admit(failure.reason) {
                    tracing::warn!(webhook_id = %delivery.key.id, %failure, suppressed, "not claimed");
                }
                Answer::Unavailable(Reason::Store)
            }
            Ok(Claim::Closed { same_body, .. }) => {
                if !same_body {
                    let label = SourceLabel { source: source.name.to_string() };
                    self.metrics.body_differs.get_or_create(&label).inc();
                }
                Answer::Duplicate
            }
            Ok(Claim::Busy(waiting)) => {
                drop(delivery); // a copy holds no body while it waits (G3)
                admission.release_bytes();
                match timeout_at(until, waiting).await {
                    Ok(Ok(_)) => Answer::Duplicate,
                    Ok(Err(why)) => Answer::Unavailable(why),
                    Err(_) => Answer::Unavailable(Reason::InFlight),
                }
            }
            Ok(Claim::Mine(ticket, known)) => {
                fail_point(Step::Claimed);
                let key = delivery.key.clone();
                let mut claim = HeldClaim { ledger: &*self.ledger, key: &key, ticket, why: Reason::Failed };
                let (event, planned) = self.plan(source, &delivery, &known);
                match self.make_safe(Job { delivery, event, planned, known, ticket, body_hash }, until).await {
                    Ok(end) => end.into(),
                    Err(why) => {
                        claim.why = why;
                        Answer::Unavailable(why)
                    }
                }
            }
        }
    }

    /// Publishes the event, or stores it. What cannot be published anywhere is a dead letter in both modes.
    async fn make_safe(&self, mut job: Job, until: Instant) -> Result<End, Reason> {
        let patience = || OPTIONAL.min(until.saturating_duration_since(Instant::now()) / 2);
        let Some(lanes) = &self.lanes else { return self.courier.deliver(job, patience()).await };
        let open = |planned: &Planned| planned.target.destination.is_some() && !job.known.skips(&planned.target);
        if self.stored && job.event.is_some() && job.planned.iter().any(open) {
            return lanes.accept(job).await;
        }
        let (required, optional) = (|it: &&Planned| it.required, |it: &&Planned| !it.required);
        let answer = until.checked_sub(ANSWER).unwrap_or(until);
        if timeout_at(answer, lanes.clear(job.planned.iter().filter(required))).await.is_err() {
            return Err(Reason::Behind);
        }
        let _ = timeout(patience(), lanes.clear(job.planned.iter().filter(optional))).await;
        for planned in job.planned.iter_mut().filter(|it| !it.required && lanes.may_hold(it)) {
            planned.message = Err(Reason::Behind.into());
        }
        self.courier.deliver(job, patience()).await
    }

    /// The event and its targets. A delivery that can have none becomes a dead letter: as a whole, or for those frozen
    /// targets that an earlier body of the same id did not reach.
    fn plan(&self, source: &Source, delivery: &Delivery, known: &Known) -> (Option<Arc<Event>>, Vec<Planned>) {
        let never = |failure: Failure| {
            let targets = known.frozen.clone().unwrap_or_else(|| vec![Target::whole()]);
            targets.into_iter().map(|target| Planned::never(target, failure.clone())).collect()
        };
        let event = match normalize(source, delivery) {
            Ok(event) => Arc::new(event),
            Err(failure) => return (None, never(failure)),
        };
        let planned = match self.routes.plan(&event) {
            Plan::To(planned) => reconcile(planned, known, &event, &self.routes),
            Plan::DeadLetter(reason) if known.frozen.is_none() => never(reason.into()),
            Plan::DeadLetter(_) | Plan::Ignore => reconcile(Vec::new(), known, &event, &self.routes),
        };
        (Some(event), planned)
    }
}

/// Detects another body under the same id; nothing else depends on it.
pub fn hash(body: &[u8]) -> u32 {
    let mut hasher = SipHasher13::new();
    hasher.write(body);
    hasher.finish() as u32
}
