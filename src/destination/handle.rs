//! A destination with its bounds and its counts: what the courier publishes through.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::FutureExt as _;
use tokio::sync::Semaphore;

use super::{Confirm, Destination, Message, Outcome};
use crate::config;
use crate::reason::Reason;
use crate::telemetry::metrics::{Metrics, OfDestination};

/// A destination, bounded in publishes and bytes without an outcome. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    /// The destination itself.
    pub destination: Arc<dyn Destination>,
    name: Arc<str>,
    kind: config::Kind,
    publishes: Arc<Semaphore>,
    /// In KiB: a semaphore counts at most 2^32.
    kibibytes: Arc<Semaphore>,
    backstop: Duration,
    metrics: Arc<Metrics>,
}

/// What a message costs beside its body: headers and bookkeeping.
const OVERHEAD: usize = 1024;
/// How long after its life an outcome is still waited for.
const GRACE: Duration = Duration::from_secs(15);

impl Handle {
    /// Bounds a destination as its settings say.
    pub fn new(
        destination: Arc<dyn Destination>,
        settings: &config::Destination,
        publish_timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        Handle {
            destination,
            name: settings.name.clone(),
            kind: settings.url.kind(),
            publishes: Arc::new(Semaphore::new(settings.in_flight)),
            kibibytes: Arc::new(Semaphore::new(settings.in_flight_bytes.div_ceil(1024))),
            backstop: publish_timeout + GRACE,
            metrics,
        }
    }

    /// The destination's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The destination's kind.
    pub fn kind(&self) -> config::Kind {
        self.kind
    }

    /// Publishes: under way when this returns, in the order of the calls. `Again(busy)` when too much is in flight.
    pub fn publish(&self, message: Message) -> Confirm {
        let started = Instant::now();
        let cost = ((message.event.data.len() + OVERHEAD).div_ceil(1024)) as u32;
        let permits =
            (Arc::clone(&self.publishes).try_acquire_owned(), Arc::clone(&self.kibibytes).try_acquire_many_owned(cost));
        let (metrics, name, backstop) = (Arc::clone(&self.metrics), Arc::clone(&self.name), self.backstop);
        let (Ok(publish), Ok(kibibytes)) = permits else {
            let outcome = Outcome::Again(Reason::Busy.into());
            metrics.published(&name, &outcome);
            return std::future::ready(outcome).boxed();
        };
        let label = OfDestination { destination: name.to_string() };
        metrics.publishing.get_or_create(&label).inc();
        let confirm = self.destination.publish(message);
        async move {
            let outcome = tokio::time::timeout(backstop, confirm).await;
            let outcome = outcome.unwrap_or_else(|_| Outcome::Unknown(Reason::Timeout.into()));
            drop((publish, kibibytes));
            metrics.publishing.get_or_create(&label).dec();
            metrics.publish_seconds.get_or_create(&label).observe(started.elapsed().as_secs_f64());
            metrics.published(&name, &outcome);
            outcome
        }
        .boxed()
    }
}
