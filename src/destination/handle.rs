//! A destination with its bounds and metrics: the only way to publish to it.

use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use futures_util::future::FutureExt as _;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::settings::DestinationSettings;
use super::stall::TopicsInFlight;
use super::streak::{RefusalStreak, StreakChange};
use super::{Confirm, Destination, Health, Reduction};
use crate::message::{Message, Outcome};
use crate::reason::{Failure, Reason};
use crate::telemetry::metrics::{DestinationLabel, Metrics};

/// A destination with a bounded number of publishes, and of their bytes, in flight. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    destination: Arc<dyn Destination>,
    bounds: Arc<Bounds>,
    reduction: Option<Arc<dyn Reduction>>,
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
    streak: Mutex<RefusalStreak>,
    refusing: Gauge,
    topics: Mutex<TopicsInFlight>,
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
        metrics.expect_destination(&settings.name);
        let label = DestinationLabel { destination: settings.name.to_string() };
        let bounds = Bounds {
            name: settings.name.clone(),
            publishes: Arc::new(Semaphore::new(settings.in_flight)),
            kibibytes: Arc::new(Semaphore::new(settings.in_flight_bytes.div_ceil(1024))),
            backstop: publish_timeout + GRACE,
            publishing: metrics.publishing.get_or_create_owned(&label),
            seconds: metrics.publish_seconds.get_or_create_owned(&label),
            confirmed: metrics.confirmed(&settings.name),
            streak: Mutex::default(),
            topics: Mutex::default(),
            refusing: metrics.refusing.get_or_create_owned(&label),
            metrics,
        };
        Handle { destination, bounds: Arc::new(bounds), reduction: None }
    }

    /// The same, but messages that are too large for the broker are made smaller.
    pub fn with_reduction(self, reduction: Option<Arc<dyn Reduction>>) -> Self {
        Handle { reduction, ..self }
    }

    /// The destination's name.
    pub fn name(&self) -> &Arc<str> {
        &self.bounds.name
    }

    /// What is known of the destination without a query.
    pub fn health(&self) -> Health {
        self.destination.health()
    }

    /// See [`Destination::warnings`]; and which topics stall.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.destination.warnings();
        warnings.extend(self.bounds.topics.lock().warnings(Instant::now()));
        warnings
    }

    /// Why the destination takes nothing, although it is up: several publishes in a row were not confirmed.
    pub fn refusing(&self) -> Option<Failure> {
        self.bounds.streak.lock().refusing().filter(|_| self.health() == Health::Up)
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
    /// reached, `Again(timeout)` if the topic stalls.
    ///
    /// A message that is too large is made smaller and published again, if that is configured, once the future is polled.
    /// Its outcome is that of the last publish: no later event of its key goes before it unless the caller publishes it
    /// meanwhile.
    pub fn publish(&self, message: Message) -> Confirm {
        let Some(reduction) = self.reduction.clone() else { return self.publish_once(message, true) };
        let known = Some(&message).filter(|_| self.health() == Health::Up);
        let first = match known.and_then(|message| self.destination.refuses_size(message)) {
            Some(refused) => std::future::ready(Outcome::Never(refused)).boxed(),
            None => self.publish_once(message.clone(), false),
        };
        let this = self.clone();
        async move {
            let outcome = first.await;
            if !is_too_large(&outcome) {
                return outcome;
            }
            let smaller = match reduction.reduce(message).await {
                Ok(smaller) => smaller,
                Err(outcome) => {
                    this.bounds.metrics.published(&this.bounds.name, &outcome);
                    return outcome;
                }
            };
            match this.publish_once(smaller, true).await {
                Outcome::Never(Failure { reason: Reason::TooLarge, detail }) => {
                    let policy = reduction.policy().word();
                    let detail = format!("still too large after `oversize: {policy}`: {detail}");
                    Outcome::Never(Failure::new(Reason::TooLarge, detail))
                }
                outcome => outcome,
            }
        }
        .boxed()
    }

    /// `last`: a message that is too large is not made smaller, so its outcome counts.
    fn publish_once(&self, message: Message, last: bool) -> Confirm {
        let started = Instant::now();
        let cost = ((message.event.data.len() + OVERHEAD).div_ceil(1024)) as u32;
        let bounds = Arc::clone(&self.bounds);
        let publish = Arc::clone(&bounds.publishes).try_acquire_owned();
        let kibibytes = Arc::clone(&bounds.kibibytes).try_acquire_many_owned(cost);
        let in_flight = match (publish, kibibytes) {
            (Ok(publish), Ok(kibibytes)) => InFlight::begin(&bounds, &message.topic, [publish, kibibytes], started),
            _ => Err(Reason::Busy.into()),
        };
        let mut in_flight = match in_flight {
            Ok(in_flight) => in_flight,
            Err(failure) => {
                let outcome = Outcome::Again(failure);
                bounds.note(&outcome, &*self.destination);
                bounds.metrics.published(&bounds.name, &outcome);
                return std::future::ready(outcome).boxed();
            }
        };
        let (confirm, destination) = (self.destination.publish(message), Arc::clone(&self.destination));
        async move {
            let outcome = match tokio::time::timeout(bounds.backstop, confirm).await {
                Ok(outcome) => {
                    bounds.note(&outcome, &*destination);
                    outcome
                }
                Err(_) => Outcome::Unknown(Reason::Timeout.into()),
            };
            in_flight.answered = !matches!(outcome, Outcome::Unknown(_));
            drop(in_flight);
            bounds.seconds.observe(started.elapsed().as_secs_f64());
            match &outcome {
                Outcome::Confirmed => drop(bounds.confirmed.inc()),
                outcome if !last && is_too_large(outcome) => {}
                other => bounds.metrics.published(&bounds.name, other),
            }
            outcome
        }
        .boxed()
    }
}

impl Bounds {
    /// Keeps the streak, its gauge and its log lines.
    fn note(&self, outcome: &Outcome, destination: &dyn Destination) {
        let mut streak = self.streak.lock();
        let change = streak.note(outcome, || destination.health() == Health::Up);
        // Under the lock, so that the gauge follows the order of the changes.
        let Some(change) = change else { return };
        self.refusing.set(i64::from(change != StreakChange::Ended));
        drop(streak);
        match change {
            StreakChange::Began(Failure { reason, detail }) => {
                tracing::warn!(destination = %self.name, %reason, %detail, "destination is connected and confirms nothing");
            }
            StreakChange::Ended => tracing::info!(destination = %self.name, "destination confirms again"),
        }
    }
}

fn is_too_large(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Never(failure) if failure.reason == Reason::TooLarge)
}

/// The permits of a publish: released with its outcome, or when its future is dropped.
struct InFlight {
    bounds: Arc<Bounds>,
    topic: Arc<str>,
    number: u64,
    /// Whether the broker answered.
    answered: bool,
    _room: [OwnedSemaphorePermit; 2],
}

impl InFlight {
    fn begin(
        bounds: &Arc<Bounds>,
        topic: &Arc<str>,
        room: [OwnedSemaphorePermit; 2],
        now: Instant,
    ) -> Result<Self, Failure> {
        let number = bounds.topics.lock().begin(topic, now)?;
        bounds.publishing.inc();
        Ok(InFlight { bounds: Arc::clone(bounds), topic: Arc::clone(topic), number, answered: false, _room: room })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.bounds.publishing.dec();
        self.bounds.topics.lock().end(&self.topic, self.number, self.answered);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures_util::future::{BoxFuture, FutureExt as _, pending, ready};

    use super::*;
    use crate::destination::settings::BrokerUrl;
    use crate::event::Event;
    use crate::event::fixture::event;

    /// A broker that gives these outcomes, and then never answers.
    #[derive(Default)]
    struct Scripted(Mutex<VecDeque<Outcome>>);

    impl Destination for Scripted {
        fn publish(&self, _: Message) -> Confirm {
            self.0.lock().pop_front().map_or(pending().boxed(), |outcome| ready(outcome).boxed())
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
        fn warnings(&self) -> Vec<String> {
            Vec::new()
        }
        fn ended(&self) -> BoxFuture<'_, ()> {
            pending().boxed()
        }
        fn close(&self, _: Duration) -> BoxFuture<'_, ()> {
            std::future::ready(()).boxed()
        }
    }

    fn message(bytes: usize) -> Message {
        let event = Event { data: vec![b' '; bytes].into(), ..event() };
        Message::new(Arc::new(event), "a.b")
    }

    #[tokio::test]
    async fn destination_that_confirms_nothing_is_refusing() {
        let full = || Outcome::Again(Reason::Full.into());
        let script = std::iter::repeat_with(full).take(6).chain([Outcome::Confirmed]).collect();
        let settings = DestinationSettings::new("full", BrokerUrl::File("nowhere".into()));
        let destination = Arc::new(Scripted(Mutex::new(script)));
        let handle = Handle::new(destination, &settings, Duration::from_secs(10), Arc::default());
        let seen = || (handle.refusing(), handle.bounds.refusing.get());
        for number in 1..=6 {
            handle.publish(message(0)).await;
            let expected = if number < 5 { (None, 0) } else { (Some(Reason::Full.into()), 1) };
            assert_eq!(seen(), expected, "{number}");
        }
        assert_eq!(handle.publish(message(0)).await, Outcome::Confirmed);
        assert_eq!(seen(), (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn bounded_in_number_and_bytes_and_never_without_an_outcome() {
        let url = BrokerUrl::File("nowhere".into());
        let settings =
            DestinationSettings { in_flight: 3, in_flight_bytes: 64 << 10, ..DestinationSettings::new("silent", url) };
        let handle = Handle::new(Arc::new(Scripted::default()), &settings, Duration::from_secs(10), Arc::default());
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
