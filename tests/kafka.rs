//! What only Kafka has: clusters, replicas, fatal errors, authentication, and records that a Java client reads.

mod support;

#[path = "destinations/mod.rs"]
mod suite;

#[path = "kafka/bounds.rs"]
mod bounds;
#[path = "kafka/cluster.rs"]
mod cluster;
#[path = "kafka/fatal.rs"]
mod fatal;
#[path = "kafka/java.rs"]
mod java;
#[path = "kafka/proxy.rs"]
mod proxy;
#[path = "kafka/security.rs"]
mod security;
#[path = "kafka/topics.rs"]
mod topics;
#[path = "kafka/unreachable.rs"]
mod unreachable;

use std::sync::Arc;

use hookbridge::destination::{Handle, Opening};
use hookbridge::message::{Message, Outcome};
use hookbridge::reason::Reason;
use hookbridge::telemetry::metrics::Metrics;
use suite::bench::{BODY_LIMIT, PUBLISH_TIMEOUT};
use support::event::{event, message};

/// Settings and names: every topic begins with the scope.
fn opening(scope: &str, servers: &str, topics: &[&str]) -> Opening {
    Opening {
        settings: suite::kafka::settings(scope, servers),
        topics: topics.iter().map(|topic| format!("{scope}.{topic}")).collect(),
        publish_timeout: PUBLISH_TIMEOUT,
        body_limit: BODY_LIMIT,
        metrics: Arc::new(Metrics::default()),
    }
}

fn open(opening: Opening) -> Handle {
    let (settings, timeout, metrics) =
        (opening.settings.clone(), opening.publish_timeout, Arc::clone(&opening.metrics));
    Handle::new(
        hookbridge::destination::open(opening).expect("settings that can be opened"),
        &settings,
        timeout,
        metrics,
    )
}

/// An event whose id ends with its position among the events of its key.
fn keyed(topic: &str, key: &str, number: usize) -> Message {
    Message { key: Some(key.to_owned()), ..message(topic, event(&format!("{key}_{number}"))) }
}

fn reason(outcome: &Outcome) -> Option<Reason> {
    outcome.failure().map(|failure| failure.reason)
}

/// Asserts that the first copies of the events of each key are stored in the order in which they were sent.
fn assert_order(stored: &[suite::Stored]) {
    let mut last = std::collections::HashMap::<String, usize>::new();
    let mut seen = std::collections::HashSet::new();
    for id in stored.iter().map(suite::Stored::id).filter(|id| seen.insert(id.clone())) {
        let (key, number) = id.rsplit_once('_').expect("a number");
        let number = number.parse().expect("a number");
        let before = last.insert(key.to_owned(), number);
        assert!(before.is_none_or(|before| before < number), "{id} stored after {before:?}");
    }
}
