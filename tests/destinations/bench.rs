//! A subject with a scope: what a case works with.

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

/// The largest body that the bridge takes in these tests.
pub const BODY_LIMIT: usize = 8 << 20;
/// How long a publish lives where a case does not say.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(20);

/// A subject, and names that only this test uses.
pub struct Bench<S> {
    pub subject: S,
    pub scope: String,
}

impl<S: Subject> Bench<S> {
    /// On a subject that tests share.
    pub async fn shared() -> Self {
        Bench { subject: S::shared().await, scope: scope() }
    }

    /// On one that may be broken.
    pub async fn own() -> Self {
        Bench { subject: S::own().await, scope: scope() }
    }

    /// A topic of this test.
    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.scope)
    }

    /// An event for a topic of this test.
    pub fn message(&self, topic: &str, event: Event) -> Message {
        message(&self.topic(topic), event)
    }

    /// Opens the destination for these topics.
    pub fn open(&self, topics: &[&str]) -> Handle {
        self.open_with(topics, |_| ())
    }

    /// Opens it with other settings.
    pub fn open_with(&self, topics: &[&str], tweak: impl FnOnce(&mut Opening)) -> Handle {
        let metrics = Arc::new(Metrics::default());
        let mut opening = Opening {
            settings: self.subject.settings(&self.scope),
            topics: topics.iter().map(|topic| self.topic(topic)).collect(),
            publish_timeout: PUBLISH_TIMEOUT,
            body_limit: BODY_LIMIT,
            metrics: Arc::clone(&metrics),
        };
        tweak(&mut opening);
        let (settings, publish_timeout) = (opening.settings.clone(), opening.publish_timeout);
        let destination = destination::open(opening).expect("settings that can be opened");
        Handle::new(destination, &settings, publish_timeout, metrics)
    }

    /// Opens it and waits until it is up.
    pub async fn ready(&self, topics: &[&str]) -> Handle {
        self.ready_with(topics, |_| ()).await
    }

    /// Opens it with other settings and waits until it is up.
    pub async fn ready_with(&self, topics: &[&str], tweak: impl FnOnce(&mut Opening)) -> Handle {
        let handle = self.open_with(topics, tweak);
        up(&handle).await;
        handle
    }

    /// What an independent reader finds under a topic of this test.
    pub async fn stored(&self, topic: &str) -> Vec<Stored> {
        self.subject.stored(&self.scope, &self.topic(topic)).await
    }
}

/// Waits until the destination says that it is up.
pub async fn up(handle: &Handle) {
    until("up", SOON, async || (handle.health() == Health::Up).then_some(())).await;
}

/// The outcome, which must come before its publish's life and the grace after it are over.
pub async fn outcome(confirm: Confirm) -> Outcome {
    tokio::time::timeout(PUBLISH_TIMEOUT + SOON, confirm).await.expect("every publish has an outcome in time")
}

/// Publishes all in order, without waiting between them, and gives the outcomes in the same order.
pub async fn publish_all(handle: &Handle, messages: impl IntoIterator<Item = Message>) -> Vec<Outcome> {
    let confirms: Vec<_> = messages.into_iter().map(|message| outcome(handle.publish(message))).collect();
    join_all(confirms).await
}

/// Publishes until it is confirmed, as a courier does, and gives the outcomes before that. The message is the same each time.
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

/// Asserts that all outcomes are of one kind.
#[track_caller]
pub fn all(outcomes: &[Outcome], ending: Ending) {
    for outcome in outcomes {
        assert_eq!(Ending::from(outcome), ending, "{outcome:?}");
    }
}
