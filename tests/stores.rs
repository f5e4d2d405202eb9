//! The stores with the whole program: dead letters when the store keeps none, and a store that cannot be written.

mod support;

use support::bridge::Bridge;
use support::sender::{body, post};
use support::site::Site;
use support::wait::{SOON, until};

#[tokio::test]
async fn memory_answers_503_to_what_would_be_a_dead_letter() {
    let bridge = Bridge::serve("store: memory\n");
    let url = bridge.url("videogen");
    assert_eq!(post(&url, "good", &body("file.playback_ready", "f")).await.word(), "200 accepted");
    assert_eq!(post(&url, "good", &body("file.playback_ready", "f")).await.word(), "200 duplicate");
    for _ in 0..2 {
        let answer = post(&url, "bad", "not json").await;
        assert_eq!((answer.word().as_str(), answer.retry_after.as_deref()), ("503 no_dead_letters", Some("5")));
    }
    assert_eq!(bridge.program.metric("hookbridge_ledger_ids").await, 1.0, "failed attempts are not kept");
    assert!(!bridge.data().exists(), "the store `memory` writes to disk");
}

#[tokio::test]
async fn dead_letters_can_go_to_a_destination() {
    let bridge = Bridge::serve("store: memory\ndead_letters: {to: files}\n");
    let url = bridge.url("videogen");
    for (id, bad) in [("text", "not json"), ("array", "[1]")] {
        assert_eq!(post(&url, id, bad).await.word(), "200 dead-lettered");
        assert_eq!(post(&url, id, bad).await.word(), "200 duplicate");
    }
    let letters = bridge.events("dead-letters");
    assert_eq!(letters.len(), 2);
    let data = &letters[0]["data"];
    for (name, value) in [("source", "videogen"), ("webhook_id", "text"), ("reason", "not_json"), ("body", "not json")]
    {
        assert_eq!(data[name], value, "{name}");
    }
    let headers = data["headers"].to_string();
    assert!(headers.contains("webhook-signature") && headers.contains("x-request-id"), "{headers}");
}

/// While the ledger cannot be written, no delivery is answered 200 and `/readyz` gives the reason. Then the program
/// recovers.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_cannot_be_written_answers_503_until_it_can() {
    let bridge = Bridge::serve("");
    let url = bridge.url("videogen");
    assert_eq!(post(&url, "a", &body("file.playback_ready", "f")).await.word(), "200 accepted");
    // Another writer locks the database, so each commit of the program fails.
    let other = rusqlite::Connection::open(bridge.data().join("ledger.sqlite")).expect("the ledger's database");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    assert_eq!(post(&url, "b", &body("file.playback_ready", "f")).await.word(), "503 store");
    let (status, page) = bridge.program.get("/readyz").await;
    assert!(status == 503 && page.contains("store-down"), "{page}");
    assert_eq!(post(&url, "c", &body("file.playback_ready", "f")).await.word(), "503 store");
    let event = body("file.playback_ready", "f");
    let ids: Vec<String> = (0..30).map(|number| format!("more_{number}")).collect();
    let more = futures_util::future::join_all(ids.iter().map(|id| post(&url, id, &event))).await;
    assert!(more.iter().all(|answer| answer.word() == "503 store"));
    other.execute_batch("ROLLBACK").expect("unlocked");
    until("ready again", SOON, async || (bridge.program.get("/readyz").await.0 == 200).then_some(())).await;
    let log = bridge.program.log();
    let lines = log.matches("not claimed").count() + log.matches("facts not recorded").count();
    assert!((1..10).contains(&lines), "{lines} lines about one fault: {log}");
    // The publish is recorded, so the retry does not publish again.
    let word = post(&url, "b", &body("file.playback_ready", "f")).await.word();
    assert!(word == "200 duplicate" || word == "200 accepted", "{word}");
    assert_eq!(post(&url, "c", &body("file.playback_ready", "f")).await.word(), "200 accepted");
    assert_eq!(bridge.ids("file.playback_ready"), ["a", "b", "c"]);
}

/// A copy of the directory after a shutdown is a whole backup.
#[tokio::test]
async fn after_sigterm_the_store_is_one_file() {
    let mut bridge = Bridge::serve("");
    for number in 0..20 {
        let answer = post(&bridge.url("videogen"), &format!("m{number}"), &body("file.playback_ready", "f")).await;
        assert_eq!(answer.word(), "200 accepted");
    }
    assert!(bridge.program.term().success());
    let mut files: Vec<_> = std::fs::read_dir(bridge.data())
        .expect("the directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    files.sort();
    assert_eq!(files, ["ledger.sqlite", "lock"]);
    let database = rusqlite::Connection::open(bridge.data().join("ledger.sqlite")).expect("a database");
    let ids: i64 = database
        .query_row("SELECT count(*) FROM (SELECT id FROM ids UNION SELECT id FROM recent)", [], |row| row.get(0))
        .expect("the ids");
    assert_eq!(ids, 20);
}

/// What is written to a file without a path is lost with the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_is_gone_is_noticed() {
    let bridge = Bridge::serve("");
    let url = bridge.url("videogen");
    assert_eq!(post(&url, "a", &body("file.playback_ready", "f")).await.word(), "200 accepted");
    let elsewhere = bridge.data().with_extension("moved");
    std::fs::rename(bridge.data(), &elsewhere).expect("moved");
    assert_eq!(post(&url, "b", &body("file.playback_ready", "f")).await.word(), "503 store");
    let (status, page) = bridge.program.get("/readyz").await;
    assert!(status == 503 && page.contains("store-down"), "{page}");
    bridge.program.logged("put it back, or restart hookbridge");
    std::fs::rename(&elsewhere, bridge.data()).expect("moved back");
    bridge.program.ready().await;
    let word = post(&url, "b", &body("file.playback_ready", "f")).await.word();
    assert!(word == "200 duplicate" || word == "200 accepted", "{word}");
    assert_eq!(bridge.ids("file.playback_ready"), ["a", "b"]);
}

/// The log has what the database lacks: it is moved there before anything else is accepted.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_gone_is_noticed_and_nothing_is_lost() {
    let site = Site::new("destinations: {files: {url: 'file:DIR/events'}}");
    let program = site.serve();
    let event = body("file.playback_ready", "f");
    assert_eq!(post(&program.url("videogen"), "a", &event).await.word(), "200 accepted");
    std::fs::remove_file(site.data().join("ledger.sqlite-wal")).expect("removed");
    // Also while no delivery comes.
    until("noticed", SOON, async || (program.get("/readyz").await.0 == 503).then_some(())).await;
    program.logged("restart hookbridge, and do not put it back");
    assert_eq!(post(&program.url("videogen"), "b", &event).await.word(), "503 store");
    drop(program); // killed
    let program = site.serve();
    assert_eq!(post(&program.url("videogen"), "a", &event).await.word(), "200 duplicate");
    assert_eq!(post(&program.url("videogen"), "b", &event).await.word(), "200 accepted");
    assert_eq!(site.ids("events", "file.playback_ready"), ["a", "b"]);
}

/// Bodies hold signed URLs, which let anyone download.
#[tokio::test]
async fn only_the_owner_can_read_what_is_stored() {
    use std::os::unix::fs::PermissionsExt as _;
    let bridge = Bridge::serve("");
    assert_eq!(post(&bridge.url("videogen"), "a", &body("file.playback_ready", "f")).await.word(), "200 accepted");
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
    for directory in [bridge.data(), bridge.data().with_file_name("events")] {
        assert_eq!(mode(&directory), 0o700, "{}", directory.display());
        let files: Vec<_> = std::fs::read_dir(&directory).expect("a directory").collect();
        assert!(files.len() >= 2);
        for file in files {
            let path = file.expect("an entry").path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}
