//! One conformance suite over every ledger. [`Case`] declares how they differ. A new ledger is one line at the end.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use hookbridge::dead_letter::DeadLetter;
use hookbridge::delivery::{Delivery, DeliveryKey};
use hookbridge::ledger::{Claim, Ledger, Record, embedded, memory};
use hookbridge::letters::LetterCount;
use hookbridge::protocol::{End, Fact, Known, Target, Ticket};
use hookbridge::reason::{Failure, Reason};

/// A ledger under test, and the guarantees that not every ledger gives.
struct Case {
    open: fn(&Path, Duration) -> Arc<dyn Ledger>,
    survives_restart: bool,
    keeps_dead_letters: bool,
}

const WEEK: Duration = Duration::from_secs(7 * 86_400);
const BODY: u32 = 7;

fn key(id: &str) -> DeliveryKey {
    DeliveryKey { source: "videogen".into(), id: id.into() }
}

fn targets(names: &[&str]) -> Vec<Target> {
    names.iter().map(|name| Target::new("stream", *name)).collect()
}

fn confirms(all: &[&str], confirmed: &[&str]) -> Record {
    let facts = targets(confirmed).into_iter().map(Fact::Confirmed).collect();
    Record { targets: targets(all), facts, body_hash: BODY, ..Record::default() }
}

async fn claim(ledger: &dyn Ledger, id: &str) -> Claim {
    ledger.claim(&key(id), BODY).await.expect("the store works")
}

async fn mine(ledger: &dyn Ledger, id: &str) -> (Ticket, Known) {
    match claim(ledger, id).await {
        Claim::Mine(ticket, known) => (ticket, known),
        Claim::Busy(_) => panic!("{id} is busy"),
        Claim::Closed { end, .. } => panic!("{id} is closed: {end:?}"),
    }
}

async fn closed(ledger: &dyn Ledger, id: &str) -> Option<End> {
    match claim(ledger, id).await {
        Claim::Closed { end, .. } => Some(end),
        Claim::Mine(..) | Claim::Busy(_) => None,
    }
}

async fn record(ledger: &dyn Ledger, id: &str, ticket: Ticket, record: Record) -> Option<End> {
    ledger.record(&key(id), ticket, record).await.expect("the store works")
}

async fn one_of_many_claims_wins(case: Case, directory: &Path) {
    let ledger = (case.open)(directory, WEEK);
    let claims = (0..200).map(|_| {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move {
            match claim(&*ledger, "a").await {
                Claim::Mine(ticket, _) => (1, record(&*ledger, "a", ticket, confirms(&["x"], &["x"])).await),
                Claim::Busy(other) => (0, other.await.ok()),
                Claim::Closed { end, .. } => (0, Some(end)),
            }
        })
    });
    let mut winners = 0;
    for claim in claims.collect::<Vec<_>>() {
        let (won, end) = claim.await.expect("no panic");
        winners += won;
        assert_eq!(end, Some(End::Delivered));
    }
    assert_eq!(winners, 1);
    assert_eq!(closed(&*ledger, "a").await, Some(End::Delivered));
}

async fn waiting_copies_get_the_reason_of_the_release(case: Case, directory: &Path) {
    let ledger = (case.open)(directory, WEEK);
    let (ticket, _) = mine(&*ledger, "a").await;
    let Claim::Busy(other) = claim(&*ledger, "a").await else { panic!("not busy") };
    ledger.release(&key("a"), ticket, Reason::Unreachable);
    assert_eq!(other.await, Err(Reason::Unreachable));
    mine(&*ledger, "a").await; // the next copy gets the claim
}

async fn release_needs_the_current_ticket(case: Case, directory: &Path) {
    let ledger = (case.open)(directory, WEEK);
    let (stale, _) = mine(&*ledger, "a").await;
    ledger.release(&key("a"), stale, Reason::Failed);
    let (_current, _) = mine(&*ledger, "a").await;
    ledger.release(&key("a"), stale, Reason::Failed);
    assert!(matches!(claim(&*ledger, "a").await, Claim::Busy(_)), "a stale release freed the claim");
}

async fn facts_of_a_stale_ticket_merge(case: Case, directory: &Path) {
    let ledger = (case.open)(directory, WEEK);
    let (stale, _) = mine(&*ledger, "a").await;
    ledger.release(&key("a"), stale, Reason::Timeout);
    let (current, _) = mine(&*ledger, "a").await;
    assert_eq!(record(&*ledger, "a", stale, confirms(&["x", "y"], &["x"])).await, None);
    let end = record(&*ledger, "a", current, confirms(&["x", "y"], &["y"])).await;
    assert_eq!(end, Some(End::Delivered));
    // The same for a delivery without a current claim.
    let (stale, _) = mine(&*ledger, "b").await;
    ledger.release(&key("b"), stale, Reason::Timeout);
    assert_eq!(record(&*ledger, "b", stale, confirms(&["x"], &["x"])).await, Some(End::Delivered));
    assert_eq!(closed(&*ledger, "b").await, Some(End::Delivered));
}

async fn a_retry_knows_what_was_confirmed(case: Case, directory: &Path) {
    let survives = case.survives_restart;
    let mut ledger = (case.open)(directory, WEEK);
    let (ticket, known) = mine(&*ledger, "a").await;
    assert_eq!(known, Known::default());
    record(&*ledger, "a", ticket, confirms(&["x", "y"], &["x"])).await;
    ledger.release(&key("a"), ticket, Reason::Unreachable);
    if survives {
        ledger.close().await;
        drop(ledger);
        ledger = (case.open)(directory, WEEK);
    }
    let (_, known) = mine(&*ledger, "a").await;
    let confirmed: BTreeSet<Target> = targets(&["x"]).into_iter().collect();
    assert_eq!(known.confirmed, confirmed);
    assert_eq!(known.frozen.map(BTreeSet::from_iter), Some(targets(&["x", "y"]).into_iter().collect()));
}

async fn ends_survive_a_restart_as_declared(case: Case, directory: &Path) {
    let ledger = (case.open)(directory, WEEK);
    for id in ["a", "b", "c"] {
        let (ticket, _) = mine(&*ledger, id).await;
        if id != "c" {
            record(&*ledger, id, ticket, confirms(&["x"], if id == "a" { &["x"] } else { &[] })).await;
        }
    }
    ledger.close().await;
    drop(ledger);
    let ledger = (case.open)(directory, WEEK);
    assert_eq!(closed(&*ledger, "a").await, case.survives_restart.then_some(End::Delivered));
    mine(&*ledger, "b").await; // nothing was confirmed
    mine(&*ledger, "c").await; // a claim ends with its process
}

async fn ids_expire_after_the_window(case: Case, directory: &Path) {
    let ledger = (case.open)(directory, Duration::from_secs(1));
    let (ticket, _) = mine(&*ledger, "a").await;
    record(&*ledger, "a", ticket, confirms(&["x"], &["x"])).await;
    assert_eq!(closed(&*ledger, "a").await, Some(End::Delivered));
    let deadline = Instant::now() + Duration::from_secs(20);
    while closed(&*ledger, "a").await.is_some() {
        assert!(Instant::now() < deadline, "the id outlived its window");
        tokio::task::yield_now().await;
    }
    while ledger.ids() > 0 {
        assert!(Instant::now() < deadline, "the id was not pruned");
        tokio::task::yield_now().await;
    }
}

async fn a_different_body_is_detected(case: Case, directory: &Path) {
    let ledger = (case.open)(directory, WEEK);
    let (ticket, _) = mine(&*ledger, "a").await;
    record(&*ledger, "a", ticket, confirms(&["x"], &["x"])).await;
    for (body, same) in [(BODY, true), (BODY + 1, false)] {
        let claim = ledger.claim(&key("a"), body).await.expect("the store works");
        assert!(matches!(claim, Claim::Closed { same_body, .. } if same_body == same));
    }
}

async fn a_delivery_without_targets_ends_as_ignored(case: Case, directory: &Path) {
    let ledger = (case.open)(directory, WEEK);
    let (ticket, _) = mine(&*ledger, "a").await;
    assert_eq!(record(&*ledger, "a", ticket, confirms(&[], &[])).await, Some(End::Ignored));
}

async fn dead_letters_are_kept_as_declared(case: Case, directory: &Path) {
    let ledger = (case.open)(directory, WEEK);
    assert_eq!(ledger.keeps_dead_letters(), case.keeps_dead_letters);
    let mut headers = http::HeaderMap::new();
    headers.insert("content-type", "application/json".parse().expect("a value"));
    headers.insert("authorization", "Bearer secret".parse().expect("a value"));
    let body = bytes::Bytes::from_static(b"\xffnot text");
    let (signature, timestamp) = ("v1,x".into(), 1);
    let delivery = Delivery { key: key("a"), timestamp, signature, traceparent: None, tracestate: None, headers, body };
    let letter = DeadLetter { delivery, event: None, failure: Failure::from(Reason::NotUtf8) };
    let (ticket, _) = mine(&*ledger, "a").await;
    let dead = || Record {
        targets: vec![Target::whole()],
        facts: vec![Fact::Dead(Target::whole(), Reason::NotUtf8)],
        dead: Some(letter.clone()),
        body_hash: BODY,
        ..Record::default()
    };
    let standing = ledger.record(&key("a"), ticket, dead()).await;
    if !case.keeps_dead_letters {
        assert_eq!(standing.expect_err("dead letters are not kept").reason, Reason::NoDeadLetters);
        ledger.release(&key("a"), ticket, Reason::NoDeadLetters);
        mine(&*ledger, "a").await; // still open
        return;
    }
    assert_eq!(standing.expect("kept"), Some(End::DeadLettered));
    let kept = vec![LetterCount { source: key("a").source.to_string(), reason: "not_utf8", count: 1 }];
    assert_eq!(ledger.dead_letters(), kept);
    ledger.close().await;
    drop(ledger);
    let again = (case.open)(directory, WEEK);
    assert_eq!(again.dead_letters(), kept, "after a restart");
    again.close().await;
    let database = rusqlite::Connection::open(directory.join("ledger.sqlite")).expect("the ledger's database");
    let sql = "SELECT webhook_id || reason || headers, body FROM dead_letters";
    let (text, body): (String, Vec<u8>) =
        database.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("one dead letter");
    assert_eq!(body, b"\xffnot text");
    assert!(text.starts_with("anot_utf8") && text.contains("content-type") && !text.contains("secret"), "{text}");
}

/// A confirm that comes after the dead letter, or at the same time, wins: nothing is left to replay.
async fn a_late_confirm_withdraws_the_dead_letter(case: Case, directory: &Path) {
    if !case.keeps_dead_letters {
        return;
    }
    let ledger = (case.open)(directory, WEEK);
    let dead = |id: &str, ticket| {
        let delivery = Delivery {
            key: key(id),
            timestamp: 1,
            signature: "v1,x".into(),
            traceparent: None,
            tracestate: None,
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::from_static(b"{}"),
        };
        let letter = DeadLetter { delivery, event: None, failure: Failure::from(Reason::Timeout) };
        let missed = Fact::Dead(Target::new("stream", "y"), Reason::Timeout);
        let mut facts = confirms(&["x", "y"], &["x"]);
        facts.facts.push(missed);
        let ledger = Arc::clone(&ledger);
        let id = id.to_owned();
        async move { record(&*ledger, &id, ticket, Record { dead: Some(letter), ..facts }).await }
    };
    for (id, other) in [("after", "y"), ("another", "z")] {
        let (ticket, _) = mine(&*ledger, id).await;
        assert_eq!(dead(id, ticket).await, Some(End::DeadLettered));
        let end = record(&*ledger, id, ticket, confirms(&["x", "y"], &[other])).await;
        assert_eq!(end, Some(End::DeadLettered));
        assert_eq!(closed(&*ledger, id).await, Some(End::DeadLettered), "it is not published again");
        let left = ledger.look_up(&key(id)).await.expect("the store works").expect("it is known").letters.len();
        assert_eq!(left, usize::from(other != "y"), "only that of the target that has confirmed");
    }
    for number in 0..20 {
        let id = format!("together_{number}");
        let (ticket, _) = mine(&*ledger, &id).await;
        let late = record(&*ledger, &id, ticket, confirms(&["x", "y"], &["y"]));
        let (_, end) = tokio::join!(dead(&id, ticket), late);
        assert_eq!(end, Some(End::Delivered));
        let found = ledger.look_up(&key(&id)).await.expect("the store works").expect("it is known");
        assert!(found.letters.is_empty(), "{:?}", found.letters);
    }
    let left = vec![LetterCount { source: "videogen".into(), reason: "timeout", count: 1 }];
    assert_eq!(ledger.dead_letters().into_iter().filter(|it| it.count > 0).collect::<Vec<_>>(), left);
    ledger.close().await;
}

macro_rules! suite {
    (@cases $case:expr; $($name:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let directory = tempfile::tempdir().expect("a directory");
            super::$name($case, directory.path()).await;
        })*
    };
    ($($ledger:ident: $case:expr;)*) => {
        $(mod $ledger {
            use super::*;
            suite! { @cases $case;
                one_of_many_claims_wins waiting_copies_get_the_reason_of_the_release release_needs_the_current_ticket
                facts_of_a_stale_ticket_merge a_retry_knows_what_was_confirmed ends_survive_a_restart_as_declared
                ids_expire_after_the_window a_different_body_is_detected a_delivery_without_targets_ends_as_ignored
                dead_letters_are_kept_as_declared a_late_confirm_withdraws_the_dead_letter
            }
        })*
    };
}

suite! {
    in_memory: Case { open: |_, window| memory::open(window), survives_restart: false, keeps_dead_letters: false };
    on_disk: Case {
        open: |directory, window| embedded::open(directory, window).expect("opens").ledger,
        survives_restart: true, keeps_dead_letters: true
    };
}

#[tokio::test]
async fn a_directory_is_locked_by_its_ledger() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = embedded::open(directory.path(), WEEK).expect("opens").ledger;
    let second = embedded::open(directory.path(), WEEK).err().expect("is refused");
    assert!(second.detail.contains("in use"), "{second}");
    first.close().await;
    drop(first);
    embedded::open(directory.path(), WEEK).expect("opens again");
}
