//! Compares the bridge with its limits, interleaved on one machine and with real brokers. The limits are the floor (axum and
//! HMAC, answers 204), and each broker's native client, whose publishers each wait for their confirm.
//!
//! ```text
//! cargo bench --bench compare
//! cargo bench --bench compare -- nats kafka --modes memory,stored --repeats 5 --seconds 8 --half --json rows.ndjson
//! cargo bench --bench compare -- --connections 1
//! cargo bench --bench compare -- growth body ids --most 1000000
//! ```
//!
//! Rates move with the machine: compare ratios within one run, and CPU time first. Each server is a process of its own, so
//! that its CPU time can be measured.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod case;
mod delivery;
mod floor;
mod goals;
mod growth;
mod http;
mod load;
mod native;
mod plot;
mod process;
mod row;
mod sample;
mod servers;
mod table;

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum as _};
use tokio::runtime::Runtime;

use case::{Case, Mode, To};
use load::Load;
use row::Row;

/// Compares the bridge with the floor (axum and HMAC) and with each broker's native client, interleaved, with real brokers.
/// Prints a table in Markdown. Data is in the temporary directory: TMPDIR chooses the disk.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    compare: Options,
    /// Cargo passes it
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    command: Option<Role>,
}

#[derive(Args)]
struct Options {
    /// The destinations; none: all
    #[arg(value_enum)]
    to: Vec<To>,
    /// The modes of the bridge, with commas between them; none: all
    #[arg(long, value_enum, value_delimiter = ',')]
    modes: Vec<Mode>,
    /// How often each case runs; the table has the medians
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Runs each case again, in an open loop at half the rate that it reached
    #[arg(long)]
    half: bool,
    /// Publishes every event to one topic, as the native clients do
    #[arg(long)]
    one_topic: bool,
    /// Appends one line of JSON for each run to this file
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    load: Load,
}

#[derive(Subcommand)]
enum Role {
    /// Measures how the cost of a delivery grows, and plots it
    Growth(growth::Options),
    #[command(hide = true)]
    ServeFloor,
    #[command(hide = true)]
    RunNative {
        client: String,
        url: String,
        #[command(flatten)]
        load: Load,
    },
}

fn main() {
    hookbridge::tls::install_provider();
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match arguments.command {
        None => compare(&runtime, &arguments.compare),
        Some(Role::Growth(options)) => growth::run(&runtime, &options),
        Some(Role::ServeFloor) => runtime.block_on(floor::serve()),
        Some(Role::RunNative { client, url, load }) => {
            let row = runtime.block_on(native::run(&client, &url, &load));
            println!("{}", serde_json::to_string(&row).expect("JSON"));
        }
    }
}

fn compare(runtime: &Runtime, options: &Options) {
    let (cases, load) = (Case::select(&options.to, &options.modes), &options.load);
    let rows = interleaved(runtime, &cases, options, |_| load.clone());
    let (repeats, seconds, bytes) = (options.repeats, load.seconds, delivery::mean_bytes(load.body_bytes));
    println!("\n{}", process::machine());
    println!("Connections: {}; bodies: {bytes:.0} bytes; {repeats} × {seconds} s", load.connections);
    table::print(&cases, &rows, load);
    if options.half {
        let reached = |case: &Case| table::median(&rows, &case.name, |row| row.rate).unwrap_or_default();
        let half = |case: &Case| Load { rate: Some(reached(case) / 2.0), ..load.clone() };
        let rows = interleaved(runtime, &cases, options, half);
        println!("\nThe same at half these rates, in an open loop");
        table::print(&cases, &rows, &Load { rate: Some(0.0), ..load.clone() });
    }
}

fn interleaved(runtime: &Runtime, cases: &[Case], options: &Options, load: impl Fn(&Case) -> Load) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for repeat in 0..options.repeats {
        for &to in To::value_variants() {
            let mut group: Vec<&Case> = cases.iter().filter(|case| case.to == to).collect();
            if group.is_empty() {
                continue;
            }
            // Each repeat has another order: the later ones find a fuller broker.
            let first = repeat % group.len();
            group.rotate_left(first);
            let broker = to.broker().map(servers::broker);
            for case in group {
                let topic = format!("routes: [{{match: '**', to: [{{destination: {}, topic: all}}]}}]\n", to.name());
                let configuration = if options.one_topic && to != To::Nothing { &topic } else { "" };
                let row = Row { repeat, ..servers::run(runtime, case, broker.as_ref(), configuration, &load(case)) };
                eprintln!("{repeat} {row}");
                if let Some(path) = &options.json {
                    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the file");
                    writeln!(file, "{}", serde_json::to_string(&row).expect("JSON")).expect("written");
                }
                rows.push(row);
            }
        }
    }
    rows
}
