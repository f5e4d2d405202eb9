//! One topic's file: whole lines, or none.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::durable::{Identity, PRIVATE_FILE, identity_of};

/// The extension of a topic's file.
pub(super) const EXTENSION: &str = "ndjson";
/// The size of a read when searching for the end of the last whole line.
const BLOCK: usize = 64 * 1024;
/// Bytes at the end of a file that may not have been synced: a batch of the writer, and the message that it ends with.
const TAIL: u64 = 16 << 20;

/// A topic's file, open for appending.
pub(super) struct TopicFile {
    file: File,
    identity: Identity,
    /// Up to this length, every line is whole and on disk.
    durable: u64,
    /// The length with the lines that are written, but not yet synced.
    written: u64,
}

/// Why lines are not on disk.
#[derive(Debug)]
pub(super) enum WriteError {
    /// None of the bytes are in the file.
    NotWritten(io::Error),
    /// Some or all of the bytes may be in the file.
    MaybeWritten(io::Error),
}

impl TopicFile {
    /// Opens the file, or creates it. Removes an incomplete last line, and blanks lines that a power loss has damaged.
    pub(super) fn open(path: &Path, destination: &str) -> io::Result<Self> {
        let file = File::options().read(true).append(true).create(true).mode(PRIVATE_FILE).open(path)?;
        let metadata = file.metadata()?;
        let durable = whole_lines(&file, metadata.len())?;
        let mut topic_file = TopicFile { file, identity: identity_of(&metadata), durable, written: durable };
        if durable < metadata.len() {
            let bytes = metadata.len() - durable;
            tracing::warn!(destination, file = %path.display(), bytes, "removed an incomplete last line");
            topic_file.truncate(durable)?;
        }
        let damaged = damaged_lines(&topic_file.file, durable)?;
        if !damaged.is_empty() {
            let lines = damaged.len();
            tracing::warn!(destination, file = %path.display(), lines, "blanked lines that a power loss has damaged");
            // Another handle, as this one only appends.
            let file = File::options().write(true).open(path)?;
            for (start, end) in damaged {
                file.write_all_at(&vec![b'\n'; end - start], durable - TAIL.min(durable) + start as u64)?;
            }
            file.sync_data()?;
        }
        Ok(topic_file)
    }

    /// Whether the path still leads to this file, and no other process has changed its length.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path)
            .is_ok_and(|metadata| identity_of(&metadata) == self.identity && metadata.len() == self.durable)
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// Up to this length, every line is whole and on disk.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// Truncates the file durably.
    pub(super) fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.file.sync_data()?;
        (self.durable, self.written) = (length, length);
        Ok(())
    }

    /// Appends whole lines. They are on disk after [`sync`](TopicFile::sync).
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        self.file.write_all(lines).map_err(|error| match self.file.set_len(self.durable) {
            Ok(()) => WriteError::NotWritten(error),
            Err(_) => WriteError::MaybeWritten(error),
        })?;
        self.written = self.durable + lines.len() as u64;
        Ok(())
    }

    /// Waits until the disk has everything that is written.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Records that [`sync`](TopicFile::sync) has succeeded.
    pub(super) fn synced(&mut self) {
        self.durable = self.written;
    }
}

/// The lines at the end of a file that hold NUL bytes, by their place in its last [`TAIL`] bytes. Such a line was written,
/// but not synced, when the power was lost, so no publish of it was confirmed: the disk has only a part of its blocks. What
/// comes behind it may be whole, so nothing is cut off.
fn damaged_lines(file: &File, length: u64) -> io::Result<Vec<(usize, usize)>> {
    let bytes = TAIL.min(length);
    let mut tail = vec![0; bytes as usize];
    file.read_exact_at(&mut tail, length - bytes)?;
    let mut damaged = Vec::new();
    if tail.contains(&0) {
        let mut start = 0;
        for line in tail.split_inclusive(|byte| *byte == b'\n') {
            let end = start + line.len();
            if line.contains(&0) {
                damaged.push((start, end));
            }
            start = end;
        }
    }
    Ok(damaged)
}

/// The length up to which every line is whole.
fn whole_lines(file: &File, length: u64) -> io::Result<u64> {
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
