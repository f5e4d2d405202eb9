//! How far the time with both endpoints is, in a file beside that of the new secret. It holds no secret.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::bridge_keys::BridgeKeys;
use crate::durable;
use crate::settings_file::read;

/// VideoGen may repeat a delivery for so many seconds: 28 h.
const REPEATS: i64 = 28 * 3600;

/// What was seen of the new key.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Progress {
    /// Its fingerprint: a file that is left from another rotation does not count.
    fingerprint: String,
    /// The counters before its first delivery.
    before: Option<BridgeKeys>,
    /// Unix seconds of the first delivery, or later.
    first_delivery: Option<i64>,
}

impl Progress {
    /// The file beside that of the new secret.
    pub(super) fn path(next: &Path) -> PathBuf {
        let mut name = next.as_os_str().to_owned();
        name.push(".rotation");
        name.into()
    }

    /// At the creation of the new key. `before`: the counters before its secret was known to anyone.
    pub(super) fn new(fingerprint: &str, before: Option<BridgeKeys>) -> Progress {
        Progress { fingerprint: fingerprint.into(), before, first_delivery: None }
    }

    /// From the file. Without it, or if it cannot be used, the time begins again.
    pub(super) fn load(path: &Path, fingerprint: &str) -> Progress {
        let stored = read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let stored = stored.filter(|progress: &Progress| progress.fingerprint == fingerprint);
        stored.unwrap_or_else(|| Progress::new(fingerprint, None))
    }

    /// # Errors
    /// The file cannot be written; the message names it.
    pub(super) fn store(&self, path: &Path) -> anyhow::Result<()> {
        let content = serde_json::to_vec(self)?;
        durable::replace(path, &content).with_context(|| format!("{} cannot be written", path.display()))
    }

    /// # Errors
    /// The file cannot be removed.
    pub(super) fn remove(path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes up what the bridge says now.
    pub(super) fn update(&mut self, keys: BridgeKeys, now: i64) {
        match &self.before {
            None => self.before = Some(keys),
            Some(before) if keys.displaced_since(before, &self.fingerprint) => self.before = Some(keys),
            Some(before) if self.first_delivery.is_none() && keys.verified_since(before, &self.fingerprint) => {
                self.first_delivery = Some(now);
            }
            Some(_) => {}
        }
    }

    /// When the old endpoint is no longer needed, in Unix seconds; `None`: the new one has not delivered yet.
    pub(super) fn end(&self, now: i64) -> Option<i64> {
        // The clock may have been set back.
        self.first_delivery.map(|first| first.min(now) + REPEATS)
    }
}
