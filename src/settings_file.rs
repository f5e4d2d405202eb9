//! Files that settings name: read, never without end, as `/dev/zero` may be named by mistake; and watched for changes.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;

/// In bytes. No such file needs more.
const MOST: u64 = 1 << 20;

/// The content of a file of at most 1 MiB.
///
/// # Errors
/// It cannot be read, or is larger ([`ErrorKind::FileTooLarge`]).
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(Error::new(ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(bytes)
}

/// The same for text.
///
/// # Errors
/// Those of [`read`], or it is not UTF-8 ([`ErrorKind::InvalidData`]).
pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|_| Error::new(ErrorKind::InvalidData, "it is not UTF-8"))
}

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

/// Why a file cannot be read, for messages that name it. Does not repeat the path: a secret in its place must not be shown.
pub fn why(path: &Path, error: &Error) -> String {
    match error.kind() {
        ErrorKind::NotFound if path.is_relative() => match std::path::absolute(".") {
            Ok(directory) => format!("there is no such file in {}", directory.display()),
            Err(_) => "there is no such file".into(),
        },
        ErrorKind::NotFound => "there is no such file".into(),
        ErrorKind::FileTooLarge => error.to_string(),
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn reading_ends() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 1 MiB");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![b'a'; 1 << 20]).unwrap();
        assert_eq!(read_text(file.path()).unwrap().len(), 1 << 20);
        std::fs::write(file.path(), [0xff]).unwrap();
        assert_eq!(read_text(file.path()).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
