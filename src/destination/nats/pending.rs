//! Publishes without an outcome: a queue towards the connection, and a table of those whose answer is awaited.
//!
//! async-nats keeps such a table too, but never clears an entry that gets no reply, does not fail entries when the
//! connection ends, and sends what it queued while down long after the caller gave up. So replies come to an inbox of
//! our own, and this table decides: an entry leaves it by an answer, by its deadline, or by the end of the connection
//! that carried it, whichever is first, and with it goes the message's memory.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::message::Outgoing;
use crate::message::Outcome;
use crate::reason::{Failure, Reason};

/// See the module.
pub(super) struct Pending {
    inner: Mutex<Inner>,
    life: Duration,
    /// Woken when the queue has a message, or the connection changed.
    work: Notify,
    /// Woken when the table is empty.
    idle: Notify,
}

struct Inner {
    next: u64,
    /// By token, which is also the order of their deadlines.
    entries: BTreeMap<u64, Entry>,
    queue: VecDeque<u64>,
    /// The connection that is up.
    connection: Option<u64>,
    /// What a publish is answered while no connection is up, or none may be used.
    down: Failure,
    closing: bool,
    /// The largest that was sent and left the table without an answer. The client library may still have it, and send
    /// it by a later connection of the same client.
    unanswered: usize,
    /// One that was sent has expired.
    expired: bool,
    /// Subjects of which a publish was confirmed on this connection, at most [`MOST_CONFIRMED`].
    confirmed: HashSet<Arc<str>>,
}

/// Most subjects that are remembered: they may be as many as there are resources.
const MOST_CONFIRMED: usize = 4096;

struct Entry {
    answer: oneshot::Sender<Outcome>,
    deadline: Instant,
    subject: Arc<str>,
    size: usize,
    stage: Stage,
}

enum Stage {
    Queued(Box<Outgoing>),
    /// Being handed over: whether it was is known a moment later.
    Leaving,
    /// Handed over to the connection that is up.
    Sent,
}

/// A message to hand over: its token, and the connection it is for.
pub(super) struct Work {
    pub(super) token: u64,
    pub(super) connection: u64,
    pub(super) message: Outgoing,
}

impl Pending {
    pub(super) fn new(life: Duration) -> Self {
        let inner = Inner {
            next: 0,
            entries: BTreeMap::new(),
            queue: VecDeque::new(),
            connection: None,
            down: Reason::Unreachable.into(),
            closing: false,
            unanswered: 0,
            expired: false,
            confirmed: HashSet::new(),
        };
        Pending { inner: Mutex::new(inner), life, work: Notify::new(), idle: Notify::new() }
    }

    /// Why a publish would be refused now.
    pub(super) fn refusal(&self) -> Option<Failure> {
        self.inner.lock().refusal()
    }

    /// Queues a message; it is sent after all those queued before it.
    pub(super) fn submit(&self, message: Outgoing) -> Result<oneshot::Receiver<Outcome>, Failure> {
        let (answer, answered) = oneshot::channel();
        let (subject, size) = (Arc::clone(&message.subject), message.size());
        let stage = Stage::Queued(Box::new(message));
        let mut inner = self.inner.lock();
        if let Some(failure) = inner.refusal() {
            return Err(failure);
        }
        let token = inner.next;
        inner.next += 1;
        // Under the lock, so that deadlines have the order of tokens.
        let deadline = Instant::now() + self.life;
        inner.entries.insert(token, Entry { answer, deadline, subject, size, stage });
        inner.queue.push_back(token);
        let first = inner.queue.len() == 1;
        drop(inner);
        if first {
            self.work.notify_one();
        }
        Ok(answered)
    }

    /// The next message to hand over. Only one task may ask.
    pub(super) async fn work(&self) -> Work {
        loop {
            if let Some(work) = self.take() {
                return work;
            }
            self.work.notified().await;
        }
    }

    fn take(&self) -> Option<Work> {
        let mut inner = self.inner.lock();
        let connection = inner.connection?;
        while let Some(token) = inner.queue.pop_front() {
            // Those whose life is over are gone from the table.
            let Some(entry) = inner.entries.get_mut(&token) else { continue };
            if let Stage::Queued(message) = std::mem::replace(&mut entry.stage, Stage::Leaving) {
                return Some(Work { token, connection, message: *message });
            }
        }
        None
    }

    /// The message was handed over. If its connection ended meanwhile, it may still be sent by the next one.
    pub(super) fn sent(&self, token: u64, connection: u64) {
        let mut inner = self.inner.lock();
        if inner.connection == Some(connection) {
            if let Some(entry) = inner.entries.get_mut(&token) {
                entry.stage = Stage::Sent;
            }
        } else {
            let size = inner.entries.get(&token).map_or(0, |entry| entry.size);
            inner.unanswered = inner.unanswered.max(size);
            drop(inner);
            self.resolve(token, Outcome::Unknown(Reason::ConnectionLost.into()));
        }
    }

    /// Ends a publish. Nothing happens where it has ended already.
    pub(super) fn resolve(&self, token: u64, outcome: Outcome) {
        self.resolve_all([(token, outcome)]);
    }

    /// Ends several at once.
    pub(super) fn resolve_all(&self, outcomes: impl IntoIterator<Item = (u64, Outcome)>) {
        let mut inner = self.inner.lock();
        for (token, outcome) in outcomes {
            let Some(entry) = inner.entries.remove(&token) else { continue };
            if outcome == Outcome::Confirmed && inner.confirmed.len() < MOST_CONFIRMED {
                inner.confirmed.insert(entry.subject);
            }
            // Nobody may be waiting any more.
            let _ = entry.answer.send(outcome);
        }
        if inner.entries.is_empty() {
            self.idle.notify_waiters();
        }
    }

    /// Ends all those for which `outcome` gives one.
    fn resolve_where(&self, inner: &mut Inner, outcome: impl Fn(&Entry) -> Option<Outcome>) {
        let ended = inner.entries.iter().filter_map(|(token, entry)| Some((*token, outcome(entry)?)));
        for (token, outcome) in ended.collect::<Vec<_>>() {
            if let Some(entry) = inner.entries.remove(&token) {
                inner.left(&entry);
                let _ = entry.answer.send(outcome);
            }
        }
        if inner.entries.is_empty() {
            self.idle.notify_waiters();
        }
    }

    /// This connection is up; every one has its own number.
    pub(super) fn connected(&self, connection: u64) {
        let mut inner = self.inner.lock();
        inner.connection = Some(connection);
        inner.confirmed.clear();
        drop(inner);
        self.work.notify_one();
    }

    /// The connection is down, or of no use, for this reason. What it carried may be stored; what is queued is not.
    pub(super) fn disconnected(&self, why: Failure) {
        let mut inner = self.inner.lock();
        inner.connection = None;
        self.resolve_where(&mut inner, |entry| match entry.stage {
            Stage::Queued(_) => Some(Outcome::Again(why.clone())),
            Stage::Leaving => None,
            Stage::Sent => Some(Outcome::Unknown(Reason::ConnectionLost.into())),
        });
        inner.queue.clear();
        inner.down = why;
    }

    /// The server refused a publish to this subject; it does not say which one, but from now on it refuses all of them.
    /// Where one was taken before on this connection, confirms of others may still be on their way.
    pub(super) fn denied(&self, subject: &str, why: &Failure) {
        let mut inner = self.inner.lock();
        let taken = inner.confirmed.len() >= MOST_CONFIRMED || inner.confirmed.contains(subject);
        inner.confirmed.remove(subject);
        self.resolve_where(&mut inner, |entry| {
            let sent = !matches!(entry.stage, Stage::Queued(_));
            let outcome = if taken { Outcome::Unknown } else { Outcome::Again };
            (sent && *entry.subject == *subject).then(|| outcome(why.clone()))
        });
    }

    /// The server ended the connection as a message was larger than it takes from this user; it does not say which. It
    /// is one that has no answer, so the largest of these exceeds the limit, too, and is not stored. Nothing is known
    /// where a larger one may be on its way that is not waited for any more, or is not here: of those, `beside` is the
    /// largest.
    pub(super) fn too_large(&self, why: &Failure, beside: usize) {
        let inner = self.inner.lock();
        let sent = inner.entries.iter().filter(|(_, entry)| matches!(entry.stage, Stage::Sent));
        let largest = sent.max_by_key(|(_, entry)| entry.size).map(|(token, entry)| (*token, entry.size));
        if let Some((token, size)) = largest
            && size >= inner.unanswered.max(beside)
        {
            drop(inner);
            self.resolve(token, Outcome::Never(why.clone()));
        }
    }

    /// Ends those whose life is over; says when to look again.
    pub(super) fn expire(&self) -> Instant {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        while let Some(first) = inner.entries.first_entry() {
            if first.get().deadline > now {
                return first.get().deadline;
            }
            let entry = first.remove();
            inner.left(&entry);
            inner.expired |= matches!(entry.stage, Stage::Sent);
            let _ = entry.answer.send(match entry.stage {
                Stage::Queued(_) => Outcome::Again(Failure::new(Reason::Timeout, "it was never sent")),
                Stage::Leaving | Stage::Sent => Outcome::Unknown(Reason::Timeout.into()),
            });
        }
        self.idle.notify_waiters();
        // Later ones have later deadlines.
        now + self.life
    }

    /// Whether a publish has been without an answer for so long, or for its life.
    pub(super) fn stalled(&self, age: Duration) -> bool {
        let mut inner = self.inner.lock();
        let expired = std::mem::take(&mut inner.expired);
        let Some(oldest) = inner.entries.values().next() else { return expired };
        let left = oldest.deadline.saturating_duration_since(Instant::now());
        expired || (matches!(oldest.stage, Stage::Sent) && left + age <= self.life)
    }

    /// The client is gone, and with it whoever was handing over: this is what became of that message.
    pub(super) fn abandoned(&self, outcome: &Outcome) {
        let mut inner = self.inner.lock();
        inner.unanswered = 0;
        self.resolve_where(&mut inner, |entry| matches!(entry.stage, Stage::Leaving).then(|| outcome.clone()));
    }

    /// Takes no more messages.
    pub(super) fn close(&self) {
        self.inner.lock().closing = true;
    }

    /// Waits until nothing is without an outcome.
    pub(super) async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.len() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// How many are without an outcome.
    pub(super) fn len(&self) -> usize {
        self.inner.lock().entries.len()
    }
}

impl Inner {
    /// It leaves the table without an answer.
    fn left(&mut self, entry: &Entry) {
        if matches!(entry.stage, Stage::Sent) {
            self.unanswered = self.unanswered.max(entry.size);
        }
    }

    fn refusal(&self) -> Option<Failure> {
        if self.closing {
            return Some(Reason::Closing.into());
        }
        self.connection.is_none().then(|| self.down.clone())
    }
}
