//! The spool: accepted events that wait for their brokers, in the store of the data directory.
//!
//! An event is stored in the transaction that closes its id, once for all its targets. Each target that is open has a row in
//! its *lane*: the events for one topic of one destination, in the order of their acceptance (P8). The row is deleted in the
//! transaction that keeps the target's dead letter, or after its broker has confirmed; the event goes with its last row.
//!
//! [`crate::lanes`] takes the events to their brokers.

use std::sync::{Arc, OnceLock};

use crate::dead_letter::DeadLetter;
use crate::delivered::Delivered;
use crate::event::Event;
use crate::message::Message;
use crate::protocol::Target;
use crate::reason::{Failure, Reason};
use crate::route::Planned;
use crate::store::{Store, Volume};
pub use rows::{LaneRow, TABLES, count, insert};

mod rows;

/// Room that is left on the disk for draining: at least this many bytes …
const LEAST_FREE: u64 = 256 << 20;
/// … and this share of the disk.
const FREE_SHARE: u64 = 20;

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
        self.event.data.len() + rows::OVERHEAD
    }

    /// The key that orders the events of a target: the route's, else the event's.
    pub fn ordering_key<'a>(&'a self, target: &'a SpooledTarget) -> Option<&'a str> {
        target.key.as_deref().or(self.event.partitionkey.as_deref())
    }

    /// Its message for one of its targets.
    pub fn planned(&self, target: &Target) -> Planned {
        let key = self.targets.iter().find(|spooled| spooled.target == *target).and_then(|spooled| spooled.key.clone());
        match &target.topic {
            Some(topic) => {
                let message = Message { event: Arc::clone(&self.event), topic: Arc::clone(topic), key };
                Planned { target: target.clone(), message: Ok(message) }
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

/// The spool of a data directory.
pub struct Spool {
    store: Arc<Store>,
    max_bytes: u64,
}

impl Spool {
    /// The spool in a store. It takes `max_bytes` at most.
    pub fn new(store: Arc<Store>, max_bytes: u64) -> Self {
        Spool { store, max_bytes }
    }

    /// Whether there is room for an event of this size.
    ///
    /// # Errors
    /// The spool is full, or the disk nearly.
    pub fn room(&self, bytes: usize) -> Result<(), Failure> {
        let taken: u64 = self.depths().iter().map(|depth| depth.bytes).sum();
        if taken.saturating_add(bytes as u64) > self.max_bytes {
            let detail = format!("the spool holds {taken} bytes; `spool.max_bytes` is {}", self.max_bytes);
            return Err(Failure::new(Reason::SpoolFull, detail));
        }
        let Volume { free, size } = self.store.volume();
        let least = LEAST_FREE.max(size / FREE_SHARE);
        if free < least {
            let detail =
                format!("{free} bytes are free on the disk of the data directory: {least} are left for draining");
            return Err(Failure::new(Reason::SpoolFull, detail));
        }
        Ok(())
    }

    /// What waits for each destination, as of the last commit.
    pub fn depths(&self) -> Vec<Depth> {
        rows::depths(&self.store)
    }

    /// The lanes that have rows.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn lanes(&self) -> Result<Vec<Target>, Failure> {
        self.store.read(|connection, _| rows::lanes(connection)).await
    }

    /// The next rows of a lane, in its order.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn rows(&self, lane: Target, after: u64, most: usize) -> Result<Vec<LaneRow>, Failure> {
        self.store.read(move |connection, _| rows::lane_rows(connection, &lane, after, most)).await
    }

    /// An event; `None` if it is gone.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn load(&self, number: u64) -> Result<Option<Arc<Accepted>>, Failure> {
        let loaded = self.store.read(move |connection, _| rows::load(connection, number)).await?;
        Ok(loaded.map(Arc::new))
    }

    /// Deletes the row of a target that is settled; with the dead letter of one that can never take the event.
    ///
    /// # Errors
    /// The store may not have done it.
    pub async fn settle(
        &self,
        number: u64,
        target: Target,
        accepted: Arc<Accepted>,
        letter: Option<DeadLetter>,
    ) -> Result<(), Failure> {
        self.store.write(move |batch| rows::settle(batch, number, &target, &accepted, letter.as_ref())).await
    }

    /// Deletes all that waits for a destination; returns the number of events.
    ///
    /// # Errors
    /// The store may not have done it.
    pub async fn discard(&self, destination: String) -> Result<u64, Failure> {
        self.store.write(move |batch| rows::discard(batch, &destination)).await
    }
}
