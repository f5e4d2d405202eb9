//! The thread that writes.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Shared;
use super::directory::{Directory, EXTENSION, failure};
use super::log::{Fault, Identity, Log};
use crate::destination::{Health, cloudevents};
use crate::durable;
use crate::message::{Message, Outcome};
use crate::reason::Failure;

/// How much is written between two syncs at most.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_MESSAGES: usize = 8192;
/// Most files held open.
const OPEN_FILES: usize = 128;
/// Most files that are synced side by side; less than are held open.
const SYNCED_TOGETHER: usize = 32;
/// How often what cannot be used is tried again.
const RETRY: Duration = Duration::from_millis(250);

pub(super) enum Command {
    Publish(Publish),
    /// Make the directory usable, and say what is there.
    Prepare(oneshot::Sender<Result<String, Failure>>),
    End(oneshot::Sender<()>),
}

pub(super) struct Publish {
    /// Gone when its time was over before it was written.
    pub message: Arc<Mutex<Option<Message>>>,
    pub told: oneshot::Sender<Outcome>,
}

/// What a batch has for one topic.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    told: Vec<oneshot::Sender<Outcome>>,
}

struct Open {
    log: Log,
    used: u64,
}

pub(super) struct Writer {
    path: PathBuf,
    inbox: Receiver<Command>,
    shared: Arc<Shared>,
    directory: Option<Directory>,
    open: HashMap<Arc<str>, Open>,
    /// Files whose end may be damaged: which file, and where the last line ends that was on disk before.
    damaged: HashMap<Arc<str>, (Identity, u64)>,
    /// Topics whose last write failed.
    failing: HashMap<Arc<str>, Failure>,
    /// Counts what is synced together: by it, the files of one part are never closed for one another.
    parts: u64,
}

impl Writer {
    pub(super) fn new(path: PathBuf, inbox: Receiver<Command>, shared: Arc<Shared>) -> Self {
        Writer {
            path,
            inbox,
            shared,
            directory: None,
            open: HashMap::new(),
            damaged: HashMap::new(),
            failing: HashMap::new(),
            parts: 0,
        }
    }

    /// Writes until it is told to end or nobody can tell it anything any more.
    pub(super) fn run(mut self) {
        // Reported through health; the loop tries again.
        let _ = self.prepare();
        let mut batch = HashMap::<Arc<str>, Lines>::new();
        loop {
            let well = self.directory.is_some() && self.failing.is_empty();
            let first = match well {
                true => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => self.inbox.recv_timeout(RETRY),
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
            while let Some(Command::Publish(publish)) = next {
                bytes += gather(&mut batch, publish);
                messages += 1;
                let more = messages < BATCH_MESSAGES && bytes < BATCH_BYTES;
                next = if more { self.inbox.try_recv().ok() } else { None };
            }
            self.write(&mut batch);
            match next {
                Some(Command::Prepare(answer)) => {
                    let found = self.prepare();
                    let _ = answer.send(found);
                }
                Some(Command::End(ended)) => {
                    drop(self); // the lock, before anyone hears that it is free
                    let _ = ended.send(());
                    return;
                }
                Some(Command::Publish(_)) | None => {}
            }
        }
    }

    /// Makes the directory usable if it is not, and tries what failed before: nobody publishes to what is down.
    fn prepare(&mut self) -> Result<String, Failure> {
        let path = self.path.clone();
        let found = self.locked().and_then(|directory| {
            let found = directory.try_write().and_then(|()| directory.describe());
            found.map_err(|error| failure(&format!("cannot write into {}", path.display()), &error))
        });
        if found.is_ok() {
            for topic in self.failing.keys().cloned().collect::<Vec<_>>() {
                if self.opened(&topic).is_ok() {
                    self.failing.remove(&topic);
                }
            }
        }
        self.tell_health(found.as_ref().err());
        found
    }

    /// Makes and locks the directory, unless it is what it was.
    fn locked(&mut self) -> Result<&Directory, Failure> {
        let directory = match self.directory.take().filter(Directory::is_there) {
            Some(directory) => directory,
            None => {
                self.open.clear();
                Directory::prepare(&self.path)?
            }
        };
        Ok(self.directory.insert(directory))
    }

    fn tell_health(&self, failure: Option<&Failure>) {
        let failure = failure.or_else(|| self.failing.values().next());
        self.shared.now(failure.map_or(Health::Up, |failure| Health::Down(failure.clone())));
    }

    /// Writes a batch, topic by topic, and tells each publish of a topic when that is on disk.
    fn write(&mut self, batch: &mut HashMap<Arc<str>, Lines>) {
        if batch.is_empty() {
            return;
        }
        let locked = self.locked().map(drop);
        let mut batch: Vec<_> = batch.drain().collect();
        for part in batch.chunks_mut(SYNCED_TOGETHER) {
            let outcomes = match &locked {
                Ok(()) => self.append(part),
                Err(failure) => vec![Outcome::Again(failure.clone()); part.len()],
            };
            for ((_, lines), outcome) in part.iter_mut().zip(outcomes) {
                for told in lines.told.drain(..) {
                    let _ = told.send(outcome.clone()); // nobody waits any more
                }
            }
        }
        self.tell_health(locked.as_ref().err());
    }

    /// Writes to all the files, then syncs them side by side: one after the other, each would wait for the disk anew.
    fn append(&mut self, part: &[(Arc<str>, Lines)]) -> Vec<Outcome> {
        self.parts += 1;
        let written: Vec<_> = part.iter().map(|(topic, lines)| self.write_lines(topic, &lines.text)).collect();
        let logs = part.iter().zip(&written).filter(|(_, written)| written.is_ok());
        let logs: Vec<_> = logs.filter_map(|((topic, _), _)| self.open.get(topic)).map(|open| &open.log).collect();
        let mut synced = sync_all(&logs).into_iter();
        let ended = part.iter().zip(written).map(|((topic, _), written)| {
            let ended = written.and_then(|()| synced.next().unwrap_or_else(unsynced).map_err(Fault::Perhaps));
            self.ended(topic, ended)
        });
        ended.collect()
    }

    fn write_lines(&mut self, topic: &Arc<str>, lines: &[u8]) -> Result<(), Fault> {
        self.opened(topic).map_err(Fault::NotWritten)?;
        let open = self.open.get_mut(topic).ok_or_else(|| Fault::NotWritten(io::Error::other("it is not open")))?;
        open.used = self.parts;
        open.log.write(lines)
    }

    fn ended(&mut self, topic: &Arc<str>, ended: Result<(), Fault>) -> Outcome {
        let told = |error: &io::Error| failure(&format!("cannot write {topic}.{EXTENSION}"), error);
        let (outcome, failure) = match ended {
            Ok(()) => {
                if let Some(open) = self.open.get_mut(topic) {
                    open.log.synced();
                }
                self.failing.remove(topic);
                return Outcome::Confirmed;
            }
            Err(Fault::NotWritten(error)) => (Outcome::Again(told(&error)), told(&error)),
            Err(Fault::Perhaps(error)) => {
                if let Some(open) = self.open.remove(topic) {
                    self.damaged.insert(Arc::clone(topic), (open.log.identity(), open.log.good()));
                }
                (Outcome::Unknown(told(&error)), told(&error))
            }
        };
        self.failing.insert(Arc::clone(topic), failure);
        outcome
    }

    /// Opens a topic's file unless it is open, repaired, and its entry in the directory durable.
    fn opened(&mut self, topic: &Arc<str>) -> io::Result<()> {
        let path = self.path.join(format!("{topic}.{EXTENSION}"));
        if self.open.get(topic).is_some_and(|open| open.log.is_at(&path)) {
            return Ok(());
        }
        self.open.remove(topic);
        if self.open.len() >= OPEN_FILES {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.used).map(|(topic, _)| Arc::clone(topic));
            oldest.and_then(|oldest| self.open.remove(&oldest));
        }
        let mut log = Log::open(&path)?;
        match self.damaged.get(topic) {
            Some((identity, good)) if *identity == log.identity() && *good < log.good() => log.cut(*good)?,
            _ => {}
        }
        self.damaged.remove(topic);
        durable::sync(&self.path)?;
        self.open.insert(Arc::clone(topic), Open { log, used: self.parts });
        Ok(())
    }
}

/// Takes a publish into the batch, if its time is not over; gives the bytes that brings.
fn gather(batch: &mut HashMap<Arc<str>, Lines>, publish: Publish) -> usize {
    let Some(message) = publish.message.lock().take() else { return 0 };
    let lines = batch.entry(message.topic).or_default();
    let before = lines.text.len();
    cloudevents::push_structured(&mut lines.text, &message.event);
    lines.text.push(b'\n');
    lines.told.push(publish.told);
    lines.text.len() - before
}

/// Syncs files side by side, the first on this thread.
fn sync_all(logs: &[&Log]) -> Vec<io::Result<()>> {
    let Some((first, others)) = logs.split_first() else { return Vec::new() };
    std::thread::scope(|scope| {
        let spawn = |log| std::thread::Builder::new().spawn_scoped(scope, move || Log::sync(log)).map_err(|_| log);
        let others: Vec<_> = others.iter().map(|log| spawn(*log)).collect();
        let mut synced = vec![first.sync()];
        synced.extend(others.into_iter().map(|other| match other {
            Ok(thread) => thread.join().unwrap_or_else(|_| unsynced()),
            Err(log) => log.sync(), // the system gives no thread
        }));
        synced
    })
}

fn unsynced() -> io::Result<()> {
    Err(io::Error::other("it was not synced"))
}
