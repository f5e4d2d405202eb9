//! `store check|backup`, a restored backup, and stores that cannot be opened.

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use support::command::run;
use support::program::SECRET;
use support::sender::{body, client, deliver, post};
use support::site::Site;

const FILES: &str = "destinations: {files: {url: 'file:DIR/events'}}";

fn store(site: &Site, arguments: &[&str]) -> (i32, String, String) {
    run(&[&["store"], arguments, &["--config", &site.config()]].concat(), &[], "")
}

/// `check --connect` with a store.
fn connect(site: &Site, store: &str) -> (i32, String, String) {
    let config = site.config();
    run(&["check", "--connect", "--config", &config, "--secret", SECRET], &[("HOOKBRIDGE_STORE", store)], "")
}

/// For a start that fails.
fn serve(site: &Site) -> Output {
    let config = site.config();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookbridge"));
    command.args([
        "serve",
        "--config",
        &config,
        "--secret",
        SECRET,
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]);
    command.env_clear().output().expect("it runs")
}

fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    let read = |path: std::path::PathBuf| (path.display().to_string(), std::fs::read(&path).expect("read"));
    let mut files: Vec<_> =
        entries.filter(|path| path.is_file() && !path.to_string_lossy().ends_with("-shm")).map(read).collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_busy_store_can_be_restored() {
    let site = Site::new(FILES);
    let program = site.serve();
    let url = program.url("videogen");
    assert_eq!(post(&url, "bad", "not json").await.word(), "200 dead-lettered");
    for number in 0..50 {
        deliver(&client(), &url, &format!("before_{number}"), &body("file.playback_ready", "f")).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let busy = tokio::spawn({
        let (url, stop) = (url.clone(), Arc::clone(&stop));
        async move {
            let client = client();
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                deliver(&client, &url, &format!("during_{number}"), &body("file.playback_ready", "f")).await;
            }
        }
    });
    let backup = site.path().join("backup.sqlite");
    let path = backup.display().to_string();
    let (code, out, err) = store(&site, &["backup", &path]);
    assert!(code == 0 && out.contains("bytes, checked"), "{out}{err}");
    stop.store(true, Ordering::Relaxed);
    busy.await.expect("no panic");
    assert_eq!(std::fs::metadata(&backup).expect("a file").permissions().mode() & 0o777, 0o600);
    let content = std::fs::read(&backup).expect("read");
    let (code, _, err) = store(&site, &["backup", &path]);
    assert!(code == 1 && err.contains("it exists, and is not overwritten"), "{err}");
    assert_eq!(std::fs::read(&backup).expect("read"), content);
    let missing = site.path().join("no/such/directory").display().to_string();
    assert_eq!(store(&site, &["backup", &missing]).0, 1);
    let left: Vec<_> =
        files(site.path()).into_iter().map(|(name, _)| name).filter(|name| name.contains("/.hookbridge")).collect();
    assert!(left.is_empty(), "{left:?}");
    drop(program);

    // As README says.
    std::fs::rename(site.data(), site.path().join("lost")).expect("moved");
    std::fs::create_dir(site.data()).expect("created");
    std::fs::copy(&backup, site.data().join("ledger.sqlite")).expect("copied");
    let (code, out, err) = store(&site, &["check"]);
    assert!(code == 0 && out.contains("ok"), "{out}{err}");
    let program = site.serve();
    for number in [0, 49] {
        let answer =
            post(&program.url("videogen"), &format!("before_{number}"), &body("file.playback_ready", "f")).await;
        assert_eq!(answer.word(), "200 duplicate");
    }
    let letters = site.json(Some(&program), &["dead-letters", "list"]);
    assert_eq!(letters[0]["webhook_id"], "bad");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_finds_what_is_wrong_and_changes_nothing() {
    let site = Site::new(FILES);
    let mut program = site.serve();
    for number in 0..200 {
        deliver(&client(), &program.url("videogen"), &format!("a{number}"), &body("file.playback_ready", "f")).await;
    }
    assert_eq!(post(&program.url("videogen"), "bad", "not json").await.word(), "200 dead-lettered");
    let (code, _, err) = store(&site, &["check"]);
    assert!(code == 1 && err.contains("in use by another process"), "{err}");
    // Killed: the log has what the database lacks.
    program.kill();
    let before = files(&site.data());
    assert!(before.iter().any(|(name, content)| name.ends_with("-wal") && !content.is_empty()));
    let (code, out, err) = store(&site, &["check"]);
    assert!(code == 0 && out.contains("ok"), "{out}{err}");
    assert_eq!(files(&site.data()), before, "the check has changed something");

    let database = site.data().join("ledger.sqlite");
    let connection = Connection::open(&database).expect("a database");
    connection
        .execute_batch("UPDATE dead_letters SET reason = 'bad luck'; UPDATE recent SET end = 9 WHERE end = 0")
        .expect("changed");
    drop(connection);
    let (code, out, _) = store(&site, &["check"]);
    assert!(code == 1 && out.contains("recent: 200 rows have an unknown end"), "{out}");
    assert!(out.contains("dead_letters: 1 rows have an unknown reason"), "{out}");
    let backup = site.path().join("backup.sqlite").display().to_string();
    let (code, _, err) = store(&site, &["backup", &backup]);
    assert!(code == 1 && err.contains("the copy is not whole") && !Path::new(&backup).exists(), "{err}");

    // A page in the middle.
    let mut content = std::fs::read(&database).expect("read");
    let middle = content.len() / 2 / 4096 * 4096;
    content[middle..middle + 2048].fill(0x5a);
    std::fs::write(&database, &content).expect("written");
    let (code, out, err) = store(&site, &["check"]);
    assert!(code == 1 && !(out.clone() + &err).is_empty(), "{out}{err}");
    assert_eq!(std::fs::read(&database).expect("read"), content);
}

#[test]
fn stores_that_cannot_be_opened_are_left_as_they_are() {
    let site = Site::new(FILES);
    std::fs::create_dir(site.data()).expect("created");
    let database = site.data().join("ledger.sqlite");
    let text = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();

    std::fs::write(&database, vec![0x5a; 100_000]).expect("written");
    let refused = serve(&site);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("the file is damaged, and was left as it is"), "{}", text(&refused));
    assert_eq!(std::fs::read(&database).expect("read"), vec![0x5a; 100_000]);
    let (code, _, err) = store(&site, &["check"]);
    assert!(code == 1 && err.contains("ledger.sqlite") && err.contains("not a database"), "{err}");

    std::fs::remove_file(&database).expect("removed");
    let connection = Connection::open(&database).expect("created");
    let newer = "CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY) WITHOUT ROWID, STRICT; INSERT INTO meta VALUES ('version', 99)";
    connection.execute_batch(newer).expect("written");
    drop(connection);
    for (output, code) in [(text(&serve(&site)), 1), (store(&site, &["check"]).2, 1)] {
        assert!(code == 1 && output.contains("made by a newer version of hookbridge (schema 99"), "{output}");
    }
    let connection = Connection::open(&database).expect("opened");
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_master WHERE type = 'table'", [], |row| row.get(0))
        .expect("a count");
    assert_eq!(tables, 1, "nothing was added");

    // An older store is as it was until `serve` opens it: the older version may go on with it.
    std::fs::remove_file(&database).expect("removed");
    drop(site.serve());
    let version = |sql: &str| -> i64 {
        let connection = Connection::open(&database).expect("opened");
        connection.query_row(sql, [], |row| row.get(0)).expect("a version")
    };
    assert_eq!(version("UPDATE meta SET value = 3 WHERE name = 'version' RETURNING value"), 3);
    let (code, out, err) = connect(&site, "embedded");
    assert!(code == 0 && out.contains("can be opened"), "{out}{err}");
    assert_eq!(version("SELECT value FROM meta WHERE name = 'version'"), 3);
    let lock = std::fs::File::open(site.data().join("lock")).expect("opened");
    lock.lock().expect("locked");
    assert_eq!(version("UPDATE meta SET value = 99 WHERE name = 'version' RETURNING value"), 99);
    let (code, out, err) = connect(&site, "embedded");
    assert!(code == 1 && out.contains("made by a newer version of hookbridge (schema 99"), "{out}{err}");
    drop(lock);
    std::fs::remove_file(site.data().join("lock")).expect("removed");
    std::fs::create_dir(site.data().join("lock")).expect("created");
    let (code, out, err) = connect(&site, "embedded");
    assert!(code == 1 && out.contains("Is a directory"), "{out}{err}");

    // Where nothing can be written.
    let (code, _, err) = run(&["store", "check", "--data", "/proc/nothing"], &[], "");
    assert!(code == 1 && err.contains("there is no store here"), "{err}");
    site.configure(&FILES.replace("DIR", "/tmp"));
    let config = site.config();
    let text =
        std::fs::read_to_string(&config).expect("read").replace(&site.data().display().to_string(), "/proc/nothing");
    std::fs::write(&config, text).expect("written");
    let refused = serve(&site);
    let log = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && log.contains("data directory /proc/nothing"), "{log}");
    let (code, _, err) = run(&["store", "check", "--config", &site.config()], &[("HOOKBRIDGE_STORE", "memory")], "");
    assert!(code == 2 && err.contains("the store `memory` is not on disk"), "{err}");
}

/// It may have events, which the store `memory` would leave behind.
#[test]
fn a_store_that_cannot_be_read_is_not_left_behind() {
    let site = Site::new(FILES);
    let refused = || {
        let (code, out, err) = connect(&site, "memory");
        assert!(code == 1 && out.contains("events may wait in the data directory, which cannot be read"), "{out}{err}");
        out
    };
    // As a directory that this user may not search.
    std::os::unix::fs::symlink(site.data(), site.data()).expect("a loop");
    refused();
    std::fs::remove_file(site.data()).expect("removed");
    std::fs::create_dir(site.data()).expect("created");
    let database = site.data().join("ledger.sqlite");
    std::fs::write(&database, vec![0x5a; 100_000]).expect("written");
    assert!(refused().contains("damaged"));
    std::fs::remove_file(&database).expect("removed");
    drop(site.serve());
    let newer = "UPDATE meta SET value = 99 WHERE name = 'version'; DROP TABLE lanes";
    Connection::open(&database).expect("opened").execute_batch(newer).expect("changed");
    assert!(refused().contains("made by a newer version of hookbridge"));
    // Of a process that was killed before its first commit.
    std::fs::write(&database, b"").expect("emptied");
    let (code, out, err) = connect(&site, "memory");
    assert!(code == 0 && !out.contains("store:"), "{out}{err}");
}

/// SQLite keeps the log beside the database that a link leads to.
#[tokio::test]
async fn the_database_may_be_a_link() {
    let site = Site::new(FILES);
    let elsewhere = site.path().join("elsewhere.sqlite");
    std::fs::create_dir(site.data()).expect("created");
    std::os::unix::fs::symlink(&elsewhere, site.data().join("ledger.sqlite")).expect("linked");
    for word in ["200 accepted", "200 duplicate"] {
        let program = site.serve();
        assert_eq!(post(&program.url("videogen"), "a", &body("file.playback_ready", "f")).await.word(), word);
        assert_ne!(std::fs::metadata(site.path().join("elsewhere.sqlite-wal")).expect("a log").len(), 0);
    }
}
