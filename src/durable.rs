//! Directories and files whose entries survive a power loss, and which only their owner can read.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// The mode of new directories: only their owner has access, as bodies hold signed URLs.
const PRIVATE_DIRECTORY: u32 = 0o700;
/// The mode of new files.
pub const PRIVATE_FILE: u32 = 0o600;

/// Device and inode: which file or directory it is, whatever its path.
pub type Identity = (u64, u64);

/// The identity of what a path leads to.
///
/// # Errors
/// The system's error.
pub fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|metadata| identity_of(&metadata))
}

/// The identity of the file or directory that has this metadata.
pub fn identity_of(metadata: &fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// Opens a file, creates it if it is missing, locks it against other processes and writes this process's id into it. The
/// system releases the lock when the file is closed or the process ends.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`]: another process has locked it; the message names that process. Otherwise the system's
/// error.
pub fn lock(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true).mode(PRIVATE_FILE);
    let mut file = options.open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(error),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Empty for a moment between locking and writing.
            let id = file.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse::<u32>().ok());
            let id = id.map_or_else(String::new, |id| format!(" (pid {id})"));
            return Err(io::Error::new(io::ErrorKind::WouldBlock, format!("in use by another process{id}")));
        }
    }
    // On a full disk, the lock works without the id.
    let _ = file.set_len(0).and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
    Ok(file)
}

/// Logs a warning if others than the owner can read a file or list a directory.
pub fn warn_if_public(path: &Path) {
    let mode = fs::metadata(path).map(|metadata| metadata.permissions().mode());
    if let Ok(mode) = mode
        && mode & 0o077 != 0
    {
        let mode = format!("{:03o}", mode & 0o777);
        tracing::warn!(path = %path.display(), mode, "other users can read this: it holds event bodies; chmod go-rwx it");
    }
}

/// Replaces a file's content: a reader sees the old one or the new one, also after a power loss. Mode and owner stay; a new
/// file is only for its owner. A link stays, and what it leads to is replaced.
///
/// # Errors
/// The system's error. The old content is still there.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let path = fs::canonicalize(path).or_else(|_| std::path::absolute(path))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let new = directory.join(format!(".hookbridge.{}", std::process::id()));
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(PRIVATE_FILE).open(&new)?;
        if let Ok(old) = fs::metadata(&path) {
            let made = file.metadata()?;
            if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
                std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
            file.set_permissions(old.permissions())?;
        }
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        sync(directory)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

/// Makes the entries of a directory durable.
///
/// # Errors
/// The system's error.
pub fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Creates a directory and its missing parents, for their owner only; they are durable when this returns.
///
/// # Errors
/// The system's error.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    let absolute = std::path::absolute(path)?;
    let missing: Vec<_> = absolute.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(&absolute)?;
    for created in missing.iter().rev() {
        sync(created.parent().unwrap_or(Path::new("/")))?;
    }
    // An earlier process may have died after it created the directory and before it synced the parent.
    absolute.parent().map_or(Ok(()), |parent| sync(parent).or(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_file_keeps_its_mode_and_its_link() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        replace(&file, b"first").unwrap();
        assert_eq!(mode(), PRIVATE_FILE);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        replace(&link, b"second").unwrap();
        assert_eq!((fs::read(&file).unwrap(), mode()), (b"second".to_vec(), 0o640));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
