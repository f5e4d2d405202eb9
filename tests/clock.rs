//! The wall clock is wrong by an hour, in either direction, while the program runs: every delivery is answered 401 until the
//! clock is right, and nothing is lost, forgotten or deleted. No restart is needed.

#[path = "destinations/mod.rs"]
mod suite;
mod support;

use std::io::Write as _;
use std::time::Duration;

use suite::place::Place;
use suite::{Stored, Subject};
use support::load::{Load, TOPIC, row};
use support::preload::compile;
use support::program::{Program, SECRET};
use support::sender::{body, post};
use support::wait::until;

const SOON: Duration = Duration::from_secs(90);
const HOUR: i64 = 3600;

async fn a_wrong_clock_recovers<S: Subject>(place: Place<S>, mode: &str) {
    let text = |name: &str| place.directory().join(name).display().to_string();
    let shim = compile("clock/clock.c", place.directory()).display().to_string();
    let (clock, config) = (text("clock"), text("hookbridge.yaml"));
    // In place, as the program has the file in its memory.
    let set = |seconds: i64| {
        let file = std::fs::File::options().create(true).truncate(false).write(true).open(&clock);
        file.expect("the clock").write_all(&seconds.to_ne_bytes()).expect("written");
    };
    set(0);
    let settings = format!("destinations: {{broker: {{url: '{}'}}}}\ndata: '{}'\n", place.url(), place.data());
    std::fs::write(&config, settings + "dead_letters: {max_age: 30m}\n").expect("written");
    let arguments = ["--config", &config, "--secret", SECRET, "--ack", mode, "--ephemeral"];
    let program = Program::serve_with(&arguments, &[("LD_PRELOAD", &shim), ("CLOCK_FILE", &clock)]);
    program.ready().await;
    let url = program.url("videogen");
    let load = Load::start("k", &url, 4);
    let more = async || {
        let next = load.accepted() + 100;
        until("accepted", SOON, async || (load.accepted() >= next).then_some(())).await;
    };
    more().await;
    for (hour, hint) in [(HOUR, "\"offset_seconds\":3"), (-HOUR, "\"offset_seconds\":-3")] {
        set(hour);
        let refused = async || post(&url, "k_0_0", &body(TOPIC, "f0")).await.word() == "401 not_verified";
        until("refused", SOON, async || refused().await.then_some(())).await;
        program.logged(hint); // check this machine's clock
        // What was verified before the change may still be accepted.
        let refused = load.refused() + 20;
        until("refused", SOON, async || (load.refused() >= refused).then_some(())).await;
        program.ready().await;
        set(0);
        more().await;
        assert_eq!(post(&url, "k_0_0", &body(TOPIC, "f0")).await.word(), "200 duplicate");
    }
    let sent = load.stop().await;
    until("the spool is empty", SOON, async || (program.sum("hookbridge_spool_events").await == 0.0).then_some(()))
        .await;
    assert_eq!(program.sum("hookbridge_dead_letters").await, sent.dead() as f64);
    let unknown = program.unknown_outcomes().await;
    let fate = sent.fate(place.stored(TOPIC).await.iter().map(Stored::id));
    row::<S>("clock an hour ahead, then behind", mode, &fate, sent.slowest);
    let allowed = if S::DIFFERENCES.dedups { 0 } else { unknown };
    assert!(fate.lost == 0 && fate.reordered == 0 && fate.doubled <= allowed, "{fate:?}, {unknown} unknown");
}

async fn published_mode_recovers<S: Subject>(place: Place<S>) {
    a_wrong_clock_recovers(place, "published").await;
}

async fn stored_mode_recovers<S: Subject>(place: Place<S>) {
    a_wrong_clock_recovers(place, "stored").await;
}

suite::place::whole_program! {
    { published_mode_recovers stored_mode_recovers };
    files: suite::file::Files;
    nats: suite::nats::Nats;
    kafka: suite::kafka::Kafka;
    rabbitmq: suite::rabbitmq::Rabbitmq;
}
