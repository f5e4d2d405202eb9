//! `hookbridge endpoints delete`.

use std::process::ExitCode;

use super::connection::ApiArgs;
use crate::cli::exit::block_on;
use crate::cli::output::{confirmed, line};
use crate::printable::{MOST_CHARACTERS, printable};
use crate::videogen_api::{WebhookEndpoint, same_url};

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 hookbridge endpoints delete ep_123\n\
    \x20 hookbridge endpoints delete ep_123 --yes";

/// Arguments of `endpoints delete`.
#[derive(clap::Args, Debug)]
pub(super) struct DeleteArgs {
    /// The endpoint's id, as `list` shows it
    id: String,
    /// Does not ask. The last endpoint of the account is deleted only with this flag
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Exit 1 if there is no such endpoint, or if it was not deleted.
pub(super) fn run(args: &DeleteArgs) -> ExitCode {
    let api = match args.api.open() {
        Ok(api) => api,
        Err(code) => return code,
    };
    block_on(async {
        let all = api.list().await?;
        let Some(endpoint) = all.iter().find(|endpoint| endpoint.endpoint_id == args.id) else {
            let ids: Vec<String> =
                all.iter().map(|endpoint| printable(&endpoint.endpoint_id, MOST_CHARACTERS)).collect();
            anyhow::bail!(
                "there is no endpoint {}: the account has {}",
                printable(&args.id, MOST_CHARACTERS),
                listed(&ids)
            );
        };
        if !args.yes {
            anyhow::ensure!(
                all.len() > 1,
                "it is the last endpoint, and no event would arrive: add --yes if that is wanted"
            );
            anyhow::ensure!(confirmed(question(endpoint, &all))?, "not deleted");
        }
        api.delete(&args.id).await?;
        line(format_args!("{} deleted", printable(&args.id, MOST_CHARACTERS)))
    })
}

fn listed(ids: &[String]) -> String {
    if ids.is_empty() { "none".into() } else { ids.join(", ") }
}

fn question(endpoint: &WebhookEndpoint, all: &[WebhookEndpoint]) -> String {
    let alone = all.iter().filter(|other| same_url(&other.url, &endpoint.url)).count() == 1;
    let alone = if alone { " No other endpoint has this URL." } else { "" };
    let (id, url) = (printable(&endpoint.endpoint_id, MOST_CHARACTERS), printable(&endpoint.url, MOST_CHARACTERS));
    format!("delete {id} ({url})?{alone} VideoGen stops its deliveries at once, even those that it would repeat.")
}
