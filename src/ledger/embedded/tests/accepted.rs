//! Events that the spool has.

use super::*;
use crate::event::fixture::event;
use crate::ledger::Forgotten;
use crate::protocol::End;
use crate::route::Planned;
use crate::spool::{Accepted, Spool};

const HOUR: Duration = Duration::from_secs(3600);

fn target() -> Target {
    Target::new("d", "a.b")
}

fn record() -> Record {
    let event = Arc::new(event());
    let planned = Planned::new(&"d".into(), "a.b".into(), None, &event);
    let delivered = Delivered { delivery: delivery(), event: Some(event.name.clone()) };
    let accepted = Some(Arc::new(Accepted::new(delivered, event, [planned])));
    Record { targets: vec![target()], facts: vec![Fact::Accepted], accepted, ..Record::default() }
}

async fn claim(opened: &Opened) -> Claim {
    opened.ledger.claim(&delivery().key, 0).await.expect("claimed")
}

async fn accept(opened: &Opened) {
    let Claim::Mine(ticket, _) = claim(opened).await else { panic!("not granted") };
    let end = opened.ledger.record(&delivery().key, ticket, record()).await;
    assert_eq!(end, Ok(Some(End::Stored)));
}

/// The numbers of the events that wait.
async fn waiting(opened: &Opened) -> Vec<u64> {
    let spool = Spool::new(Arc::clone(&opened.store), 1 << 30);
    spool.rows(target(), 0, 10).await.expect("read").into_iter().map(|row| row.number).collect()
}

async fn settle(opened: &Opened) {
    let (spool, number) = (Spool::new(Arc::clone(&opened.store), 1 << 30), waiting(opened).await[0]);
    let event = spool.load(number).await.expect("read").expect("it is there");
    spool.settle(number, target(), event, None).await.expect("settled");
}

async fn count(opened: &Opened, sql: &'static str) -> i64 {
    opened.store.read(move |connection, _| connection.query_row(sql, [], |row| row.get(0))).await.expect("read")
}

async fn change(opened: &Opened, sql: &'static str) {
    opened.store.write(move |batch| batch.transaction.execute_batch(sql)).await.expect("changed");
}

/// A second acceptance would publish the event twice.
#[tokio::test(flavor = "multi_thread")]
async fn an_acceptance_that_is_still_on_its_way_is_waited_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path(), HOUR).expect("opened");
    let Claim::Mine(ticket, _) = claim(&opened).await else { panic!("not granted") };
    let (resume, paused) = std::sync::mpsc::channel();
    let slow = opened.store.write(move |_| {
        let _ = paused.recv();
        Ok(())
    });
    let key = delivery().key;
    let mut given_up = opened.ledger.record(&key, ticket, record());
    assert!((&mut given_up).now_or_never().is_none(), "the store does not write");
    drop(given_up);
    opened.ledger.release(&key, ticket, Reason::Timeout);
    let mut next = opened.ledger.claim(&key, 0);
    assert!((&mut next).now_or_never().is_none(), "what becomes of the acceptance is not known yet");
    resume.send(()).expect("the writer waits");
    slow.await.expect("written");
    assert!(matches!(next.await, Ok(Claim::Closed { end: End::Stored, .. })));
    assert_eq!(waiting(&opened).await, [1]);
    opened.ledger.close().await;
}

/// A broker may be down for longer than ids are remembered.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_known_for_as_long_as_its_event_waits() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path(), Duration::from_secs(20)).expect("opened");
    accept(&opened).await;
    // Meanwhile, rows are moved and deleted in the background. The last to be deleted is that of another id.
    let expire = "UPDATE recent SET at = at - 100; UPDATE ids SET at = at - 100;
                  INSERT INTO ids VALUES (x'ffffffffffffffffffffffffffffffff', -100, 0, 0)";
    change(&opened, expire).await;
    assert!(matches!(claim(&opened).await, Claim::Closed { end: End::Stored, .. }), "whether or not its row was moved");
    change(&opened, "INSERT OR REPLACE INTO ids SELECT id, at, end, body FROM recent; DELETE FROM recent").await;
    while count(&opened, "SELECT count(*) FROM ids WHERE end = 0").await > 0 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(claim(&opened).await, Claim::Closed { end: End::Stored, .. }));
    let found = opened.ledger.look_up(&delivery().key).await.expect("read").expect("known");
    assert_eq!((found.end, found.waiting), (Some(End::Stored), vec![target()]));
    assert_eq!(opened.ledger.forget(&delivery().key).await, Ok(Forgotten::InFlight));
    settle(&opened).await;
    assert!(matches!(claim(&opened).await, Claim::Closed { .. }), "it was published just now");
    change(&opened, "UPDATE ids SET at = at - 100").await;
    while count(&opened, "SELECT count(*) FROM ids").await > 0 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(claim(&opened).await, Claim::Mine(..)), "its window is over");
    opened.ledger.close().await;
}

/// Makes the store of this process one of version 3, as far as the spool goes.
const VERSION_3: &str = "
    UPDATE meta SET value = 3 WHERE name = 'version';
    UPDATE recent SET end = end & 3; UPDATE ids SET end = end & 3;
    ALTER TABLE spool RENAME TO events;
    CREATE TABLE spool (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, source TEXT NOT NULL, webhook_id TEXT NOT NULL,
        attributes TEXT NOT NULL, body BLOB NOT NULL
    ) STRICT;
    INSERT INTO spool SELECT * FROM events;
    DROP TABLE events;
";
const INDEXES: &str = "SELECT count(*) FROM pragma_index_list('spool')";

/// Its events are found although no number was kept with their ids: of one that ended lately, of an older one, of one that
/// expired, and of one that expired and ended anew.
#[tokio::test(flavor = "multi_thread")]
async fn the_spool_of_an_older_version_is_taken_over() {
    for entry in [
        "",
        "INSERT INTO ids SELECT id, at, end, body FROM recent; DELETE FROM recent",
        "DELETE FROM recent; UPDATE meta SET value = 0 WHERE name = 'ids'",
        "UPDATE recent SET end = 2",
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let reopened = async |opened: Opened, sql: &str| {
            opened.ledger.close().await;
            drop(opened);
            let database = rusqlite::Connection::open(directory.path().join(SCHEMA.file)).expect("a database");
            database.execute_batch(sql).expect("changed");
            drop(database);
            open(directory.path(), HOUR).expect("opened")
        };
        let opened = open(directory.path(), HOUR).expect("opened");
        accept(&opened).await;
        let opened = reopened(opened, &format!("{VERSION_3}{entry}")).await;
        assert!(matches!(claim(&opened).await, Claim::Closed { end: End::Stored, .. }), "{entry}");
        assert_eq!(opened.ledger.forget(&delivery().key).await, Ok(Forgotten::InFlight), "{entry}");
        assert_eq!((waiting(&opened).await, opened.ledger.ids()), (vec![1], 1), "{entry}");
        assert_eq!(count(&opened, INDEXES).await, 1, "it may take long to delete: {entry}");
        settle(&opened).await;
        let opened = reopened(opened, "").await;
        assert!(matches!(claim(&opened).await, Claim::Closed { end: End::Stored, .. }), "{entry}");
        assert_eq!((count(&opened, INDEXES).await, opened.ledger.ids()), (0, 1), "{entry}");
        assert_eq!(opened.ledger.forget(&delivery().key).await, Ok(Forgotten::Done), "{entry}");
        accept(&opened).await;
        assert_eq!(waiting(&opened).await, [2], "no number is given twice: {entry}");
        opened.ledger.close().await;
        drop(opened);
        assert_eq!(check(directory.path()), Ok(Vec::new()), "{entry}");
    }
}
