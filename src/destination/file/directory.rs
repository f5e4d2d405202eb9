//! The directory: made, locked against a second process, every file in it whole.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::log::{self, Identity, identity};
use crate::durable;
use crate::reason::{Failure, Reason};

/// The ending of a topic's file.
pub(super) const EXTENSION: &str = "ndjson";

/// A directory that is this process's to write to, as long as this lives.
pub(super) struct Directory {
    path: PathBuf,
    lock_path: PathBuf,
    lock_identity: Identity,
    /// Held open for its lock, which the system drops with the process.
    lock: File,
}

/// The word for what the system said.
pub(super) fn failure(doing: &str, error: &io::Error) -> Failure {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let reason = match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => Reason::Full,
        _ => Reason::Io,
    };
    Failure::new(reason, format!("{doing}: {error}"))
}

impl Directory {
    /// Makes the directory where it is missing, locks it, and cuts torn last lines.
    pub(super) fn prepare(path: &Path) -> Result<Self, Failure> {
        let named = |doing: &'static str| {
            move |error: io::Error| failure(&format!("cannot {doing} {}", path.display()), &error)
        };
        durable::create_dir_all(path).map_err(named("make the directory"))?;
        let lock_path = path.join(".lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(named("write into"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                Failure::new(Reason::Io, format!("{} is in use by another process", path.display()))
            }
            TryLockError::Error(error) => named("lock")(error),
        })?;
        for entry in fs::read_dir(path).map_err(named("list"))? {
            let file = entry.map_err(named("list"))?.path();
            if file.extension().is_some_and(|extension| extension == EXTENSION) && file.is_file() {
                log::Log::open(&file).map_err(|error| failure(&format!("cannot open {}", file.display()), &error))?;
            }
        }
        let lock_identity = identity(&lock.metadata().map_err(named("read"))?);
        Ok(Directory { path: path.to_owned(), lock_path, lock_identity, lock })
    }

    /// Whether the path still leads to what was locked: somebody may have moved or deleted it.
    pub(super) fn is_there(&self) -> bool {
        fs::metadata(&self.lock_path).is_ok_and(|metadata| identity(&metadata) == self.lock_identity)
    }

    /// Whether the disk takes anything now. The lock's own file serves, as it holds nothing.
    pub(super) fn try_write(&self) -> io::Result<()> {
        let written = self.lock.write_all_at(&[0; 4096], 0).and_then(|()| self.lock.sync_data());
        self.lock.set_len(0)?;
        written
    }

    /// What there is, for an operator.
    pub(super) fn describe(&self) -> io::Result<String> {
        let (mut files, mut bytes) = (0, 0);
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == EXTENSION) {
                files += 1;
                bytes += entry.metadata()?.len();
            }
        }
        Ok(format!("{}: can be written, {files} topics, {bytes} bytes", self.path.display()))
    }
}
