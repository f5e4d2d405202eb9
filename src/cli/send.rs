//! `hookbridge send`: signs samples or your own JSON, posts them, and prints the answers.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::args::SettingsArgs;
use super::exit::block_on;
use super::inputs::signing_key;
use super::output::line;
use crate::samples;
use crate::sender::{Answers, SendOptions, UnsignedDelivery, send};
use crate::signature::Key;
use crate::source::VIDEOGEN_EVENTS;

/// Arguments of `send`.
#[derive(clap::Args, Debug)]
pub struct SendArgs {
    /// The URL to post to
    #[arg(long, default_value = "http://127.0.0.1:8080/webhooks/videogen", value_parser = http_url)]
    url: String,
    /// Sends only samples of this event, such as `file.analysis_completed` [default: all, in turn]
    #[arg(long, conflicts_with = "body", value_parser = VIDEOGEN_EVENTS)]
    event: Option<String>,
    /// Sends your own JSON instead of samples: a file, or `-` for standard input
    #[arg(long, value_name = "FILE|-")]
    body: Option<String>,
    /// Number of deliveries [default: one of each sample]
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// Deliveries per second [default: as fast as they are answered]
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// Fraction of deliveries, from 0 to 1, that repeat the previous one with the same webhook-id
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    duplicates: f64,
    /// Most requests at the same time
    #[arg(long, value_name = "N", default_value_t = 16)]
    connections: usize,
    /// The webhook-id of the first delivery; later ones get it with a number appended [default: random]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Prints the result as JSON
    #[arg(long)]
    json: bool,
    /// Where the secret comes from.
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Exit 0 if every delivery was answered 200.
pub(super) fn run(args: &SendArgs) -> ExitCode {
    let key = match signing_key(&args.settings) {
        Ok(key) => key,
        Err(code) => return code,
    };
    block_on(async {
        let answers = send_all(args, &key).await?;
        print(args, &answers)?;
        anyhow::ensure!(
            answers.good == answers.all,
            "{} of {} deliveries were not answered 200",
            answers.all - answers.good,
            answers.all
        );
        Ok(())
    })
}

async fn send_all(args: &SendArgs, key: &Key) -> anyhow::Result<Answers> {
    let bodies = bodies(args)?;
    let count = args.count.unwrap_or(bodies.len() as u64);
    let prefix = args.id.clone().unwrap_or_else(|| format!("msg_{:016x}", rand::random::<u64>()));
    let mut number = 0;
    let deliveries = (0..count).map(|index| {
        let repeat = index > 0 && rand::random::<f64>() < args.duplicates;
        if index > 0 && !repeat {
            number += 1;
        }
        let id = if number == 0 { prefix.clone() } else { format!("{prefix}_{number}") };
        let body = bodies[(number % bodies.len() as u64) as usize].clone();
        UnsignedDelivery { id, body }
    });
    let options = SendOptions { url: args.url.clone(), connections: args.connections, rate: args.rate };
    send(&options, key, deliveries).await
}

fn bodies(args: &SendArgs) -> anyhow::Result<Vec<String>> {
    if let Some(path) = &args.body {
        let text = match path.as_str() {
            "-" => std::io::read_to_string(std::io::stdin()),
            path => std::fs::read_to_string(path),
        };
        return Ok(vec![text.with_context(|| format!("cannot read {path}"))?]);
    }
    let now = jiff::Timestamp::now().as_second();
    let all = samples::samples(rand::random::<u32>().into(), now);
    let chosen = all.into_iter().filter(|sample| args.event.as_deref().is_none_or(|event| event == sample.name));
    Ok(chosen.map(|sample| sample.body).collect())
}

fn http_url(text: &str) -> Result<String, String> {
    match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(text.to_owned()),
        _ => Err("expected http://host:port/path".into()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    number(text, 0.001..=1e6)
}

fn share(text: &str) -> Result<f64, String> {
    number(text, 0.0..=1.0)
}

fn number(text: &str, within: std::ops::RangeInclusive<f64>) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| within.contains(number));
    number.ok_or_else(|| format!("expected a number from {} to {}", within.start(), within.end()))
}

fn print(args: &SendArgs, answers: &Answers) -> anyhow::Result<()> {
    let milliseconds = |time: Duration| (time.as_secs_f64() * 1e5).round() / 100.0;
    let (p50, p99) = (milliseconds(answers.quantile(0.5)), milliseconds(answers.quantile(0.99)));
    if args.json {
        let counts = &answers.counts;
        return line(json!({"sent": answers.all, "ok": answers.good, "answers": counts, "p50_ms": p50, "p99_ms": p99}));
    }
    for (answer, count) in &answers.counts {
        line(format_args!("{count:>8}  {answer}"))?;
    }
    line(format_args!("{:>8}  sent; latency p50 {p50} ms, p99 {p99} ms", answers.all))
}
