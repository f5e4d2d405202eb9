//! The spool: accepted events that wait for their brokers, in the store of the data directory.
//!
//! An event is stored in the transaction that closes its id, once for all its targets. Each target that is open has a row in
//! its *lane*: the events for one topic of one destination, in the order of their acceptance (P8). The row is deleted in the
//! transaction that keeps the target's dead letter, or after its broker has confirmed; the event goes with its last row.
//!
//! [`crate::lanes`] takes the events to their brokers.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::statfs;

use crate::dead_letter::DeadLetter;
use crate::durable;
use crate::protocol::Target;
use crate::reason::{Failure, Reason};
use crate::store::{Store, Volume};
pub use accepted::{Accepted, Depth, SpooledTarget};
pub use rows::{LaneRow, TABLES, count, depths_in, has, insert, rules, waiting};

mod accepted;
mod rows;

/// Kinds of file systems (`statfs(2)`).
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58f6;
const OVERLAY: i64 = 0x794c_7630;
/// Room that is left on the disk for draining: one part in `FREE_SHARE` of the disk, within these bytes. What draining
/// writes (the log of the database, dead letters) does not grow with the disk.
const LEAST_FREE: RangeInclusive<u64> = 256 << 20..=1 << 30;
const FREE_SHARE: u64 = 20;

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
        let least = (size / FREE_SHARE).clamp(*LEAST_FREE.start(), *LEAST_FREE.end());
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

    /// Deletes what waits for these destinations.
    ///
    /// # Errors
    /// The store may not have deleted it.
    pub async fn discard(&self, destinations: &[String]) -> Result<(), Failure> {
        for destination in destinations {
            let name = destination.clone();
            let events = self.store.write(move |batch| rows::discard(batch, &name)).await?;
            tracing::warn!(%destination, events, "the spool's events for this destination were discarded");
        }
        Ok(())
    }
}

/// Checks that nothing of what waits would wait forever.
///
/// # Errors
/// Events wait for a destination that is not `named` by the configuration; or, with `None`, for any: without a store,
/// nothing publishes them.
pub fn check_destinations(depths: &[Depth], named: Option<&[&str]>) -> Result<(), Failure> {
    let is_named = |depth: &Depth| named.is_some_and(|named| named.contains(&&*depth.destination));
    let left = depths.iter().find(|depth| depth.events > 0 && !is_named(depth));
    let Some(Depth { destination, events, .. }) = left else { return Ok(()) };
    let but = match named {
        Some(_) => "which the configuration does not name: restore it",
        None => "which `store: memory` does not publish: start with `store: embedded` until they are published",
    };
    let why = format!(
        "the spool has {events} events for the destination `{destination}`, {but}, or start once with --discard-spool \
         {destination} to delete them"
    );
    Err(Failure::new(Reason::Store, why))
}

/// Whether a directory is on a disk that outlives this machine's power and a container's end.
///
/// # Errors
/// It is not, or the system does not tell.
pub fn check_disk(directory: &Path) -> Result<(), Failure> {
    let named =
        |why: &dyn Display| Failure::new(Reason::Store, format!("data directory {}: {why}", directory.display()));
    durable::create_dir_all(directory).map_err(|error| named(&error))?;
    let kind = match statfs(directory).map_err(|error| named(&error))?.f_type {
        TMPFS | RAMFS => "tmpfs",
        OVERLAY => "overlay",
        _ => return Ok(()),
    };
    Err(named(&format_args!(
        "it is on {kind}, which does not outlive the {}: events that were answered 200 would be lost with it. Use a volume, \
         or accept that with --ephemeral",
        if kind == "tmpfs" { "machine" } else { "container" }
    )))
}

#[cfg(test)]
mod tests;
