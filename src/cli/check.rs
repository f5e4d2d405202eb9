//! `hookbridge check`: checks the configuration as `serve` reads it, and shows which event goes where; with `--connect`
//! also the store and the brokers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use super::args::SettingsArgs;
use super::exit::{FAILED, block_on, failed, mistakes};
use super::inputs::{find_source, local, process_environment, read_body, settings, start_logging, wrong};
use super::output::{line, text};
use crate::config::{Settings, admin_address};
use crate::samples::sample_of;
use crate::source::Source;

mod connect;
mod dry_run;
mod table;

/// Time limit to connect to a running program, and for each read of its answer.
const LIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 hookbridge check --config hookbridge.yaml\n\
    \x20 hookbridge check --config hookbridge.yaml --event file.upload.completed\n\
    \x20 hookbridge check --config hookbridge.yaml --source stage --body delivery.json\n\
    \x20 hookbridge check --config hookbridge.yaml --connect";

/// Arguments of `check`.
#[derive(clap::Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Prints the effective settings, without secrets
    #[arg(long)]
    print: bool,
    /// Connects to the store and each destination, creates missing topics as `serve` would (not with
    /// `topology: verify`), and warns about weak settings
    #[arg(long)]
    connect: bool,
    /// Asks a running `serve` whether it is alive; needs only its admin address, and prints nothing. For container health
    /// checks
    #[arg(long, conflicts_with_all = ["print", "connect"])]
    live: bool,
    /// Shows what would become of a sample of this event: the CloudEvent, its targets and keys, and why
    #[arg(long, value_name = "NAME", conflicts_with_all = ["print", "connect", "live", "body"])]
    event: Option<String>,
    /// The same for a delivery with your own JSON: a file, or `-` for standard input
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["print", "connect", "live"])]
    body: Option<String>,
    /// The source of that delivery [default: videogen]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Prints the table, or what would become of the delivery, as JSON
    #[arg(long, conflicts_with_all = ["print", "connect", "live"])]
    json: bool,
}

/// Exit 1 if a destination or the store cannot be used, if a dry run ends in a dead letter, or if the running program is not alive.
pub(super) fn run(args: &CheckArgs) -> ExitCode {
    if args.live {
        return match admin_address(&args.settings.flags(), &process_environment) {
            Ok(admin) => live(admin),
            Err(all) => mistakes(&all),
        };
    }
    let settings = match settings(&args.settings) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    if args.event.is_some() || args.body.is_some() {
        return dry_run(args, settings);
    }
    if args.source.is_some() {
        return wrong("--source: it goes with --event or --body");
    }
    let printed = match (args.print, args.json) {
        (true, _) => text(settings.print()),
        (false, true) => line(table::as_json(&settings)),
        (false, false) => line("ok").and_then(|()| summary(&settings)).and_then(|()| table::print(&settings)),
    };
    if let Err(error) = printed {
        return failed(&error);
    }
    if !args.connect {
        return ExitCode::SUCCESS;
    }
    let _logs = match start_logging() {
        Ok(logs) => logs,
        Err(code) => return code,
    };
    block_on(async {
        anyhow::ensure!(connect::connect(&settings).await?, "the store or a destination cannot be used");
        Ok(())
    })
}

/// Exit 1 if the delivery would become a dead letter.
fn dry_run(args: &CheckArgs, mut settings: Settings) -> ExitCode {
    let source = match find_source(std::mem::take(&mut settings.sources), args.source.as_deref()) {
        Ok(source) => source,
        Err(code) => return code,
    };
    let body = match (&args.event, &args.body) {
        (Some(event), _) => Ok(sample_of(&source, event, 1, jiff::Timestamp::now().as_second()).body.into_bytes()),
        (None, body) => read_body(body.as_deref().unwrap_or("-")),
    };
    match body.map(|body| dry_run::print(&settings, &source, body, args.json)) {
        Err(message) => wrong(message),
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::from(FAILED),
        Ok(Err(error)) => failed(&error),
    }
}

/// Requests `/livez`.
fn live(listener: SocketAddr) -> ExitCode {
    let listener = local(listener);
    let request = || {
        let mut stream = TcpStream::connect_timeout(&listener, LIVE_TIMEOUT)?;
        stream.set_read_timeout(Some(LIVE_TIMEOUT))?;
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(1024).read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    match request() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => failed(&anyhow::Error::new::<std::io::Error>(error).context(listener.to_string())),
    }
}

fn summary(settings: &Settings) -> anyhow::Result<()> {
    for source in &settings.sources {
        let Source { name, path, keys, events, .. } = source;
        let (keys, events) = (counted(keys.len(), "key"), counted(events.len(), "event"));
        line(format_args!("source {name}: {path}, {keys}, {events}"))?;
    }
    for destination in &settings.destinations {
        let topics = settings.topics(&destination.name).len();
        line(format_args!(
            "destination {}: {}, {}",
            destination.name,
            destination.url.shown().join(", "),
            counted(topics, "topic")
        ))?;
    }
    line(counted(settings.routes.rules.len(), "route"))
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
