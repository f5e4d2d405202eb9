//! `hookbridge send`: signs samples or your own JSON, posts them, and prints the answers.

use std::ffi::OsStr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Arg;
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use serde_json::json;

use super::args::KeyArgs;
use super::exit::block_on;
use super::inputs::{SendingSource, names_file, read_body, sending_source, wrong};
use super::output::line;
use super::progress::{Progress, rate as rate_of};
use crate::config::{nearest, quoted};
use crate::samples;
use crate::sender::{Answers, SendOptions, UnsignedDelivery, send};
use crate::source::{Source, VIDEOGEN_EVENTS};

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 HOOKBRIDGE_SECRET=whsec_… hookbridge send\n\
    \x20 hookbridge send --config hookbridge.yaml --source stage --event file.analysis_completed\n\
    \x20 hookbridge send --secret whsec_… --url http://127.0.0.1:8080/webhooks/videogen -n 10000 --rate 500\n\
    \x20 hookbridge send --secret whsec_… --body delivery.json --id msg_1";

/// Arguments of `send`.
#[derive(clap::Args, Debug)]
pub struct SendArgs {
    /// The URL to post to [default: that of the source on this machine: http://127.0.0.1:8080/webhooks/videogen]
    #[arg(long, value_parser = http_url)]
    url: Option<String>,
    /// The source to send as: its secret, its path and its events [default: videogen]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Sends only samples of this event, such as `file.analysis_completed` [default: all, in turn]
    #[arg(long, value_name = "NAME", conflicts_with = "body", value_parser = EventNames)]
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
    /// Maximum number of requests at the same time
    #[arg(long, value_name = "N", default_value_t = 16)]
    connections: usize,
    /// The webhook-id of the first delivery; later ones get it with a number appended [default: random]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Fails unless this answer, such as `duplicate`, was among the answers; repeatable
    #[arg(long, value_name = "ANSWER")]
    expect: Vec<String>,
    /// Prints the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    keys: KeyArgs,
}

/// Exit 0 if every delivery was answered 200, none became a dead letter, and each expected answer came.
pub(super) fn run(args: &SendArgs) -> ExitCode {
    // Without a configuration, the names are known before the secret is.
    if !names_file(&args.keys)
        && let Err(message) = event_names(args, None)
    {
        return wrong(message);
    }
    let sending = match sending_source(&args.keys, args.source.as_deref()) {
        Ok(sending) => sending,
        Err(code) => return code,
    };
    let bodies = match bodies(args, sending.source.as_ref()) {
        Ok(bodies) => bodies,
        Err(message) => return wrong(message),
    };
    block_on(async {
        let mut progress = Progress::start();
        let sent = send_all(args, &sending, bodies, |answers| progress.update(answers)).await;
        let took = progress.end();
        let answers = sent?;
        print(args, &answers, took)?;
        let (all, failed) = (answers.all, answers.all - answers.good);
        anyhow::ensure!(failed == 0, "{failed} of {all} deliveries were not answered 200");
        let dead = answers.counts.get("200 dead-lettered").copied().unwrap_or_default();
        anyhow::ensure!(dead == 0, "{dead} of {all} deliveries became dead letters: the log of `serve` says why");
        let came = |expected: &str| answers.counts.keys().any(|answer| answer.split(' ').nth(1) == Some(expected));
        if let Some(missing) = args.expect.iter().find(|expected| !came(expected)) {
            anyhow::bail!("no delivery was answered {}", quoted(missing));
        }
        Ok(())
    })
}

async fn send_all(
    args: &SendArgs,
    sending: &SendingSource,
    bodies: Vec<String>,
    progress: impl FnMut(&Answers),
) -> anyhow::Result<Answers> {
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
    let url = args.url.clone().unwrap_or_else(|| sending.url.clone());
    let options = SendOptions { url, connections: args.connections, rate: args.rate };
    send(&options, &sending.key, deliveries, progress).await
}

/// The events to send samples of.
fn event_names(args: &SendArgs, source: Option<&Source>) -> Result<Vec<String>, String> {
    let known: Vec<String> =
        source.map_or_else(|| VIDEOGEN_EVENTS.map(str::to_owned).into(), |source| source.events.clone());
    if let Some(event) = args.event.as_ref().filter(|event| !known.contains(event)) {
        let near = nearest(event, &known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        return Err(format!("--event: {}: expected one of {}{near}", quoted(event), known.join(", ")));
    }
    let chosen = known.into_iter().filter(|name| args.event.as_ref().is_none_or(|event| event == name));
    Ok(chosen.collect())
}

fn bodies(args: &SendArgs, source: Option<&Source>) -> Result<Vec<String>, String> {
    if let Some(path) = &args.body {
        let body = String::from_utf8(read_body(path)?).map_err(|_| "--body: it is not UTF-8")?;
        return Ok(vec![body]);
    }
    let (number, now) = (rand::random::<u32>().into(), jiff::Timestamp::now().as_second());
    let sample = |name: &String| match source {
        Some(source) => samples::sample_of(source, name, number, now).body,
        None => samples::sample(name, number, now).body,
    };
    let bodies: Vec<String> = event_names(args, source)?.iter().map(sample).collect();
    if bodies.is_empty() {
        return Err("the source has no `events` to send samples of: give --body".into());
    }
    Ok(bodies)
}

/// Accepts any name, as sources may have events of their own; the help lists VideoGen's.
#[derive(Clone)]
struct EventNames;

impl TypedValueParser for EventNames {
    type Value = String;

    fn parse_ref(&self, command: &clap::Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(VIDEOGEN_EVENTS.into_iter().map(PossibleValue::new)))
    }
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

fn print(args: &SendArgs, answers: &Answers, took: Duration) -> anyhow::Result<()> {
    let milliseconds = |time: Duration| (time.as_secs_f64() * 1e5).round() / 100.0;
    let (p50, p99) = (milliseconds(answers.quantile(0.5)), milliseconds(answers.quantile(0.99)));
    let Answers { counts, good, all, .. } = answers;
    let seconds = milliseconds(took) / 1000.0;
    if args.json {
        let report = json!({
            "sent": all, "ok": good, "answers": counts, "seconds": seconds, "p50_ms": p50, "p99_ms": p99,
        });
        return line(report);
    }
    for (answer, count) in counts {
        line(format_args!("{count:>8}  {answer}"))?;
    }
    let rate = rate_of(*all, took);
    line(format_args!("{all:>8}  sent in {seconds:.2} s ({rate:.0}/s); latency p50 {p50} ms, p99 {p99} ms"))
}
