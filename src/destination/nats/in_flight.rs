//! Publishes without an outcome: a queue towards the connection, and a table of those that wait for an answer.
//!
//! async-nats has a table of its own. But it never removes an entry that gets no reply, it does not end its entries
//! when the connection ends, and it sends what it queued while disconnected long after the caller gave up. Therefore
//! answers arrive at an inbox of this destination, and this table decides: a publish leaves it with its answer, at its
//! deadline, or with the end of the connection that carried it, whichever comes first, and its memory is freed.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::message::NatsMessage;
use crate::message::Outcome;
use crate::reason::{Failure, Reason};

mod refusals;
#[cfg(test)]
pub(super) mod tests;

/// The queue and the table. See the module.
pub(super) struct PublishTable {
    publishes: Mutex<Publishes>,
    timeout: Duration,
    /// Wakes the sender: the queue has a message, or there is a connection.
    sendable: Notify,
    /// Wakes [`idle`](PublishTable::idle): the table is empty.
    emptied: Notify,
}

struct Publishes {
    next_token: u64,
    /// By token, which is also the order of their deadlines.
    open: BTreeMap<u64, OpenPublish>,
    queue: VecDeque<u64>,
    /// The number of the current connection.
    connection: Option<u64>,
    /// The failure that refuses publishes while there is no connection.
    down: Failure,
    /// The failure that refuses publishes because of the stream.
    unfit: Option<Failure>,
    /// The failure that refuses publishes after [`close`](PublishTable::close).
    closed: Option<Failure>,
    /// The size of the largest message that was sent and left the table without an answer. The client library may still
    /// hold it, and send it on a later connection of the same client.
    unanswered: usize,
    /// A message that was sent has timed out since the last call of [`stalled`](PublishTable::stalled).
    timed_out: bool,
    /// Subjects with a confirmed publish on this connection, at most [`MAX_CONFIRMED`].
    confirmed: HashSet<Arc<str>>,
}

/// Bounds the memory for confirmed subjects: there may be as many as there are resources.
const MAX_CONFIRMED: usize = 4096;

struct OpenPublish {
    reply: oneshot::Sender<Outcome>,
    deadline: Instant,
    subject: Arc<str>,
    size: usize,
    stage: SendStage,
}

enum SendStage {
    Queued(Box<NatsMessage>),
    /// The sender is passing it to the library.
    Sending,
    /// The library took it for the current connection.
    Sent,
}

/// A message to pass to the library, and the connection it is for.
pub(super) struct NextPublish {
    pub(super) token: u64,
    pub(super) connection: u64,
    pub(super) message: NatsMessage,
}

impl PublishTable {
    /// A table of publishes that time out after `timeout`.
    pub(super) fn new(timeout: Duration) -> Self {
        let publishes = Publishes {
            next_token: 0,
            open: BTreeMap::new(),
            queue: VecDeque::new(),
            connection: None,
            down: Reason::Unreachable.into(),
            unfit: None,
            closed: None,
            unanswered: 0,
            timed_out: false,
            confirmed: HashSet::new(),
        };
        PublishTable { publishes: Mutex::new(publishes), timeout, sendable: Notify::new(), emptied: Notify::new() }
    }

    /// The failure that refuses a publish now.
    pub(super) fn refusal(&self) -> Option<Failure> {
        self.publishes.lock().refusal()
    }

    /// Queues a message. Messages are sent in the order of these calls.
    ///
    /// # Errors
    /// The [`refusal`](PublishTable::refusal).
    pub(super) fn submit(&self, message: NatsMessage) -> Result<oneshot::Receiver<Outcome>, Failure> {
        let (reply, outcome) = oneshot::channel();
        let (subject, size) = (Arc::clone(&message.subject), message.size());
        let stage = SendStage::Queued(Box::new(message));
        let mut publishes = self.publishes.lock();
        if let Some(failure) = publishes.refusal() {
            return Err(failure);
        }
        let token = publishes.next_token;
        publishes.next_token += 1;
        // Under the lock, so that deadlines have the order of tokens.
        let deadline = Instant::now() + self.timeout;
        publishes.open.insert(token, OpenPublish { reply, deadline, subject, size, stage });
        publishes.queue.push_back(token);
        let first = publishes.queue.len() == 1;
        drop(publishes);
        if first {
            self.sendable.notify_one();
        }
        Ok(outcome)
    }

    /// Waits for the next message to send. Only one task may call this.
    pub(super) async fn next(&self) -> NextPublish {
        loop {
            if let Some(next) = self.dequeue() {
                return next;
            }
            self.sendable.notified().await;
        }
    }

    fn dequeue(&self) -> Option<NextPublish> {
        let mut publishes = self.publishes.lock();
        let connection = publishes.connection?;
        while let Some(token) = publishes.queue.pop_front() {
            // One that has timed out is no longer in the table.
            let Some(publish) = publishes.open.get_mut(&token) else { continue };
            if let SendStage::Queued(message) = std::mem::replace(&mut publish.stage, SendStage::Sending) {
                return Some(NextPublish { token, connection, message: *message });
            }
        }
        None
    }

    /// The library took the message. If its connection has ended meanwhile, the library may send it on the next one.
    pub(super) fn sent(&self, token: u64, connection: u64) {
        let mut publishes = self.publishes.lock();
        if publishes.connection == Some(connection) {
            if let Some(publish) = publishes.open.get_mut(&token) {
                publish.stage = SendStage::Sent;
            }
        } else {
            let size = publishes.open.get(&token).map_or(0, |publish| publish.size);
            publishes.unanswered = publishes.unanswered.max(size);
            drop(publishes);
            self.resolve(token, Outcome::Unknown(Reason::ConnectionLost.into()));
        }
    }

    /// Ends a publish. Does nothing if it has ended already.
    pub(super) fn resolve(&self, token: u64, outcome: Outcome) {
        self.resolve_all([(token, outcome)]);
    }

    /// Ends several publishes under one lock.
    pub(super) fn resolve_all(&self, outcomes: impl IntoIterator<Item = (u64, Outcome)>) {
        let mut publishes = self.publishes.lock();
        for (token, outcome) in outcomes {
            let Some(publish) = publishes.open.remove(&token) else { continue };
            if outcome == Outcome::Confirmed && publishes.confirmed.len() < MAX_CONFIRMED {
                publishes.confirmed.insert(publish.subject);
            }
            // The receiver may be dropped.
            let _ = publish.reply.send(outcome);
        }
        self.notify_if_empty(&publishes);
    }

    /// Ends every publish for which `outcome` returns one, without an answer from the server.
    fn resolve_where(&self, publishes: &mut Publishes, outcome: impl Fn(&OpenPublish) -> Option<Outcome>) {
        let ended = publishes.open.iter().filter_map(|(token, publish)| Some((*token, outcome(publish)?)));
        for (token, outcome) in ended.collect::<Vec<_>>() {
            if let Some(publish) = publishes.open.remove(&token) {
                publishes.note_unanswered(&publish);
                let _ = publish.reply.send(outcome);
            }
        }
        self.notify_if_empty(publishes);
    }

    fn notify_if_empty(&self, publishes: &Publishes) {
        if publishes.open.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// There is a connection. Each has its own number.
    pub(super) fn connected(&self, connection: u64) {
        let mut publishes = self.publishes.lock();
        publishes.connection = Some(connection);
        publishes.confirmed.clear();
        drop(publishes);
        self.sendable.notify_one();
    }

    /// There is no usable connection. What it carried may be stored; what is queued is not.
    pub(super) fn disconnected(&self, failure: Failure) {
        let mut publishes = self.publishes.lock();
        publishes.connection = None;
        self.resolve_where(&mut publishes, |publish| match publish.stage {
            SendStage::Queued(_) => Some(Outcome::Again(failure.clone())),
            SendStage::Sending => None,
            SendStage::Sent => Some(Outcome::Unknown(Reason::ConnectionLost.into())),
        });
        publishes.queue.clear();
        publishes.down = failure;
    }

    /// Ends the publishes that have timed out. Returns the time of the next call.
    pub(super) fn expire(&self) -> Instant {
        let now = Instant::now();
        let mut publishes = self.publishes.lock();
        while let Some(first) = publishes.open.first_entry() {
            if first.get().deadline > now {
                return first.get().deadline;
            }
            let publish = first.remove();
            publishes.note_unanswered(&publish);
            publishes.timed_out |= matches!(publish.stage, SendStage::Sent);
            let _ = publish.reply.send(match publish.stage {
                SendStage::Queued(_) => {
                    Outcome::Again(Failure::new(Reason::Timeout, "the message was not sent in time"))
                }
                SendStage::Sending | SendStage::Sent => Outcome::Unknown(Reason::Timeout.into()),
            });
        }
        self.notify_if_empty(&publishes);
        // Later publishes have later deadlines.
        now + self.timeout
    }

    /// Whether the oldest publish waits for its answer for at least `age`, or one timed out since the last call.
    pub(super) fn stalled(&self, age: Duration) -> bool {
        let mut publishes = self.publishes.lock();
        let timed_out = std::mem::take(&mut publishes.timed_out);
        let Some(oldest) = publishes.open.values().next() else { return timed_out };
        let left = oldest.deadline.saturating_duration_since(Instant::now());
        timed_out || (matches!(oldest.stage, SendStage::Sent) && left + age <= self.timeout)
    }

    /// The sender has stopped, or stops now: the message that it was passing to the library gets this outcome.
    pub(super) fn sender_stopped(&self, outcome: &Outcome) {
        let mut publishes = self.publishes.lock();
        publishes.unanswered = 0;
        let sending = |publish: &OpenPublish| matches!(publish.stage, SendStage::Sending);
        self.resolve_where(&mut publishes, |publish| sending(publish).then(|| outcome.clone()));
    }

    /// Refuses all further publishes with this failure. The first call counts.
    pub(super) fn close(&self, failure: Failure) {
        self.publishes.lock().closed.get_or_insert(failure);
    }

    /// Waits until every publish has an outcome.
    pub(super) async fn idle(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// The number of publishes without an outcome.
    pub(super) fn len(&self) -> usize {
        self.publishes.lock().open.len()
    }
}

impl Publishes {
    /// The publish leaves the table without an answer.
    fn note_unanswered(&mut self, publish: &OpenPublish) {
        if matches!(publish.stage, SendStage::Sent) {
            self.unanswered = self.unanswered.max(publish.size);
        }
    }

    fn refusal(&self) -> Option<Failure> {
        if self.closed.is_some() {
            return self.closed.clone();
        }
        if self.connection.is_none() { Some(self.down.clone()) } else { self.unfit.clone() }
    }
}
