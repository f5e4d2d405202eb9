//! Faults of a broker for longer than a publish lives, under load, over every broker and in both modes. Nothing is lost or
//! reordered, and only what had an unknown outcome is doubled. With `stored`, the sender sees only 200, within 10 s.
//!
//! All faults with `HOOKBRIDGE_LONG` and for the table (`tests/faults`). Otherwise those that no other test has in both modes: `outage.rs` and `stored.rs` have
//! kills and restarts.

#[path = "destinations/mod.rs"]
mod suite;
mod support;

use std::time::Duration;

use suite::place::{Place, SCOPE};
use suite::{Stored, Subject};
use support::load::{Load, TOPIC, is_for_the_table, is_long, row};
use support::program::{Program, SECRET};
use support::sender::{body, client, deliver};
use support::wait::until;
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(120);
const KEYS: usize = 8;
/// How long a publish lives here.
const LIFE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Killed,
    Frozen,
    Restarted,
    Full,
    Deleted,
    Blocked,
}

impl Fault {
    const ALL: [Fault; 6] =
        [Fault::Killed, Fault::Frozen, Fault::Restarted, Fault::Full, Fault::Deleted, Fault::Blocked];

    fn these() -> &'static [Fault] {
        if is_long() || is_for_the_table() { &Fault::ALL } else { &[Fault::Frozen, Fault::Full] }
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Fault::Killed => ("killed", "broker killed"),
            Fault::Frozen => ("frozen", "broker frozen"),
            Fault::Restarted => ("restarted", "broker restarted twice"),
            Fault::Full => ("full", "topic full"),
            Fault::Deleted => ("deleted", "topic deleted"),
            Fault::Blocked => ("blocked", "publishers blocked"),
        }
    }

    /// Returns whether the broker can have it.
    async fn begin<S: Subject>(self, subject: &S) -> bool {
        match self {
            Fault::Killed | Fault::Restarted => subject.kill().await,
            Fault::Frozen => subject.pause().await,
            Fault::Full => subject.refuse(SCOPE, TOPIC).await,
            Fault::Deleted => subject.delete(SCOPE, TOPIC).await,
            Fault::Blocked => return subject.block(true).await,
        }
        true
    }

    async fn end<S: Subject>(self, subject: &S) {
        match self {
            Fault::Killed => subject.start_again().await,
            Fault::Restarted => {
                subject.start_again().await;
                subject.kill().await;
                subject.start_again().await;
            }
            Fault::Frozen => subject.resume().await,
            Fault::Full => subject.accept(SCOPE, TOPIC).await,
            Fault::Deleted => {}
            Fault::Blocked => drop(subject.block(false).await),
        }
    }
}

async fn faults_lose_nothing<S: Subject>(place: Place<S>, mode: &str) {
    let config = place.directory().join("hookbridge.yaml").display().to_string();
    let (url, data, life) = (place.url(), place.data(), LIFE.as_secs());
    // Where `Subject::refuse` binds its queue.
    let exchange = if url.starts_with("amqp") { format!(", exchange: {SCOPE}") } else { String::new() };
    let text = format!(
        "destinations: {{broker: {{url: '{url}'{exchange}}}}}\ndata: '{data}'\nack: {mode}\n\
         publish: {{timeout: {life}s}}\nlimits: {{request_timeout: {life}s}}\n"
    );
    std::fs::write(&config, text).expect("written");
    let program = Program::serve(&["--config", &config, "--secret", SECRET, "--ephemeral"]);
    program.ready().await;
    let url = program.url("videogen");
    let drained =
        async || until("the spool is empty", SOON, async || (program.sum(SPOOLED).await == 0.0).then_some(())).await;
    for fault in Fault::these() {
        let (tag, words) = fault.words();
        deliver(&client(), &url, &format!("before-{tag}"), &body(TOPIC, "before")).await;
        drained().await;
        // What it contains is kept, or is lost with it.
        place.stored(TOPIC).await;
        let unknown_before = program.unknown_outcomes().await;
        if !fault.begin(&place.subject).await {
            continue;
        }
        let (load, began) = (Load::start(tag, &url, KEYS), Instant::now());
        until("longer than a publish lives", SOON, async || {
            let enough = load.accepted() >= 20 * KEYS || (mode == "published" && load.refused() >= KEYS);
            (enough && began.elapsed() > LIFE * 3 / 2 || *fault == Fault::Deleted && load.accepted() >= KEYS)
                .then_some(())
        })
        .await;
        fault.end(&place.subject).await;
        let more = load.accepted() + 10 * KEYS;
        until("accepted after it", SOON, async || (load.accepted() >= more).then_some(())).await;
        let sent = load.stop().await;
        drained().await;
        let unknown = program.unknown_outcomes().await - unknown_before;
        let fate = sent.fate(place.stored(TOPIC).await.iter().map(Stored::id));
        row::<S>(words, mode, &fate, sent.slowest);
        let allowed = if S::DIFFERENCES.dedups { 0 } else { unknown };
        assert!(
            fate.lost == 0 && fate.reordered == 0 && fate.doubled <= allowed,
            "{fault:?}: {fate:?}, {unknown} unknown"
        );
        assert!(sent.slowest < Duration::from_secs(15), "VideoGen gives up at 15 s: {:?}", sent.slowest);
        if mode == "stored" {
            assert!(sent.refused == 0 && sent.slowest < Duration::from_secs(10), "{fault:?} reached the sender");
        }
    }
}

const SPOOLED: &str = "hookbridge_spool_events";

/// Ten minutes with `HOOKBRIDGE_LONG`. What waits is on the disk, so memory does not grow with it.
async fn a_long_freeze_takes_bounded_memory<S: Subject>(place: Place<S>) {
    let time = Duration::from_secs(if is_long() { 600 } else { 10 });
    let program = place.serve_stored();
    program.ready().await;
    place.subject.pause().await;
    let (load, began) = (Load::start("long", &program.url("videogen"), 2 * KEYS), Instant::now());
    until("accepted", SOON, async || (load.accepted() >= 100).then_some(())).await;
    let (resident, descriptors) = (program.resident(), program.descriptors());
    let (mut most_resident, mut most_descriptors) = (resident, descriptors);
    while began.elapsed() < time {
        tokio::time::sleep(Duration::from_millis(500)).await; // between two samples
        most_resident = most_resident.max(program.resident());
        most_descriptors = most_descriptors.max(program.descriptors());
    }
    println!(
        "{} events, {} s: {} MiB, at first {} MiB; {most_descriptors} descriptors, at first {descriptors}",
        load.accepted(),
        time.as_secs(),
        most_resident >> 20,
        resident >> 20
    );
    assert!(most_resident < 300 << 20, "{most_resident} bytes");
    // A connection may be open while the next one is tried.
    assert!(most_descriptors <= descriptors + 8, "{most_descriptors} descriptors, {descriptors} at first");
    place.subject.resume().await;
    let sent = load.stop().await;
    let drained = async || (program.sum(SPOOLED).await == 0.0).then_some(());
    until("the spool is empty", time.max(SOON), drained).await;
    let fate = sent.fate(place.stored(TOPIC).await.iter().map(Stored::id));
    row::<S>(&format!("broker frozen for {} s", time.as_secs()), "stored", &fate, sent.slowest);
    let unknown = program.unknown_outcomes().await;
    let allowed = if S::DIFFERENCES.dedups { 0 } else { unknown };
    assert!(fate.lost == 0 && fate.reordered == 0 && fate.doubled <= allowed, "{fate:?}, {unknown} unknown");
    assert!(sent.refused == 0 && sent.slowest < Duration::from_secs(10), "{:?} reached the sender", sent.slowest);
}

async fn published_mode_loses_nothing<S: Subject>(place: Place<S>) {
    faults_lose_nothing(place, "published").await;
}

async fn stored_mode_loses_nothing<S: Subject>(place: Place<S>) {
    faults_lose_nothing(place, "stored").await;
}

suite::place::whole_program! {
    { published_mode_loses_nothing stored_mode_loses_nothing a_long_freeze_takes_bounded_memory };
    nats: suite::nats::Nats;
    kafka: suite::kafka::Kafka;
    rabbitmq: suite::rabbitmq::Rabbitmq;
}
