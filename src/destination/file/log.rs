//! One topic's file: whole lines, or none.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

/// How much is read at once to find where the last whole line ends.
const BLOCK: usize = 64 * 1024;

/// Device and inode.
pub(super) type Identity = (u64, u64);

/// Which file this is.
pub(super) fn identity(metadata: &fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// A topic's file, open for appending. Up to `good`, every line is whole and on disk.
pub(super) struct Log {
    file: File,
    identity: Identity,
    good: u64,
    written: u64,
}

/// How a write ended, if not well.
#[derive(Debug)]
pub(super) enum Fault {
    /// Nothing of it is in the file.
    NotWritten(io::Error),
    /// Some of it may be.
    Perhaps(io::Error),
}

impl Log {
    /// Opens it, makes it where it is missing, and cuts a torn last line.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).append(true).create(true).open(path)?;
        let metadata = file.metadata()?;
        let good = whole(&file, metadata.len())?;
        let mut log = Log { file, identity: identity(&metadata), good, written: good };
        if good < metadata.len() {
            tracing::warn!(file = %path.display(), bytes = metadata.len() - good, "cut a torn last line");
            log.cut(good)?;
        }
        Ok(log)
    }

    /// Whether the path still leads to this file, and nobody else has changed its length.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| identity(&metadata) == self.identity && metadata.len() == self.good)
    }

    /// Which file it is.
    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// Where the last line ends that is known to be on disk.
    pub(super) fn good(&self) -> u64 {
        self.good
    }

    /// Cuts what is behind `length`, durably.
    pub(super) fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.file.sync_data()?;
        (self.good, self.written) = (length, length);
        Ok(())
    }

    /// Appends whole lines. They are safe after [`sync`](Log::sync).
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Fault> {
        self.file.write_all(lines).map_err(|error| match self.file.set_len(self.good) {
            Ok(()) => Fault::NotWritten(error),
            Err(_) => Fault::Perhaps(error),
        })?;
        self.written = self.good + lines.len() as u64;
        Ok(())
    }

    /// Waits for the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Notes that the disk has what was written.
    pub(super) fn synced(&mut self) {
        self.good = self.written;
    }
}

/// The length up to which every line is whole.
fn whole(file: &File, length: u64) -> io::Result<u64> {
    let mut block = vec![0; BLOCK];
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let part = &mut block[..(end - start) as usize];
        file.read_exact_at(part, start)?;
        if let Some(newline) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
