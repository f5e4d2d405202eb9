//! A destination with its bounds and metrics: the only way to publish to it.

use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use futures_util::future::FutureExt as _;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::settings::DestinationSettings;
use super::{Confirm, Destination, Health};
use crate::message::{Message, Outcome};
use crate::reason::{Failure, Reason};
use crate::telemetry::metrics::{DestinationLabel, Metrics};

/// A destination with a bounded number of publishes, and of their bytes, in flight. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    destination: Arc<dyn Destination>,
    bounds: Arc<Bounds>,
}

struct Bounds {
    name: Arc<str>,
    publishes: Arc<Semaphore>,
    /// In KiB: a semaphore counts at most 2^32.
    kibibytes: Arc<Semaphore>,
    backstop: Duration,
    metrics: Arc<Metrics>,
    /// Looked up once: every publish changes them.
    publishing: Gauge,
    seconds: Histogram,
    confirmed: Counter,
}

/// What a message costs besides its body, in bytes: headers and bookkeeping.
const OVERHEAD: usize = 1024;
/// How long after a publish's time limit its outcome is still waited for.
const GRACE: Duration = Duration::from_secs(15);

impl Handle {
    /// Bounds a destination by its settings.
    pub fn new(
        destination: Arc<dyn Destination>,
        settings: &DestinationSettings,
        publish_timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        let label = DestinationLabel { destination: settings.name.to_string() };
        let bounds = Bounds {
            name: settings.name.clone(),
            publishes: Arc::new(Semaphore::new(settings.in_flight)),
            kibibytes: Arc::new(Semaphore::new(settings.in_flight_bytes.div_ceil(1024))),
            backstop: publish_timeout + GRACE,
            publishing: metrics.publishing.get_or_create_owned(&label),
            seconds: metrics.publish_seconds.get_or_create_owned(&label),
            confirmed: metrics.confirmed(&settings.name),
            metrics,
        };
        Handle { destination, bounds: Arc::new(bounds) }
    }

    /// The destination's name.
    pub fn name(&self) -> &Arc<str> {
        &self.bounds.name
    }

    /// What is known of the destination without a query.
    pub fn health(&self) -> Health {
        self.destination.health()
    }

    /// See [`Destination::ensure`].
    ///
    /// # Errors
    /// Why it cannot be published to.
    pub async fn ensure(&self) -> Result<(), Failure> {
        self.destination.ensure().await
    }

    /// See [`Destination::probe`].
    ///
    /// # Errors
    /// Why it cannot be published to.
    pub async fn probe(&self) -> Result<Vec<String>, Failure> {
        self.destination.probe().await
    }

    /// See [`Destination::close`].
    pub async fn close(&self, at_most: Duration) {
        self.destination.close(at_most).await;
    }

    /// Publishes. The publish is in flight when this returns, in the order of the calls. `Again(busy)` if the bounds are
    /// reached.
    pub fn publish(&self, message: Message) -> Confirm {
        let started = Instant::now();
        let cost = ((message.event.data.len() + OVERHEAD).div_ceil(1024)) as u32;
        let bounds = Arc::clone(&self.bounds);
        let publish = Arc::clone(&bounds.publishes).try_acquire_owned();
        let kibibytes = Arc::clone(&bounds.kibibytes).try_acquire_many_owned(cost);
        let (Ok(publish), Ok(kibibytes)) = (publish, kibibytes) else {
            let outcome = Outcome::Again(Reason::Busy.into());
            bounds.metrics.published(&bounds.name, &outcome);
            return std::future::ready(outcome).boxed();
        };
        let in_flight = InFlight::begin(&bounds.publishing, publish, kibibytes);
        let confirm = self.destination.publish(message);
        async move {
            let outcome = tokio::time::timeout(bounds.backstop, confirm).await;
            let outcome = outcome.unwrap_or_else(|_| Outcome::Unknown(Reason::Timeout.into()));
            drop(in_flight);
            bounds.seconds.observe(started.elapsed().as_secs_f64());
            match &outcome {
                Outcome::Confirmed => drop(bounds.confirmed.inc()),
                other => bounds.metrics.published(&bounds.name, other),
            }
            outcome
        }
        .boxed()
    }
}

/// The permits of a publish: released with its outcome, or when its future is dropped.
struct InFlight {
    gauge: Gauge,
    _room: [OwnedSemaphorePermit; 2],
}

impl InFlight {
    fn begin(gauge: &Gauge, publish: OwnedSemaphorePermit, kibibytes: OwnedSemaphorePermit) -> Self {
        gauge.inc();
        InFlight { gauge: gauge.clone(), _room: [publish, kibibytes] }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::{BoxFuture, FutureExt as _, pending};

    use super::*;
    use crate::destination::settings::BrokerUrl;
    use crate::event::Event;
    use crate::event::fixture::event;

    /// A broker that never answers.
    struct Silent;

    impl Destination for Silent {
        fn publish(&self, _: Message) -> Confirm {
            pending().boxed()
        }
        fn ensure(&self) -> BoxFuture<'_, Result<(), Failure>> {
            pending().boxed()
        }
        fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
            pending().boxed()
        }
        fn health(&self) -> Health {
            Health::Up
        }
        fn close(&self, _: Duration) -> BoxFuture<'_, ()> {
            std::future::ready(()).boxed()
        }
    }

    fn message(bytes: usize) -> Message {
        let event = Event { data: vec![b' '; bytes].into(), ..event() };
        Message::new(Arc::new(event), "a.b")
    }

    #[tokio::test(start_paused = true)]
    async fn bounded_in_number_and_bytes_and_never_without_an_outcome() {
        let url = BrokerUrl::File("nowhere".into());
        let settings =
            DestinationSettings { in_flight: 3, in_flight_bytes: 64 << 10, ..DestinationSettings::new("silent", url) };
        let handle = Handle::new(Arc::new(Silent), &settings, Duration::from_secs(10), Arc::default());
        let busy = Outcome::Again(Reason::Busy.into());
        let publishes: Vec<_> = (0..3).map(|_| handle.publish(message(0))).collect();
        assert_eq!(handle.publish(message(0)).await, busy, "in number");
        for publish in publishes {
            assert_eq!(publish.await, Outcome::Unknown(Reason::Timeout.into()), "its broker never answered");
        }
        let large = handle.publish(message(60 << 10));
        assert_eq!(handle.publish(message(8 << 10)).await, busy, "in bytes");
        drop(large);
        assert_eq!(handle.publish(message(8 << 10)).await, Outcome::Unknown(Reason::Timeout.into()));
        assert_eq!(handle.bounds.publishing.get(), 0);
    }
}
