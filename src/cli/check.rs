//! `hookbridge check`: checks the configuration as `serve` reads it; with `--connect` also the store and the brokers.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::args::SettingsArgs;
use super::exit::{FAILED, block_on, failed, mistakes};
use super::inputs::{process_environment, settings, start_logging};
use super::output::{line, text};
use crate::config::{Settings, StoreKind, admin_address};
use crate::destination::{self, Opening};
use crate::reason::{Failure, Reason};
use crate::source::Source;
use crate::telemetry::metrics::Metrics;
use crate::{app, ledger};

/// Time limit to connect to a broker and create the topics that are missing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Time limit to connect to a running program, and for each read of its answer.
const LIVE_TIMEOUT: Duration = Duration::from_secs(2);

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
}

/// Exit 1 if a destination or the store cannot be used, or if the running program is not alive.
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
    let printed = match args.print {
        true => text(settings.print()),
        false => line("ok").and_then(|()| summary(&settings)),
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
        anyhow::ensure!(connect(&settings).await?, "the store or a destination cannot be used");
        Ok(())
    })
}

/// Requests `/livez`; over the loopback interface when the listener is bound to the unspecified address.
fn live(mut listener: SocketAddr) -> ExitCode {
    if listener.ip().is_unspecified() {
        listener.set_ip(if listener.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
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

/// Connects to the store and every destination, and prints the findings. Returns whether all can be used.
async fn connect(settings: &Settings) -> anyhow::Result<bool> {
    let metrics = Arc::new(Metrics::default());
    let probes = settings.destinations.iter().map(|destination| {
        let opening = app::opening(settings, destination, &metrics);
        async move { (&destination.name, probe(opening).await) }
    });
    let mut all_usable = true;
    if settings.store == StoreKind::Embedded {
        match ledger::embedded::inspect(&settings.data) {
            Ok(how) => line(format_args!("store: {} {how}", settings.data.display()))?,
            Err(failure) => {
                line(format_args!("store: failed: {failure}"))?;
                all_usable = false;
            }
        }
    }
    for (name, found) in join_all(probes).await {
        match found {
            Ok(lines) if lines.is_empty() => line(format_args!("destination {name}: reached"))?,
            Ok(lines) => lines.iter().try_for_each(|found| line(format_args!("destination {name}: {found}")))?,
            Err(failure) => {
                line(format_args!("destination {name}: failed: {failure}"))?;
                all_usable = false;
            }
        }
    }
    Ok(all_usable)
}

async fn probe(opening: Opening) -> Result<Vec<String>, Failure> {
    let destination = destination::open(opening)?;
    // The destination also creates its topics in the background. Waiting for that makes the report complete.
    let ensured_and_probed = async {
        destination.ensure().await?;
        destination.probe().await
    };
    let found = tokio::time::timeout(CONNECT_TIMEOUT, ensured_and_probed).await;
    destination.close(Duration::from_secs(1)).await;
    found.unwrap_or_else(|_| Err(Failure::new(Reason::Timeout, "not connected within 30 s")))
}
