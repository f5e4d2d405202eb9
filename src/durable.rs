//! Directories whose entries survive a loss of power.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Makes the entries of a directory durable.
///
/// # Errors
/// What the system says.
pub fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Makes a directory and those above it, durable before this returns.
///
/// # Errors
/// What the system says.
pub fn make(path: &Path) -> io::Result<()> {
    let absolute = std::path::absolute(path)?;
    let missing: Vec<_> = absolute.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    fs::create_dir_all(&absolute)?;
    for made in missing.iter().rev() {
        sync(made.parent().unwrap_or(Path::new("/")))?;
    }
    // An earlier process may have died between making it and this.
    absolute.parent().map_or(Ok(()), |parent| sync(parent).or(Ok(())))
}
