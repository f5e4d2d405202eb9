//! The spool of `--ack stored`: what fills it, what it refuses, and targets that do not hold each other up.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use support::brokers::{Broker, Kind, With};
use support::program::{Program, SECRET};
use support::sender::{body, client, deliver, post};
use support::wait::until;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(60);
/// Nobody listens there.
const NOWHERE: &str = "nats://127.0.0.1:1";

/// A configuration and a data directory.
struct Site(TempDir);

impl Site {
    /// With these destinations, the first of which takes what no route takes.
    fn new(destinations: &str, more: &str) -> Site {
        let site = Site(tempfile::tempdir().expect("a directory"));
        site.configure(destinations, more);
        site
    }

    fn configure(&self, destinations: &str, more: &str) {
        let (events, data) = (self.events(), self.0.path().join("data"));
        let destinations = destinations.replace("EVENTS", &events.display().to_string());
        let text = format!("destinations: {destinations}\ndata: '{}'\nack: stored\n{more}\n", data.display());
        std::fs::write(self.0.path().join("hookbridge.yaml"), text).expect("written");
    }

    fn events(&self) -> PathBuf {
        self.0.path().join("events")
    }

    fn arguments<'a>(config: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["--config", config, "--secret", SECRET, "--ephemeral"][..], more].concat()
    }

    fn config(&self) -> String {
        self.0.path().join("hookbridge.yaml").display().to_string()
    }

    fn serve(&self) -> Program {
        Program::serve(&Site::arguments(&self.config(), &[]))
    }

    /// For a start that fails.
    fn output(&self, more: &[&str]) -> Output {
        let config = self.config();
        let listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookbridge"));
        command.arg("serve").args(Site::arguments(&config, more)).args(listen).env_clear();
        command.output().expect("it runs")
    }

    /// The ids in a topic of the `file` destination.
    fn ids(&self, topic: &str) -> Vec<String> {
        ids(&self.events(), topic)
    }
}

fn ids(directory: &Path, topic: &str) -> Vec<String> {
    let text = std::fs::read_to_string(directory.join(format!("{topic}.ndjson"))).unwrap_or_default();
    let id =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["id"].as_str().map(str::to_owned);
    text.lines().filter_map(id).collect()
}

async fn waits(program: &Program, destination: &str) -> f64 {
    program.metric(&format!("hookbridge_spool_events{{destination=\"{destination}\"}}")).await
}

async fn drained(program: &Program, destination: &str) {
    until("drained", SOON, async || (waits(program, destination).await == 0.0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_refuses_new_events_and_knows_old_ones() {
    let site = Site::new(&format!("{{d: {{url: '{NOWHERE}'}}}}"), "spool: {max_bytes: 1MiB}");
    let program = site.serve();
    let (client, url, event) = (client(), program.url("videogen"), body("file.playback_ready", "f"));
    for number in 0..900 {
        deliver(&client, &url, &format!("a{number}"), &event).await;
    }
    let large = format!("{}{}", event, " ".repeat(200 << 10));
    let refused = post(&url, "large", &large).await;
    assert_eq!(refused.word(), "503 spool_full");
    assert!(refused.retry_after.is_some());
    assert_eq!(post(&url, "a0", &event).await.word(), "200 duplicate");
    assert_eq!(post(&url, "small", &event).await.word(), "200 accepted");
    assert_eq!(waits(&program, "d").await, 901.0);
    let bytes = program.metric("hookbridge_spool_bytes{destination=\"d\"}").await;
    assert!((901.0 * 1024.0..1048576.0).contains(&bytes), "{bytes}");
    program.logged("\"not accepted\"");
}

/// A topic that its broker refuses is alone in that.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_topic_holds_no_other_up() {
    let site = Site::new("{files: {url: 'file:EVENTS'}}", "");
    let blocked = site.events().join("file.playback_ready.ndjson");
    std::fs::create_dir_all(&blocked).expect("created");
    let program = site.serve();
    program.ready().await;
    let (client, url) = (client(), program.url("videogen"));
    for number in 0..100 {
        for (tag, event) in [("stuck", "file.playback_ready"), ("other", "file.analysis_completed")] {
            deliver(&client, &url, &format!("{tag}_{number}"), &body(event, "f")).await;
        }
    }
    until("the others", SOON, async || (site.ids("file.analysis_completed").len() == 100).then_some(())).await;
    until("all settled", SOON, async || (waits(&program, "files").await == 100.0).then_some(())).await;
    let oldest = "hookbridge_spool_oldest_seconds{destination=\"files\"}";
    until("an age", SOON, async || (program.metric(oldest).await >= 1.0).then_some(())).await;
    std::fs::remove_dir(&blocked).expect("removed");
    drained(&program, "files").await;
    assert_eq!(program.metric(oldest).await, 0.0);
    let expected: Vec<_> = (0..100).map(|number| format!("stuck_{number}")).collect();
    assert_eq!(site.ids("file.playback_ready"), expected, "in the order of their acceptance");
}

/// Each of two targets gets the event once, however often the process starts before the other has it.
#[tokio::test(flavor = "multi_thread")]
async fn targets_do_not_wait_for_each_other() {
    let two = |second: &str| format!("{{files: {{url: 'file:EVENTS'}}, second: {{url: '{second}'}}}}");
    let routes = "routes: [{match: '**', to: [files, second]}]";
    let other = tempfile::tempdir().expect("a directory");
    let site = Site::new(&two(NOWHERE), routes);
    for _ in 0..3 {
        let mut program = site.serve();
        let url = program.url("videogen");
        let word = post(&url, "a", &body("file.playback_ready", "f")).await.word();
        assert!(word == "200 accepted" || word == "200 duplicate", "{word}");
        drained(&program, "files").await;
        assert_eq!(waits(&program, "second").await, 1.0);
        program.kill();
    }
    site.configure(&two(&format!("file:{}", other.path().join("events").display())), routes);
    let program = site.serve();
    drained(&program, "second").await;
    assert_eq!(site.ids("file.playback_ready"), ["a"]);
    assert_eq!(ids(&other.path().join("events"), "file.playback_ready"), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_with_events_is_not_forgotten() {
    let site = Site::new(&format!("{{old: {{url: '{NOWHERE}'}}}}"), "");
    let mut program = site.serve();
    for number in 0..3 {
        let event = body("file.playback_ready", "f");
        assert_eq!(post(&program.url("videogen"), &format!("a{number}"), &event).await.word(), "200 accepted");
    }
    assert!(program.term().success());
    // The flag, left behind, deletes nothing that is published.
    let refused = site.output(&["--discard-spool", "old"]);
    let log = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && log.contains("the configuration names this destination"), "{log}");
    site.configure("{files: {url: 'file:EVENTS'}}", "");
    let refused = site.output(&[]);
    let log = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{log}");
    assert!(log.contains("3 events for the destination `old`") && log.contains("--discard-spool old"), "{log}");
    let config = site.config();
    let program = Program::serve(&Site::arguments(&config, &["--discard-spool", "old"]));
    program.logged("were discarded");
    program.ready().await;
    let url = program.url("videogen");
    assert_eq!(post(&url, "a0", &body("file.playback_ready", "f")).await.word(), "200 duplicate");
    assert_eq!(post(&url, "b", &body("file.playback_ready", "f")).await.word(), "200 accepted");
    drained(&program, "files").await;
    assert_eq!(site.ids("file.playback_ready"), ["b"]);
}

/// They were answered 200, and the store `memory` would never publish them.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_not_left_behind_by_a_start_without_a_store() {
    let site = Site::new(&format!("{{d: {{url: '{NOWHERE}'}}}}"), "");
    let program = site.serve();
    let event = body("file.playback_ready", "f");
    assert_eq!(post(&program.url("videogen"), "a", &event).await.word(), "200 accepted");
    let memory = ["--store", "memory", "--ack", "published"];
    let check = || {
        let config = site.config();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookbridge"));
        command.args(["check", "--connect", "--config", &config, "--secret", SECRET]).args(memory).env_clear();
        String::from_utf8_lossy(&command.output().expect("it runs").stdout).into_owned()
    };
    let found = check();
    assert!(!found.contains("store: warning"), "the other process publishes it: {found}");
    let refused = site.output(&[&memory[..], &["--discard-spool", "d"]].concat());
    let log = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && log.contains("in use by another process"), "{log}");
    drop(program); // killed
    let found = check();
    assert!(found.contains("store: warning: the spool has 1 events for the destination `d`"), "{found}");
    let refused = site.output(&memory);
    let log = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && log.contains("the spool has 1 events"), "{log}");
    assert!(log.contains("`store: embedded`") && log.contains("--discard-spool d"), "{log}");
    let config = site.config();
    let program = Program::serve(&Site::arguments(&config, &[&memory[..], &["--discard-spool", "d"]].concat()));
    program.logged("were discarded");
    drop(program);
    drop(Program::serve(&Site::arguments(&config, &memory)));
}

/// What no broker would ever take, and what goes nowhere, is no event of the spool.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_and_ignored_events_are_answered_as_ever() {
    let routes = "routes: [{match: 'file.upload.**', to: []}, {match: '**', to: [d]}]";
    let site = Site::new(&format!("{{d: {{url: '{NOWHERE}'}}}}"), routes);
    let program = site.serve();
    let url = program.url("videogen");
    assert_eq!(post(&url, "bad", "[1]").await.word(), "200 dead-lettered");
    assert_eq!(post(&url, "ignored", &body("file.upload.completed", "f")).await.word(), "200 ignored");
    assert_eq!(post(&url, "good", &body("file.playback_ready", "f")).await.word(), "200 accepted");
    assert_eq!(waits(&program, "d").await, 1.0);
}

/// The next event of its key does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_never_takes_is_a_dead_letter() {
    let nats = Broker::start_with(Kind::Nats, With { conf: "max_payload: 65536\n", ..With::default() });
    let site = Site::new(&format!("{{stream: {{url: '{}'}}}}", nats.url()), "");
    let program = site.serve();
    program.ready().await;
    let url = program.url("videogen");
    let large = format!("{}{}", body("file.playback_ready", "f"), " ".repeat(100 << 10));
    assert_eq!(post(&url, "large", &large).await.word(), "200 accepted");
    assert_eq!(post(&url, "small", &body("file.playback_ready", "f")).await.word(), "200 accepted");
    drained(&program, "stream").await;
    let letters = "hookbridge_dead_letters{source=\"videogen\",reason=\"too_large\"}";
    assert_eq!(program.metric(letters).await, 1.0);
    let confirmed = "hookbridge_publishes_total{destination=\"stream\",outcome=\"confirmed\",reason=\"\"}";
    assert_eq!(program.metric(confirmed).await, 1.0);
    assert_eq!(post(&url, "large", &large).await.word(), "200 duplicate");
}

/// Memory is no disk, whatever it looks like.
#[test]
fn a_disk_that_forgets_is_refused() {
    let site = Site::new(&format!("{{d: {{url: '{NOWHERE}'}}}}"), "");
    let memory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookbridge"));
    let data = memory.path().join("data").display().to_string();
    command.args(["serve", "--config", &site.config(), "--secret", SECRET, "--data", &data]).env_clear();
    let refused = command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).output().expect("it runs");
    let log = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{log}");
    assert!(log.contains("tmpfs") && log.contains("--ephemeral"), "{log}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookbridge"));
    command.args(["check", "--connect", "--config", &site.config(), "--secret", SECRET, "--data", &data]).env_clear();
    let found = command.output().expect("it runs").stdout;
    let found = String::from_utf8_lossy(&found);
    assert!(found.contains("store: warning: ") && found.contains("tmpfs"), "{found}");
}
