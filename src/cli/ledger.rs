//! `hookbridge ledger`: what is known of a webhook-id.

use std::process::ExitCode;

use axum::http::Method;
use clap::Subcommand;
use reqwest::Url;
use serde_json::Value;

use super::args::AccessArgs;
use super::bridge_api::with_api;
use super::output::line;
use crate::printable::{MOST_CHARACTERS, printable};
use crate::source::VIDEOGEN;

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 hookbridge ledger show msg_123\n\
    \x20 hookbridge ledger show msg_123 --source stage --json\n\
    \x20 hookbridge ledger forget msg_123";

/// Arguments of `ledger`.
#[derive(clap::Args, Debug)]
pub struct LedgerArgs {
    /// What to do
    #[command(subcommand)]
    command: LedgerCommand,
}

#[derive(Subcommand, Debug)]
enum LedgerCommand {
    /// Shows what became of a delivery: its state, its targets and its dead letters
    #[command(
        after_help = "Examples:\n\x20 hookbridge ledger show msg_123\n\x20 hookbridge ledger show msg_123 --source stage --json"
    )]
    Show(LedgerIdArgs),
    /// Forgets an id, so that the next delivery with it is published; dead letters stay
    #[command(
        after_help = "Examples:\n\x20 hookbridge ledger forget msg_123\n\x20 hookbridge ledger forget msg_123 --source stage"
    )]
    Forget(LedgerIdArgs),
}

/// Which delivery.
#[derive(clap::Args, Debug)]
struct LedgerIdArgs {
    /// The webhook-id
    id: String,
    /// The source's name
    #[arg(long, value_name = "NAME", default_value = VIDEOGEN)]
    source: String,
    /// Prints a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: AccessArgs,
}

/// Exit 1 if nothing is known of the id, or if it is in flight and was not forgotten.
pub(super) fn run(args: &LedgerArgs) -> ExitCode {
    let (method, args) = match &args.command {
        LedgerCommand::Show(args) => (Method::GET, args),
        LedgerCommand::Forget(args) => (Method::DELETE, args),
    };
    let flags = args.access.flags();
    with_api(&flags, &mut None, None, async |api| {
        let mut url = Url::parse("http://h/api/v1/ledger")?;
        url.query_pairs_mut().append_pair("id", &args.id).append_pair("source", &args.source);
        let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        let answer = api.call(method.clone(), &path).await?;
        match (args.json, method == Method::GET) {
            (true, _) => line(answer),
            (false, true) => print(&answer),
            (false, false) => print_forgotten(&answer),
        }
    })
}

fn text(value: &Value, name: &str) -> String {
    printable(value[name].as_str().unwrap_or("-"), 200)
}

fn print(answer: &Value) -> anyhow::Result<()> {
    line(format_args!("{}  {}  {}", text(answer, "webhook_id"), text(answer, "source"), text(answer, "state")))?;
    line(format_args!("    body hash {}", text(answer, "body_hash")))?;
    for target in answer["targets"].as_array().into_iter().flatten() {
        let letter = target["dead_letter"].as_u64().map_or_else(String::new, |id| format!(", dead letter {id}"));
        let why = target["reason"]
            .as_str()
            .map_or_else(String::new, |reason| format!(": {}", printable(reason, MOST_CHARACTERS)));
        line(format_args!("    {}  {}{why}{letter}", text(target, "target"), text(target, "state")))?;
    }
    Ok(())
}

fn print_forgotten(answer: &Value) -> anyhow::Result<()> {
    line(format_args!("{} forgotten: the next delivery with this id is published", text(answer, "webhook_id")))?;
    let letters: Vec<String> = answer["dead_letters"].as_array().into_iter().flatten().map(Value::to_string).collect();
    if letters.is_empty() {
        return Ok(());
    }
    line(format_args!(
        "its dead letters stay ({}): replay or discard them, or send the delivery again, which deletes those of the targets \
         that it reaches",
        letters.join(", ")
    ))
}
