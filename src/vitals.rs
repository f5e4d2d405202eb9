//! Whether the process is starting, ready or draining: what both listeners report.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::courier::Courier;
use crate::destination::Health;
use crate::lanes::Lanes;
use crate::ledger::Ledger;
use crate::reason::{Failure, Reason};
use crate::telemetry::metrics::Metrics;

/// How often the store is checked for a failure that only a restart can fix.
const CHECK_STORE: Duration = Duration::from_secs(1);

/// What readiness depends on.
pub struct Vitals {
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// The destinations.
    pub courier: Arc<Courier>,
    /// The destinations that no delivery needs: those of optional targets only.
    pub optional: HashSet<Arc<str>>,
    /// The spool's lanes; `None` without a store on disk.
    pub lanes: Option<Arc<Lanes>>,
    /// Where everything counts.
    pub metrics: Arc<Metrics>,
    /// Cancelled when shutting down.
    pub draining: CancellationToken,
    started: AtomicBool,
}

impl Vitals {
    /// The vitals of a process that is starting.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        courier: Arc<Courier>,
        optional: HashSet<Arc<str>>,
        lanes: Option<Arc<Lanes>>,
        metrics: Arc<Metrics>,
        draining: CancellationToken,
    ) -> Self {
        Vitals { ledger, courier, optional, lanes, metrics, draining, started: AtomicBool::new(false) }
    }

    /// Ready: the process has [started](Vitals::started), the store is usable, and the process is not draining. An outage of
    /// a broker that all replicas share does not count: it would take every replica out of service, and the sender would
    /// lose our 503 + `Retry-After`.
    pub fn ready(&self) -> bool {
        self.started() && !self.draining.is_cancelled() && self.ledger.health().is_ok()
    }

    /// Resolves when the store has failed and does not recover in this process: one of its threads has ended.
    pub async fn store_failed(&self) -> Failure {
        let mut check = interval(CHECK_STORE);
        loop {
            check.tick().await;
            if let Err(failure) = self.ledger.health()
                && failure.reason == Reason::Failed
            {
                return failure;
            }
        }
    }

    /// Whether every destination was tried once: it was usable, or out of reach. One that refuses us, for example because of
    /// credentials or of its topology, keeps a new process from being ready, so that a roll-out stops; not if it is optional.
    pub fn started(&self) -> bool {
        if self.started.load(Ordering::Relaxed) {
            return true;
        }
        let tried = self.courier.destinations().all(|handle| match handle.health() {
            Health::Up => true,
            Health::Starting(None) => false,
            Health::Starting(Some(failure)) | Health::Down(failure) => {
                failure.reason.is_outage() || self.optional.contains(handle.name())
            }
        });
        self.started.fetch_or(tried, Ordering::Relaxed) || tried
    }
}
