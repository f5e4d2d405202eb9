//! `hookbridge check`: the configuration, read as `serve` reads it; with `--connect` the brokers too.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::{FAILED, ServeArgs};
use crate::config::{Settings, StoreKind, admin_address};
use crate::destination::{self, Opening};
use crate::reason::{Failure, Reason};
use crate::source::Source;
use crate::telemetry::metrics::Metrics;
use crate::{app, ledger};

/// How long a broker may take to be reached, and to make what is missing.
const REACHED_WITHIN: Duration = Duration::from_secs(30);

/// How long a running program may take to say that it lives.
const LIVES_WITHIN: Duration = Duration::from_secs(2);

/// Arguments of `check`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    settings: ServeArgs,
    /// Prints the effective settings, without anything secret
    #[arg(long)]
    print: bool,
    /// Reaches the store and each destination, makes the topics they lack as `serve` would (not with `topology: verify`),
    /// and warns of what is weak
    #[arg(long)]
    connect: bool,
    /// Asks a running `serve` whether it lives; needs no setting but its admin address, and prints nothing. For container
    /// health checks
    #[arg(long, conflicts_with_all = ["print", "connect"])]
    live: bool,
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    if args.live {
        return match admin_address(&args.settings.flags(), &|name| std::env::var_os(name)) {
            Ok(admin) => live(admin),
            Err(all) => super::mistakes(&all),
        };
    }
    let settings = match super::settings(&args.settings) {
        Ok(loaded) => loaded.settings,
        Err(code) => return code,
    };
    if args.print {
        print!("{}", settings.print());
    } else {
        println!("ok");
        summary(&settings);
    }
    if !args.connect {
        return ExitCode::SUCCESS;
    }
    if let Err(code) = super::start_logging() {
        return code;
    }
    super::block_on(async {
        anyhow::ensure!(connect(&settings).await, "not every destination could be reached");
        Ok(())
    })
}

/// Asks `/livez`, over the loopback where the listener has no address of its own.
fn live(mut listener: SocketAddr) -> ExitCode {
    if listener.ip().is_unspecified() {
        listener.set_ip(if listener.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&listener, LIVES_WITHIN)?;
        stream.set_read_timeout(Some(LIVES_WITHIN))?;
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(1024).read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    match ask() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => super::failed(&anyhow::Error::new::<std::io::Error>(error).context(listener.to_string())),
    }
}

fn summary(settings: &Settings) {
    for source in &settings.sources {
        let Source { name, path, keys, events, .. } = source;
        println!("source {name}: {path}, {}, {}", many(keys.len(), "key"), many(events.len(), "event"));
    }
    for destination in &settings.destinations {
        let topics = settings.topics(&destination.name).len();
        println!("destination {}: {}, {}", destination.name, destination.url.shown().join(", "), many(topics, "topic"));
    }
    println!("{}", many(settings.routes.rules.len(), "route"));
}

fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Reaches every destination and prints what it found; whether all could be reached.
async fn connect(settings: &Settings) -> bool {
    let metrics = Arc::new(Metrics::default());
    let probes = settings.destinations.iter().map(|destination| {
        let opening = app::opening(settings, destination, &metrics);
        async move { (&destination.name, probe(opening).await) }
    });
    let mut all = true;
    if settings.store == StoreKind::Embedded {
        match ledger::embedded::inspect(&settings.data) {
            Ok(how) => println!("store: {} {how}", settings.data.display()),
            Err(failure) => {
                println!("store: failed: {failure}");
                all = false;
            }
        }
    }
    for (name, found) in join_all(probes).await {
        match found {
            Ok(lines) if lines.is_empty() => println!("destination {name}: reached"),
            Ok(lines) => lines.iter().for_each(|line| println!("destination {name}: {line}")),
            Err(failure) => {
                println!("destination {name}: failed: {failure}");
                all = false;
            }
        }
    }
    all
}

async fn probe(opening: Opening) -> Result<Vec<String>, Failure> {
    let destination = destination::open(opening)?;
    // First what `serve` would make, so that what is told of it does not depend on who is faster.
    let ensured_and_probed = async {
        destination.ensure().await?;
        destination.probe().await
    };
    let found = tokio::time::timeout(REACHED_WITHIN, ensured_and_probed).await;
    destination.close(Duration::from_secs(1)).await;
    found.unwrap_or_else(|_| Err(Failure::new(Reason::Timeout, "not reached within 30 s")))
}
