//! `hookbridge endpoints`: VideoGen's webhook endpoints, and the signing secrets that belong to them.
//!
//! | file | job |
//! |---|---|
//! | `connection.rs` | the API key and the base URL |
//! | `wanted.rs` | the events that the routes publish |
//! | `make.rs` | creates an endpoint exactly once, although a create cannot be repeated |
//! | `secret_file.rs`, `manifest.rs` | where the signing secret goes |
//! | `signals.rs` | a signal does not stop work half-way |
//! | `create.rs`, `list.rs`, `check.rs`, `delete.rs`, `rotate.rs` | the commands |

use std::process::ExitCode;

use clap::Subcommand;

mod check;
mod connection;
mod create;
mod delete;
mod list;
mod make;
mod manifest;
mod rotate;
mod secret_file;
mod signals;
mod wanted;

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 hookbridge endpoints list\n\
    \x20 hookbridge endpoints create --url https://hooks.example.com/webhooks/videogen --secret-out secret\n\
    \x20 hookbridge endpoints check --url https://hooks.example.com/webhooks/videogen --config hookbridge.yaml\n\
    \x20 hookbridge endpoints delete ep_123";

/// Arguments of `endpoints`.
#[derive(clap::Args, Debug)]
pub struct EndpointsArgs {
    /// What to do
    #[command(subcommand)]
    command: EndpointsCommand,
}

#[derive(Subcommand, Debug)]
enum EndpointsCommand {
    /// Creates an endpoint, and keeps its signing secret, which VideoGen shows only once
    #[command(after_help = create::EXAMPLES)]
    Create(create::CreateArgs),
    /// Lists the account's endpoints
    #[command(after_help = list::EXAMPLES)]
    List(list::ListArgs),
    /// Checks that an endpoint exists, and that its URL and its events are the wanted ones
    #[command(after_help = check::EXAMPLES)]
    Check(check::CheckEndpointArgs),
    /// Replaces an endpoint by one with a new signing secret, without losing a delivery
    #[command(after_help = rotate::EXAMPLES)]
    Rotate(rotate::RotateArgs),
    /// Deletes an endpoint: VideoGen stops its deliveries at once, also those to repeat
    #[command(after_help = delete::EXAMPLES)]
    Delete(delete::DeleteArgs),
}

/// Runs the command that was given.
pub(super) fn run(args: &EndpointsArgs) -> ExitCode {
    match &args.command {
        EndpointsCommand::Create(args) => create::run(args),
        EndpointsCommand::List(args) => list::run(args),
        EndpointsCommand::Check(args) => check::run(args),
        EndpointsCommand::Rotate(args) => rotate::run(args),
        EndpointsCommand::Delete(args) => delete::run(args),
    }
}
