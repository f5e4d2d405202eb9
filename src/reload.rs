//! Takes up new secrets while the process runs: on SIGHUP, and when a file changes that the settings are read from.
//!
//! The whole configuration is read and checked again. A good one puts its keys in force, and the addresses and credentials of
//! its destinations as soon as they work; a bad one is refused, and what is in force stays. Other settings need a restart.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::config::{Loaded, Mistakes, Settings};
use crate::destination::OpenDestination;
use crate::destination::settings::DestinationSettings;
use crate::keyring::Keyring;
use crate::naming::Kind;
use crate::reason::Failure;
use crate::telemetry::metrics::{Metrics, ReloadLabel};
use crate::watched_files::WatchedFiles;

/// How often the files are checked. Kubernetes takes about a minute to bring a changed secret to a node.
const CHECK: Duration = Duration::from_secs(2);
/// The pause before credentials that a broker refused are tried again: a new password may reach us before the broker.
const RETRY: Duration = Duration::from_secs(5);

/// What can be replaced: the keys of each source, and the addresses and credentials of each destination.
pub struct SecretsInForce {
    keyrings: Vec<Arc<Keyring>>,
    destinations: Vec<AccessInForce>,
}

impl SecretsInForce {
    /// Those of a start. Each destination comes with the settings that it was opened with.
    pub fn new(
        keyrings: Vec<Arc<Keyring>>,
        destinations: impl Iterator<Item = (DestinationSettings, Arc<OpenDestination>)>,
    ) -> SecretsInForce {
        let destinations = destinations.map(|(settings, destination)| AccessInForce {
            wanted: settings.clone(),
            in_force: settings,
            destination,
            tried: Instant::now(),
        });
        SecretsInForce { keyrings, destinations: destinations.collect() }
    }
}

/// How a destination is reached.
struct AccessInForce {
    in_force: DestinationSettings,
    /// Those of the configuration. Other than `in_force` while they do not work.
    wanted: DestinationSettings,
    destination: Arc<OpenDestination>,
    /// When `wanted` was last tried.
    tried: Instant,
}

impl AccessInForce {
    /// Connects with the addresses and credentials of the configuration, if they are others.
    async fn renew(&mut self) {
        if self.wanted == self.in_force {
            return;
        }
        self.tried = Instant::now();
        let wanted = &self.wanted;
        match self.destination.renew(|opening| opening.settings = wanted.clone()).await {
            Ok(()) => {
                tracing::info!(destination = %wanted.name, "connected with the new credentials");
                self.in_force = wanted.clone();
            }
            Err(Failure { reason, detail }) => tracing::error!(
                destination = %wanted.name, %reason, %detail,
                "the new credentials do not work yet: the connection with the old ones stays, and they are tried again"
            ),
        }
    }
}

type Load = dyn Fn() -> Result<Loaded, Mistakes> + Send + Sync;

/// Reads the configuration again.
pub struct Reloader {
    load: Arc<Load>,
    files: WatchedFiles,
    /// The destinations at the start.
    destinations: Vec<DestinationSettings>,
    /// The settings in force, without those that are reloaded.
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
        let destinations = loaded.settings.destinations.clone();
        let (files, in_force) = (watched(&loaded), need_restart(&loaded.settings));
        Ok((loaded, Reloader { load: Arc::new(load), files, destinations, in_force }))
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
                _ = check.tick() => if self.files.changed() { "a file has changed" } else {
                    let due = secrets.destinations.iter_mut().filter(|access| access.tried.elapsed() >= RETRY);
                    join_all(due.map(AccessInForce::renew)).await;
                    continue;
                },
            };
            // Before they are read, so that a change while they are read is not missed.
            self.files.changed();
            let load = Arc::clone(&self.load);
            let result = match tokio::task::spawn_blocking(move || load()).await {
                Ok(Ok(loaded)) => {
                    self.take_up(loaded, &mut secrets, why).await;
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

    async fn take_up(&mut self, mut loaded: Loaded, secrets: &mut SecretsInForce, why: &str) {
        let mut changed = 0;
        for keyring in &secrets.keyrings {
            let source = loaded.settings.sources.iter().find(|source| source.name == *keyring.source());
            // A source that is gone is one of the other settings.
            changed += usize::from(source.is_some_and(|source| keyring.replace(source.keys.clone())));
        }
        for (access, at_start) in secrets.destinations.iter_mut().zip(&self.destinations) {
            let mut destinations = loaded.settings.destinations.iter_mut();
            let named = destinations.find(|named| named.name == at_start.name && same_kind(named, at_start));
            if let Some(named) = named {
                access.wanted.take_access(named);
                named.take_access(at_start);
            }
        }
        // It may name other files now.
        self.files.follow(&loaded.files);
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(why, sources = changed, "configuration reloaded");
        if need_restart(&loaded.settings) != self.in_force {
            tracing::warn!(
                "settings other than secrets and brokers' addresses have changed: they are used after a restart"
            );
        }
        join_all(secrets.destinations.iter_mut().map(AccessInForce::renew)).await;
    }
}

/// A destination of another kind needs a restart.
fn same_kind(one: &DestinationSettings, other: &DestinationSettings) -> bool {
    one.url.kind() == other.url.kind() && one.url.kind() != Kind::File
}

fn watched(loaded: &Loaded) -> WatchedFiles {
    let files = WatchedFiles::new(loaded.files.clone());
    files.changed();
    files
}

/// What shows whether a change needs a restart: the settings as printed, without keys.
fn need_restart(settings: &Settings) -> String {
    let printed = settings.print();
    let is_key = |line: &&str| matches!(line.trim(), "- \"[secret]\"" | "- \"[public key]\"");
    printed.lines().filter(|line| !is_key(line)).collect()
}
