//! `hookbridge endpoints rotate`: replaces an endpoint by one with a new signing secret. VideoGen cannot change a secret, so
//! this is a second endpoint, a time with both, and the end of the first.
//!
//! # The state
//!
//! It is what the API lists and what the files hold; nothing else is remembered. So a run can stop anywhere, and the next
//! one goes on. `plan.rs` decides from it, again after every step:
//!
//! | endpoints with our URL | `--secret-file` | `--secret-out` | step |
//! |---|---|---|---|
//! | old | old secret | missing or empty | create: open `--secret-out`, create the new endpoint, store its secret |
//! | old, and marked ones | old secret | missing or empty | an interrupted create left them, and their secrets are lost: delete them, then create |
//! | old, new | old secret | new secret | overlap: wait for the first delivery of the new one, and 28 h more; then delete the old one |
//! | new | old secret | new secret | finish: put the new secret into `--secret-file`, remove `--secret-out` |
//! | new | new secret | new secret | finish: remove `--secret-out` |
//!
//! An endpoint and a secret belong together if the API's `signingSecretLast4` are the secret's last characters. The new
//! endpoint is marked: its description ends with `replaces ep_…`. An endpoint that is neither of the two and is not marked
//! is left alone, whatever its URL.
//!
//! # The time with both
//!
//! VideoGen repeats a delivery for up to 28 h, and only to the endpoint that it failed at, so the old endpoint must outlive
//! the deliveries from before the new one worked. `bridge_keys.rs` reads from the metrics of the running bridge whether the
//! new key has verified a delivery. `progress.rs` keeps in `FILE.rotation`, beside `--secret-out`, what these counters were
//! before and when the first delivery was seen; without that file the time begins again, which is safe.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use super::connection::ApiArgs;
use super::manifest::KubernetesSecret;
use super::wanted::{RoutesArgs, endpoint_url};
use crate::cli::exit::{block_on, mistakes};
use crate::cli::inputs::{local, process_environment, wrong};
use crate::config::{Flags, admin_address};
use crate::durable::identity;
use run::Rotation;

mod bridge_keys;
mod plan;
mod progress;
mod run;

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples, with `secrets: [\"${file:current}\", \"${file:next}\"]` in hookbridge.yaml:\n\
    \x20 hookbridge endpoints rotate --url https://hooks.example.com/webhooks/videogen --config hookbridge.yaml \\\n\
    \x20   --secret-file current --secret-out next          # run it again, such as every hour, until it is done; or --wait\n\
    \x20 hookbridge endpoints rotate --url https://hooks.example.com/webhooks/videogen \\\n\
    \x20   --secret-file current --secret-out next --kubernetes-secret hookbridge | kubectl apply -f -";

/// Arguments of `endpoints rotate`.
#[derive(clap::Args, Debug)]
pub(super) struct RotateArgs {
    /// The URL of the endpoint
    #[arg(long, value_parser = endpoint_url)]
    url: String,
    /// File that contains the signing secret in use; at the end it contains the new one
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    /// File for the new signing secret, until the end. It must not exist at the first run
    #[arg(long, value_name = "FILE")]
    secret_out: PathBuf,
    /// Also prints the secrets as a manifest of this Secret, for `kubectl apply -f -`: KEY is the secret in use [default:
    /// current], `next` the new one
    #[arg(long, value_name = "NAME[/KEY]")]
    kubernetes_secret: Option<KubernetesSecret>,
    /// Address for health and metrics of the running bridge [env: HOOKBRIDGE_ADMIN] [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Deletes the old endpoint now. Deliveries that VideoGen was still repeating to it are lost
    #[arg(long)]
    now: bool,
    /// Goes on until the rotation is done [default: does what can be done now]
    #[arg(long, conflicts_with_all = ["now", "kubernetes_secret"])]
    wait: bool,
    #[command(flatten)]
    routes: RoutesArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// Exit 0 if the rotation is done, or goes on with a later run.
pub(super) fn run(args: &RotateArgs) -> ExitCode {
    // At its end, the rotation removes the second file.
    let same = [&args.secret_file, &args.secret_out].map(|path| identity(path).ok());
    if args.secret_file == args.secret_out || (same[0].is_some() && same[0] == same[1]) {
        return wrong("--secret-file and --secret-out are the same file: give two");
    }
    let opened = args.routes.wanted().and_then(|wanted| Ok((wanted, admin(args)?, args.api.open()?)));
    let (wanted, admin, api) = match opened {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    block_on(async {
        let rotation = Rotation {
            api: &api,
            url: &args.url,
            wanted: &wanted,
            current: &args.secret_file,
            next: &args.secret_out,
            manifest: args.kubernetes_secret.as_ref(),
            admin,
            now: args.now,
            wait: args.wait,
        };
        rotation.run().await
    })
}

fn admin(args: &RotateArgs) -> Result<SocketAddr, ExitCode> {
    let flags = Flags { config: args.routes.config(), admin: args.admin.clone(), ..Flags::default() };
    admin_address(&flags, &process_environment).map(local).map_err(|all| mistakes(&all))
}
