//! The axes that need no stored data: they grow with the load or with the configuration.

use std::fmt::Write as _;

use crate::case::{Case, Mode, To};
use crate::http::Connection;
use crate::load::{Load, Sender as _};
use crate::process;
use crate::sample::Sample;
use crate::servers;

use super::Bench;

/// 64 of the largest bodies would exceed `limits.bytes`.
const BODY_CONNECTIONS: usize = 8;
/// With this many connections or more, the warm-up is longer: opening them takes time.
const MANY: u64 = 1000;
const SLOW_WARMUP: f64 = 5.0;
/// Above the largest number of connections.
const LIMITS: &str = "limits: {connections: 12000, requests: 12000}\nsources: {videogen: {in_flight: 12000}}\n";

pub fn body(bench: &Bench<'_>) -> Vec<Sample> {
    let sizes = bench.steps([512, 2048, 8192, 32_768, 131_072, 524_288, 2_097_152, 7_340_032]);
    let load = |bytes| Load { connections: BODY_CONNECTIONS, body_bytes: Some(bytes as usize), ..bench.load.clone() };
    measure(bench, &["floor", "nothing-memory", "file-memory", "file-stored"], sizes, |_, bytes| {
        (load(bytes), String::new())
    })
}

pub fn connections(bench: &Bench<'_>) -> Vec<Sample> {
    let counts = bench.steps([1, 4, 16, 64, 256, 1024, 4096, 10_000]);
    let mut samples =
        measure(bench, &["floor", "nothing-memory", "nats-memory", "nats-embedded"], counts.clone(), |_, count| {
            let warmup = if count >= MANY { SLOW_WARMUP } else { bench.load.warmup };
            (Load { connections: count as usize, warmup, ..bench.load.clone() }, LIMITS.to_owned())
        });
    samples.extend(counts.map(|count| idle(bench, count)));
    samples
}

/// Memory with idle connections, each of which has sent one delivery.
fn idle(bench: &Bench<'_>, count: u64) -> Sample {
    let directory = tempfile::tempdir().expect("a directory");
    let program = servers::bridge(directory.path(), To::Nothing, Mode::Memory, None, LIMITS);
    let load = Load { connections: count as usize, ..bench.load.clone() };
    let mut connections = Connection::open(&load, &program.webhooks);
    bench.runtime.block_on(async {
        program.ready().await;
        for connection in &mut connections {
            assert_eq!(connection.send().await, 200);
        }
    });
    let open = bench.runtime.block_on(program.sum("process_open_fds"));
    assert!(open >= count as f64, "{open} descriptors");
    let figures = vec![("peak MiB", process::peak_mib(program.pid()))];
    Sample { curve: "idle".into(), x: count as f64, figures }.reported()
}

pub fn targets(bench: &Bench<'_>) -> Vec<Sample> {
    let counts = bench.steps([1, 2, 5, 10, 20]);
    measure(bench, &["file-memory", "nats-memory", "kafka-memory", "rabbitmq-memory"], counts, |case, count| {
        let mut to = String::new();
        for number in 1..=count {
            let _ = write!(to, "{{destination: {}, topic: 'copy{number}'}}, ", case.to.name());
        }
        (bench.load.clone(), format!("routes: [{{match: '**', to: [{to}]}}]\n"))
    })
}

/// Runs each case with each value.
fn measure(
    bench: &Bench<'_>,
    names: &[&str],
    values: impl Iterator<Item = u64> + Clone,
    load_and_configuration: impl Fn(&Case, u64) -> (Load, String),
) -> Vec<Sample> {
    let mut samples = Vec::new();
    for name in names {
        let case = Case::named(name).expect("a case");
        let broker = case.to.broker().map(servers::broker);
        let run = |value| {
            let (load, configuration) = load_and_configuration(&case, value);
            servers::run(bench.runtime, &case, broker.as_ref(), &configuration, &load)
        };
        // The first run with a new broker is slower, and not counted: Kafka compiles its code meanwhile.
        if let (Some(_), Some(first)) = (&broker, values.clone().next()) {
            run(first);
        }
        samples.extend(values.clone().map(|value| Sample::of(name, value, &run(value))));
    }
    samples
}
