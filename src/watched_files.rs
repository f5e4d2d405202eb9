//! Files that are checked for changes from time to time: Kubernetes and renewals replace them while the process runs.

use std::path::PathBuf;
use std::time::SystemTime;

use parking_lot::Mutex;

/// Files that are checked for changes from time to time.
pub struct WatchedFiles {
    paths: Vec<PathBuf>,
    seen: Mutex<Vec<Option<FileStamp>>>,
}

/// Changes when the file is written or replaced.
#[derive(Debug, PartialEq, Eq)]
struct FileStamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl WatchedFiles {
    /// These files, of which nothing is known yet.
    pub fn new(paths: Vec<PathBuf>) -> WatchedFiles {
        WatchedFiles { paths, seen: Mutex::default() }
    }

    /// Watches these files from now on. Those that are watched already keep what is known of them.
    pub fn follow(&mut self, paths: &[PathBuf]) {
        if paths != self.paths {
            *self = WatchedFiles::new(paths.to_vec());
            self.changed();
        }
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Whether any file was written, replaced, removed or created since the last call. Called before the files are read, so
    /// that a change while they are read is noticed by the next call.
    pub fn changed(&self) -> bool {
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
    use std::fs::File;

    use super::*;

    #[test]
    fn written_replaced_and_removed_files_have_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let files = WatchedFiles::new(vec![path.clone()]);
        std::fs::write(&path, "one").unwrap();
        assert!(files.changed());
        assert!(!files.changed());
        std::fs::write(&path, "another").unwrap();
        assert!(files.changed());
        File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH)).unwrap();
        assert!(files.changed(), "the size is the same");
        std::fs::remove_file(&path).unwrap();
        assert!(files.changed());
        assert!(!files.changed());
    }
}
