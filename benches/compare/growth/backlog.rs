//! What a backlog costs with `--ack stored`: events are accepted while the broker is down, and published when it is back.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::case::{Mode, To};
use crate::http::Connection;
use crate::load::Load;
use crate::process;
use crate::row::Row;
use crate::sample::Sample;
use crate::servers;
use crate::support::brokers::Kind;
use crate::support::program::Program;

use super::Bench;

pub fn backlog(bench: &Bench<'_>) -> Vec<Sample> {
    let steps: Vec<u64> = bench.steps([0, 10_000, 100_000, 300_000, 1_000_000]).collect();
    let directory = tempfile::tempdir().expect("a directory");
    let broker = servers::broker(Kind::Nats);
    let program = servers::bridge(directory.path(), To::Nats, Mode::Stored, Some(&broker), "");
    bench.runtime.block_on(program.ready());
    broker.kill();
    let send = |load: &Load| -> Row {
        let connections = Connection::open(load, &program.webhooks);
        bench.runtime.block_on(load.run("backlog", program.pid(), connections))
    };
    let mut samples = Vec::new();
    for events in &steps {
        while bench.runtime.block_on(waiting(&program)) < *events {
            let filled = send(&Load { warmup: 0.0, seconds: 1.0, ..bench.load.clone() });
            assert!(filled.rate > 0.0, "the spool accepts no more events: {filled}");
        }
        let (events, disk) = (bench.runtime.block_on(waiting(&program)), bytes_in(&directory.path().join("data")));
        let row = send(&Load { warmup: 0.0, ..bench.load.clone() });
        let mut sample = Sample::of("accept, broker down", events, &row);
        if events > 0 {
            sample.figures.push(("disk, bytes an event", disk as f64 / events as f64));
        }
        samples.push(sample);
    }
    broker.start_again();
    samples.extend(bench.runtime.block_on(drain(&program, &steps)));
    samples
}

/// One sample for each time that the backlog has fallen to the next step.
async fn drain(program: &Program, steps: &[u64]) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut from = waiting(program).await;
    while waiting(program).await == from {
        // Only paces the requests for the metric.
        sleep(Duration::from_millis(10)).await;
    }
    let (mut since, mut cpu) = (Instant::now(), process::cpu_seconds(program.pid()));
    let first = from;
    for next in steps.iter().rev().filter(|step| **step < first) {
        let mut left = waiting(program).await;
        while left > *next {
            sleep(Duration::from_millis(10)).await;
            left = waiting(program).await;
        }
        let (now, used) = (Instant::now(), process::cpu_seconds(program.pid()));
        let published = from.saturating_sub(left).max(1) as f64;
        let figures = vec![
            ("CPU s / 1,000", (used - cpu) / published * 1e3),
            ("deliveries/s", published / (now - since).as_secs_f64()),
            ("peak MiB", process::peak_mib(program.pid())),
        ];
        samples.push(Sample { curve: "publish, broker back".into(), x: from as f64, figures }.reported());
        (from, since, cpu) = (left, now, used);
    }
    samples
}

async fn waiting(program: &Program) -> u64 {
    program.sum("hookbridge_spool_events").await as u64
}

/// Bytes of the files in a directory.
pub fn bytes_in(directory: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(directory).expect("the directory");
    entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum()
}
