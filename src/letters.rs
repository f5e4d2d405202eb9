//! Dead letters in the store of the data directory: what could never be published, until it is replayed or discarded.
//!
//! | module | job |
//! |---|---|
//! | `rows` | the table |
//! | `kept` | a dead letter that was read, and the delivery that it came from |
//! | `filter` | which dead letters a list contains |
//! | `expiry` | deletes old ones |
//! | `reserved` | which are being replayed, discarded or deleted |
//!
//! A dead letter is kept in the transaction that records the fact, so [`keep`] is called by the ledger and the spool; it goes in
//! the one that records a late confirm ([`withdraw`]). Whether there is room is checked before, by the courier.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::dead_letter::DeadLetter;
use crate::delivery::DeliveryKey;
use crate::protocol::Target;
use crate::reason::{Failure, Reason};
use crate::store::{Batch, Store};
pub use expiry::expire;
pub use filter::LetterFilter;
pub use kept::{KeptLetter, LetterSummary};
pub use reserved::{ReservedLetter, ReservedLetters};
pub use rows::{LetterCount, TABLES, count, counts, extend, keep, of_id, rules, withdraw};

mod expiry;
mod filter;
mod kept;
mod reserved;
mod rows;

/// Most rows that one look-up reads: claims wait for it.
const SCAN: usize = 2000;
/// Most dead letters that one write deletes.
const DELETIONS: usize = 200;

/// The dead letters of a data directory.
pub struct Letters {
    store: Arc<Store>,
    max_bytes: u64,
    /// Bytes that have room and may not be committed.
    pending: Arc<Mutex<u64>>,
}

/// Room for a dead letter, given back when this is dropped: by then the store counts what it keeps.
#[derive(Debug)]
pub struct LetterRoom {
    pending: Arc<Mutex<u64>>,
    bytes: u64,
}

impl Drop for LetterRoom {
    fn drop(&mut self) {
        *self.pending.lock() -= self.bytes;
    }
}

/// Dead letters in the order of their numbers.
pub struct LetterPage {
    /// Those that match.
    pub letters: Vec<LetterSummary>,
    /// The last number that was read, if there may be more behind it.
    pub next: Option<u64>,
}

impl Letters {
    /// The dead letters in a store. It takes `max_bytes` at most.
    pub fn new(store: Arc<Store>, max_bytes: u64) -> Self {
        Letters { store, max_bytes, pending: Arc::default() }
    }

    /// Room for a dead letter, for as long as it may not be committed.
    ///
    /// # Errors
    /// As many bytes are kept as may be.
    pub fn room(&self, letter: &DeadLetter) -> Result<LetterRoom, Failure> {
        let mut pending = self.pending.lock();
        let (kept, bytes) = (self.bytes().saturating_add(*pending), rows::size(letter));
        if kept.saturating_add(bytes) <= self.max_bytes {
            *pending += bytes;
            return Ok(LetterRoom { pending: Arc::clone(&self.pending), bytes });
        }
        let detail = format!(
            "{kept} bytes of dead letters are kept; `dead_letters.max_bytes` is {}: replay or discard some",
            self.max_bytes
        );
        Err(Failure::new(Reason::DeadLettersFull, detail))
    }

    /// Bytes of all bodies and headers, as of the last commit.
    pub fn bytes(&self) -> u64 {
        rows::bytes(&self.store)
    }

    /// Up to `most` dead letters that match, with numbers after `after`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn page(&self, filter: &LetterFilter, after: u64, most: usize) -> Result<LetterPage, Failure> {
        let (mut letters, mut after) = (Vec::new(), after);
        let scan = if *filter == LetterFilter::default() { most.saturating_add(1).min(SCAN) } else { SCAN };
        loop {
            let rows = self.store.read(move |connection, _| rows::page(connection, after, scan)).await?;
            let all = rows.len() < scan;
            for summary in rows {
                after = summary.number;
                if filter.matches(&summary) {
                    if letters.len() == most {
                        let next = letters.last().map(|last: &LetterSummary| last.number);
                        return Ok(LetterPage { letters, next });
                    }
                    letters.push(summary);
                }
            }
            if all {
                return Ok(LetterPage { letters, next: None });
            }
        }
    }

    /// A dead letter; `None` if there is none of this number.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn load(&self, number: u64) -> Result<Option<KeptLetter>, Failure> {
        self.store.read(move |connection, _| rows::load(connection, number)).await
    }

    /// Deletes a dead letter; false if there is none of this number.
    ///
    /// # Errors
    /// The store may not have done it.
    pub async fn delete(&self, number: u64) -> Result<bool, Failure> {
        self.store.write(move |batch| rows::delete(batch, number)).await
    }

    /// Replaces a dead letter by one for each of these targets. Returns their numbers, in the same order; `None` if there is
    /// no dead letter of this number.
    ///
    /// # Errors
    /// The store may not have done it.
    pub async fn split(&self, number: u64, targets: Vec<Target>) -> Result<Option<Vec<u64>>, Failure> {
        self.store.write(move |batch| rows::split(batch, number, &targets)).await
    }

    /// Gives a dead letter the reason for which a replay failed.
    ///
    /// # Errors
    /// The store may not have done it.
    pub async fn set_failure(&self, number: u64, failure: Failure) -> Result<(), Failure> {
        self.store.write(move |batch| rows::set_failure(batch, number, &failure)).await
    }

    /// Deletes dead letters that were kept for more than `age` seconds of the store's own clock, but those that are reserved.
    /// Returns how many.
    ///
    /// # Errors
    /// The store may not have deleted all of them.
    pub async fn delete_older(&self, age: i64, reserved: &ReservedLetters) -> Result<u64, Failure> {
        let (mut after, mut deleted) = (0, 0);
        loop {
            let older = move |connection: &Connection, now: i64| rows::older(connection, now - age, after, SCAN);
            let old = self.store.read(older).await?;
            for letters in old.letters.chunks(DELETIONS) {
                let mut held: HashMap<&DeliveryKey, Option<ReservedLetter>> = HashMap::new();
                let mut is_free = |key| held.entry(key).or_insert_with(|| reserved.reserve(key.clone())).is_some();
                let free = letters.iter().filter(|(_, key)| is_free(key)).map(|(number, _)| *number);
                let numbers: Vec<u64> = free.collect();
                let delete = move |batch: &mut Batch<'_>| {
                    let mut deleted = 0;
                    for number in numbers {
                        deleted += u64::from(rows::delete(batch, number)?);
                    }
                    Ok(deleted)
                };
                deleted += self.store.write(delete).await?;
            }
            match old.last {
                Some(last) => after = last,
                None => return Ok(deleted),
            }
        }
    }
}
