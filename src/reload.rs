//! Takes up new secrets while the process runs: on SIGHUP, and when a file changes that the settings are read from.
//!
//! The whole configuration is read and checked again. A good one puts its keys in force, and the addresses and credentials of
//! its destinations; a bad one is refused, and what is in force stays. Other settings need a restart.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::config::{Loaded, Mistakes, Settings};
use crate::destination::OpenDestination;
use crate::destination::settings::DestinationSettings;
use crate::keyring::Keyring;
use crate::reason::Failure;
use crate::telemetry::metrics::{Metrics, ReloadLabel};
use crate::watched_files::WatchedFiles;

/// How often the files are checked. Kubernetes takes about a minute to bring a changed secret to a node.
const CHECK: Duration = Duration::from_secs(2);

/// The secrets that can be replaced.
pub struct SecretsInForce {
    /// The keys of each source.
    pub keyrings: Vec<Arc<Keyring>>,
    /// The destinations, and the settings that they were opened with.
    pub destinations: Vec<(DestinationSettings, Arc<OpenDestination>)>,
}

type Load = dyn Fn() -> Result<Loaded, Mistakes> + Send + Sync;

/// Reads the configuration again.
pub struct Reloader {
    load: Arc<Load>,
    files: WatchedFiles,
    /// The settings in force, without keys.
    in_force: String,
}

impl Reloader {
    /// A reloader for settings that `load` loads.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn load(
        load: impl Fn() -> Result<Loaded, Mistakes> + Send + Sync + 'static,
    ) -> Result<(Loaded, Reloader), Mistakes> {
        let loaded = load()?;
        let (files, in_force) = (watched(&loaded), other_than_keys(&loaded.settings));
        Ok((loaded, Reloader { load: Arc::new(load), files, in_force }))
    }

    /// Reloads whenever `hangup` returns or a file has changed. Does not end.
    pub async fn run(mut self, mut secrets: SecretsInForce, metrics: &Metrics, mut hangup: impl AsyncFnMut()) {
        for result in [ReloadLabel::DONE, ReloadLabel::REFUSED] {
            drop(metrics.reloads.get_or_create(&result));
        }
        let mut check = interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let why = tokio::select! {
                () = hangup() => "SIGHUP",
                _ = check.tick() => if self.files.changed() { "a file has changed" } else { continue },
            };
            // Before they are read, so that a change while they are read is not missed.
            self.files.changed();
            let load = Arc::clone(&self.load);
            let result = match tokio::task::spawn_blocking(move || load()).await {
                Ok(Ok(loaded)) => {
                    self.take_up(&loaded, &mut secrets, why).await;
                    ReloadLabel::DONE
                }
                Ok(Err(mistakes)) => {
                    tracing::error!(why, %mistakes, "the new configuration was refused: the keys in force stay");
                    ReloadLabel::REFUSED
                }
                Err(_) => {
                    tracing::error!(why, "the configuration could not be read again: the keys in force stay");
                    ReloadLabel::REFUSED
                }
            };
            metrics.reloads.get_or_create(&result).inc();
        }
    }

    async fn take_up(&mut self, loaded: &Loaded, secrets: &mut SecretsInForce, why: &str) {
        let mut changed = 0;
        for keyring in &secrets.keyrings {
            let source = loaded.settings.sources.iter().find(|source| source.name == *keyring.source());
            // A source that is gone is one of the other settings.
            changed += usize::from(source.is_some_and(|source| keyring.replace(source.keys.clone())));
        }
        for (in_force, destination) in &mut secrets.destinations {
            let named = loaded.settings.destinations.iter().find(|named| named.name == in_force.name);
            if let Some(named) = named {
                renew(in_force, destination, named).await;
            }
        }
        // It may name other files now.
        self.files.follow(&loaded.files);
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(why, sources = changed, "configuration reloaded");
        if other_than_keys(&loaded.settings) != self.in_force {
            tracing::warn!("settings other than secrets have changed: they are used after a restart");
        }
    }
}

/// Connects with other addresses and credentials, if they have changed.
async fn renew(in_force: &mut DestinationSettings, destination: &OpenDestination, named: &DestinationSettings) {
    let mut wanted = in_force.clone();
    wanted.take_access(named);
    if wanted == *in_force || wanted.url.kind() != in_force.url.kind() {
        return;
    }
    match destination.renew(|opening| opening.settings = wanted.clone()).await {
        Ok(()) => {
            tracing::info!(destination = %wanted.name, "connected with the new credentials");
            *in_force = wanted;
        }
        Err(Failure { reason, detail }) => tracing::error!(
            destination = %wanted.name, %reason, %detail,
            "the new credentials were refused: the connection with those before stays"
        ),
    }
}

fn watched(loaded: &Loaded) -> WatchedFiles {
    let files = WatchedFiles::new(loaded.files.clone());
    files.changed();
    files
}

/// The settings without their keys.
fn other_than_keys(settings: &Settings) -> String {
    let printed = settings.print();
    let is_key = |line: &&str| matches!(line.trim(), "- \"[secret]\"" | "- \"[public key]\"");
    printed.lines().filter(|line| !is_key(line)).collect()
}
