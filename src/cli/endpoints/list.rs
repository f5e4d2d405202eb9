//! `hookbridge endpoints list`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::connection::ApiArgs;
use crate::cli::exit::block_on;
use crate::cli::output::line;
use crate::printable::{MOST_CHARACTERS, printable};
use crate::videogen_api::WebhookEndpoint;

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 VIDEOGEN_API_KEY=… hookbridge endpoints list\n\
    \x20 hookbridge endpoints list --api-key-file key --json";

/// Arguments of `endpoints list`.
#[derive(clap::Args, Debug)]
pub(super) struct ListArgs {
    /// Prints a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Exit 1 if the API gives no answer.
pub(super) fn run(args: &ListArgs) -> ExitCode {
    let api = match args.api.open() {
        Ok(api) => api,
        Err(code) => return code,
    };
    block_on(async {
        let endpoints = api.list().await?;
        if args.json {
            return line(endpoints.iter().map(as_json).collect::<Value>());
        }
        if endpoints.is_empty() {
            return line("there are no endpoints");
        }
        for endpoint in &endpoints {
            let secret = endpoint
                .signing_secret_last4
                .as_deref()
                .map_or_else(String::new, |last| format!(", secret …{}", printable(last, MOST_CHARACTERS)));
            let description = endpoint.description.as_deref().unwrap_or_default();
            let description = match description {
                "" => String::new(),
                text => format!(", {}", printable(text, MOST_CHARACTERS)),
            };
            let (id, url) =
                (printable(&endpoint.endpoint_id, MOST_CHARACTERS), printable(&endpoint.url, MOST_CHARACTERS));
            let (created, events) = (created(endpoint), endpoint.events.len());
            line(format_args!("{id}  {url}\n    created {created}, {events} events{secret}{description}"))?;
        }
        Ok(())
    })
}

fn created(endpoint: &WebhookEndpoint) -> String {
    jiff::Timestamp::from_second(endpoint.created_at).map_or_else(|_| "?".into(), |time| time.to_string())
}

/// As the API names it, without a secret.
fn as_json(endpoint: &WebhookEndpoint) -> Value {
    let WebhookEndpoint { endpoint_id, url, events, created_at, description, signing_secret_last4, .. } = endpoint;
    json!({
        "endpointId": endpoint_id, "url": url, "events": events, "createdAt": created_at,
        "description": description, "signingSecretLast4": signing_secret_last4,
    })
}
