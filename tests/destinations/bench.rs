//! A subject with a scope, which a case works with.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hookbridge::destination::{self, Confirm, Handle, Health, Opening};
use hookbridge::event::Event;
use hookbridge::message::{Message, Outcome};
use hookbridge::telemetry::metrics::Metrics;

use super::{Ending, Stored, Subject};
use crate::support::event::{message, scope};
use crate::support::wait::{SOON, until};

/// The limit for bodies in these tests, in bytes.
pub const BODY_LIMIT: usize = 8 << 20;
/// The publish timeout, unless a case sets another one.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(20);

/// A subject, and a scope for names that only this test uses.
pub struct Bench<S> {
    pub subject: S,
    pub scope: String,
}

impl<S: Subject> Bench<S> {
    /// A bench on a subject that tests share.
    pub async fn shared() -> Self {
        Bench { subject: S::shared().await, scope: scope() }
    }

    /// A bench on a subject of its own, which may be killed.
    pub async fn own() -> Self {
        Bench { subject: S::own().await, scope: scope() }
    }

    /// The full name of a topic of this test.
    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.scope)
    }

    /// A message for a topic of this test.
    pub fn message(&self, topic: &str, event: Event) -> Message {
        message(&self.topic(topic), event)
    }

    /// Opens the destination for these topics.
    pub fn open(&self, topics: &[&str]) -> Handle {
        self.open_with(topics, |_| ())
    }

    /// Opens the destination with changed settings.
    pub fn open_with(&self, topics: &[&str], change: impl FnOnce(&mut Opening)) -> Handle {
        let metrics = Arc::new(Metrics::default());
        let mut opening = Opening {
            settings: self.subject.settings(&self.scope),
            topics: topics.iter().map(|topic| self.topic(topic)).collect(),
            publish_timeout: PUBLISH_TIMEOUT,
            body_limit: BODY_LIMIT,
            metrics: Arc::clone(&metrics),
        };
        change(&mut opening);
        let (settings, publish_timeout) = (opening.settings.clone(), opening.publish_timeout);
        let destination = destination::open(opening).expect("settings that can be opened");
        Handle::new(destination, &settings, publish_timeout, metrics)
    }

    /// Opens the destination and waits until it is up.
    pub async fn ready(&self, topics: &[&str]) -> Handle {
        self.ready_with(topics, |_| ()).await
    }

    /// Opens the destination with changed settings and waits until it is up.
    pub async fn ready_with(&self, topics: &[&str], change: impl FnOnce(&mut Opening)) -> Handle {
        let handle = self.open_with(topics, change);
        up(&handle).await;
        handle
    }

    /// What is stored in a topic of this test.
    pub async fn stored(&self, topic: &str) -> Vec<Stored> {
        self.subject.stored(&self.scope, &self.topic(topic)).await
    }
}

/// Waits until the destination is up.
pub async fn up(handle: &Handle) {
    until("up", SOON, async || (handle.health() == Health::Up).then_some(())).await;
}

/// The outcome, which must arrive soon after the publish timeout at the latest.
pub async fn outcome(confirm: Confirm) -> Outcome {
    tokio::time::timeout(PUBLISH_TIMEOUT + SOON, confirm).await.expect("every publish has an outcome in time")
}

/// Publishes all messages in order, without waiting between them, and returns the outcomes in the same order.
pub async fn publish_all(handle: &Handle, messages: impl IntoIterator<Item = Message>) -> Vec<Outcome> {
    let confirms: Vec<_> = messages.into_iter().map(|message| outcome(handle.publish(message))).collect();
    join_all(confirms).await
}

/// Publishes the same message until it is confirmed, as the sender's retries do, and returns the outcomes before that.
pub async fn publish_until_confirmed(handle: &Handle, message: &Message) -> Vec<Outcome> {
    let mut before = Vec::new();
    until("confirmed", 3 * SOON, async || match outcome(handle.publish(message.clone())).await {
        Outcome::Confirmed => Some(()),
        other => {
            assert_ne!(Ending::from(&other), Ending::Never, "{other:?}");
            before.push(other);
            None
        }
    })
    .await;
    before
}

/// Asserts that all outcomes have this ending.
#[track_caller]
pub fn all(outcomes: &[Outcome], ending: Ending) {
    for outcome in outcomes {
        assert_eq!(Ending::from(outcome), ending, "{outcome:?}");
    }
}
