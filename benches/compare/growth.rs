//! How the cost of a delivery grows with its body, and with the numbers of connections, targets, remembered ids, and events
//! in the spool.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tokio::runtime::Runtime;

use super::load::Load;
use super::plot;
use super::sample::{Growth, Sample};

mod backlog;
mod ids;
mod loads;

#[derive(Args)]
pub struct Options {
    /// The axes; none: all
    #[arg(value_enum)]
    axes: Vec<Range>,
    /// The largest value of an axis that is measured: bytes for `body`, otherwise a number
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    most: u64,
    /// Seconds before each point is measured
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Seconds for which each point is measured
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The directory of the plots
    #[arg(long, default_value = "benches/plots")]
    plots: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Range {
    /// 0.5 KiB to 7 MiB
    Body,
    /// 1 to 10,000
    Connections,
    /// 1 to 20
    Targets,
    /// 0 to ten million
    Ids,
    /// 0 to a million events in the spool
    Backlog,
}

/// How each point is measured.
struct Bench<'a> {
    runtime: &'a Runtime,
    load: Load,
    most: u64,
}

impl Bench<'_> {
    /// The values up to the largest one that is measured.
    fn steps<const N: usize>(&self, values: [u64; N]) -> impl Iterator<Item = u64> + Clone {
        let most = self.most;
        values.into_iter().filter(move |value| *value <= most)
    }
}

/// Measures the axes one after the other.
pub fn run(runtime: &Runtime, options: &Options) {
    let load = Load { connections: 64, rate: None, warmup: options.warmup, seconds: options.seconds, body_bytes: None };
    let bench = Bench { runtime, load, most: options.most };
    std::fs::create_dir_all(&options.plots).expect("the directory of the plots");
    for range in Range::value_variants() {
        if !options.axes.is_empty() && !options.axes.contains(range) {
            continue;
        }
        let (growth, samples) = range.measure(&bench);
        let name = range.to_possible_value().map(|value| value.get_name().to_owned()).expect("no value is skipped");
        let path = options.plots.join(format!("{name}.svg"));
        std::fs::write(&path, plot::svg(&growth, &samples)).expect("written");
        println!("\n{}: {}\n", growth.title, path.display());
        print(&growth, &samples);
    }
}

impl Range {
    fn measure(self, bench: &Bench<'_>) -> (Growth, Vec<Sample>) {
        let (title, label, samples): (_, fn(f64) -> String, _) = match self {
            Range::Body => ("Size of the body, 8 connections", plot::short_bytes, loads::body(bench)),
            Range::Connections => ("Connections", plot::short, loads::connections(bench)),
            Range::Targets => ("Targets of each event, 64 connections", plot::short, loads::targets(bench)),
            Range::Ids => ("Ids in the embedded store", plot::short, ids::ids(bench)),
            Range::Backlog => ("Events in the spool, NATS", plot::short, backlog::backlog(bench)),
        };
        (Growth { title, label }, samples)
    }
}

fn print(growth: &Growth, samples: &[Sample]) {
    let mut head: Vec<&str> = Vec::new();
    for (name, _) in samples.iter().flat_map(|sample| &sample.figures) {
        head.extend((!head.contains(name)).then_some(name));
    }
    println!("| | | {} |\n|---|{}", head.join(" | "), "---|".repeat(head.len() + 1));
    for Sample { curve, x, figures } in samples {
        let cell = |name: &&str| {
            let figure = figures.iter().find(|(figure, _)| figure == name);
            figure.map_or_else(String::new, |(_, value)| significant(*value))
        };
        let cells: Vec<String> = head.iter().map(cell).collect();
        println!("| {curve} | {} | {} |", (growth.label)(*x), cells.join(" | "));
    }
}

/// Three significant digits.
fn significant(value: f64) -> String {
    let digits = if value > 0.0 { (2 - value.log10().floor() as i32).clamp(0, 5) } else { 0 };
    format!("{value:.*}", digits as usize)
}
