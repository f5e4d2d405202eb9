//! Dead letters and accepted events, as the ledger keeps them.

use super::*;
use crate::delivered::Delivered;
use crate::delivery::fixture::delivery;
use crate::ledger::{Claim, Record};
use crate::letters::{Letters, ReservedLetters};
use crate::protocol::{Fact, Target};
use crate::reason::Reason;
use crate::store::Batch;

mod accepted;

/// Keeps a dead letter for each of these targets of one delivery.
async fn kept(opened: &Opened, targets: &[Target]) -> Letters {
    let key = delivery().key;
    let Ok(Claim::Mine(ticket, _)) = opened.ledger.claim(&key, 0).await else { panic!("not granted") };
    let dead = Some(Delivered { delivery: delivery(), event: None }.letter(Reason::TooLarge.into()));
    let facts = targets.iter().map(|target| Fact::Dead(target.clone(), Reason::TooLarge)).collect();
    let record = Record { targets: targets.to_vec(), facts, dead, ..Record::default() };
    opened.ledger.record(&key, ticket, record).await.expect("kept");
    Letters::new(Arc::clone(&opened.store), 1 << 20)
}

/// The wall clock may be years ahead when a bridge starts.
#[tokio::test]
async fn dead_letters_expire_by_the_clock_of_the_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path(), Duration::from_secs(3600)).expect("opened");
    let letters = kept(&opened, &[Target::new("d", "a"), Target::new("d", "b")]).await;
    let set = async |sql: &'static str| {
        opened.store.write(move |batch| batch.transaction.execute(sql, [])).await.expect("changed");
    };
    let reserved = ReservedLetters::default();
    set("UPDATE dead_letters SET time = 0").await;
    assert_eq!(letters.delete_older(60, &reserved).await, Ok(0), "no minute has elapsed");
    set("UPDATE dead_letters SET kept = kept - 100").await;
    let held = reserved.reserve(delivery().key).expect("free");
    assert_eq!(letters.delete_older(60, &reserved).await, Ok(0), "they are being replayed");
    drop(held);
    assert_eq!(letters.delete_older(60, &reserved).await, Ok(2));
    assert_eq!(letters.bytes(), 0);
    assert!(reserved.reserve(delivery().key).is_some(), "it is free again");
}

#[tokio::test]
async fn a_dead_letter_that_is_gone_is_not_split() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path(), Duration::from_secs(3600)).expect("opened");
    let letters = kept(&opened, &[Target::whole()]).await;
    let targets = vec![Target::new("d", "a"), Target::new("d", "b")];
    let numbers = letters.split(1, targets.clone()).await.expect("written").expect("it is there");
    assert_eq!(letters.load(numbers[1]).await.expect("read").expect("kept").summary.target, targets[1]);
    assert_eq!(letters.split(1, targets).await, Ok(None));
}

/// An earlier build made the table, without the column `kept`: its dead letters count as kept when the store is opened.
#[tokio::test]
async fn dead_letters_of_an_older_table_expire_from_now_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path(), Duration::from_secs(3600)).expect("opened");
    kept(&opened, &[Target::new("d", "a")]).await;
    opened.ledger.close().await;
    drop(opened);
    let change = |sql: &str| {
        let database = rusqlite::Connection::open(directory.path().join(SCHEMA.file)).expect("a database");
        database.execute_batch(sql).expect("changed");
    };
    change("ALTER TABLE dead_letters DROP COLUMN kept");
    for (elapsed, deleted) in [(5000, 0), (5050, 0), (5100, 1)] {
        change(&format!("UPDATE meta SET value = {elapsed} WHERE name = 'elapsed'"));
        let opened = open(directory.path(), Duration::from_secs(3600)).expect("opened");
        let letters = Letters::new(Arc::clone(&opened.store), 1 << 20);
        assert_eq!(letters.delete_older(90, &ReservedLetters::default()).await, Ok(deleted), "at {elapsed}");
        opened.ledger.close().await;
    }
    let opened = open(directory.path(), Duration::from_secs(3600)).expect("opened");
    opened.ledger.forget(&delivery().key).await.expect("forgotten");
    let letters = kept(&opened, &[Target::new("d", "b")]).await;
    assert_eq!(letters.delete_older(90, &ReservedLetters::default()).await, Ok(0), "a new one");
    opened.ledger.close().await;
}

/// An event of many targets may take long, and a retry must not publish again to those that have confirmed.
#[tokio::test]
async fn each_fact_of_an_open_delivery_expires_a_window_after_the_last() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path(), Duration::from_secs(3600)).expect("opened");
    let (key, targets) = (delivery().key, ["a", "b", "c"].map(|topic| Target::new("d", topic)));
    let Ok(Claim::Mine(ticket, _)) = opened.ledger.claim(&key, 0).await else { panic!("not granted") };
    for target in &targets[..2] {
        let move_back = |batch: &mut Batch<'_>| batch.transaction.execute("UPDATE facts SET at = at - 100", []);
        opened.store.write(move_back).await.expect("changed");
        let (targets, facts) = (targets.to_vec(), vec![Fact::Confirmed(target.clone())]);
        opened.ledger.record(&key, ticket, Record { targets, facts, ..Record::default() }).await.expect("recorded");
    }
    let oldest = |connection: &rusqlite::Connection, now: i64| {
        connection.query_row("SELECT ?1 - min(at) FROM facts", [now], |row| row.get::<_, i64>(0))
    };
    let age = opened.store.read(oldest).await.expect("read");
    assert!((0..100).contains(&age), "{age} s");
    opened.ledger.close().await;
}
