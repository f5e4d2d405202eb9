//! The disk of the data directory fills up under load: new deliveries are answered 503, copies of those that ended are
//! duplicates, nothing is lost or damaged, and it goes on by itself when there is room.
//!
//! The disk is an image in a loop mount, or memory where only root may mount one. It is in a mount namespace of its own,
//! in which the test runs itself again: root, or a system that allows user namespaces, is needed.

#[path = "destinations/mod.rs"]
mod suite;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use suite::place::Place;
use suite::{Stored, Subject};
use support::command::run;
use support::load::{Load, TOPIC, row};
use support::program::{Program, SECRET};
use support::sender::{body, post};
use support::wait::until;

const SOON: Duration = Duration::from_secs(90);
const KEYS: usize = 4;
/// The directory of the run in the namespace.
const INSIDE: &str = "DISK_FULL_INSIDE";
/// Bytes of the disk: more than the spool leaves for draining.
const SIZE: &str = "640M";

/// Mounts the disk.
const MOUNT: &str = r#"
cd "$1" && mkdir disk && truncate -s "$2" image && mkfs.ext4 -q -m 0 image && mount -o loop image disk ||
    mount -t tmpfs -o size="$2" none disk
"#;

/// The directory that the disk is in; nothing outside the namespace, where this runs the test again and expects it to pass.
fn namespace(test: &str) -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "the environment of the test, not of the program")]
    let inside = std::env::var_os(INSIDE);
    if let Some(directory) = inside {
        let directory = PathBuf::from(directory);
        let mounted = Command::new("bash").args(["-c", MOUNT, "mount"]).arg(&directory).arg(SIZE).output();
        let mounted = mounted.expect("bash");
        assert!(mounted.status.success(), "no disk: {}", String::from_utf8_lossy(&mounted.stderr));
        return Some(directory);
    }
    let directory = tempfile::tempdir().expect("a directory");
    let root = rustix::process::geteuid().is_root();
    let status = Command::new("unshare")
        .arg(if root { "-m" } else { "-rm" })
        .arg(std::env::current_exe().expect("this test"))
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, directory.path())
        .status();
    assert!(status.expect("unshare").success(), "failed in its mount namespace (root, or user namespaces, are needed)");
    None
}

fn free(disk: &Path) -> u64 {
    let disk = statvfs(disk).expect("the disk");
    disk.f_bavail * disk.f_frsize
}

/// Takes space until no more than this is left.
fn fill(disk: &Path, left: u64) {
    let file = std::fs::File::create(disk.join("filler")).expect("a file");
    let mut length = 0;
    for part in [64 << 20, 1 << 20, 4096] {
        while free(disk) >= left + part && fallocate(&file, FallocateFlags::empty(), length, part).is_ok() {
            length += part;
        }
    }
}

async fn fills_up<S: Subject>(place: &Place<S>, disk: &Path, mode: &str, to: &str) {
    let data = disk.join("data").display().to_string();
    let mut program = Program::serve(&["--to", to, "--secret", SECRET, "--data", &data, "--ack", mode, "--ephemeral"]);
    program.ready().await;
    let url = program.url("videogen");
    let load = Load::start("k", &url, KEYS);
    let duplicate = async || post(&url, "k_0_0", &body(TOPIC, "f0")).await.word();
    let more = async |what: &str| {
        let next = load.accepted() + 20;
        until(what, SOON, async || (load.accepted() >= next).then_some(())).await;
    };
    more("accepted at first").await;
    duplicate().await; // if it was not accepted yet, it is now
    if mode == "stored" {
        // The spool leaves room for draining: new events are refused before the disk is full.
        fill(disk, 128 << 20);
        let mut number = 0;
        until("refused", SOON, async || {
            number += 1;
            let word = post(&url, &format!("x_{number}"), &body(TOPIC, "x")).await.word();
            (word == "503 spool_full").then_some(())
        })
        .await;
        assert_eq!(duplicate().await, "200 duplicate");
        assert_eq!(program.get("/readyz").await.0, 200, "the store works");
        std::fs::remove_file(disk.join("filler")).expect("removed");
        more("accepted with room for draining").await;
    }
    fill(disk, 0);
    let store_down = async || (program.get("/readyz").await.0 == 503).then_some(());
    if mode == "published" {
        until("unready: its own disk cannot be used", SOON, store_down).await;
    }
    let before = load.refused();
    until("refused", SOON, async || (load.refused() >= before + 20).then_some(())).await;
    for _ in 0..5 {
        assert_eq!(duplicate().await, "200 duplicate");
        assert_eq!(program.get("/livez").await.0, 200);
    }
    std::fs::remove_file(disk.join("filler")).expect("removed");
    program.ready().await;
    more("accepted with room").await;
    let sent = load.stop().await;
    until("the spool is empty", SOON, async || (program.sum("hookbridge_spool_events").await == 0.0).then_some(()))
        .await;
    let unknown = program.unknown_outcomes().await;
    assert!(program.term().success());
    let (code, out, err) = run(&["store", "check", "--data", &data], &[], "");
    assert_eq!(code, 0, "{out}{err}");
    let stored = place.stored(TOPIC).await;
    let fate = sent.fate(stored.iter().map(Stored::id));
    row::<S>("disk full", mode, &fate, sent.slowest);
    let allowed = if S::DIFFERENCES.dedups { 0 } else { unknown };
    assert!(fate.lost == 0 && fate.reordered == 0 && fate.doubled <= allowed, "{fate:?}, {unknown} unknown");
    assert!(sent.slowest < Duration::from_secs(15), "VideoGen gives up at 15 s: {:?}", sent.slowest);
}

async fn with_a_broker(test: &str, mode: &str) {
    let Some(directory) = namespace(test) else { return };
    let place = Place::<suite::nats::Nats>::new().await;
    fills_up(&place, &directory.join("disk"), mode, &place.url()).await;
}

/// The files are on the full disk, too.
async fn with_files(test: &str, mode: &str) {
    let Some(directory) = namespace(test) else { return };
    let disk = directory.join("disk");
    let place = Place::of(suite::file::Files::on(&disk));
    fills_up(&place, &disk, mode, &place.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_to_a_broker() {
    with_a_broker("published_to_a_broker", "published").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_for_a_broker() {
    with_a_broker("stored_for_a_broker", "stored").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_to_files() {
    with_files("published_to_files", "published").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_for_files() {
    with_files("stored_for_files", "stored").await;
}
