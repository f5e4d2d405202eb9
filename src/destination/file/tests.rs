use std::fs;
use std::path::Path;
use std::process::Command as Process;
use tokio::time::Instant;

use futures_util::future::join_all;
use tempfile::TempDir;

use super::*;
use crate::destination::settings::DestinationSettings;
use crate::event::Event;
use crate::event::fixture::event;

const SOON: Duration = Duration::from_secs(20);

fn files(dir: &Path) -> Arc<dyn Destination> {
    let settings = DestinationSettings::new("files", BrokerUrl::File(dir.to_owned()));
    let metrics = Arc::default();
    open(Opening { settings, topics: Vec::new(), publish_timeout: SOON, body_limit: 8 << 20, metrics }).expect("opens")
}

fn message(topic: &str, number: usize) -> Message {
    let data = format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(1000));
    let event = Event { id: format!("msg_{number}").into(), data: data.into_bytes().into(), ..event() };
    Message::new(Arc::new(event), topic)
}

/// The ids in a topic's file; every line must be whole.
fn ids(dir: &Path, topic: &str) -> Vec<String> {
    let text = fs::read_to_string(dir.join(format!("{topic}.ndjson"))).expect("the topic's file");
    assert!(text.is_empty() || text.ends_with('\n'));
    let id = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).expect("a whole line")["id"].as_str().map(str::to_owned)
    };
    text.lines().map(|line| id(line).expect("an id")).collect()
}

fn ending(outcome: &Outcome) -> (&'static str, Option<Reason>) {
    (outcome.word(), outcome.failure().map(|failure| failure.reason))
}

async fn wait_for(files: &dyn Destination, wanted: impl Fn(&Health) -> bool) {
    let end = Instant::now() + SOON;
    while !wanted(&files.health()) {
        assert!(Instant::now() < end, "{:?}", files.health());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The disk had the last block of a batch, but not one in the middle.
#[tokio::test]
async fn lines_that_a_power_loss_has_damaged_are_blanked() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("a.ndjson");
    let (first, last) = ("{\"id\":\"msg_0\"}\n", "{\"id\":\"msg_2\"}\n");
    fs::write(&path, format!("{first}{{\"id\"\0\0\0\0}}\n\0\0\n{last}{{\"id")).expect("written");
    let files = files(dir.path());
    assert_eq!(files.publish(message("a", 3)).await, Outcome::Confirmed);
    let text = fs::read_to_string(&path).expect("the topic's file");
    assert!(text.starts_with(&format!("{first}{}{last}{{", "\n".repeat(14))), "{text:?}");
    let whole = text.lines().filter(|line| !line.is_empty());
    let ids: Vec<_> =
        whole.map(|line| serde_json::from_str::<serde_json::Value>(line).expect("whole")["id"].clone()).collect();
    assert_eq!(ids, ["msg_0", "msg_2", "msg_3"]);
}

#[tokio::test]
async fn incomplete_last_lines_are_removed_at_start() {
    let dir = TempDir::new().expect("a directory");
    let long = "x".repeat(200_000);
    for (topic, before) in
        [("a", "{\"id\":\"msg_0\"}\n{\"id"), ("b", "torn"), ("c", &format!("{{\"id\":\"{long}\"}}\n{long}"))]
    {
        fs::write(dir.path().join(format!("{topic}.ndjson")), before).expect("written");
    }
    let files = files(dir.path());
    wait_for(&*files, |health| *health == Health::Up).await;
    assert_eq!(ids(dir.path(), "a"), ["msg_0"]);
    assert_eq!(ids(dir.path(), "b"), [""; 0]);
    assert_eq!(ids(dir.path(), "c"), [long]);
    assert_eq!(files.publish(message("a", 1)).await, Outcome::Confirmed);
    assert_eq!(ids(dir.path(), "a"), ["msg_0", "msg_1"]);
}

#[tokio::test]
async fn second_process_is_refused_until_the_first_closes() {
    let dir = TempDir::new().expect("a directory");
    let first = files(dir.path());
    assert_eq!(first.ensure().await, Ok(()));
    let second = files(dir.path());
    let failure = second.ensure().await.expect_err("it is locked");
    assert!(failure.detail.contains("in use by another process"), "{failure}");
    assert_eq!(ending(&second.publish(message("a", 1)).await), ("again", Some(Reason::Io)));
    assert!(matches!(second.health(), Health::Starting(Some(_))), "it was never usable");
    first.close(SOON).await;
    wait_for(&*second, |health| *health == Health::Up).await;
    assert_eq!(second.publish(message("a", 2)).await, Outcome::Confirmed);
    assert_eq!(ids(dir.path(), "a"), ["msg_2"]);
}

#[tokio::test]
async fn deleted_and_changed_files_are_created_again() {
    let parent = TempDir::new().expect("a directory");
    let dir = parent.path().join("not/there/yet");
    let files = files(&dir);
    assert_eq!(files.publish(message("a", 1)).await, Outcome::Confirmed);
    fs::remove_file(dir.join("a.ndjson")).expect("removed");
    assert_eq!(files.publish(message("a", 2)).await, Outcome::Confirmed);
    assert_eq!(ids(&dir, "a"), ["msg_2"]);
    fs::remove_dir_all(&dir).expect("removed");
    assert_eq!(files.publish(message("a", 3)).await, Outcome::Confirmed);
    assert_eq!(ids(&dir, "a"), ["msg_3"]);
    fs::write(dir.join("a.ndjson"), "replaced, with an incomplete li").expect("as a log rotation may");
    assert_eq!(files.publish(message("a", 4)).await, Outcome::Confirmed);
    assert_eq!(ids(&dir, "a"), ["msg_4"]);
    let (path, copy) = (dir.join("a.ndjson"), dir.join("copy"));
    fs::copy(&path, &copy).and_then(|_| fs::rename(&copy, &path)).expect("another file of the same length");
    assert_eq!(files.publish(message("a", 5)).await, Outcome::Confirmed);
    assert_eq!(ids(&dir, "a"), ["msg_4", "msg_5"]);
    fs::remove_file(dir.join(".lock")).expect("removed");
    assert_eq!(files.publish(message("a", 6)).await, Outcome::Confirmed);
    assert!(dir.join(".lock").exists());
}

#[tokio::test]
async fn topics_may_outnumber_open_files() {
    let dir = TempDir::new().expect("a directory");
    let files = files(dir.path());
    for round in 0..2 {
        let confirms = (0..300).map(|number| files.publish(message(&format!("topic-{number}"), round)));
        let outcomes = join_all(confirms.collect::<Vec<_>>()).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Confirmed));
        let held = fs::read_dir("/proc/self/fd").expect("Linux").filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        assert!(held.filter(|path| path.starts_with(dir.path())).count() <= 130);
    }
    for number in 0..300 {
        assert_eq!(ids(dir.path(), &format!("topic-{number}")), ["msg_0", "msg_1"]);
    }
}

#[tokio::test]
async fn failed_sync_is_unknown() {
    let dir = TempDir::new().expect("a directory");
    let fifo = dir.path().join("a.ndjson"); // accepts writes, but cannot be synced
    assert!(Process::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    let files = files(dir.path());
    assert_eq!(ending(&files.publish(message("a", 1)).await), ("unknown", Some(Reason::Io)));
    assert_eq!(files.publish(message("b", 2)).await, Outcome::Confirmed);
    fs::remove_file(&fifo).expect("removed");
    assert_eq!(files.publish(message("a", 3)).await, Outcome::Confirmed);
    assert_eq!(ids(dir.path(), "a"), ["msg_3"]);
    wait_for(&*files, |health| *health == Health::Up).await;
}

#[tokio::test]
async fn write_that_cannot_be_undone_is_unknown() {
    let dir = TempDir::new().expect("a directory");
    std::os::unix::fs::symlink("/dev/full", dir.path().join("a.ndjson")).expect("a link");
    let files = files(dir.path());
    assert_eq!(ending(&files.publish(message("a", 1)).await), ("unknown", Some(Reason::Full)));
}

#[tokio::test]
async fn names_stay_in_the_directory() {
    let dir = TempDir::new().expect("a directory");
    let files = files(&dir.path().join("events"));
    for topic in ["../a", ".lock", "a/b", ""] {
        assert_eq!(ending(&files.publish(message(topic, 1)).await), ("never", Some(Reason::IllegalName)), "{topic:?}");
    }
    assert!(!dir.path().join("a.ndjson").exists());
}

/// Runs itself again in a shell that limits the size of files: the write that exceeds the limit is incomplete, as on a full
/// disk.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the variable tells the second run from the first")]
async fn full_disk_stores_whole_lines_or_none() {
    const ROLE: &str = "HOOKBRIDGE_TEST_FULL_DISK";
    let Ok(dir) = std::env::var(ROLE) else {
        let dir = TempDir::new().expect("a directory");
        let limited = Process::new("bash")
            .args(["-c", r#"trap "" XFSZ; ulimit -f 300; exec "$0" "$@""#])
            .arg(std::env::current_exe().expect("this test"))
            .args(["--exact", "destination::file::tests::full_disk_stores_whole_lines_or_none"])
            .env(ROLE, dir.path())
            .output()
            .expect("bash");
        let output = String::from_utf8_lossy(&limited.stdout);
        assert!(limited.status.success() && output.contains("1 passed"), "{output}");
        return;
    };
    let dir = Path::new(&dir);
    let files = files(dir);
    let mut confirmed = Vec::new();
    let mut full = 0;
    for wave in 0..50 {
        let numbers = wave * 16..(wave + 1) * 16;
        let outcomes =
            join_all(numbers.clone().map(|number| files.publish(message("a", number))).collect::<Vec<_>>()).await;
        for (number, outcome) in numbers.zip(outcomes) {
            match ending(&outcome) {
                ("confirmed", None) => confirmed.push(format!("msg_{number}")),
                ("again", Some(Reason::Full)) => full += 1,
                _ => panic!("{outcome:?}"),
            }
        }
    }
    assert!(confirmed.len() > 200 && full > 200, "{} {full}", confirmed.len());
    assert_eq!(ids(dir, "a"), confirmed);
    assert_eq!(files.publish(message("b", 1)).await, Outcome::Confirmed);
}

/// The directory can be locked, but the disk accepts no data. Nothing is published meanwhile.
#[tokio::test]
async fn unwritable_directory_is_retried_without_a_publish() {
    let dir = TempDir::new().expect("a directory");
    let lock = dir.path().join(".lock");
    std::os::unix::fs::symlink("/dev/full", &lock).expect("a link");
    let files = files(dir.path());
    files.ensure().await.expect_err("the disk is full");
    assert!(matches!(files.health(), Health::Starting(Some(_))), "it was never usable");
    fs::remove_file(&lock).expect("removed");
    wait_for(&*files, |health| *health == Health::Up).await;
}

#[tokio::test]
async fn writer_panic_ends_the_destination() {
    let (panic, wait) = channel::<()>();
    let status = Arc::new(Status::new(&"files".into(), &Arc::default()));
    status.connected((), "directory");
    status.up();
    let files = Files::start(status, SOON, move |queue| {
        let Ok(WriterCommand::Publish(publish)) = queue.recv() else { return };
        let _taken = publish.take();
        let _ = wait.recv();
        panic!("on purpose");
    });
    let files = files.expect("starts");
    let (begun, queued) = (files.publish(message("a", 1)), files.publish(message("a", 2)));
    panic.send(()).expect("the writer waits");
    assert_eq!(ending(&begun.await), ("unknown", Some(Reason::Failed)), "its lines may be in the file");
    assert_eq!(ending(&queued.await), ("again", Some(Reason::Failed)));
    let failure = Failure::new(Reason::Failed, "the background task `file writer` panicked");
    wait_for(&files, |health| *health == Health::Down(failure.clone())).await;
    assert_eq!(files.publish(message("a", 3)).await, Outcome::Again(failure.clone()));
    assert_eq!(files.ensure().await, Err(failure));
    files.close(SOON).await;
}
