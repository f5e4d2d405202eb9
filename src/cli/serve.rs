//! `hookbridge serve`: settings, listeners, signals.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::ServeArgs;
use crate::app::App;
use crate::config::Settings;

/// Arguments of `serve`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    settings: ServeArgs,
}

/// Serves until SIGTERM or SIGINT.
pub fn run(args: &Args) -> ExitCode {
    let settings = match super::settings(&args.settings) {
        Ok(loaded) => loaded.settings,
        Err(code) => return code,
    };
    if let Err(code) = super::start_logging() {
        return code;
    }
    super::block_on(async { serve(settings, |_| async {}).await })
}

/// Listens, serves, and ends in order; `listening` is given the webhook listener's address and runs beside it.
///
/// # Errors
/// An address cannot be bound, the data directory is not ours, or a destination's settings can never work.
pub async fn serve<L: Future<Output = ()>>(
    settings: Settings,
    listening: impl FnOnce(SocketAddr) -> L,
) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate()).context("no signals")?;
    let mut int = signal(SignalKind::interrupt()).context("no signals")?;
    let (listen, admin) = (settings.listen, settings.admin);
    let app = App::open(settings).map_err(|failure| anyhow::anyhow!("{}", failure.detail))?;
    let webhooks = bind("webhooks", listen).await?;
    let admin = bind("admin", admin).await?;
    let listening = listening(webhooks.local_addr().context("the listener has no address")?);
    let shutdown = async {
        tokio::select! {
            _ = term.recv() => (),
            _ = int.recv() => (),
        }
    };
    let app = app.run(webhooks, admin, shutdown);
    tokio::pin!(app, listening);
    tokio::select! {
        () = &mut app => return Ok(()),
        () = &mut listening => (),
    }
    app.await;
    Ok(())
}

async fn bind(listener: &str, address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} ({listener})"))?;
    let address = bound.local_addr().context("the listener has no address")?;
    tracing::info!(listener, %address, "listening");
    Ok(bound)
}
