//! One task per destination: reaches the cluster, looks at topics, replaces a producer that failed; for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::producer::Producer as _;

use super::link::Task;
use super::producer::{aside, discard, drain, make};
use super::topology::{Admin, Findings, unanswered};
use super::{Shared, client};
use crate::destination::Health;
use crate::reason::{Failure, Reason};

/// How long a question to the cluster may take.
const QUESTION: Duration = Duration::from_secs(3);
/// How long the messages on their way through a failed producer are waited for before it is replaced: what its
/// successor sends must not overtake them.
const LAST_REPORTS: Duration = Duration::from_secs(5);
/// Between two looks at the topics.
const PACE: Duration = Duration::from_secs(1);
/// A producer that lived this long was usable.
const LASTING: Duration = Duration::from_secs(60);
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(10);
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

pub(super) async fn run(shared: Arc<Shared>) {
    let mut pause = SHORTEST;
    let mut looked = None;
    let (mut failed, mut replacing) = (false, Replacing { last: None, pause: FIRST_REST });
    while !shared.closed.is_cancelled() {
        let task = shared.link.task();
        shared.show();
        let done = match task {
            Task::Inspect => {
                shared.link.inspected(shared.slot.fatal());
                continue;
            }
            Task::Replace => replace(&shared, &mut replacing).await,
            Task::Reach => reach(&shared).await,
            Task::Look => {
                // A topic that comes and goes is looked at now and then, not at each of its messages.
                let since = looked.map_or(PACE, |last: Instant| last.elapsed());
                tokio::time::sleep(PACE.saturating_sub(since)).await;
                looked = Some(Instant::now());
                look(&shared).await
            }
            Task::Rest => {
                shared.link.changed().await;
                continue;
            }
        };
        shared.show();
        match done {
            Ok(()) => {
                if failed && shared.link.health() == Health::Up {
                    tracing::info!(destination = %shared.plan.destination, "Kafka is usable again");
                    failed = false;
                }
                pause = SHORTEST;
            }
            Err(failure) => {
                if !failed {
                    tracing::warn!(destination = %shared.plan.destination, "Kafka is not usable: {failure}");
                    failed = true;
                }
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
                pause = (pause * 2).min(if task == Task::Look { LONGEST } else { LONGEST / 5 });
            }
        }
    }
}

/// Asks the producer's own client for something small: what it can reach is what counts.
async fn reach(shared: &Arc<Shared>) -> Result<(), Failure> {
    let topic = shared.plan.topics.first().cloned();
    let slot = Arc::clone(shared);
    let answer = aside(move || {
        let producer = slot.slot.get()?;
        Some(producer.client().fetch_metadata(topic.as_deref(), QUESTION).map(|_| ()))
    });
    match answer.await.ok().flatten() {
        Some(Ok(())) => {
            if shared.link.reached() {
                shared.metrics.connects.get_or_create(&shared.label).inc();
                tracing::info!(destination = %shared.plan.destination, "connected to Kafka");
            }
            Ok(())
        }
        Some(Err(error)) => {
            shared.link.not_reached(unanswered(&error));
            Err(shared.link.down().unwrap_or_else(|| Reason::Unreachable.into()))
        }
        // Being replaced, or closed.
        None => Err(Reason::Unreachable.into()),
    }
}

/// Makes or checks the topics.
pub(super) async fn look(shared: &Arc<Shared>) -> Result<(), Failure> {
    shared.link.looking();
    let (plan, config, runtime) = (shared.plan.clone(), shared.admin.clone(), tokio::runtime::Handle::current());
    let early = Arc::clone(shared);
    let looked = aside(move || {
        let admin = Admin::new(&config, &plan.destination, runtime)?;
        Ok(admin.apply(&plan, |found| early.found(found)))
    });
    let (found, fits) = match looked.await {
        Ok(Ok(looked)) => looked,
        Ok(Err(failure)) => (Findings::default(), Err(failure)),
        Err(_) => (Findings::default(), Err(Reason::Failed.into())),
    };
    // Without an answer what was known stays.
    if found.brokers > 0 {
        shared.found(found);
    }
    shared.link.looked(fits.clone());
    fits
}

/// When a producer was last replaced, and how long the next must wait if it fails soon: without the right to write, for
/// example, each producer fails as soon as it is connected.
struct Replacing {
    last: Option<Instant>,
    pause: Duration,
}

/// A fatal error is for good: lets the messages on their way through the old producer end, and puts a new one in place.
async fn replace(shared: &Arc<Shared>, replacing: &mut Replacing) -> Result<(), Failure> {
    if let Some(old) = shared.slot.take() {
        shared.metrics.kafka_replaced.get_or_create(&shared.label).inc();
        let why = shared.link.down().unwrap_or_else(|| Reason::ConnectionLost.into());
        let ending = shared.ending.token();
        let ended = aside(move || {
            let left = drain(&old, LAST_REPORTS, false);
            drop(ending);
            // Its outcomes are known; its threads may take their time to end.
            discard(Some(old));
            left
        });
        let left = ended.await.unwrap_or_default();
        tracing::warn!(destination = %shared.plan.destination, left, "Kafka producer ended: {why}");
        if replacing.last.is_some_and(|last| last.elapsed() < LASTING) {
            tokio::time::sleep(replacing.pause.mul_f64(rand::random_range(0.5..1.0))).await;
            replacing.pause = (replacing.pause * 2).min(LONGEST_REST);
        } else {
            replacing.pause = FIRST_REST;
        }
        replacing.last = Some(Instant::now());
    }
    let (config, context) = (shared.producer.clone(), shared.context());
    // It reads certificates, and starts threads.
    let made = aside(move || make(&config, context)).await.map_err(|_| Reason::Failed)?;
    let new = made.map_err(|error| client::unusable(&error))?;
    discard(shared.slot.put(new));
    shared.link.replaced();
    Ok(())
}
