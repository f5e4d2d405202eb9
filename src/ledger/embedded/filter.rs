//! Which ids the store may have: a Bloom filter of all of them. A delivery that is surely new, as nearly all are, needs no
//! look-up.
//!
//! It must never miss an id of the store. So an id is added before its row is handed to the writer, and the ids of earlier
//! processes are read into it at start; until then, every id may be known. Expired and forgotten ids stay in it, so it is
//! built anew, of twice the size that is needed, when it has as many ids as it was made for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use fastbloom::AtomicBloomFilter;
use parking_lot::RwLock;
use rusqlite::Connection;

use super::recent;
use crate::ledger::facts::Id;
use crate::reason::{Failure, Reason};
use crate::store::Store;

/// The share of new ids that are looked up nevertheless, at most.
const FALSE_POSITIVES: f64 = 0.01;
/// Fewest ids that a filter is made for (1.2 MB).
const LEAST: usize = 1 << 20;
/// Ids that one look-up reads: other look-ups wait for it.
const CHUNK: usize = 4096;

/// See the module.
#[derive(Default)]
pub(super) struct IdFilter(RwLock<Filters>);

#[derive(Default)]
struct Filters {
    /// `None`: not complete yet.
    complete: Option<Arc<SizedFilter>>,
    /// The next filter, while it is being built.
    building: Option<Arc<SizedFilter>>,
}

struct SizedFilter {
    filter: AtomicBloomFilter,
    capacity: usize,
    added: AtomicUsize,
}

impl SizedFilter {
    fn new(ids: u64) -> Self {
        let capacity = usize::try_from(ids.saturating_mul(2)).unwrap_or(LEAST).max(LEAST);
        let filter = AtomicBloomFilter::with_false_pos(FALSE_POSITIVES).expected_items(capacity);
        SizedFilter { filter, capacity, added: AtomicUsize::new(0) }
    }

    fn add(&self, id: Id) {
        if !self.filter.insert_hash(hash(id)) {
            self.added.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn is_full(&self) -> bool {
        self.added.load(Ordering::Relaxed) >= self.capacity
    }
}

/// An id is the result of a keyed hash: each half of it is one.
fn hash(id: Id) -> u64 {
    id as u64
}

impl IdFilter {
    /// Whether the store may have an id.
    pub(super) fn may_have(&self, id: Id) -> bool {
        let filters = self.0.read();
        filters.complete.as_ref().is_none_or(|complete| complete.filter.contains_hash(hash(id)))
    }

    /// Adds an id, then hands its row to the writer with `submit`. Returns also whether a filter has to be built.
    pub(super) fn add<T>(&self, id: Id, submit: impl FnOnce() -> T) -> (T, bool) {
        // Both under one lock: a filter whose building begins later finds the row in the store, or at least in the queue
        // of the writer.
        let filters = self.0.read();
        for filter in [&filters.complete, &filters.building].into_iter().flatten() {
            filter.add(id);
        }
        let due = filters.building.is_none() && filters.complete.as_ref().is_none_or(|complete| complete.is_full());
        (submit(), due)
    }

    /// Builds a filter of all ids of the store, and uses it from then on. Does nothing if one is being built. `ids`: about
    /// how many there are.
    ///
    /// # Errors
    /// The store is closed or cannot be read. A filter that was complete before still is.
    pub(super) async fn build(&self, store: Weak<Store>, ids: u64) -> Result<(), Failure> {
        let building = {
            let mut filters = self.0.write();
            if filters.building.is_some() {
                return Ok(());
            }
            Arc::clone(filters.building.insert(Arc::new(SizedFilter::new(ids))))
        };
        let _unfinished = Unfinished(self);
        let open = || store.upgrade().ok_or_else(|| Failure::new(Reason::Store, "the store is closed"));
        // Rows that were handed to the writer before are in the store after this write.
        let earlier = open()?.write(|_| Ok(()));
        earlier.await?;
        // First, as rows are moved from here to where the next look-ups find them.
        recent::ids(&store).await?.into_iter().for_each(|id| building.add(id));
        let mut after = None;
        loop {
            let chunk = open()?.read(move |connection, _| ids_after(connection, after));
            let chunk = chunk.await?;
            chunk.iter().for_each(|id| building.add(*id));
            match chunk.last() {
                Some(last) => after = Some(*last),
                None => break,
            }
        }
        self.0.write().complete = Some(building);
        Ok(())
    }
}

/// The building ends with this, whether or not it was completed.
struct Unfinished<'a>(&'a IdFilter);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.0.write().building = None;
    }
}

/// The next ids after one, in order.
fn ids_after(connection: &Connection, after: Option<Id>) -> rusqlite::Result<Vec<Id>> {
    let sql = "SELECT id FROM ids WHERE id > ?1 UNION SELECT id FROM facts WHERE id > ?1 ORDER BY 1 LIMIT ?2";
    let after = after.map_or_else(Vec::new, |id| id.to_be_bytes().to_vec());
    let mut select = connection.prepare_cached(sql)?;
    let ids = select.query_map((after, CHUNK as i64), |row| row.get::<_, [u8; 16]>(0))?;
    ids.map(|id| id.map(Id::from_be_bytes)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::delivery::DeliveryKey;
    use crate::ledger::embedded::{Opened, open};
    use crate::ledger::{Claim, Record};
    use crate::protocol::{Fact, Target};

    fn opened(directory: &tempfile::TempDir) -> Opened {
        open(directory.path(), Duration::from_secs(3600)).unwrap()
    }

    fn key(number: u64) -> DeliveryKey {
        DeliveryKey { source: "videogen".into(), id: format!("msg_{number}").into() }
    }

    /// Ends a delivery, or leaves it open with one of two targets confirmed.
    async fn deliver(opened: &Opened, number: u64, ends: bool) {
        let Claim::Mine(ticket, _) = opened.ledger.claim(&key(number), 0).await.unwrap() else { panic!("not new") };
        let targets = ["a/t", "b/t"].map(Target::parse).to_vec();
        let confirmed = if ends { targets.clone() } else { targets[..1].to_vec() };
        let facts = confirmed.into_iter().map(Fact::Confirmed).collect();
        opened.ledger.record(&key(number), ticket, Record { targets, facts, ..Record::default() }).await.unwrap();
        opened.ledger.release(&key(number), ticket, Reason::InFlight);
    }

    async fn assert_known(opened: &Opened, number: u64, ended: bool) {
        match opened.ledger.claim(&key(number), 0).await.unwrap() {
            Claim::Closed { .. } => assert!(ended, "{number}"),
            Claim::Mine(ticket, known) => {
                assert!(!ended && known.confirmed.contains(&Target::parse("a/t")), "{number}");
                opened.ledger.release(&key(number), ticket, Reason::InFlight);
            }
            Claim::Busy(_) => panic!("{number} is busy"),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn ids_of_an_earlier_process_are_known_while_and_after_the_filter_is_built() {
        let directory = tempfile::tempdir().unwrap();
        let many = CHUNK as u64 + 100;
        let before = opened(&directory);
        futures_util::future::join_all((0..many).map(|number| deliver(&before, number, number % 3 != 0))).await;
        before.ledger.close().await;
        drop(before);
        let after = opened(&directory);
        for round in 0..2 {
            for number in 0..many {
                assert_known(&after, number, number % 3 != 0).await;
            }
            deliver(&after, many + round, true).await;
            assert_known(&after, many + round, true).await;
        }
        let filter = IdFilter::default();
        filter.build(Arc::downgrade(&after.store), many).await.unwrap();
        let ids = after.store.read(|connection, _| ids_after(connection, None)).await.unwrap();
        assert!(ids.len() == CHUNK && ids.iter().all(|id| filter.may_have(*id)));
        assert!((0..1000).filter(|_| filter.may_have(rand::random())).count() < 50, "new ids are not looked up");
    }

    /// Rows that reach the store while a larger filter is built are behind or before the look-up that would find them.
    #[tokio::test(flavor = "multi_thread")]
    async fn ids_that_are_added_while_a_filter_is_built_are_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let opened = opened(&directory);
        let filter = IdFilter::default();
        let add = |id: Id| {
            let sql = "INSERT INTO ids VALUES (?, 0, 0, 0)";
            let write = move |batch: &mut crate::store::Batch<'_>| batch.transaction.execute(sql, [id.to_be_bytes()]);
            filter.add(id, || opened.store.write(write)).0
        };
        for round in 0..20 {
            let ids: Vec<Id> = (0..200).map(|_| rand::random()).collect();
            let (built, added) = tokio::join!(
                filter.build(Arc::downgrade(&opened.store), 0),
                futures_util::future::join_all(ids.iter().map(|id| add(*id)))
            );
            built.unwrap();
            assert!(added.iter().all(Result::is_ok));
            assert!(ids.iter().all(|id| filter.may_have(*id)), "round {round}");
        }
    }

    #[tokio::test]
    async fn a_closed_store_leaves_the_filter_incomplete() {
        let directory = tempfile::tempdir().unwrap();
        let opened = opened(&directory);
        opened.ledger.close().await;
        let filter = IdFilter::default();
        filter.build(Arc::downgrade(&opened.store), 0).await.unwrap_err();
        assert!(filter.may_have(1) && filter.0.read().building.is_none());
    }
}
