use std::path::Path;

use futures_util::future::join_all;

use super::*;
use crate::ledger::Forgotten;
use crate::ledger::embedded::Embedded;
use crate::ledger::facts::{FactStore as _, Save, Stored};
use crate::protocol::End;

const HOUR: Duration = Duration::from_secs(3600);

/// Rows are moved only by the test.
fn opened(directory: &Path) -> Embedded {
    Embedded::open(directory, HOUR).expect("opened")
}

async fn save(embedded: &Embedded, id: Id, body_hash: u32) {
    let stored = Stored::Closed { end: End::Delivered, body_hash };
    let (dead, withdrawn) = (Vec::new(), Vec::new());
    let save = Save { id, stored, has_facts: false, dead, letter: None, withdrawn, accepted: None };
    embedded.save(save).await.expect("saved");
}

async fn body_hash(embedded: &Embedded, id: Id) -> Option<u32> {
    match embedded.load(id).await.expect("loaded")? {
        Stored::Closed { body_hash, .. } => Some(body_hash),
        Stored::Open(known) => panic!("{known:?}"),
    }
}

async fn change(embedded: &Embedded, sql: &'static str) {
    embedded.store.write(move |batch| batch.transaction.execute(sql, [])).await.expect("changed");
}

async fn move_all(embedded: &Embedded) {
    embedded.recent.move_all(&Arc::downgrade(&embedded.store)).await.expect("moved");
}

/// The first rows; what follows fails.
async fn move_but_delete_nothing(embedded: &Embedded, most: usize) {
    let rows = embedded.store.read(move |connection, _| rows_after(connection, 0, most));
    let mut rows = rows.await.expect("read");
    take_replaced(&mut rows);
    let moved = embedded.store.write(move |batch| rows.iter().try_for_each(|row| insert(batch, row)));
    moved.await.expect("moved");
}

async fn left(embedded: &Embedded) -> usize {
    ids(&Arc::downgrade(&embedded.store)).await.expect("read").len()
}

fn random(count: usize) -> Vec<Id> {
    (0..count).map(|_| rand::random()).collect()
}

#[tokio::test]
async fn an_id_is_known_before_and_after_it_is_moved_and_in_the_next_process() {
    let directory = tempfile::tempdir().expect("a directory");
    let (first, second) = (random(CHUNK + 10), random(10));
    let embedded = opened(directory.path());
    join_all(first.iter().map(|id| save(&embedded, *id, 7))).await;
    assert_eq!(body_hash(&embedded, first[0]).await, Some(7));
    move_all(&embedded).await;
    join_all(second.iter().map(|id| save(&embedded, *id, 7))).await;
    assert_eq!(left(&embedded).await, second.len());
    embedded.close().await;
    drop(embedded);
    let embedded = opened(directory.path());
    for round in 0..2 {
        for id in first.iter().chain(&second) {
            assert_eq!(body_hash(&embedded, *id).await, Some(7), "round {round}");
        }
        assert_eq!(body_hash(&embedded, rand::random()).await, None);
        assert_eq!(embedded.ids(), (first.len() + second.len()) as u64);
        move_all(&embedded).await;
    }
    assert_eq!((left(&embedded).await, embedded.recent.numbers.lock().of.len()), (0, 0));
}

#[tokio::test]
async fn the_latest_row_of_an_id_counts() {
    let directory = tempfile::tempdir().expect("a directory");
    let embedded = opened(directory.path());
    save(&embedded, 1, 10).await;
    move_all(&embedded).await;
    for hash in [11, 12] {
        save(&embedded, 1, hash).await;
        assert_eq!(body_hash(&embedded, 1).await, Some(hash));
    }
    move_all(&embedded).await;
    assert_eq!((body_hash(&embedded, 1).await, embedded.ids()), (Some(12), 1));
}

/// The process died after it had moved rows, and before it deleted them.
#[tokio::test]
async fn rows_that_are_moved_again_count_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let embedded = opened(directory.path());
    for id in 0..10 {
        save(&embedded, id, 7).await;
    }
    move_but_delete_nothing(&embedded, 5).await;
    move_all(&embedded).await;
    assert_eq!((embedded.ids(), left(&embedded).await, body_hash(&embedded, 0).await), (10, 0, Some(7)));
}

/// As with a confirm that is told of again after the end.
#[tokio::test]
async fn an_id_that_ends_twice_in_the_same_second_counts_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let embedded = opened(directory.path());
    for _ in 0..3 {
        save(&embedded, 1, 7).await;
    }
    change(&embedded, "UPDATE recent SET at = 0").await;
    move_all(&embedded).await;
    assert_eq!((embedded.ids(), body_hash(&embedded, 1).await.is_some()), (1, true));
}

/// The rows of one id are not the same.
#[tokio::test]
async fn rows_of_one_id_that_are_moved_again_count_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let embedded = opened(directory.path());
    for hash in [11, 12] {
        save(&embedded, 1, hash).await;
    }
    move_but_delete_nothing(&embedded, 2).await;
    move_all(&embedded).await;
    assert_eq!((embedded.ids(), body_hash(&embedded, 1).await), (1, Some(12)));
}

/// A move has failed before the rows were deleted.
#[tokio::test]
async fn a_forgotten_id_whose_row_is_in_both_tables_counted_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let embedded = opened(directory.path());
    for id in [1, 2] {
        save(&embedded, id, 7).await;
    }
    move_but_delete_nothing(&embedded, 2).await;
    assert_eq!(embedded.forget(1).await, Ok(Forgotten::Done));
    assert_eq!((embedded.ids(), body_hash(&embedded, 1).await), (1, None));
}

#[tokio::test]
async fn a_recent_id_expires() {
    let directory = tempfile::tempdir().expect("a directory");
    let embedded = opened(directory.path());
    save(&embedded, 1, 7).await;
    change(&embedded, "UPDATE recent SET at = at - 3601").await;
    assert_eq!(body_hash(&embedded, 1).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_id_does_not_come_back_with_the_rows_that_are_moved() {
    let directory = tempfile::tempdir().expect("a directory");
    let embedded = opened(directory.path());
    for round in 1..=20 {
        let ids = random(STEP * 2);
        join_all(ids.iter().map(|id| save(&embedded, *id, 7))).await;
        assert_eq!(body_hash(&embedded, ids[0]).await, Some(7));
        let ((), forgotten) = tokio::join!(move_all(&embedded), embedded.forget(ids[0]));
        assert_eq!(forgotten, Ok(Forgotten::Done));
        move_all(&embedded).await;
        assert_eq!(body_hash(&embedded, ids[0]).await, None, "round {round}");
        assert_eq!(embedded.ids(), round * (ids.len() as u64 - 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_known_while_rows_are_moved() {
    let directory = tempfile::tempdir().expect("a directory");
    let embedded = opened(directory.path());
    let ids = random(2000);
    let deliveries = join_all(ids.iter().enumerate().map(|(number, id)| {
        let (embedded, earlier) = (&embedded, ids[number / 2]);
        async move {
            save(embedded, *id, 7).await;
            assert_eq!(body_hash(embedded, *id).await, Some(7));
            let hash = body_hash(embedded, earlier).await;
            assert!(hash.is_none_or(|hash| hash == 7));
        }
    }));
    let moves = async {
        while embedded.ids() < ids.len() as u64 || left(&embedded).await > 0 {
            move_all(&embedded).await;
        }
    };
    tokio::join!(deliveries, moves);
    for id in ids {
        assert_eq!(body_hash(&embedded, id).await, Some(7));
    }
}

#[tokio::test]
async fn moves_end_when_the_ledger_is_closed() {
    let directory = tempfile::tempdir().expect("a directory");
    let embedded = opened(directory.path());
    let moves = Arc::clone(&embedded.recent).keep_moving(Arc::downgrade(&embedded.store), HOUR);
    let moves = tokio::spawn(moves);
    embedded.close().await;
    timeout(Duration::from_secs(20), moves).await.expect("it has ended").expect("no panic");
}
