//! Kafka, through librdkafka.
//!
//! A publish is a copy into the idempotent producer's queue; its delivery report is its outcome. A monitor task knows
//! whether the cluster can be reached, so that nothing is queued for a cluster that is not there, and replaces the
//! producer after a fatal error. Everything that blocks (questions, flush, drop) has a thread of its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::context::Context;
use self::link::Link;
use self::producer::{Limits, Slot, aside, discard, drain};
use self::record::Record;
use self::topology::{Admin, Findings, Plan};
use super::{Confirm, Destination, Health, Opening};
use crate::destination::settings::Mode;
use crate::message::{Message, Outcome};
use crate::reason::{Failure, Reason};
use crate::telemetry::metrics::{Metrics, OfDestination};

mod client;
mod context;
mod link;
mod monitor;
mod outcome;
mod producer;
mod record;
mod topology;

/// How long a closed producer's threads may take to end.
const ENDING: Duration = Duration::from_secs(1);

pub(super) fn open(opening: Opening) -> Result<Arc<dyn Destination>, Failure> {
    let (plan, producer, admin) = (plan(&opening), client::producer(&opening), client::admin(&opening.settings));
    let label = OfDestination { destination: opening.settings.name.to_string() };
    let link = Arc::new(Link::default());
    let limits = Limits::default();
    let metrics = opening.metrics;
    let alone = client::alone(&opening.settings.properties);
    let context = Context::new(Arc::clone(&link), Arc::clone(&limits), Arc::clone(&metrics), label.clone(), alone);
    let first = producer::make(&producer, context).map_err(|error| client::unusable(&error))?;
    let shared = Arc::new(Shared {
        slot: Slot::new(first),
        closed: CancellationToken::new(),
        ending: TaskTracker::new(),
        warned: Mutex::default(),
        mode: opening.settings.mode,
        forward_signature: opening.settings.forward_signature,
        link,
        limits,
        plan,
        producer,
        admin,
        alone,
        metrics,
        label,
    });
    shared.show();
    let (monitor, closed) = (monitor::run(Arc::clone(&shared)), shared.closed.clone());
    tokio::spawn(async move { closed.run_until_cancelled(monitor).await });
    Ok(Arc::new(Kafka(shared)))
}

fn plan(opening: &Opening) -> Plan {
    let mut topics = opening.topics.clone();
    topics.sort_unstable();
    topics.dedup();
    Plan {
        destination: opening.settings.name.to_string(),
        topics,
        topology: opening.settings.topology,
        partitions: opening.settings.partitions,
        largest: client::largest_message(opening),
    }
}

struct Kafka(Arc<Shared>);

/// What the destination and its monitor share.
struct Shared {
    slot: Slot,
    link: Arc<Link>,
    limits: Limits,
    plan: Plan,
    producer: ClientConfig,
    admin: ClientConfig,
    alone: client::Alone,
    mode: Mode,
    forward_signature: bool,
    metrics: Arc<Metrics>,
    label: OfDestination,
    closed: CancellationToken,
    /// Failed producers whose last reports are waited for.
    ending: TaskTracker,
    /// Warnings that were logged.
    warned: Mutex<Vec<String>>,
}

impl Shared {
    fn context(&self) -> Context {
        let (link, limits, metrics) = (Arc::clone(&self.link), Arc::clone(&self.limits), Arc::clone(&self.metrics));
        Context::new(link, limits, metrics, self.label.clone(), self.alone)
    }

    /// Shows health as a metric.
    fn show(&self) {
        let up = !self.closed.is_cancelled() && self.link.health() == Health::Up;
        self.metrics.up.get_or_create(&self.label).set(i64::from(up));
    }

    /// Keeps what was found, and logs what is new and odd.
    fn found(&self, found: Findings) {
        let warnings = found.warnings(&self.plan);
        let limits = found.topics.into_iter().map(|(name, found)| (name, found.limit));
        *self.limits.write() = limits.collect();
        let mut warned = self.warned.lock();
        for warning in warnings.iter().filter(|warning| !warned.contains(warning)) {
            tracing::warn!(destination = %self.plan.destination, "{warning}");
        }
        *warned = warnings;
    }

    /// Why this topic cannot be published to now, if so: then nothing is handed over.
    fn obstacle(&self, topic: &str) -> Option<Outcome> {
        if self.closed.is_cancelled() {
            return Some(Outcome::Again(Reason::Closing.into()));
        }
        if let Some(failure) = self.link.down() {
            return Some(Outcome::Again(failure));
        }
        // A topic of the plan that was not found; any other is left to the broker to judge.
        let missing = !self.limits.read().contains_key(topic) && self.plan.topics.iter().any(|name| name == topic);
        missing.then(|| Outcome::Again(Failure::new(Reason::Unroutable, "the topic is not there (yet)")))
    }
}

impl Destination for Kafka {
    fn publish(&self, message: Message) -> Confirm {
        let shared = &self.0;
        if let Some(outcome) = shared.obstacle(&message.topic) {
            return std::future::ready(outcome).boxed();
        }
        let record = Record::new(&message, shared.mode, shared.forward_signature);
        let report = match shared.slot.produce(&message, record) {
            Ok(report) => report,
            Err(outcome) => return std::future::ready(outcome).boxed(),
        };
        // librdkafka reports each message when its life is over, at the latest. Else its producer ended without a report.
        report.map(|told| told.unwrap_or_else(|_| Outcome::Unknown(Reason::ConnectionLost.into()))).boxed()
    }

    fn ensure(&self) -> BoxFuture<'_, Result<(), Failure>> {
        let shared = Arc::clone(&self.0);
        async move {
            let fits = monitor::look(&shared).await;
            shared.show();
            fits
        }
        .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        let (plan, config, link) = (self.0.plan.clone(), self.0.admin.clone(), Arc::clone(&self.0.link));
        async move {
            let runtime = tokio::runtime::Handle::current();
            let looked = aside(move || {
                let found = Admin::new(&config, &plan.destination, runtime)?.look(&plan)?;
                Ok([found.lines(&plan), found.warnings(&plan)].concat())
            });
            // To the client that asks every failure is a time-out; the producer beside it is told why.
            let told = looked.await.unwrap_or_else(|_| Err(Reason::Failed.into()));
            told.map_err(|failure| link.cause().unwrap_or(failure))
        }
        .boxed()
    }

    fn health(&self) -> Health {
        if self.0.closed.is_cancelled() { Health::Down(Reason::Closing.into()) } else { self.0.link.health() }
    }

    fn close(&self, at_most: Duration) -> BoxFuture<'_, ()> {
        let shared = Arc::clone(&self.0);
        async move {
            shared.closed.cancel();
            shared.show();
            shared.ending.close();
            let Some(producer) = shared.slot.close() else {
                // Being replaced: what the failed one still carries has its outcomes soon.
                let _ = tokio::time::timeout(at_most, shared.ending.wait()).await;
                return;
            };
            let destination = shared.plan.destination.clone();
            let ended = aside(move || {
                let left = drain(&producer, at_most, true);
                if left > 0 {
                    tracing::warn!(%destination, left, "closed with publishes unconfirmed");
                }
                drop(producer);
            });
            let _ = tokio::time::timeout(at_most + ENDING, ended).await;
        }
        .boxed()
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.0.closed.cancel();
        discard(self.0.slot.close());
    }
}
