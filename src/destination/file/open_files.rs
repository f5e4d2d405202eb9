//! The files that are held open: opens, repairs and closes them, and appends to several at a time.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::topic_file::{EXTENSION, TopicFile, WriteError};
use crate::durable;

/// Most files held open.
const MOST_OPEN: usize = 128;
/// Most files in one call of [`OpenFiles::append`]; fewer than [`MOST_OPEN`], so that none of them closes another.
pub(super) const SYNCED_TOGETHER: usize = 32;

pub(super) struct OpenFiles {
    directory: PathBuf,
    destination: Arc<str>,
    open: HashMap<Arc<str>, OpenFile>,
    /// Files whose end may be damaged: the file, and the length up to which it was on disk before.
    damaged: HashMap<Arc<str>, (durable::Identity, u64)>,
    /// Number of calls of [`OpenFiles::append`].
    appends: u64,
}

struct OpenFile {
    file: TopicFile,
    /// The last call of [`OpenFiles::append`] that used it.
    last_append: u64,
}

impl OpenFiles {
    pub(super) fn new(directory: PathBuf, destination: Arc<str>) -> Self {
        OpenFiles { directory, destination, open: HashMap::new(), damaged: HashMap::new(), appends: 0 }
    }

    /// Closes all files.
    pub(super) fn close_all(&mut self) {
        self.open.clear();
    }

    /// Appends lines to the files of these topics, and then syncs the files concurrently: one after the other, each would
    /// wait for the disk again.
    pub(super) fn append(&mut self, topics: &[(&Arc<str>, &[u8])]) -> Vec<Result<(), WriteError>> {
        self.appends += 1;
        let written: Vec<_> = topics.iter().map(|(topic, lines)| self.write(topic, lines)).collect();
        let files = topics.iter().zip(&written).filter(|(_, written)| written.is_ok());
        let files: Vec<_> = files.filter_map(|((topic, _), _)| self.open.get(*topic)).map(|open| &open.file).collect();
        let mut synced = sync_all(&files).into_iter();
        let results = topics.iter().zip(written).map(|((topic, _), written)| {
            let result =
                written.and_then(|()| synced.next().unwrap_or_else(not_synced).map_err(WriteError::MaybeWritten));
            self.finish(topic, &result);
            result
        });
        results.collect()
    }

    fn write(&mut self, topic: &Arc<str>, lines: &[u8]) -> Result<(), WriteError> {
        self.open(topic).map_err(WriteError::NotWritten)?;
        let missing = || WriteError::NotWritten(io::Error::other("the file is not open"));
        let open = self.open.get_mut(topic).ok_or_else(missing)?;
        open.last_append = self.appends;
        open.file.write(lines)
    }

    fn finish(&mut self, topic: &Arc<str>, result: &Result<(), WriteError>) {
        match result {
            Ok(()) => {
                if let Some(open) = self.open.get_mut(topic) {
                    open.file.synced();
                }
            }
            Err(WriteError::NotWritten(_)) => {}
            Err(WriteError::MaybeWritten(_)) => {
                if let Some(OpenFile { file, .. }) = self.open.remove(topic) {
                    self.damaged.insert(Arc::clone(topic), (file.identity(), file.durable()));
                }
            }
        }
    }

    /// Opens a topic's file unless it is open, repairs it, and makes its directory entry durable.
    pub(super) fn open(&mut self, topic: &Arc<str>) -> io::Result<()> {
        let path = self.directory.join(format!("{topic}.{EXTENSION}"));
        if self.open.get(topic).is_some_and(|open| open.file.is_at(&path)) {
            return Ok(());
        }
        self.open.remove(topic);
        if self.open.len() >= MOST_OPEN {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.last_append).map(|(topic, _)| Arc::clone(topic));
            oldest.and_then(|oldest| self.open.remove(&oldest));
        }
        let mut file = TopicFile::open(&path, &self.destination)?;
        match self.damaged.get(topic) {
            Some((identity, durable)) if *identity == file.identity() && *durable < file.durable() => {
                file.truncate(*durable)?;
            }
            _ => {}
        }
        self.damaged.remove(topic);
        durable::sync(&self.directory)?;
        self.open.insert(Arc::clone(topic), OpenFile { file, last_append: self.appends });
        Ok(())
    }
}

/// Syncs files concurrently, the first of them on this thread.
fn sync_all(files: &[&TopicFile]) -> Vec<io::Result<()>> {
    let Some((first, others)) = files.split_first() else { return Vec::new() };
    std::thread::scope(|scope| {
        let spawn =
            |file| std::thread::Builder::new().spawn_scoped(scope, move || TopicFile::sync(file)).map_err(|_| file);
        let others: Vec<_> = others.iter().map(|file| spawn(*file)).collect();
        let mut synced = vec![first.sync()];
        synced.extend(others.into_iter().map(|other| match other {
            Ok(thread) => thread.join().unwrap_or_else(|_| not_synced()),
            Err(file) => file.sync(), // no thread could be started
        }));
        synced
    })
}

fn not_synced() -> io::Result<()> {
    Err(io::Error::other("the file was not synced"))
}
