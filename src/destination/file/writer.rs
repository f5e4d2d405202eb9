//! The thread that writes: takes commands from the queue, writes what is queued in batches, replies to each publish, and
//! reports the status.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::directory::Directory;
use super::in_flight::{UnwrittenPublish, WriterCommand};
use super::open_files::{OpenFiles, SYNCED_TOGETHER};
use super::outcome::{failure, outcome};
use crate::destination::cloudevents;
use crate::destination::status::Status;
use crate::message::Outcome;
use crate::reason::Failure;

/// Most bytes and messages that are written between two syncs.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_MESSAGES: usize = 8192;
/// How often an unusable directory or file is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// The lines of a batch for one topic, and who waits for them.
#[derive(Default)]
struct TopicLines {
    text: Vec<u8>,
    replies: Vec<oneshot::Sender<Outcome>>,
}

type TopicBatch = HashMap<Arc<str>, TopicLines>;

pub(super) struct FileWriter {
    path: PathBuf,
    status: Arc<Status<()>>,
    directory: Option<Directory>,
    files: OpenFiles,
    /// Topics whose last write failed.
    failing: HashMap<Arc<str>, Failure>,
    /// Whether the directory and all topics could be written when they were last used. If not, they are tried again.
    usable: bool,
}

impl FileWriter {
    pub(super) fn new(path: PathBuf, status: Arc<Status<()>>) -> Self {
        let files = OpenFiles::new(path.clone(), Arc::clone(status.name()));
        FileWriter { path, status, directory: None, files, failing: HashMap::new(), usable: false }
    }

    /// Writes until [`WriterCommand::Close`], or until the queue has no sender.
    pub(super) fn run(mut self, queue: &Receiver<WriterCommand>) {
        // The status has the failure, and the loop tries again.
        let _ = self.prepare();
        let mut batch = TopicBatch::new();
        loop {
            let first = match self.usable {
                true => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => queue.recv_timeout(RETRY),
            };
            let mut next = match first {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.prepare();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let (mut messages, mut bytes) = (0, 0);
            while let Some(WriterCommand::Publish(publish)) = next {
                bytes += add(&mut batch, publish);
                messages += 1;
                let more = messages < BATCH_MESSAGES && bytes < BATCH_BYTES;
                next = if more { queue.try_recv().ok() } else { None };
            }
            self.write(&mut batch);
            match next {
                Some(WriterCommand::Prepare(reply)) => {
                    let found = self.prepare();
                    let _ = reply.send(found);
                }
                Some(WriterCommand::Close(reply)) => {
                    drop(self); // releases the lock before the reply
                    let _ = reply.send(());
                    return;
                }
                Some(WriterCommand::Publish(_)) | None => {}
            }
        }
    }

    /// Makes the directory usable, and opens the files of failing topics: publishers may not use a destination that is
    /// down, so their publishes would not show that it works again.
    fn prepare(&mut self) -> Result<String, Failure> {
        let path = self.path.clone();
        let found = self.lock().and_then(|directory| {
            let found = directory.try_write().and_then(|()| directory.describe());
            found.map_err(|error| failure(&format!("cannot write into {}", path.display()), &error))
        });
        if found.is_ok() {
            let files = &mut self.files;
            self.failing.retain(|topic, _| files.open(topic).is_err());
        }
        self.report(found.as_ref().err());
        found
    }

    /// The directory: created and locked, unless it already is.
    fn lock(&mut self) -> Result<&Directory, Failure> {
        let directory = match self.directory.take().filter(Directory::is_there) {
            Some(directory) => directory,
            None => {
                self.files.close_all();
                Directory::prepare(&self.path, self.status.name())?
            }
        };
        Ok(self.directory.insert(directory))
    }

    /// Reports whether the directory (`failure` is why not) and every topic can be written.
    fn report(&mut self, failure: Option<&Failure>) {
        let topic_failure = self.failing.values().next();
        self.usable = failure.is_none() && topic_failure.is_none();
        let connected = self.status.connection().is_ok();
        match (failure, topic_failure) {
            (None, None) => {
                if !connected {
                    self.status.connected((), &self.path.display().to_string());
                }
                self.status.up();
            }
            (None, Some(failure)) if connected => self.status.down(failure.clone()),
            // Until every write has succeeded once, the destination stays `Starting`.
            (Some(failure), _) | (None, Some(failure)) => self.status.disconnected(failure.clone()),
        }
    }

    /// Writes a batch topic by topic, and replies to each publish when its topic is on disk.
    fn write(&mut self, batch: &mut TopicBatch) {
        if batch.is_empty() {
            return;
        }
        let locked = self.lock().map(drop);
        let mut topics: Vec<_> = batch.drain().collect();
        for part in topics.chunks_mut(SYNCED_TOGETHER) {
            let outcomes = match &locked {
                Ok(()) => self.append(part),
                Err(failure) => vec![Outcome::Again(failure.clone()); part.len()],
            };
            for ((_, lines), outcome) in part.iter_mut().zip(outcomes) {
                for reply in lines.replies.drain(..) {
                    let _ = reply.send(outcome.clone()); // fails if the publisher no longer waits
                }
            }
        }
        self.report(locked.as_ref().err());
    }

    fn append(&mut self, part: &[(Arc<str>, TopicLines)]) -> Vec<Outcome> {
        let lines: Vec<_> = part.iter().map(|(topic, lines)| (topic, lines.text.as_slice())).collect();
        let results = self.files.append(&lines);
        let outcomes = part.iter().zip(results).map(|((topic, _), result)| {
            let outcome = outcome(topic, result);
            match outcome.failure() {
                None => self.failing.remove(topic),
                Some(failure) => self.failing.insert(Arc::clone(topic), failure.clone()),
            };
            outcome
        });
        outcomes.collect()
    }
}

/// Adds a publish to the batch, unless it has timed out; returns the number of bytes added.
fn add(batch: &mut TopicBatch, publish: UnwrittenPublish) -> usize {
    let Some((message, reply)) = publish.take() else { return 0 };
    let lines = batch.entry(message.topic).or_default();
    let before = lines.text.len();
    cloudevents::push_structured(&mut lines.text, &message.event);
    lines.text.push(b'\n');
    lines.replies.push(reply);
    lines.text.len() - before
}
