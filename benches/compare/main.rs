//! The bridge beside its limits, interleaved on one machine, with real brokers: the floor (axum and HMAC, answers 204), a
//! native client whose publishers each wait for their confirm, and the bridge as its users run it.
//!
//! ```text
//! cargo bench --bench compare
//! cargo bench --bench compare -- nats stored --repeats 5 --seconds 8 --connections 64 --rate 2000 --json rows.ndjson
//! ```
//!
//! A name is a case (`kafka-embedded`) or a part of one (`kafka`, `memory`, `native`); the floor always runs. Rates move with
//! the machine: compare ratios within one run, and CPU time first. Data is in the temporary directory: `TMPDIR` chooses the
//! disk. Every server is a process of its own, so that its CPU time is its own.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod case;
mod delivery;
mod floor;
mod goals;
mod http;
mod load;
mod native;
mod process;
mod row;
mod servers;
mod table;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use case::{Case, To};
use load::Load;
use row::Row;
use support::brokers::Broker;

#[derive(Parser)]
struct Options {
    /// Cases or parts of their names; none: all
    names: Vec<String>,
    /// How often each case runs; the table has the medians
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// How long each case is measured
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// How long each case runs before it is measured
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// Deliveries in flight
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Deliveries a second, whatever the answers take (open loop); without it, each connection sends when it is answered
    #[arg(long)]
    rate: Option<f64>,
    /// Appends one JSON object for each run
    #[arg(long)]
    json: Option<PathBuf>,
    /// Cargo passes it
    #[arg(long, hide = true)]
    bench: bool,
    /// What this process is when the comparison starts it itself
    #[arg(long, hide = true)]
    role: Option<String>,
}

fn main() {
    hookbridge::tls::install_provider();
    let options = Options::parse();
    let load = Load {
        connections: options.connections.max(1),
        rate: options.rate,
        warmup: Duration::from_secs_f64(options.warmup),
        measured: Duration::from_secs_f64(options.seconds),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match (options.role.as_deref(), options.names.as_slice()) {
        (None, names) => compare(&runtime, &load, &Case::select(names), &options),
        (Some("floor"), [secret]) => runtime.block_on(floor::serve(secret)),
        (Some("native"), [client, url]) => {
            let row = runtime.block_on(native::run(client, url, &load));
            println!("{}", serde_json::to_string(&row).expect("JSON"));
        }
        (Some(role), _) => panic!("unknown role {role}"),
    }
}

fn compare(runtime: &tokio::runtime::Runtime, load: &Load, cases: &[Case], options: &Options) {
    let mut rows: Vec<Row> = Vec::new();
    for repeat in 0..options.repeats {
        for to in To::ALL {
            let mut group: Vec<&Case> = cases.iter().filter(|case| case.to == to).collect();
            if group.is_empty() {
                continue;
            }
            // Each repeat has another order: the later ones find a fuller broker.
            let first = repeat % group.len();
            group.rotate_left(first);
            let broker = to.broker().map(Broker::start);
            for case in group {
                let row = Row { repeat, ..servers::run(runtime, case, broker.as_ref(), load) };
                eprintln!("{repeat} {row}");
                if let Some(path) = &options.json {
                    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the file");
                    writeln!(file, "{}", serde_json::to_string(&row).expect("JSON")).expect("written");
                }
                rows.push(row);
            }
        }
    }
    let bytes = delivery::mean_bytes();
    println!("\n{} connections, {bytes:.0}-byte bodies, {} × {} s", load.connections, options.repeats, options.seconds);
    table::print(cases, &rows);
}
