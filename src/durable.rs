//! Directories whose entries survive a power loss.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Makes the entries of a directory durable.
///
/// # Errors
/// The system's error.
pub fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Creates a directory and its missing parents; they are durable when this returns.
///
/// # Errors
/// The system's error.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    let absolute = std::path::absolute(path)?;
    let missing: Vec<_> = absolute.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    fs::create_dir_all(&absolute)?;
    for created in missing.iter().rev() {
        sync(created.parent().unwrap_or(Path::new("/")))?;
    }
    // An earlier process may have died after it created the directory and before it synced the parent.
    absolute.parent().map_or(Ok(()), |parent| sync(parent).or(Ok(())))
}
