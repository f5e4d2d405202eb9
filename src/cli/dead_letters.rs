//! `hookbridge dead-letters`: deliveries that could not be published.
//!
//! | file | job |
//! |---|---|
//! | `selection.rs` | which dead letters: ids, or conditions |
//! | `list.rs`, `show.rs`, `replay.rs`, `discard.rs` | the commands |

use std::process::ExitCode;

use clap::Subcommand;

mod discard;
mod list;
mod replay;
mod selection;
mod show;

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 hookbridge dead-letters list --reason too_large\n\
    \x20 hookbridge dead-letters show 7\n\
    \x20 hookbridge dead-letters replay 7\n\
    \x20 hookbridge dead-letters discard --event 'file.upload.*' --until 2026-11-01";

/// Arguments of `dead-letters`.
#[derive(clap::Args, Debug)]
pub struct DeadLettersArgs {
    /// What to do
    #[command(subcommand)]
    command: DeadLettersCommand,
}

#[derive(Subcommand, Debug)]
enum DeadLettersCommand {
    /// Lists dead letters, oldest first, without their bodies
    #[command(after_help = list::EXAMPLES)]
    List(list::ListLettersArgs),
    /// Shows a dead letter with its headers and its body
    #[command(after_help = show::EXAMPLES)]
    Show(show::ShowLetterArgs),
    /// Publishes dead letters again, with the same event ids, and waits for the outcomes
    #[command(after_help = replay::EXAMPLES)]
    Replay(replay::ReplayArgs),
    /// Deletes dead letters
    #[command(after_help = discard::EXAMPLES)]
    Discard(discard::DiscardArgs),
}

/// Runs the command that was given.
pub(super) fn run(args: &DeadLettersArgs) -> ExitCode {
    match &args.command {
        DeadLettersCommand::List(args) => list::run(args),
        DeadLettersCommand::Show(args) => show::run(args),
        DeadLettersCommand::Replay(args) => replay::run(args),
        DeadLettersCommand::Discard(args) => discard::run(args),
    }
}
