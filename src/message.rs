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
