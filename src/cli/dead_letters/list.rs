//! `hookbridge dead-letters list`.

use std::process::ExitCode;

use serde_json::Value;

use super::selection::LetterFilterArgs;
use crate::cli::args::AccessArgs;
use crate::cli::bridge_api::with_api;
use crate::cli::output::{line, note};
use crate::printable::{MOST_CHARACTERS, printable};

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 hookbridge dead-letters list\n\
    \x20 hookbridge dead-letters list --event 'file.**' --since 2h --json\n\
    \x20 hookbridge dead-letters list --admin 10.0.0.7:9464 --admin-token-file token";

/// Arguments of `dead-letters list`.
#[derive(clap::Args, Debug)]
pub(super) struct ListLettersArgs {
    #[command(flatten)]
    filter: LetterFilterArgs,
    /// Maximum number of dead letters listed
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Those with a larger id: the next page
    #[arg(long, value_name = "ID", default_value_t = 0)]
    after: u64,
    /// Prints a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: AccessArgs,
}

/// Exit 1 if neither the bridge nor its store can be asked.
pub(super) fn run(args: &ListLettersArgs) -> ExitCode {
    let flags = args.access.flags();
    with_api(&flags, &mut None, None, async |api| {
        let (letters, next) = args.filter.list(api, args.after, args.limit).await?;
        match args.json {
            true => line(Value::Array(letters))?,
            false if letters.is_empty() => line("there are no dead letters")?,
            false => letters.iter().try_for_each(|letter| line(shown(letter)))?,
        }
        if let Some(next) = next {
            note(format_args!("there are more: add --after {next}, or raise --limit"));
        }
        Ok(())
    })
}

/// A dead letter on one line.
pub(super) fn shown(letter: &Value) -> String {
    let text = |name: &str| printable(letter[name].as_str().unwrap_or("-"), MOST_CHARACTERS);
    let targets = letter["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let targets: Vec<String> =
        targets.iter().map(|target| printable(target.as_str().unwrap_or_default(), MOST_CHARACTERS)).collect();
    format!(
        "{:>5}  {}  {}  {}  {}  {}  {}",
        letter["id"],
        text("time"),
        text("source"),
        text("event"),
        text("reason"),
        targets.join(", "),
        text("webhook_id")
    )
}
