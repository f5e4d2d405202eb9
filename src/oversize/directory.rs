//! A directory as an object store. An object is durable before its name is: a reader finds it whole or not at all.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::durable::{PRIVATE_FILE, create_dir_all, sync};

/// The end of the names of files that are being written.
const PART: &str = ".part";
/// A file that is still being written after this time was left by a process that has ended.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A directory of objects.
pub(super) struct ObjectDirectory {
    root: PathBuf,
    /// The mode of the directory, which new directories get; files get it without the permission to execute. So the operator
    /// decides whether workers of another user can read the objects.
    mode: u32,
}

impl ObjectDirectory {
    /// Creates the directory if it is missing, for its owner only.
    pub(super) fn open(path: &Path) -> io::Result<ObjectDirectory> {
        create_dir_all(path)?;
        let root = fs::canonicalize(path)?;
        let mode = fs::metadata(&root)?.permissions().mode() & 0o7777;
        for entry in fs::read_dir(&root)?.flatten() {
            let age = entry.metadata().and_then(|it| it.modified()).map(|at| SystemTime::now().duration_since(at));
            if entry.file_name().to_string_lossy().ends_with(PART) && matches!(age, Ok(Ok(age)) if age > ABANDONED) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(ObjectDirectory { root, mode })
    }

    /// Writes an object. It is durable when this returns.
    pub(super) fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let path = self.root.join(name);
        let parent = path.parent().unwrap_or(&self.root);
        self.create_parents(parent)?;
        // A name contains the hash of the content, and a file with it was synced before it was renamed.
        if !fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() == content.len() as u64) {
            let part = self.root.join(format!(".{:016x}{PART}", rand::random::<u64>()));
            let write = || {
                let mut file = File::options().write(true).create_new(true).mode(PRIVATE_FILE).open(&part)?;
                file.write_all(content)?;
                file.set_permissions(fs::Permissions::from_mode(self.mode & 0o666))?;
                file.sync_all()?;
                fs::rename(&part, &path)
            };
            write().inspect_err(|_| drop(fs::remove_file(&part)))?;
        }
        sync(parent)
    }

    /// Creates the directories between the root and an object, and makes them durable.
    fn create_parents(&self, parent: &Path) -> io::Result<()> {
        let below: Vec<_> = parent.ancestors().take_while(|ancestor| *ancestor != self.root).collect();
        for directory in below.into_iter().rev() {
            match fs::create_dir(directory) {
                Ok(()) => fs::set_permissions(directory, fs::Permissions::from_mode(self.mode))?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            // Always: a process may have died after it created the directory.
            sync(directory.parent().unwrap_or(&self.root))?;
        }
        Ok(())
    }

    /// Deletes an object, and its directory if that is empty then.
    pub(super) fn delete(&self, name: &str) -> io::Result<()> {
        let path = self.root.join(name);
        fs::remove_file(&path)?;
        if let Some(parent) = path.parent() {
            let _ = fs::remove_dir(parent);
        }
        Ok(())
    }

    /// The URI of an object.
    pub(super) fn uri(&self, name: &str) -> String {
        let root = self.root.to_string_lossy();
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(byte);
        let encoded = root.as_bytes().iter().fold(String::new(), |uri, byte| match plain(byte) {
            true => uri + char::from(*byte).encode_utf8(&mut [0; 4]),
            false => uri + &format!("%{byte:02X}"),
        });
        format!("file://{encoded}/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_is_written_once_with_the_mode_of_the_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().join("ob jects");
        let objects = ObjectDirectory::open(&root).unwrap();
        objects.put("videogen/msg_1/h.json", b"content").unwrap();
        let file = root.join("videogen/msg_1/h.json");
        let facts = || {
            let metadata = fs::metadata(&file).unwrap();
            (metadata.permissions().mode() & 0o777, metadata.modified().unwrap())
        };
        let first = facts();
        assert_eq!((first.0, fs::read(&file).unwrap()), (0o600, b"content".to_vec()));
        objects.put("videogen/msg_1/h.json", b"content").unwrap();
        assert_eq!(facts(), first, "it is not written again");
        // Only a part of it is there, whatever the cause.
        fs::write(&file, b"con").unwrap();
        objects.put("videogen/msg_1/h.json", b"content").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"content");
        let uri = objects.uri("videogen/msg_1/h.json");
        assert!(uri.starts_with("file:///") && uri.ends_with("/ob%20jects/videogen/msg_1/h.json"), "{uri}");

        fs::set_permissions(&root, fs::Permissions::from_mode(0o2750)).unwrap();
        let objects = ObjectDirectory::open(&root).unwrap();
        objects.put("videogen/msg_2/h.json", b"content").unwrap();
        let mode = |name: &str| fs::metadata(root.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("videogen/msg_2"), mode("videogen/msg_2/h.json")), (0o2750, 0o640));
        objects.delete("videogen/msg_2/h.json").unwrap();
        assert!(!root.join("videogen/msg_2").exists());
    }

    #[test]
    fn abandoned_parts_are_removed_and_a_missing_root_is_not_created_again() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().join("objects");
        let objects = ObjectDirectory::open(&root).unwrap();
        let (old, new) = (root.join(".1.part"), root.join(".2.part"));
        fs::write(&new, b"").unwrap();
        let file = File::create(&old).unwrap();
        file.set_modified(SystemTime::now() - ABANDONED * 2).unwrap();
        ObjectDirectory::open(&root).unwrap();
        assert_eq!((old.exists(), new.exists()), (false, true));
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(objects.put("a/b/c", b"x").unwrap_err().kind(), ErrorKind::NotFound);
    }
}
