//! `hookbridge serve`: listeners and signals around the [`App`].

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::args::SettingsArgs;
use super::exit::block_on;
use super::inputs::{settings, start_logging};
use crate::app::App;
use crate::config::Settings;

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(args: &SettingsArgs) -> ExitCode {
    let settings = match settings(args) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    if let Err(code) = start_logging() {
        return code;
    }
    block_on(serve(settings, |_| async {}))
}

/// Listens, serves, and shuts down in order. `listening` receives the webhook listener's address; the future that it
/// returns runs concurrently with the server.
///
/// # Errors
/// An address cannot be bound, another process uses the data directory, or a destination's settings can never work.
pub(super) async fn serve<L: Future<Output = ()>>(
    settings: Settings,
    listening: impl FnOnce(SocketAddr) -> L,
) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
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

async fn bind(listener: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} ({listener})"))?;
    let address = bound.local_addr().context("the listener has no address")?;
    tracing::info!(listener, %address, "listening");
    Ok(bound)
}
