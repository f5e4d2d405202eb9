//! What is in the writer's queue, and a publish until it has an outcome.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::message::{Message, Outcome};
use crate::reason::{Failure, Reason};

/// A command in the writer's queue.
pub(super) enum WriterCommand {
    Publish(UnwrittenPublish),
    /// Makes the directory usable and describes it.
    Prepare(oneshot::Sender<Result<String, Failure>>),
    /// Ends the writer, after everything that is queued before.
    Close(oneshot::Sender<()>),
}

/// The message of a publish, until the writer or the timeout takes it.
type MessageCell = Arc<Mutex<Option<Message>>>;

/// The writer's half of a publish.
pub(super) struct UnwrittenPublish {
    message: MessageCell,
    reply: oneshot::Sender<Outcome>,
}

/// The publisher's half of a publish.
pub(super) struct UnresolvedPublish {
    message: MessageCell,
    reply: oneshot::Receiver<Outcome>,
}

impl UnwrittenPublish {
    pub(super) fn new(message: Message) -> (UnwrittenPublish, UnresolvedPublish) {
        let message = Arc::new(Mutex::new(Some(message)));
        let (sender, reply) = oneshot::channel();
        (UnwrittenPublish { message: Arc::clone(&message), reply: sender }, UnresolvedPublish { message, reply })
    }

    /// Takes the message in order to write it; `None` if the publish has timed out.
    pub(super) fn take(self) -> Option<(Message, oneshot::Sender<Outcome>)> {
        let message = self.message.lock().take()?;
        Some((message, self.reply))
    }
}

impl UnresolvedPublish {
    /// Waits for the outcome. `ended` says why the writer has ended, if it ends without a reply.
    pub(super) async fn outcome(self, timeout: Duration, ended: impl FnOnce() -> Failure) -> Outcome {
        let failure = match tokio::time::timeout(timeout, self.reply).await {
            Ok(Ok(outcome)) => return outcome,
            Ok(Err(_)) => ended(),
            Err(_) => Reason::Timeout.into(),
        };
        // Taking the message keeps the writer from writing it.
        let unwritten = self.message.lock().take().is_some();
        if unwritten { Outcome::Again(failure) } else { Outcome::Unknown(failure) }
    }
}
