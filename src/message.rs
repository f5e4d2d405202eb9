//! What is handed to a destination, and how that ends.

use std::sync::Arc;

use crate::event::Event;
use crate::reason::Failure;

/// One event for one topic of one destination.
#[derive(Clone, Debug)]
pub struct Message {
    /// The event; shared between targets.
    pub event: Arc<Event>,
    /// Subject, topic or routing key: templated, and checked against the broker's rules.
    pub topic: Arc<str>,
    /// Record key, where the route sets one; else the destination takes the `partitionkey`.
    pub key: Option<String>,
}

impl Message {
    /// An event for a topic, with the event's own key.
    pub fn new(event: Arc<Event>, topic: &str) -> Self {
        Message { event, topic: topic.into(), key: None }
    }

    /// The record key: the route's, else the event's `partitionkey`.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref().or(self.event.partitionkey.as_deref())
    }
}

/// How a publish ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The broker has it, as safe as the broker keeps things.
    Confirmed,
    /// Surely not stored: try later.
    Again(Failure),
    /// Perhaps stored: try later, with the same event id.
    Unknown(Failure),
    /// This event's own bytes or names can never be taken. What another configuration or another hour could mend is
    /// [`Outcome::Again`].
    Never(Failure),
}

impl Outcome {
    /// The word for it in metrics and in the log.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Confirmed => "confirmed",
            Outcome::Again(_) => "again",
            Outcome::Unknown(_) => "unknown",
            Outcome::Never(_) => "never",
        }
    }

    /// Why it was not confirmed.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Outcome::Confirmed => None,
            Outcome::Again(failure) | Outcome::Unknown(failure) | Outcome::Never(failure) => Some(failure),
        }
    }
}
