//! Files: `DIR/<topic>.ndjson`, one structured CloudEvent per line, synced to disk before it is confirmed.
//!
//! ```text
//! publish ─▶ in_flight ─▶ queue ─▶ writer ─▶ open_files ─▶ topic_file
//!                                  (thread)       └─▶ outcome ─▶ publisher
//! ```
//!
//! | file | job |
//! |---|---|
//! | `in_flight` | the queue's commands; a publish until it has an outcome |
//! | `writer` | the thread: collects a batch, writes it, replies, retries, reports the status |
//! | `open_files` | the files held open: appends to several and syncs them concurrently |
//! | `topic_file` | one topic's file: whole lines, or none |
//! | `directory` | the directory: created, locked, described |
//! | `outcome` | errors of the system → [`Outcome`] |
//!
//! The writer syncs each file once per batch, so the more publishers there are, the more lines share a sync.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::status::Status;
use super::{Confirm, Destination, Health, Opening, keeper};
use crate::destination::settings::BrokerUrl;
use crate::message::{Message, Outcome};
use crate::naming::{self, Kind};
use crate::reason::{Failure, Reason};
use in_flight::{UnwrittenPublish, WriterCommand};
use writer::FileWriter;

mod directory;
mod in_flight;
mod open_files;
mod outcome;
mod topic_file;
mod writer;

/// A directory of files.
struct Files {
    /// `None` after [`Destination::close`].
    queue: Mutex<Option<Sender<WriterCommand>>>,
    status: Arc<Status<()>>,
    publish_timeout: Duration,
    /// Cancelled before the writer is asked to end.
    stop: CancellationToken,
}

pub(super) fn open(opening: Opening) -> Result<Arc<dyn Destination>, Failure> {
    let BrokerUrl::File(path) = opening.settings.url else {
        return Err(Failure::new(Reason::Failed, "not a file: URL"));
    };
    let status = Arc::new(Status::new(&opening.settings.name, &opening.metrics));
    let writer = FileWriter::new(path, Arc::clone(&status));
    let files = Files::start(status, opening.publish_timeout, move |queue| writer.run(&queue))?;
    Ok(Arc::new(files))
}

impl Files {
    /// Starts the thread that takes commands from the queue.
    fn start(
        status: Arc<Status<()>>,
        publish_timeout: Duration,
        work: impl FnOnce(Receiver<WriterCommand>) + Send + 'static,
    ) -> Result<Files, Failure> {
        let (queue, commands) = channel();
        let stop = CancellationToken::new();
        let failed = {
            let status = Arc::clone(&status);
            move |failure| status.end(failure)
        };
        keeper::thread("file writer", &stop, move || work(commands), failed)
            .map_err(|error| Failure::new(Reason::Failed, format!("cannot start the writer thread: {error}")))?;
        Ok(Files { queue: Mutex::new(Some(queue)), status, publish_timeout, stop })
    }

    /// Sends the writer a command.
    ///
    /// # Errors
    /// The destination is closed, or the writer has failed.
    fn send(&self, command: WriterCommand) -> Result<(), Failure> {
        let sent = self.queue.lock().as_ref().is_some_and(|queue| queue.send(command).is_ok());
        if sent { Ok(()) } else { Err(ended(&self.status)) }
    }

    async fn prepare(&self) -> Result<String, Failure> {
        let (reply, found) = oneshot::channel();
        self.send(WriterCommand::Prepare(reply))?;
        found.await.unwrap_or_else(|_| Err(ended(&self.status)))
    }
}

/// Why the writer has ended.
fn ended(status: &Status<()>) -> Failure {
    status.connection().err().unwrap_or_else(|| Reason::Failed.into())
}

impl Destination for Files {
    fn publish(&self, message: Message) -> Confirm {
        if let Err(rule) = naming::check(Kind::File, &message.topic) {
            return ready(Outcome::Never(Failure::new(Reason::IllegalName, rule))).boxed();
        }
        let (queued, unresolved) = UnwrittenPublish::new(message);
        if let Err(failure) = self.send(WriterCommand::Publish(queued)) {
            return ready(Outcome::Again(failure)).boxed();
        }
        let status = Arc::clone(&self.status);
        unresolved.outcome(self.publish_timeout, move || ended(&status)).boxed()
    }

    fn ensure(&self) -> BoxFuture<'_, Result<(), Failure>> {
        async { self.prepare().await.map(drop) }.boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        async { self.prepare().await.map(|found| vec![found]) }.boxed()
    }

    fn health(&self) -> Health {
        self.status.health()
    }

    fn warnings(&self) -> Vec<String> {
        self.status.warnings()
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        self.status.ended().boxed()
    }

    fn close(&self, at_most: Duration) -> BoxFuture<'_, ()> {
        async move {
            self.stop.cancel();
            self.status.end(Reason::Closing.into());
            let Some(queue) = self.queue.lock().take() else { return };
            let (reply, closed) = oneshot::channel();
            if queue.send(WriterCommand::Close(reply)).is_ok() {
                // A publish that is still unwritten then resolves when the disk answers, or when it times out.
                let _ = tokio::time::timeout(at_most, closed).await;
            }
        }
        .boxed()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests;
