//! An event in the spool.

use std::sync::{Arc, OnceLock};

use crate::delivered::Delivered;
use crate::event::Event;
use crate::message::Message;
use crate::protocol::Target;
use crate::reason::Reason;
use crate::route::Planned;

/// What an event takes besides its body, in bytes, about.
const OVERHEAD: usize = 1024;

/// An accepted event.
pub struct Accepted {
    /// The delivery that brought it.
    pub delivered: Arc<Delivered>,
    /// The event.
    pub event: Arc<Event>,
    /// Its targets that are open.
    pub targets: Vec<SpooledTarget>,
    /// Its place in the order of acceptance, once it is stored.
    pub number: OnceLock<u64>,
}

/// A target of an accepted event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpooledTarget {
    /// The target.
    pub target: Target,
    /// The record key, if the route sets one.
    pub key: Option<String>,
}

impl Accepted {
    /// An event for these targets.
    pub fn new(delivered: Delivered, event: Arc<Event>, open: impl IntoIterator<Item = Planned>) -> Self {
        let targets = open.into_iter().map(|planned| {
            let key = planned.message.ok().and_then(|message| message.key);
            SpooledTarget { target: planned.target, key }
        });
        let (delivered, targets) = (Arc::new(delivered), targets.collect());
        Accepted { delivered, event, targets, number: OnceLock::new() }
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        self.event.data.len() + OVERHEAD
    }

    /// The key that orders the events of a target: the route's, else the event's.
    pub fn ordering_key<'a>(&'a self, target: &'a SpooledTarget) -> Option<&'a str> {
        target.key.as_deref().or(self.event.partitionkey.as_deref())
    }

    /// Its message for one of its targets. In the spool, an event waits for each of them.
    pub fn planned(&self, target: &Target) -> Planned {
        let key = self.targets.iter().find(|spooled| spooled.target == *target).and_then(|spooled| spooled.key.clone());
        match &target.topic {
            Some(topic) => {
                let message = Message { event: Arc::clone(&self.event), topic: Arc::clone(topic), key, gzip: None };
                Planned { target: target.clone(), message: Ok(message), required: true }
            }
            None => Planned::never(target.clone(), Reason::IllegalName.into()),
        }
    }
}

/// What waits for a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depth {
    /// The destination's name.
    pub destination: String,
    /// Events.
    pub events: u64,
    /// Their bytes. An event for two destinations counts for both.
    pub bytes: u64,
}
