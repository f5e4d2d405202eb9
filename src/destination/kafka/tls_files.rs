//! The files that librdkafka reads only when a client is created: after a renewal, only a new client uses them.

use std::path::PathBuf;
use std::time::SystemTime;

use parking_lot::Mutex;
use rdkafka::ClientConfig;

/// The properties that name such a file.
const PROPERTIES: [&str; 5] =
    ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location", "ssl.crl.location"];

/// The TLS files of a configuration, and what they were when a client was last created.
pub(super) struct TlsFiles {
    paths: Vec<PathBuf>,
    seen: Mutex<Vec<Option<FileStamp>>>,
}

/// Changes when the file is written or replaced.
#[derive(Debug, PartialEq, Eq)]
struct FileStamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl TlsFiles {
    pub(super) fn of(config: &ClientConfig) -> TlsFiles {
        // librdkafka searches the usual places for `probe`.
        let named = PROPERTIES.iter().filter_map(|name| config.get(name)).filter(|path| *path != "probe");
        TlsFiles { paths: named.map(PathBuf::from).collect(), seen: Mutex::default() }
    }

    /// Whether the configuration names no file.
    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Remembers the files as they are now. Returns whether they have changed since the last call. Called before a client
    /// is created, so that a change during its creation is noticed later.
    pub(super) fn note(&self) -> bool {
        let stamp = |path: &PathBuf| {
            // Follows links: Kubernetes replaces a link when a secret changes.
            let file = std::fs::metadata(path).ok()?;
            Some(FileStamp { modified: file.modified().ok(), bytes: file.len() })
        };
        let now: Vec<_> = self.paths.iter().map(stamp).collect();
        let mut seen = self.seen.lock();
        let changed = *seen != now;
        *seen = now;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_replaced_and_removed_files_have_changed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ca.pem");
        let mut config = ClientConfig::new();
        config.set("ssl.ca.location", path.to_string_lossy()).set("ssl.key.location", "probe");
        let files = TlsFiles::of(&config);
        assert_eq!(files.paths, [path.as_path()]);
        std::fs::write(&path, "one").expect("written");
        assert!(files.note());
        assert!(!files.note());
        std::fs::write(&path, "another").expect("written");
        assert!(files.note());
        let earlier = SystemTime::UNIX_EPOCH;
        std::fs::File::options().append(true).open(&path).and_then(|file| file.set_modified(earlier)).expect("set");
        assert!(files.note(), "the size is the same");
        std::fs::remove_file(&path).expect("removed");
        assert!(files.note());
        assert!(!files.note());
        assert!(TlsFiles::of(&ClientConfig::new()).is_empty());
    }
}
