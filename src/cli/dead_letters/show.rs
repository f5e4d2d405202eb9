//! `hookbridge dead-letters show`.

use std::process::ExitCode;

use axum::http::Method;
use serde_json::Value;

use super::list::shown;
use super::selection::PATH;
use crate::cli::args::AccessArgs;
use crate::cli::bridge_api::with_api;
use crate::cli::output::line;
use crate::printable::{MOST_CHARACTERS, printable};

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 hookbridge dead-letters show 7\n\
    \x20 hookbridge dead-letters show 7 --urls --json | jq -r .body > body.json";

/// Arguments of `dead-letters show`.
#[derive(clap::Args, Debug)]
pub(super) struct ShowLetterArgs {
    /// The id, as `list` shows it
    id: u64,
    /// Leaves the signatures in the URLs of the body: who sees them can download the files
    #[arg(long)]
    urls: bool,
    /// Prints a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: AccessArgs,
}

/// Exit 1 if there is no such dead letter.
pub(super) fn run(args: &ShowLetterArgs) -> ExitCode {
    let flags = args.access.flags();
    with_api(&flags, &mut None, None, async |api| {
        let letter = api.call(Method::GET, &format!("{PATH}/{}?urls={}", args.id, args.urls)).await?;
        if args.json {
            return line(letter);
        }
        line(shown(&letter))?;
        line(printable(letter["detail"].as_str().unwrap_or_default(), 10 * MOST_CHARACTERS))?;
        for header in letter["headers"].as_array().into_iter().flatten() {
            let text = |index: usize| printable(header[index].as_str().unwrap_or_default(), 10 * MOST_CHARACTERS);
            line(format_args!("{}: {}", text(0), text(1)))?;
        }
        line("")?;
        match (letter["body"].as_str(), &letter["body_base64"]) {
            (Some(body), _) => line(harmless(body)),
            (None, Value::String(encoded)) => line(format_args!("(base64) {encoded}")),
            _ => Ok(()),
        }
    })
}

/// The body without characters that a terminal acts on.
fn harmless(body: &str) -> String {
    let acts = |c: char| match c {
        '\n' | '\t' => false,
        // They change the direction of the text around them.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    };
    body.chars().map(|c| if acts(c) { '\u{fffd}' } else { c }).collect()
}
