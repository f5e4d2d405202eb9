use std::fs;
use std::path::Path;
use std::process::Command as Process;
use std::time::Instant;

use futures_util::future::join_all;
use tempfile::TempDir;

use super::*;
use crate::destination::settings::DestinationSettings;
use crate::event::Event;

const SOON: Duration = Duration::from_secs(20);

fn files(dir: &Path) -> Arc<dyn Destination> {
    let settings = DestinationSettings::new("files", BrokerUrl::File(dir.to_owned()));
    let metrics = Arc::default();
    open(Opening { settings, topics: Vec::new(), publish_timeout: SOON, body_limit: 8 << 20, metrics }).expect("opens")
}

fn message(topic: &str, number: usize) -> Message {
    let event = Event {
        id: format!("msg_{number}").into(),
        source_name: "videogen".into(),
        source: "https://api.videogen.io".into(),
        name: "file.upload.completed".into(),
        known: true,
        kind: "io.videogen.file.upload.completed".into(),
        subject: None,
        time: "2026-11-23T12:00:00Z".into(),
        partitionkey: None,
        traceparent: None,
        tracestate: None,
        urlexpiry: None,
        attributes: Arc::new([]),
        signed: crate::event::Signed::default(),
        data: format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(1000)).into_bytes().into(),
    };
    Message { event: Arc::new(event), topic: topic.into(), key: None }
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

fn reason(outcome: &Outcome) -> (&'static str, Option<Reason>) {
    match outcome {
        Outcome::Confirmed => ("confirmed", None),
        Outcome::Again(failure) => ("again", Some(failure.reason)),
        Outcome::Unknown(failure) => ("unknown", Some(failure.reason)),
        Outcome::Never(failure) => ("never", Some(failure.reason)),
    }
}

async fn health(files: &Arc<dyn Destination>, wanted: impl Fn(&Health) -> bool) {
    let end = Instant::now() + SOON;
    while !wanted(&files.health()) {
        assert!(Instant::now() < end, "{:?}", files.health());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn torn_last_lines_are_cut_at_start() {
    let dir = TempDir::new().expect("a directory");
    let long = "x".repeat(200_000);
    for (topic, before) in
        [("a", "{\"id\":\"msg_0\"}\n{\"id"), ("b", "torn"), ("c", &format!("{{\"id\":\"{long}\"}}\n{long}"))]
    {
        fs::write(dir.path().join(format!("{topic}.ndjson")), before).expect("written");
    }
    let files = files(dir.path());
    health(&files, |health| *health == Health::Up).await;
    assert_eq!(ids(dir.path(), "a"), ["msg_0"]);
    assert_eq!(ids(dir.path(), "b"), [""; 0]);
    assert_eq!(ids(dir.path(), "c"), [long]);
    assert_eq!(files.publish(message("a", 1)).await, Outcome::Confirmed);
    assert_eq!(ids(dir.path(), "a"), ["msg_0", "msg_1"]);
}

#[tokio::test]
async fn a_second_process_is_refused_until_the_first_ends() {
    let dir = TempDir::new().expect("a directory");
    let first = files(dir.path());
    assert_eq!(first.ensure().await, Ok(()));
    let second = files(dir.path());
    let failure = second.ensure().await.expect_err("it is locked");
    assert!(failure.detail.contains("in use by another process"), "{failure}");
    assert_eq!(reason(&second.publish(message("a", 1)).await), ("again", Some(Reason::Io)));
    assert_eq!(second.health(), Health::Starting, "until it could be used once");
    first.close(SOON).await;
    health(&second, |health| *health == Health::Up).await;
    assert_eq!(second.publish(message("a", 2)).await, Outcome::Confirmed);
    assert_eq!(ids(dir.path(), "a"), ["msg_2"]);
}

#[tokio::test]
async fn what_is_deleted_underneath_is_made_again() {
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
    fs::write(dir.join("a.ndjson"), "emptied, and half a li").expect("as some log rotation does");
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
async fn more_topics_than_open_files() {
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
async fn a_failed_sync_is_unknown() {
    let dir = TempDir::new().expect("a directory");
    let fifo = dir.path().join("a.ndjson"); // takes writes, cannot be synced
    assert!(Process::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    let files = files(dir.path());
    assert_eq!(reason(&files.publish(message("a", 1)).await), ("unknown", Some(Reason::Io)));
    assert_eq!(files.publish(message("b", 2)).await, Outcome::Confirmed);
    fs::remove_file(&fifo).expect("removed");
    assert_eq!(files.publish(message("a", 3)).await, Outcome::Confirmed);
    assert_eq!(ids(dir.path(), "a"), ["msg_3"]);
    health(&files, |health| *health == Health::Up).await;
}

#[tokio::test]
async fn what_cannot_be_taken_back_is_unknown() {
    let dir = TempDir::new().expect("a directory");
    std::os::unix::fs::symlink("/dev/full", dir.path().join("a.ndjson")).expect("a link");
    let files = files(dir.path());
    assert_eq!(reason(&files.publish(message("a", 1)).await), ("unknown", Some(Reason::Full)));
}

#[tokio::test]
async fn names_do_not_leave_the_directory() {
    let dir = TempDir::new().expect("a directory");
    let files = files(&dir.path().join("events"));
    for topic in ["../a", ".lock", "a/b", ""] {
        assert_eq!(reason(&files.publish(message(topic, 1)).await), ("never", Some(Reason::IllegalName)), "{topic:?}");
    }
    assert!(!dir.path().join("a.ndjson").exists());
}

/// The test runs itself again in a shell that limits how large a file may become: the write that crosses the limit is cut
/// short, as on a full disk.
#[tokio::test]
async fn a_full_disk_takes_whole_lines_or_none() {
    const ROLE: &str = "HOOKBRIDGE_TEST_FULL_DISK";
    let Ok(dir) = std::env::var(ROLE) else {
        let dir = TempDir::new().expect("a directory");
        let limited = Process::new("bash")
            .args(["-c", r#"trap "" XFSZ; ulimit -f 300; exec "$0" "$@""#])
            .arg(std::env::current_exe().expect("this test"))
            .args(["--exact", "destination::file::tests::a_full_disk_takes_whole_lines_or_none"])
            .env(ROLE, dir.path())
            .output()
            .expect("bash");
        let said = String::from_utf8_lossy(&limited.stdout);
        assert!(limited.status.success() && said.contains("1 passed"), "{said}");
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
            match reason(&outcome) {
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
