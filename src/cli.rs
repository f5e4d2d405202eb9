//! The command line: the commands, and which module runs each. Every command module has `run(args) -> ExitCode`.
//!
//! Results go to standard output; logs, warnings and errors go to standard error. Exit codes: 0 success, 1 failure,
//! 2 wrong usage or configuration.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

pub use exit::wrong_usage;

mod args;
mod bridge_api;
mod check;
mod dead_letters;
mod demo;
mod endpoints;
mod exit;
mod generate;
mod inputs;
mod ledger;
mod output;
mod progress;
mod schema;
mod send;
mod serve;
mod store;
mod verify;

/// Verifies signed webhooks and publishes each event once to NATS JetStream, Kafka, RabbitMQ or files.
#[derive(Parser, Debug)]
#[command(name = "hookbridge", version, max_term_width = 100)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Receives deliveries and publishes them
    #[command(after_help = serve::EXAMPLES)]
    Serve(serve::ServeArgs),
    /// Shows the whole path of a delivery, with nothing else installed
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::DemoArgs),
    /// Signs samples or your own JSON, and posts them
    #[command(after_help = send::EXAMPLES)]
    Send(send::SendArgs),
    /// Reads the configuration and reports its mistakes
    #[command(after_help = check::EXAMPLES)]
    Check(check::CheckArgs),
    /// Verifies one delivery, offline
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::VerifyArgs),
    /// Creates, lists, checks, rotates and deletes VideoGen's webhook endpoints
    #[command(after_help = endpoints::EXAMPLES)]
    Endpoints(endpoints::EndpointsArgs),
    /// Lists, shows, replays and discards deliveries that could not be published
    #[command(after_help = dead_letters::EXAMPLES)]
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Shows and forgets what is known of a webhook-id
    #[command(after_help = ledger::EXAMPLES)]
    Ledger(ledger::LedgerArgs),
    /// Checks and backs up the embedded store
    #[command(after_help = store::EXAMPLES)]
    Store(store::StoreCommandArgs),
    /// Prints a schema: of the configuration file, of the events, or of the topics
    #[command(after_help = schema::EXAMPLES)]
    Schema(schema::SchemaArgs),
    /// Prints a script that completes the command line in a shell
    #[command(after_help = generate::COMPLETIONS_EXAMPLES)]
    Completions(generate::CompletionsArgs),
    /// Prints a manual page
    #[command(after_help = generate::MAN_EXAMPLES)]
    Man(generate::ManArgs),
}

/// Runs the command that was given.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(&args),
        Command::Send(args) => send::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Endpoints(args) => endpoints::run(&args),
        Command::DeadLetters(args) => dead_letters::run(&args),
        Command::Ledger(args) => ledger::run(&args),
        Command::Store(args) => store::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Completions(args) => generate::completions(&args, Cli::command()),
        Command::Man(args) => generate::man(&args, Cli::command()),
    }
}
