//! What a destination publishes, and how a publish ends.

use std::sync::Arc;

use bytes::Bytes;

use crate::event::Event;
use crate::reason::Failure;

/// One event for one topic of one destination.
#[derive(Clone, Debug)]
pub struct Message {
    /// The event; shared between targets.
    pub event: Arc<Event>,
    /// Subject, topic or routing key; checked against the broker's naming rules.
    pub topic: Arc<str>,
    /// The record key, if the route sets one.
    pub key: Option<String>,
    /// The body in gzip, in the content mode of the destination, if it is published so.
    pub gzip: Option<Bytes>,
}

impl Message {
    /// An event for a topic, with the event's own key.
    pub fn new(event: Arc<Event>, topic: &str) -> Self {
        Message { event, topic: topic.into(), key: None, gzip: None }
    }

    /// The record key: the route's, else the event's `partitionkey`.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref().or(self.event.partitionkey.as_deref())
    }
}

/// How a publish ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The broker has stored it, as safely as the broker stores anything.
    Confirmed,
    /// Not stored: try again later.
    Again(Failure),
    /// Perhaps stored: try again later with the same event id.
    Unknown(Failure),
    /// The broker can never take this event's bytes or names. What another configuration or a later time could change is
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
