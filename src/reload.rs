//! Takes up new secrets while the process runs: on SIGHUP, and when a file changes that the settings are read from.
//!
//! The whole configuration is read and checked again. A good one puts its keys in force; a bad one is refused, and the keys
//! stay. Other settings need a restart.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::config::{Loaded, Mistakes, Settings};
use crate::keyring::Keyring;
use crate::settings_file::WatchedFiles;
use crate::telemetry::metrics::{Metrics, ReloadLabel};

/// How often the files are checked. Kubernetes takes about a minute to bring a changed secret to a node.
const CHECK: Duration = Duration::from_secs(2);

type Load = dyn Fn() -> Result<Loaded, Mistakes> + Send + Sync;

/// Reads the configuration again.
pub struct Reloader {
    load: Arc<Load>,
    keyrings: Vec<Arc<Keyring>>,
    files: WatchedFiles,
    metrics: Arc<Metrics>,
    /// The settings in force, without secrets.
    in_force: String,
}

impl Reloader {
    /// A reloader for settings that were loaded by `load`, before they are used.
    pub fn new(
        load: impl Fn() -> Result<Loaded, Mistakes> + Send + Sync + 'static,
        loaded: &Loaded,
        keyrings: Vec<Arc<Keyring>>,
        metrics: Arc<Metrics>,
    ) -> Reloader {
        let files = WatchedFiles::new(loaded.files.clone());
        for result in [ReloadLabel::DONE, ReloadLabel::REFUSED] {
            drop(metrics.reloads.get_or_create(&result));
        }
        Reloader { load: Arc::new(load), keyrings, files, metrics, in_force: other_than_keys(&loaded.settings) }
    }

    /// Reloads whenever `hangup` says so or a file has changed. Never returns.
    pub async fn run(mut self, mut hangup: impl AsyncFnMut()) {
        self.files.changed();
        let mut check = interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let why = tokio::select! {
                () = hangup() => "SIGHUP",
                _ = check.tick() => if self.files.changed() { "a file has changed" } else { continue },
            };
            self.files.changed();
            let load = Arc::clone(&self.load);
            match tokio::task::spawn_blocking(move || load()).await {
                Ok(Ok(loaded)) => self.take_up(&loaded, why),
                Ok(Err(mistakes)) => self.refuse(&mistakes, why),
                Err(_) => tracing::error!(why, "the configuration was not reloaded: reading it failed"),
            }
        }
    }

    fn take_up(&mut self, loaded: &Loaded, why: &str) {
        let Settings { sources, .. } = &loaded.settings;
        let mut changed = 0;
        for keyring in &self.keyrings {
            match sources.iter().find(|source| source.name == *keyring.source()) {
                Some(source) => changed += usize::from(keyring.replace(source.keys.clone())),
                None => tracing::warn!(source = %keyring.source(), "the source is gone: it is served until a restart"),
            }
        }
        self.metrics.reloads.get_or_create(&ReloadLabel::DONE).inc();
        self.files = WatchedFiles::new(loaded.files.clone());
        self.files.changed();
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(why, sources_changed = changed, "configuration reloaded");
        if other_than_keys(&loaded.settings) != self.in_force {
            tracing::warn!("settings other than secrets have changed: they are used after a restart");
        }
    }

    fn refuse(&self, mistakes: &Mistakes, why: &str) {
        self.metrics.reloads.get_or_create(&ReloadLabel::REFUSED).inc();
        tracing::error!(why, %mistakes, "the new configuration was refused: the secrets in force stay");
    }
}

/// The settings without their keys.
fn other_than_keys(settings: &Settings) -> String {
    let printed = settings.print();
    let is_key = |line: &&str| matches!(line.trim(), "- \"[secret]\"" | "- \"[public key]\"");
    printed.lines().filter(|line| !is_key(line)).collect()
}
