//! Commands: one file each, with `run(args) -> ExitCode`. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
//!
//! Results go to standard output, logs and mistakes to standard error.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Loaded, Mistakes, keys_given, log_filter};
use crate::signature::Key;

pub use args::ServeArgs;

mod args;
mod check;
mod demo;
mod send;
mod serve;
mod verify;

/// It did not work.
pub const FAILED: u8 = 1;
/// Wrong usage or configuration.
pub const USAGE: u8 = 2;

/// Takes signed webhooks and publishes each to NATS JetStream, Kafka or RabbitMQ before it answers.
#[derive(Parser, Debug)]
#[command(name = "hookbridge", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Every command.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Takes deliveries and publishes them
    Serve(serve::Args),
    /// Shows the whole way of a delivery, with nothing else installed
    Demo(demo::Args),
    /// Signs samples or your own JSON, and posts them
    Send(send::Args),
    /// Reads the configuration and says what is wrong with it
    Check(check::Args),
    /// Verifies one delivery, offline
    Verify(verify::Args),
}

/// Prints what clap says of a wrong command line, or of `--help`; but never an argument that may be a secret.
pub fn wrong_usage(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    if error.use_stderr() && may_hold_secret(&text) {
        eprintln!(
            "error: an argument that may be a secret stands where none is expected; each secret has its own --secret, \
             each URL its own option (hookbridge --help)"
        );
    } else {
        let _ = error.print(); // nobody reads it
    }
    ExitCode::from(if error.use_stderr() { USAGE } else { 0 })
}

fn may_hold_secret(text: &str) -> bool {
    ["whsec_", "whsk_", "whpk_"].iter().any(|mark| text.contains(mark)) || (text.contains("://") && text.contains('@'))
}

/// Runs what the command line asks for.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Send(args) => send::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Verify(args) => verify::run(&args),
    }
}

/// Settings from file, environment and flags, for any command. Prints warnings and mistakes to standard error.
///
/// # Errors
/// The exit code for a wrong configuration.
pub fn settings(args: &ServeArgs) -> Result<Loaded, ExitCode> {
    let loaded = crate::config::load(&args.flags(), &|name| std::env::var_os(name)).map_err(|all| mistakes(&all))?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(loaded)
}

/// The first key that can sign: from flags or environment, else from the configuration.
///
/// # Errors
/// The exit code: there is none, or it cannot be read.
fn signing_key(args: &ServeArgs) -> Result<Key, ExitCode> {
    let given = keys_given(&args.flags(), &|name| std::env::var_os(name)).map_err(|all| mistakes(&all))?;
    let keys = if given.is_empty() {
        settings(args)?.settings.sources.into_iter().flat_map(|source| source.keys).collect()
    } else {
        let keys: Result<Vec<Key>, _> = given.iter().map(|key| Key::parse(key.expose())).collect();
        keys.map_err(|fault| {
            eprintln!("{}", fault.advice());
            ExitCode::from(USAGE)
        })?
    };
    keys.into_iter().find(|key| matches!(key, Key::Shared(_))).ok_or_else(|| {
        eprintln!("no secret can sign: give --secret whsec_… (a public key whpk_… only verifies)");
        ExitCode::from(USAGE)
    })
}

/// Runs a command's work on a runtime; an error is printed with its causes.
fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let result = runtime.block_on(work);
    // A client library's own threads are not waited for: what matters was closed in order.
    runtime.shutdown_background();
    result.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("{error:#}");
    ExitCode::from(FAILED)
}

/// # Errors
/// The exit code: `HOOKBRIDGE_LOG` asks for what there is not.
fn start_logging() -> Result<(), ExitCode> {
    crate::telemetry::logs::init(log_filter(&|name| std::env::var_os(name)).as_deref()).map_err(|mistake| {
        eprintln!("{mistake}");
        ExitCode::from(USAGE)
    })
}

fn mistakes(mistakes: &Mistakes) -> ExitCode {
    eprintln!("{mistakes}");
    ExitCode::from(USAGE)
}
