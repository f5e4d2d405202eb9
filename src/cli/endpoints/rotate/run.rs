//! Carries out the steps of a rotation.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;

use super::bridge_keys::BridgeKeys;
use super::plan::{RotationStep, marked, next_step};
use super::progress::Progress;
use crate::cli::endpoints::make::{make, undo};
use crate::cli::endpoints::manifest::{KubernetesSecret, NEXT};
use crate::cli::endpoints::secret_file::{SecretFile, directory};
use crate::cli::endpoints::signals::Signals;
use crate::cli::endpoints::wanted::WantedEndpoint;
use crate::cli::output::{line, note, text};
use crate::durable;
use crate::printable::{MOST_CHARACTERS, printable};
use crate::secret::Secret;
use crate::settings_file::{read_text, why};
use crate::signature::Key;
use crate::videogen_api::{NewEndpoint, VideoGenApi, WebhookEndpoint, same_url};

/// Between two looks at the bridge with `--wait`.
const LOOK: Duration = Duration::from_secs(60);
/// With `--now`, how often and how long the bridge may take to take up the new secret.
const TAKE_UP: (Duration, u32) = (Duration::from_secs(1), 15);

/// A rotation.
pub(super) struct Rotation<'a> {
    pub(super) api: &'a VideoGenApi,
    pub(super) url: &'a str,
    pub(super) wanted: &'a WantedEndpoint,
    pub(super) current: &'a Path,
    pub(super) next: &'a Path,
    pub(super) manifest: Option<&'a KubernetesSecret>,
    pub(super) admin: SocketAddr,
    pub(super) now: bool,
    pub(super) wait: bool,
}

impl Rotation<'_> {
    /// Does what can be done now; with `wait`, until the end.
    ///
    /// # Errors
    /// A step failed: the next run goes on with it.
    pub(super) async fn run(&self) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        // A second run at the same time would take the first one's new endpoint for one whose secret is lost.
        let _lock = self.lock()?;
        let mut created = false;
        loop {
            let (current, next) = (required(self.current)?, optional(self.next)?);
            let all = signals.allow(async { Ok(self.api.list().await?) }).await?;
            let ours: Vec<WebhookEndpoint> =
                all.iter().filter(|endpoint| same_url(&endpoint.url, self.url)).cloned().collect();
            match next_step(&ours, &current, next.as_ref()).map_err(anyhow::Error::msg)? {
                RotationStep::Create { old, orphans } => {
                    signals.defer(self.create(&all, &old, &orphans)).await?;
                    created = true;
                }
                RotationStep::Overlap { old, new, orphans } => {
                    let Some(next) = next else { continue };
                    signals.defer(self.delete(&orphans)).await?;
                    // Before the old endpoint ends, the new secret must have reached the cluster.
                    let delete = self.now && !(created && self.manifest.is_some());
                    if delete || signals.allow(self.is_over(&next, &new)).await? {
                        if self.now {
                            signals.allow(self.until_in_force(&next)).await?;
                        }
                        signals.defer(async { Ok(self.api.delete(&old).await?) }).await?;
                        self.say(format_args!("{} deleted", printable(&old, MOST_CHARACTERS)))?;
                        continue;
                    }
                    if !self.wait {
                        let also = if self.now { ": apply the manifest, then run this again" } else { "" };
                        self.say(format_args!("not done yet{also}"))?;
                        return self.print(&[(self.key(), &current), (NEXT, &next)]);
                    }
                    let pause = async {
                        tokio::time::sleep(LOOK).await;
                        Ok(())
                    };
                    signals.allow(pause).await?;
                }
                RotationStep::Finish => {
                    let Some(next) = next else { continue };
                    self.finish(&next)?;
                    self.say("rotated: the new signing secret is the one in use")?;
                    return self.print(&[(self.key(), &next)]);
                }
            }
        }
    }

    fn lock(&self) -> anyhow::Result<File> {
        let locked = directory(self.next).and_then(File::open).and_then(|directory| {
            directory.try_lock().map_err(io::Error::from)?;
            Ok(directory)
        });
        locked.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => anyhow::anyhow!("another rotation runs in the directory of --secret-out"),
            _ => anyhow::Error::new(error).context("the directory of --secret-out cannot be opened"),
        })
    }

    async fn create(&self, all: &[WebhookEndpoint], old: &str, orphans: &[String]) -> anyhow::Result<()> {
        let file = SecretFile::create_or_reopen(self.next)?;
        self.delete(orphans).await?;
        // The counters from before the new key: a bridge that is not reached is asked again later.
        let before = BridgeKeys::read(self.admin, &self.wanted.source).await.ok();
        let replaced = all.iter().find(|endpoint| endpoint.endpoint_id == old);
        let description = replaced.and_then(|endpoint| endpoint.description.as_deref());
        let events = replaced.map(|endpoint| &endpoint.events).filter(|_| !self.wanted.configured());
        let new = NewEndpoint {
            url: self.url.to_owned(),
            events: events.unwrap_or(&self.wanted.events).clone(),
            description: Some(marked(description, old)),
        };
        let created = make(self.api, &new, all).await?;
        if let Err(error) = file.store(&created.secret) {
            return Err(undo(self.api, &created.id, error).await);
        }
        Progress::new(&fingerprint(&created.secret)?, before).store(&Progress::path(self.next))?;
        let (id, old) = (printable(&created.id, MOST_CHARACTERS), printable(old, MOST_CHARACTERS));
        self.say(format_args!("{id} created beside {old}; its signing secret is in {}", self.next.display()))
    }

    async fn delete(&self, orphans: &[String]) -> anyhow::Result<()> {
        for orphan in orphans {
            self.api.delete(orphan).await?;
            let orphan = printable(orphan, MOST_CHARACTERS);
            note(format_args!("{orphan} deleted: an interrupted rotation left it, and its secret is lost"));
        }
        Ok(())
    }

    /// Whether the old endpoint is no longer needed.
    async fn is_over(&self, next: &Secret, new: &str) -> anyhow::Result<bool> {
        let (path, fingerprint, new) = (Progress::path(self.next), fingerprint(next)?, printable(new, MOST_CHARACTERS));
        let mut progress = Progress::load(&path, &fingerprint);
        let now = Timestamp::now().as_second();
        match BridgeKeys::read(self.admin, &self.wanted.source).await {
            Ok(keys) => {
                let in_force = keys.in_force(&fingerprint);
                progress.update(keys, now);
                progress.store(&path)?;
                if !in_force {
                    note(format_args!(
                        "the running bridge does not verify with the new key {fingerprint} yet: see `secrets`"
                    ));
                }
            }
            Err(error) => note(format_args!("{error:#}")),
        }
        match progress.end(now) {
            None => note(format_args!("{new} has made no delivery yet")),
            Some(end) if now >= end => return Ok(true),
            Some(end) => {
                let end = Timestamp::from_second(end)?;
                note(format_args!("{new} delivers; the old endpoint is needed for deliveries to repeat until {end}"));
            }
        }
        Ok(false)
    }

    /// Waits a moment for the bridge to take up the new secret, if it answers.
    async fn until_in_force(&self, next: &Secret) -> anyhow::Result<()> {
        let fingerprint = fingerprint(next)?;
        for _ in 0..TAKE_UP.1 {
            match BridgeKeys::read(self.admin, &self.wanted.source).await {
                Ok(keys) if !keys.in_force(&fingerprint) => tokio::time::sleep(TAKE_UP.0).await,
                Ok(_) => return Ok(()),
                Err(_) => break,
            }
        }
        note(
            "warning: the bridge is not known to verify with the new key yet; VideoGen repeats what it refuses until then",
        );
        Ok(())
    }

    /// The new secret replaces the old one; each part can be repeated.
    fn finish(&self, next: &Secret) -> anyhow::Result<()> {
        let content = format!("{}\n", next.expose());
        durable::replace(self.current, content.as_bytes())
            .with_context(|| format!("{} cannot be written", self.current.display()))?;
        let remove = || {
            Progress::remove(&Progress::path(self.next))?;
            fs::remove_file(self.next)?;
            durable::sync(&directory(self.next)?)
        };
        remove().with_context(|| format!("{} cannot be removed", self.next.display()))
    }

    fn key(&self) -> &str {
        self.manifest.map_or("", |secret| secret.key.as_str())
    }

    /// Prints the manifest, if one is wanted.
    fn print(&self, secrets: &[(&str, &Secret)]) -> anyhow::Result<()> {
        self.manifest.map_or(Ok(()), |secret| text(secret.manifest(secrets)))
    }

    /// Says what was done: on standard output, unless that is for the manifest.
    fn say(&self, done: impl std::fmt::Display) -> anyhow::Result<()> {
        match self.manifest {
            Some(_) => {
                note(done);
                Ok(())
            }
            None => line(done),
        }
    }
}

fn fingerprint(secret: &Secret) -> anyhow::Result<String> {
    Key::parse(secret.expose()).map(|key| key.fingerprint()).map_err(|fault| anyhow::anyhow!("{}", fault.advice()))
}

/// The one secret in a file; `None`: it is empty or missing.
fn optional(path: &Path) -> anyhow::Result<Option<Secret>> {
    let content = match read_text(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        content => {
            content.map_err(|error| anyhow::anyhow!("{} cannot be read: {}", path.display(), why(path, &error)))?
        }
    };
    let secret = Secret::new(content.trim());
    if secret.expose().is_empty() {
        return Ok(None);
    }
    fingerprint(&secret).with_context(|| format!("{} must contain one signing secret", path.display()))?;
    Ok(Some(secret))
}

fn required(path: &Path) -> anyhow::Result<Secret> {
    optional(path)?
        .with_context(|| format!("{} must contain the signing secret in use: it is empty or missing", path.display()))
}
