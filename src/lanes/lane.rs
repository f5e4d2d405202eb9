//! A lane's task: publishes its events, each until it is settled.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::queue::{LaneQueue, Next};
use crate::courier::{Courier, Driven};
use crate::fail_point::{Step, fail_point};
use crate::protocol::{End, Target};
use crate::reason::Failure;
use crate::spool::{Accepted, LaneRow, Spool};
use crate::telemetry::throttle::Throttle;

/// Rows that one look-up reads.
const ROWS: usize = 1024;
/// The pause before a store that failed is asked again.
const REST: Duration = Duration::from_secs(1);

/// What all lanes share.
pub(super) struct LaneContext {
    pub(super) spool: Spool,
    pub(super) courier: Arc<Courier>,
    /// Events were settled.
    pub(super) settled: Notify,
    /// No further events are published.
    pub(super) stop: CancellationToken,
    /// A store that fails does so for every event.
    pub(super) failures: Throttle<()>,
}

/// The lane of a target.
pub(super) struct Lane {
    target: Target,
    pub(super) queue: Mutex<LaneQueue>,
    /// The queue has changed.
    pub(super) changed: Notify,
}

/// The end of a try to settle an event.
struct Tried {
    number: u64,
    settled: bool,
}

impl Lane {
    pub(super) fn new(target: Target, queue: LaneQueue) -> Self {
        Lane { target, queue: Mutex::new(queue), changed: Notify::new() }
    }

    /// Publishes until `context.stop` is cancelled and nothing is open, or until the lane is empty and `leave` agrees.
    pub(super) async fn run(self: Arc<Self>, context: Arc<LaneContext>, leave: impl Fn() -> bool) {
        let mut open: FuturesUnordered<BoxFuture<'static, Tried>> = FuturesUnordered::new();
        let mut reading: Option<BoxFuture<'static, Vec<LaneRow>>> = None;
        loop {
            let (stopping, now) = (context.stop.is_cancelled(), Instant::now());
            if !stopping {
                let next = || self.queue.lock().next(now);
                open.extend(std::iter::from_fn(next).map(|next| self.settle(&context, next)));
                if reading.is_none() {
                    let after = self.queue.lock().begin_read();
                    reading = after.map(|after| self.read(&context, after));
                }
            }
            if open.is_empty() && (stopping || (reading.is_none() && leave())) {
                return;
            }
            let wakes_at = self.queue.lock().wakes_at(now).filter(|_| !stopping);
            tokio::select! {
                Some(Tried { number, settled }) = open.next() => {
                    let mut queue = self.queue.lock();
                    if settled { queue.settled(number) } else { queue.failed(number, Instant::now()) }
                    drop(queue);
                    context.settled.notify_waiters();
                }
                rows = poll_optional(&mut reading) => {
                    reading = None;
                    let all = rows.len() < ROWS;
                    self.queue.lock().end_read(rows, all);
                    context.settled.notify_waiters();
                }
                () = self.changed.notified() => {}
                () = sleep_until(wakes_at.unwrap_or_else(Instant::now)), if wakes_at.is_some() => {}
                () = context.stop.cancelled(), if !stopping => {}
            }
        }
    }

    fn read(&self, context: &Arc<LaneContext>, after: u64) -> BoxFuture<'static, Vec<LaneRow>> {
        let (context, target) = (Arc::clone(context), self.target.clone());
        async move { until_done(&context, || context.spool.rows(target.clone(), after, ROWS)).await }.boxed()
    }

    /// Publishes an event, at once if its body is in memory, and deletes its row once it is settled.
    fn settle(&self, context: &Arc<LaneContext>, next: Next) -> BoxFuture<'static, Tried> {
        let Next { number, accepted } = next;
        let (context, target) = (Arc::clone(context), self.target.clone());
        let drive = {
            let (courier, target) = (Arc::clone(&context.courier), target.clone());
            move |accepted: &Accepted| courier.drive(&accepted.delivered, accepted.planned(&target))
        };
        let begun = accepted.map(|accepted| (drive(&accepted), accepted));
        async move {
            let started = Instant::now();
            let (driving, accepted) = match begun {
                Some(begun) => begun,
                None => match until_done(&context, || context.spool.load(number)).await {
                    Some(accepted) => (drive(&accepted), accepted),
                    None => return Tried { number, settled: true }, // it was discarded
                },
            };
            let delivered = &accepted.delivered;
            let (end, letter) = match driving.await {
                Driven::Confirmed(_) => (End::Delivered, None),
                Driven::Dead(_, _, letter) => (End::DeadLettered, letter),
                Driven::Open(..) => return Tried { number, settled: false },
            };
            let dead = || letter.as_ref().map(|unkept| unkept.letter.clone());
            let settle = || context.spool.settle(number, target.clone(), Arc::clone(&accepted), dead());
            fail_point(Step::Settling);
            // It is not published again, however long the store fails.
            until_done(&context, settle).await;
            fail_point(Step::Settled);
            delivered.log_end(end, &target, started.elapsed());
            Tried { number, settled: true }
        }
        .boxed()
    }
}

/// Repeats what the store failed to do.
async fn until_done<T, F: Future<Output = Result<T, Failure>>>(context: &LaneContext, work: impl Fn() -> F) -> T {
    loop {
        match work().await {
            Ok(done) => return done,
            Err(failure) => {
                if let Some(suppressed) = context.failures.admit(()) {
                    tracing::warn!(%failure, suppressed, "the spool cannot be used");
                }
                sleep(REST).await;
            }
        }
    }
}

async fn poll_optional<T>(future: &mut Option<BoxFuture<'_, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
