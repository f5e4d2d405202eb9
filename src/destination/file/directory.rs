//! The directory: created, locked against other processes, and every file in it complete. In the place of a broker's
//! topology.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::outcome::failure;
use super::topic_file::{EXTENSION, TopicFile};
use crate::durable::{self, Identity, identity_of};
use crate::reason::{Failure, Reason};

/// A directory that only this process writes to.
pub(super) struct Directory {
    path: PathBuf,
    lock_path: PathBuf,
    lock_identity: Identity,
    /// Holds the lock, which the system releases when the file is closed or the process ends.
    lock: File,
}

impl Directory {
    /// Creates the directory if it is missing, locks it, and removes incomplete last lines.
    pub(super) fn prepare(path: &Path, destination: &str) -> Result<Self, Failure> {
        let cannot = |action: &'static str| {
            move |error: io::Error| failure(&format!("cannot {action} {}", path.display()), &error)
        };
        durable::create_dir_all(path).map_err(cannot("create the directory"))?;
        let lock_path = path.join(".lock");
        let lock = durable::lock(&lock_path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Failure::new(Reason::Io, format!("{} is {error}", path.display())),
            _ => cannot("write into")(error),
        })?;
        for entry in fs::read_dir(path).map_err(cannot("list"))? {
            let file = entry.map_err(cannot("list"))?.path();
            if file.extension().is_some_and(|extension| extension == EXTENSION) && file.is_file() {
                TopicFile::open(&file, destination)
                    .map_err(|error| failure(&format!("cannot open {}", file.display()), &error))?;
            }
        }
        let lock_identity = identity_of(&lock.metadata().map_err(cannot("read"))?);
        Ok(Directory { path: path.to_owned(), lock_path, lock_identity, lock })
    }

    /// Whether the path still leads to the locked directory, which may have been moved or deleted.
    pub(super) fn is_there(&self) -> bool {
        durable::identity(&self.lock_path).is_ok_and(|identity| identity == self.lock_identity)
    }

    /// Checks that the disk accepts data, with the file of the lock, behind the id of this process.
    pub(super) fn try_write(&self) -> io::Result<()> {
        let length = self.lock.metadata()?.len();
        let written = self.lock.write_all_at(&[0; 4096], length).and_then(|()| self.lock.sync_data());
        self.lock.set_len(length)?;
        written
    }

    /// Describes the directory for an operator.
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
