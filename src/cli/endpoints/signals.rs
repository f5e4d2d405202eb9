//! A signal does not stop work half-way: an endpoint whose secret is lost would remain.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::output::note;

/// SIGINT and SIGTERM, from now on.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// A signal came while it was deferred.
    stopping: bool,
}

impl Signals {
    /// # Errors
    /// The system's error.
    pub(super) fn new() -> anyhow::Result<Signals> {
        let interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
        Ok(Signals { interrupt, terminate, stopping: false })
    }

    /// Runs work that a signal stops.
    ///
    /// # Errors
    /// That of the work, or a signal came.
    pub(super) async fn allow<T>(&mut self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        anyhow::ensure!(!self.stopping, "stopped by a signal");
        tokio::select! {
            biased;
            () = self.received() => anyhow::bail!("stopped by a signal"),
            done = work => done,
        }
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
        }
    }

    /// Runs work that a first signal does not stop.
    ///
    /// # Errors
    /// That of the work, or a second signal ended it.
    pub(super) async fn defer<T>(&mut self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let second = async {
            self.received().await;
            self.stopping = true;
            note("finishing what was begun; a second signal stops at once, and may leave an endpoint without a secret");
            self.received().await;
        };
        tokio::select! {
            biased;
            done = work => done,
            () = second => anyhow::bail!("stopped by a second signal: look at `hookbridge endpoints list`"),
        }
    }
}
