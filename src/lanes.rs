//! Takes accepted events from the [spool](crate::spool) to their brokers, for as long as an outage takes.
//!
//! ```text
//! accept ─ one transaction: event and id ─ 200
//!    └ lane of each target ─ one open event per key ─ courier.drive ─┬ confirmed, dead ─ the row is deleted
//!                                                                   └ again, unknown ─ rests, and is tried again
//! ```
//!
//! | module | job |
//! |---|---|
//! | `queue` | which event of a lane may be published next; no I/O |
//! | `lane` | the task of a lane |
//!
//! A lane is for one topic of one destination, so that a topic that is refused stops no other. Lanes run whatever the mode:
//! what an earlier process accepted is drained first (P11).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::courier::{Courier, Job};
use crate::delivered::Delivered;
use crate::fail_point::{Step, fail_point};
use crate::ledger::{Ledger, Record};
use crate::protocol::{End, Fact, Target};
use crate::reason::{Failure, Reason};
use crate::route::Planned;
use crate::spool::{Accepted, Depth, LaneRow, Spool};
use crate::telemetry::throttle::Throttle;
use lane::{Lane, LaneContext};
use queue::LaneQueue;

mod lane;
mod queue;

/// The pause before a lane whose task has panicked is started again.
const RESTART: Duration = Duration::from_secs(1);

/// All lanes of a process.
pub struct Lanes {
    context: Arc<LaneContext>,
    ledger: Arc<dyn Ledger>,
    lanes: Mutex<LaneMap>,
    tasks: TaskTracker,
    /// A full spool refuses every delivery.
    refusals: Throttle<Reason>,
}

/// The lanes that have events.
#[derive(Default)]
struct LaneMap {
    lanes: HashMap<Target, Arc<Lane>>,
    /// The number that look-ups of lanes have passed that left since. A row with a lower one may have come by a look-up.
    passed: u64,
}

/// What waits for a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// How many events, and their bytes.
    pub depth: Depth,
    /// When the oldest of them was accepted, in unix seconds; `None` if it is not known yet.
    pub oldest: Option<i64>,
}

impl Lanes {
    /// Lanes for a spool. They publish nothing further once `stop` is cancelled.
    pub fn new(spool: Spool, courier: Arc<Courier>, ledger: Arc<dyn Ledger>, stop: CancellationToken) -> Arc<Lanes> {
        let context = LaneContext { spool, courier, settled: Notify::new(), stop, failures: Throttle::default() };
        let (lanes, tasks, refusals) = (Mutex::default(), TaskTracker::new(), Throttle::default());
        Arc::new(Lanes { context: Arc::new(context), ledger, lanes, tasks, refusals })
    }

    /// Begins to drain what an earlier process left. Must be called before the first delivery.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn start(self: &Arc<Self>) -> Result<(), Failure> {
        for target in self.context.spool.lanes().await? {
            fail_point(Step::Draining);
            self.with_lane(&target, LaneQueue::read_again);
        }
        let left: u64 = self.context.spool.depths().iter().map(|depth| depth.events).sum();
        if left > 0 {
            tracing::info!(events = left, "the spool has events of an earlier process: they are published first");
        }
        Ok(())
    }

    /// Stores a delivery's event and its id in one transaction. The lanes have it then.
    ///
    /// # Errors
    /// It is not accepted: there is no room, or the store may not have it.
    pub async fn accept(self: &Arc<Self>, job: Job) -> Result<End, Reason> {
        let Job { delivery, event, planned, known, ticket, body_hash } = job;
        let Some(event) = event else { return Err(Reason::Failed) };
        let key = delivery.key.clone();
        let targets: Vec<Target> = planned.iter().map(|planned| planned.target.clone()).collect();
        let open = planned.into_iter().filter(|planned| !known.skips(&planned.target));
        let accepted = Arc::new(Accepted::new(Delivered { delivery, event: Some(event.name.clone()) }, event, open));
        if let Err(failure) = self.context.spool.room(accepted.bytes()) {
            if let Some(suppressed) = self.refusals.admit(failure.reason) {
                tracing::warn!(webhook_id = %key.id, %failure, suppressed, "not accepted");
            }
            return Err(failure.reason);
        }
        let facts = vec![Fact::Accepted];
        let offer = {
            let (lanes, accepted) = (Arc::clone(self), Arc::clone(&accepted));
            move || {
                fail_point(Step::Accepted);
                lanes.offer(&accepted);
            }
        };
        let on_saved = Some(Box::new(offer) as _);
        let record = Record { targets, facts, dead: None, accepted: Some(Arc::clone(&accepted)), body_hash, on_saved };
        match self.ledger.record(&key, ticket, record).await {
            Ok(end) => end.ok_or(Reason::InFlight),
            Err(failure) => {
                if let Some(suppressed) = self.refusals.admit(failure.reason) {
                    tracing::warn!(webhook_id = %key.id, %failure, suppressed, "not accepted");
                }
                // The store may have it nevertheless.
                for spooled in &accepted.targets {
                    self.with_lane(&spooled.target, LaneQueue::read_again);
                }
                Err(failure.reason)
            }
        }
    }

    /// Waits until no earlier event with the same key waits for any of these targets (P11).
    pub async fn clear(&self, planned: impl Iterator<Item = &Planned> + Clone) {
        loop {
            let settled = self.context.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if !planned.clone().any(|planned| self.may_hold(planned)) {
                return;
            }
            settled.await;
        }
    }

    /// Whether an earlier event with the same key may wait for a target.
    pub fn may_hold(&self, planned: &Planned) -> bool {
        let lanes = self.lanes.lock();
        let key = planned.message.as_ref().ok().and_then(|message| message.key());
        lanes.lanes.get(&planned.target).is_some_and(|lane| lane.queue.lock().may_hold(key))
    }

    /// Resolves once `stop` is cancelled and every open publish has its outcome, which is recorded.
    pub async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// What waits for each destination.
    pub fn waiting(&self) -> Vec<Waiting> {
        let mut oldest: HashMap<String, i64> = HashMap::new();
        for (target, lane) in &self.lanes.lock().lanes {
            let Some(at) = lane.queue.lock().oldest() else { continue };
            let name = target.destination.as_deref().unwrap_or_default().to_owned();
            oldest.entry(name).and_modify(|oldest| *oldest = at.min(*oldest)).or_insert(at);
        }
        let waiting = |depth: Depth| Waiting { oldest: oldest.get(&depth.destination).copied(), depth };
        self.context.spool.depths().into_iter().map(waiting).collect()
    }

    fn offer(self: &Arc<Self>, accepted: &Arc<Accepted>) {
        let Some(number) = accepted.number.get().copied() else { return };
        for spooled in &accepted.targets {
            let key = accepted.ordering_key(spooled).map(str::to_owned);
            let at = jiff::Timestamp::now().as_second();
            let row = LaneRow { number, key, bytes: accepted.bytes(), at };
            self.with_lane(&spooled.target, |queue| queue.offer(row, accepted));
        }
    }

    /// Changes the queue of a lane, which is created if need be.
    fn with_lane(self: &Arc<Self>, target: &Target, change: impl FnOnce(&mut LaneQueue)) {
        // Until the change is made, so that the lane does not leave before it.
        let mut lanes = self.lanes.lock();
        let passed = lanes.passed;
        match lanes.lanes.entry(target.clone()) {
            Entry::Occupied(lane) => {
                change(&mut lane.get().queue.lock());
                lane.get().changed.notify_one();
            }
            Entry::Vacant(vacant) => {
                let mut queue = LaneQueue::after(passed);
                change(&mut queue);
                let lane = Arc::clone(vacant.insert(Arc::new(Lane::new(target.clone(), queue))));
                let (this, target) = (Arc::clone(self), target.clone());
                self.tasks.spawn(async move {
                    let leave = || this.remove_if(&target, LaneQueue::is_empty);
                    let run = lane.run(Arc::clone(&this.context), leave);
                    if AssertUnwindSafe(run).catch_unwind().await.is_err() {
                        this.restart(&target).await;
                    }
                });
            }
        }
    }

    /// Starts a lane whose task has panicked again: it reads what waits from the store, as nobody else would publish it.
    async fn restart(self: &Arc<Self>, target: &Target) {
        tracing::error!(
            destination = target.destination.as_deref(),
            topic = target.topic.as_deref(),
            "a background task of the spool panicked: it is started again"
        );
        tokio::select! {
            () = sleep(RESTART) => {}
            () = self.context.stop.cancelled() => return,
        }
        self.remove_if(target, |_| true);
        self.with_lane(target, LaneQueue::read_again);
    }

    /// Removes a lane if its queue allows it.
    fn remove_if(&self, target: &Target, allows: impl FnOnce(&LaneQueue) -> bool) -> bool {
        let mut lanes = self.lanes.lock();
        let passed = match lanes.lanes.get(target).map(|lane| lane.queue.lock()) {
            Some(queue) if !allows(&queue) => return false,
            queue => queue.map_or(0, |queue| queue.passed()),
        };
        lanes.passed = lanes.passed.max(passed);
        lanes.lanes.remove(target);
        true
    }
}

#[cfg(test)]
mod tests;
