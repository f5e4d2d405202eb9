//! A new file for a signing secret. It is opened before the endpoint is created, so that a path that cannot be written is
//! reported while nothing has happened yet.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::durable::{self, PRIVATE_FILE};
use crate::secret::Secret;

/// A file that only its owner can read. It is removed when this is dropped, unless the secret was stored.
pub(super) struct SecretFile {
    path: PathBuf,
    file: File,
    keep: bool,
}

impl SecretFile {
    /// Creates the file.
    ///
    /// # Errors
    /// It exists, or cannot be created; the message names it.
    pub(super) fn create(path: &Path) -> anyhow::Result<SecretFile> {
        let opened = File::options().write(true).create_new(true).mode(PRIVATE_FILE).open(path);
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                anyhow::anyhow!("{} exists: give a new file, as a secret is never overwritten", path.display())
            }
            _ => anyhow::Error::new(error).context(format!("{} cannot be created", path.display())),
        })?;
        Ok(SecretFile { path: path.to_owned(), file, keep: false })
    }

    /// Creates the file, or opens an empty one that an interrupted run has left.
    ///
    /// # Errors
    /// It holds something, or cannot be created; the message names it.
    pub(super) fn create_or_reopen(path: &Path) -> anyhow::Result<SecretFile> {
        let is_empty = fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0);
        if !is_empty {
            return SecretFile::create(path);
        }
        let opened = File::options().write(true).open(path).and_then(|file| {
            file.set_permissions(Permissions::from_mode(PRIVATE_FILE))?;
            Ok(file)
        });
        let file = opened.with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(SecretFile { path: path.to_owned(), file, keep: false })
    }

    /// Stores the secret; it survives a power loss when this returns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn store(mut self, secret: &Secret) -> anyhow::Result<()> {
        let mut write = || {
            self.file.write_all(format!("{}\n", secret.expose()).as_bytes())?;
            self.file.sync_all()?;
            durable::sync(&directory(&self.path)?)
        };
        write().with_context(|| format!("{} cannot be written", self.path.display()))?;
        self.keep = true;
        Ok(())
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The directory of a file.
///
/// # Errors
/// The system's error.
pub(super) fn directory(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    Ok(absolute.parent().unwrap_or(Path::new("/")).to_owned())
}
