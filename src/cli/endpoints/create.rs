//! `hookbridge endpoints create`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::connection::ApiArgs;
use super::make::{CreatedEndpoint, make, undo};
use super::manifest::KubernetesSecret;
use super::secret_file::SecretFile;
use super::signals::Signals;
use super::wanted::{RoutesArgs, endpoint_url};
use crate::cli::exit::block_on;
use crate::cli::output::{line, note, text};
use crate::printable::{MOST_CHARACTERS, printable};
use crate::secret::Secret;
use crate::videogen_api::{NewEndpoint, VideoGenApi, same_url};

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 hookbridge endpoints create --url https://hooks.example.com/webhooks/videogen --secret-out secret\n\
    \x20 hookbridge endpoints create --url https://hooks.example.com/webhooks/videogen --config hookbridge.yaml \\\n\
    \x20   --kubernetes-secret hookbridge/current | kubectl apply -f -";

/// Arguments of `endpoints create`.
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("output").required(true).args(["secret_out", "kubernetes_secret"]))]
pub(super) struct CreateArgs {
    /// The URL that VideoGen posts to
    #[arg(long, value_parser = endpoint_url)]
    url: String,
    /// Writes the signing secret to this new file, which only its owner can read
    #[arg(long, value_name = "FILE")]
    secret_out: Option<PathBuf>,
    /// Prints the signing secret as a manifest of this Secret, for `kubectl apply -f -` [default KEY: current]
    #[arg(long, value_name = "NAME[/KEY]")]
    kubernetes_secret: Option<KubernetesSecret>,
    /// An event to send; repeatable [default: those that the routes publish]
    #[arg(long, value_name = "NAME")]
    event: Vec<String>,
    /// A description that VideoGen shows
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    routes: RoutesArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// Where the secret goes.
enum SecretOutput<'a> {
    File(SecretFile),
    Manifest(&'a KubernetesSecret),
}

/// Exit 1 if no endpoint was created, or if its secret could not be kept.
pub(super) fn run(args: &CreateArgs) -> ExitCode {
    let events = match args.event.is_empty() {
        true => args.routes.wanted().map(|wanted| wanted.events),
        false => Ok(args.event.clone()),
    };
    match events.and_then(|events| Ok((events, args.api.open()?))) {
        Ok((events, api)) => block_on(create(args, events, &api)),
        Err(code) => code,
    }
}

async fn create(args: &CreateArgs, events: Vec<String>, api: &VideoGenApi) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    // Before the create: what cannot be written is noticed while there is nothing to undo.
    let output = match (&args.secret_out, &args.kubernetes_secret) {
        (Some(path), _) => SecretOutput::File(SecretFile::create(path)?),
        (None, Some(secret)) => {
            text("# by hookbridge endpoints create\n")?;
            SecretOutput::Manifest(secret)
        }
        (None, None) => anyhow::bail!("give --secret-out or --kubernetes-secret"),
    };
    let wanted = NewEndpoint { url: args.url.clone(), events, description: args.description.clone() };
    signals
        .defer(async {
            let before = api.list().await?;
            for endpoint in before.iter().filter(|endpoint| same_url(&endpoint.url, &wanted.url)) {
                let id = printable(&endpoint.endpoint_id, MOST_CHARACTERS);
                note(format_args!("warning: {id} has this URL already, so events that both send arrive twice"));
            }
            let CreatedEndpoint { id, secret } = make(api, &wanted, &before).await?;
            if let Err(error) = keep(output, &secret) {
                return Err(undo(api, &id, error).await);
            }
            let done = format!("{} created: {} events", printable(&id, MOST_CHARACTERS), wanted.events.len());
            match &args.secret_out {
                Some(path) => line(format_args!("{done}; its signing secret is in {}", path.display())),
                None => {
                    note(done);
                    Ok(())
                }
            }
        })
        .await
}

fn keep(output: SecretOutput<'_>, secret: &Secret) -> anyhow::Result<()> {
    match output {
        SecretOutput::File(file) => file.store(secret),
        SecretOutput::Manifest(name) => text(name.manifest(&[(name.key.as_str(), secret)])),
    }
}
