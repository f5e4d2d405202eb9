//! The process is killed at random moments and at each step of the protocol, under load, over every destination and in both
//! modes: 200 times, and 2,000 times with `HOOKBRIDGE_LONG`. Nothing is lost or reordered, and only what was in flight may
//! be doubled. After each kill, `store check` finds the store whole.

#[path = "destinations/mod.rs"]
mod suite;
mod support;

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::time::Duration;

use hookbridge::fail_point::Step;
use suite::place::Place;
use suite::{Stored, Subject};
use support::brokers::ports;
use support::command::run;
use support::load::{Load, TOPIC, is_long, row};
use support::program::{Program, SECRET};
use support::wait::until;
use tokio::time::sleep;

const SOON: Duration = Duration::from_secs(90);
/// One event of each key is in flight at a time.
const KEYS: usize = 8;
/// The kills of one round.
const ROUND: usize = 25;

/// `Accepted` leaves an event in the spool, which the next process comes to at `Draining`.
const STEPS: [Step; 13] = [
    Step::Claimed,
    Step::Accepted,
    Step::Draining,
    Step::Publishing,
    Step::Confirmed,
    Step::Writing,
    Step::Committed,
    Step::Checkpointed,
    Step::Recorded,
    Step::Never,
    Step::Answering,
    Step::Settling,
    Step::Settled,
];
/// Those that only events of the spool come to.
const OF_SPOOL: [Step; 4] = [Step::Accepted, Step::Draining, Step::Settling, Step::Settled];

/// When the process dies.
enum Kill {
    At(Step),
    /// After this many further deliveries, at most.
    UnderLoad,
    /// While it starts.
    Starting,
}

/// Each step once, then random moments. The first deliveries come to `Claimed`, whose store `check` then finds.
fn round(mode: &str) -> Vec<Kill> {
    let steps = STEPS.into_iter().filter(|step| mode == "stored" || !OF_SPOOL.contains(step));
    let mut kills: Vec<_> = steps.map(Kill::At).collect();
    // What was accepted under load are recent ids, which the next process moves.
    kills.extend([Kill::UnderLoad, Kill::At(Step::Moved)]);
    while kills.len() < ROUND {
        kills.push(if rand::random_range(0..3) == 0 { Kill::Starting } else { Kill::UnderLoad });
    }
    kills
}

fn times(step: Step) -> u32 {
    match step {
        Step::Checkpointed | Step::Draining | Step::Moved => 1,
        Step::Never => rand::random_range(1..4),
        _ => rand::random_range(1..20),
    }
}

/// Prints the end of the processes' log if the test fails.
struct Log(PathBuf);

impl Drop for Log {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.0).unwrap_or_default();
            let lines: Vec<_> = log.lines().rev().take(60).collect();
            eprintln!("--- log\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

async fn kills_lose_nothing<S: Subject>(place: Place<S>, mode: &str) {
    let port = ports();
    let (webhooks, admin) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", port + 1));
    let (to, data, log) = (place.url(), place.data(), Log(place.directory().join("log")));
    let serve = |environment: &[(&str, &str)]| {
        let arguments = ["--to", &to, "--secret", SECRET, "--data", &data, "--ack", mode, "--ephemeral"];
        Program::serve_for_a_moment(&webhooks, &admin, &arguments, environment, &log.0)
    };
    let load = Load::start("k", &format!("http://{webhooks}/webhooks/videogen"), KEYS);
    let rounds = if is_long() { 10 } else { 1 };
    let kills: Vec<_> = (0..rounds).flat_map(|_| round(mode)).collect();
    for kill in &kills {
        match kill {
            Kill::At(step) => {
                let mut program = serve(&[("HOOKBRIDGE_FAIL_POINT", &format!("{step:?}:{}", times(*step)))]);
                let end = until(&format!("killed at {step:?}"), SOON, async || program.ended()).await;
                assert_eq!(end.signal(), Some(9), "{step:?}: {end}");
            }
            Kill::UnderLoad => {
                let mut program = serve(&[]);
                let next = load.accepted() + rand::random_range(1..80);
                until("accepted", SOON, async || (load.accepted() >= next).then_some(())).await;
                program.kill();
            }
            Kill::Starting => {
                let mut program = serve(&[]);
                sleep(Duration::from_millis(rand::random_range(0..200))).await;
                program.kill();
            }
        }
        let (code, out, err) = run(&["store", "check", "--data", &data], &[], "");
        assert_eq!(code, 0, "{out}{err}");
    }
    let program = serve(&[]);
    let sent = load.stop().await;
    until("the spool is empty", SOON, async || (program.sum("hookbridge_spool_events").await == 0.0).then_some(()))
        .await;
    assert_eq!(program.sum("hookbridge_dead_letters").await, sent.dead() as f64);
    let fate = sent.fate(place.stored(TOPIC).await.iter().map(Stored::id));
    row::<S>(&format!("{} kills", kills.len()), mode, &fate, sent.slowest);
    let allowed = if S::DIFFERENCES.dedups { 0 } else { kills.len() * KEYS };
    assert!(fate.lost == 0 && fate.reordered == 0 && fate.doubled <= allowed, "{fate:?}");
}

async fn published_mode_loses_nothing<S: Subject>(place: Place<S>) {
    kills_lose_nothing(place, "published").await;
}

async fn stored_mode_loses_nothing<S: Subject>(place: Place<S>) {
    kills_lose_nothing(place, "stored").await;
}

#[test]
fn every_step_is_tried() {
    let tried = round("stored");
    let is_tried = |step: &Step| tried.iter().any(|kill| matches!(kill, Kill::At(at) if at == step));
    assert!(Step::ALL.iter().all(is_tried));
}

suite::place::whole_program! {
    { published_mode_loses_nothing stored_mode_loses_nothing };
    files: suite::file::Files;
    nats: suite::nats::Nats;
    kafka: suite::kafka::Kafka;
    rabbitmq: suite::rabbitmq::Rabbitmq;
}
