//! `hookbridge endpoints check`: whether the endpoint exists, and sends what the routes publish to the right URL.

use std::collections::BTreeSet;
use std::process::ExitCode;

use reqwest::Url;

use super::connection::ApiArgs;
use super::wanted::{RoutesArgs, WantedEndpoint, endpoint_url};
use crate::cli::exit::block_on;
use crate::cli::output::line;
use crate::printable::{MOST_CHARACTERS, printable};
use crate::videogen_api::{WebhookEndpoint, same_url};

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 hookbridge endpoints check --url https://hooks.example.com/webhooks/videogen --config hookbridge.yaml\n\
    \x20 hookbridge endpoints check ep_123 --config hookbridge.yaml";

/// Arguments of `endpoints check`.
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["id", "url"]))]
pub(super) struct CheckEndpointArgs {
    /// The endpoint's id [default: the endpoint with this URL]
    id: Option<String>,
    /// The URL that VideoGen must post to
    #[arg(long, value_parser = endpoint_url)]
    url: Option<String>,
    #[command(flatten)]
    routes: RoutesArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// Exit 1 if there is no such endpoint, or if it differs from what is wanted.
pub(super) fn run(args: &CheckEndpointArgs) -> ExitCode {
    let (wanted, api) = match args.routes.wanted().and_then(|wanted| Ok((wanted, args.api.open()?))) {
        Ok(both) => both,
        Err(code) => return code,
    };
    block_on(async {
        let all = api.list().await?;
        let found = find(&all, args.id.as_deref(), args.url.as_deref());
        if found.is_empty() {
            let others: Vec<String> = all.iter().map(shown).collect();
            let others = if others.is_empty() { "none".into() } else { others.join(", ") };
            anyhow::bail!("there is no such endpoint: the account has {others}");
        }
        for endpoint in &found {
            line(shown(endpoint))?;
        }
        let (lines, good) = differences(&found, args.url.as_deref(), &wanted);
        for difference in lines {
            line(difference)?;
        }
        anyhow::ensure!(
            good,
            "the endpoint differs: an endpoint cannot be changed, so create another and delete this one"
        );
        line("ok")
    })
}

fn find<'a>(all: &'a [WebhookEndpoint], id: Option<&str>, url: Option<&str>) -> Vec<&'a WebhookEndpoint> {
    let is_it = |endpoint: &&WebhookEndpoint| match id {
        Some(id) => endpoint.endpoint_id == id,
        None => url.is_some_and(|url| same_url(&endpoint.url, url)),
    };
    all.iter().filter(is_it).collect()
}

fn shown(endpoint: &WebhookEndpoint) -> String {
    format!("{} ({})", printable(&endpoint.endpoint_id, MOST_CHARACTERS), printable(&endpoint.url, MOST_CHARACTERS))
}

/// What differs, as a diff from the endpoints to what is wanted, and whether that is good enough: further events do no harm.
fn differences(found: &[&WebhookEndpoint], url: Option<&str>, wanted: &WantedEndpoint) -> (Vec<String>, bool) {
    let mut lines = Vec::new();
    for endpoint in found {
        let is = printable(&endpoint.url, MOST_CHARACTERS);
        match (url, &wanted.path) {
            (Some(url), _) if !same_url(url, &endpoint.url) => {
                lines.extend([format!("- url {is}"), format!("+ url {}", printable(url, MOST_CHARACTERS))]);
            }
            (None, Some(path)) if Url::parse(&endpoint.url).is_ok_and(|url| url.path() != path) => {
                lines.push(format!("- url {is}"));
                lines.push(format!("+ url with the path {path} of the source `{}`", wanted.source));
            }
            _ => {}
        }
    }
    let sent: BTreeSet<&String> = found.iter().flat_map(|endpoint| &endpoint.events).collect();
    lines.extend(wanted.events.iter().filter(|event| !sent.contains(event)).map(|event| format!("+ event {event}")));
    let good = lines.is_empty();
    let further = sent.iter().filter(|event| !wanted.events.contains(event));
    lines.extend(
        further.map(|event| format!("- event {} (sent, and no route publishes it)", printable(event, MOST_CHARACTERS))),
    );
    if found.len() > 1 {
        lines.push(format!("{} endpoints have this URL: events that several send arrive several times", found.len()));
    }
    (lines, good)
}
