//! The keys in force for a source. They can be replaced while deliveries are verified.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::signature::Key;
use crate::telemetry::metrics::{KeyInfoLabel, KeyLabel, Metrics};

/// The keys of one source.
pub struct Keyring {
    source: Arc<str>,
    keys: RwLock<Arc<[Key]>>,
    metrics: Arc<Metrics>,
}

impl Keyring {
    /// Puts the first keys of a source in force.
    pub fn new(source: &Arc<str>, keys: Vec<Key>, metrics: &Arc<Metrics>) -> Arc<Keyring> {
        let (source, metrics) = (Arc::clone(source), Arc::clone(metrics));
        let keyring = Keyring { source, keys: RwLock::new(keys.into()), metrics };
        keyring.announce();
        Arc::new(keyring)
    }

    /// The source's name.
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// The keys in force.
    pub fn keys(&self) -> Arc<[Key]> {
        Arc::clone(&self.keys.read())
    }

    /// Puts other keys in force: for the next delivery that is verified. Returns whether they differ from those before.
    pub fn replace(&self, keys: Vec<Key>) -> bool {
        let fingerprints = |keys: &[Key]| keys.iter().map(Key::fingerprint).collect::<Vec<_>>();
        let before = std::mem::replace(&mut *self.keys.write(), keys.into());
        if fingerprints(&before) == fingerprints(&self.keys()) {
            return false;
        }
        for (position, key) in (1..).zip(before.iter()) {
            self.metrics.keys.remove(&self.label(position, key));
        }
        self.announce();
        true
    }

    fn label(&self, position: u64, key: &Key) -> KeyInfoLabel {
        KeyInfoLabel { source: self.source.to_string(), key: position, fingerprint: key.fingerprint() }
    }

    fn announce(&self) {
        let keys = self.keys();
        for (position, key) in (1..).zip(keys.iter()) {
            self.metrics.keys.get_or_create(&self.label(position, key)).set(1);
            drop(self.metrics.verified.get_or_create(&KeyLabel { source: self.source.to_string(), key: position }));
        }
        let fingerprints: Vec<String> = keys.iter().map(Key::fingerprint).collect();
        tracing::info!(source = %self.source, keys = keys.len(), fingerprints = fingerprints.join(" "), "keys in force");
    }
}
