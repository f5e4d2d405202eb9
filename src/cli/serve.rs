//! `hookbridge serve`: listeners and signals around the [`App`].

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::args::SettingsArgs;
use super::exit::{block_on, mistakes};
use super::inputs::{process_environment, start_logging, warnings};
use crate::app::{App, StartOptions};
use crate::config::{Settings, load};
use crate::reload::Reloader;

/// The arguments of `serve`.
#[derive(clap::Args, Debug)]
pub struct ServeArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Deletes the events in the spool for a destination that the configuration does not name any more; repeatable
    #[arg(long, value_name = "NAME")]
    discard_spool: Vec<String>,
    /// Lets `--ack stored` keep events on a disk that does not outlive the container or the machine
    #[arg(long)]
    ephemeral: bool,
}

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 HOOKBRIDGE_SECRET=whsec_… hookbridge serve --to nats://127.0.0.1:4222\n\
    \x20 hookbridge serve --config hookbridge.yaml\n\
    \x20 hookbridge serve --secret-file secret --to file:events --listen 127.0.0.1:8080";

/// Serves until SIGTERM or SIGINT, and finishes what is in flight; a second signal ends it at once.
pub(super) fn run(args: ServeArgs) -> ExitCode {
    // First, so that mistakes are log lines too.
    let _logs = match start_logging() {
        Ok(logs) => logs,
        Err(code) => return code,
    };
    let flags = args.settings.flags();
    let options = StartOptions { discard_spool: args.discard_spool, ephemeral: args.ephemeral };
    match Reloader::load(move || load(&flags, &process_environment)) {
        Ok((loaded, reloader)) => {
            warnings(&loaded);
            block_on(serve(loaded.settings, options, reloader, |_| async {}))
        }
        Err(all) => mistakes(&all),
    }
}

/// Listens, serves, takes up new secrets, and shuts down in order. `listening` receives the webhook listener's address; the future that it
/// returns runs concurrently with the server.
///
/// # Errors
/// An address cannot be bound, another process uses the data directory, a destination's settings can never work, the store
/// has failed for good, or a second signal ended the shutdown.
pub(super) async fn serve<L: Future<Output = ()>>(
    settings: Settings,
    options: StartOptions,
    reloader: Reloader,
    listening: impl FnOnce(SocketAddr) -> L,
) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;
    let (listen, admin) = (settings.listen, settings.admin);
    let app = App::open(settings, &options).await.map_err(|failure| anyhow::anyhow!("{}", failure.detail))?;
    let admin = bind("admin", admin).await?;
    let webhooks = bind("webhooks", listen).await?;
    let listening = listening(webhooks.local_addr().context("the listener has no address")?);
    let metrics = Arc::clone(&app.vitals().metrics);
    let reload = reloader.run(app.secrets(), &metrics, async || {
        hangup.recv().await;
    });
    let shutdown = CancellationToken::new();
    let mut signalled = async || {
        tokio::select! {
            _ = term.recv() => (),
            _ = int.recv() => (),
        }
    };
    let second_signal = async {
        signalled().await;
        shutdown.cancel();
        signalled().await;
    };
    let app = app.run(webhooks, admin, shutdown.cancelled());
    let served = async {
        tokio::pin!(app, listening);
        tokio::select! {
            ended = &mut app => return ended,
            () = &mut listening => (),
        }
        app.await
    };
    tokio::select! {
        () = reload => anyhow::bail!("the task that takes up new secrets ended"),
        ended = served => ended.map_err(|failure| anyhow::anyhow!("{}", failure.detail)),
        () = second_signal => {
            let left = metrics.in_flight.get();
            anyhow::bail!("ended by a second signal; deliveries left in flight, for their senders to retry: {left}")
        }
    }
}

async fn bind(listener: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} ({listener})"))?;
    let address = bound.local_addr().context("the listener has no address")?;
    tracing::info!(listener, %address, "listening");
    Ok(bound)
}
