//! Refusals that do not name the publish: they apply to the stream or to the connection.

use super::{MAX_CONFIRMED, OpenPublish, PublishTable, SendStage};
use crate::message::Outcome;
use crate::reason::Failure;

impl PublishTable {
    /// The stream was checked. `unfit`: why nothing may be published to it. What is queued is refused too.
    pub(in crate::destination::nats) fn checked(&self, unfit: Option<Failure>) {
        let mut publishes = self.publishes.lock();
        if let Some(failure) = &unfit {
            let queued = |publish: &OpenPublish| matches!(publish.stage, SendStage::Queued(_));
            self.resolve_where(&mut publishes, |publish| queued(publish).then(|| Outcome::Again(failure.clone())));
            publishes.queue.clear();
        }
        publishes.unfit = unfit;
    }

    /// The server refused a publish to this subject. It does not say which publish, but it refuses all from now on. If
    /// it took one on this connection before, confirms of others may still arrive.
    pub(in crate::destination::nats) fn denied(&self, subject: &str, failure: &Failure) {
        let mut publishes = self.publishes.lock();
        let allowed_before = publishes.confirmed.len() >= MAX_CONFIRMED || publishes.confirmed.contains(subject);
        publishes.confirmed.remove(subject);
        self.resolve_where(&mut publishes, |publish| {
            let sent = !matches!(publish.stage, SendStage::Queued(_));
            let outcome = if allowed_before { Outcome::Unknown } else { Outcome::Again };
            (sent && *publish.subject == *subject).then(|| outcome(failure.clone()))
        });
    }

    /// The server closed the connection because a message exceeds this user's limit. It does not say which message.
    /// That message has no answer, so the largest message without an answer exceeds the limit too, and is not stored.
    /// This does not hold if a larger message that is not in the table may have been sent: one that left the table
    /// without an answer, or a request to the JetStream API (`largest_request`, in bytes).
    pub(in crate::destination::nats) fn too_large(&self, failure: &Failure, largest_request: usize) {
        let publishes = self.publishes.lock();
        let sent = publishes.open.iter().filter(|(_, publish)| matches!(publish.stage, SendStage::Sent));
        let largest = sent.max_by_key(|(_, publish)| publish.size).map(|(token, publish)| (*token, publish.size));
        if let Some((token, size)) = largest
            && size >= publishes.unanswered.max(largest_request)
        {
            drop(publishes);
            self.resolve(token, Outcome::Never(failure.clone()));
        }
    }
}
