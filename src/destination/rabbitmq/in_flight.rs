//! The publishes in flight on one channel, and which of lapin's answers belongs to which publish.
//!
//! A confirm is the broker's ack or nack of one message. A return is a message that the broker sends back because no
//! queue takes it; the broker confirms that message too. lapin attaches a return to whichever confirm it completes next,
//! so the confirm of one publish can carry the return of another. These rules make the outcomes exact all the same:
//!
//! 1. The broker sends the return of a message before the confirm of that message. lapin handles both in this order, one
//!    after the other. It wakes the publish that a confirm belongs to before it completes the next confirm.
//! 2. With each confirm, lapin takes a pending return, if there is one. So a confirm without a return proves that no
//!    return is pending: every message that was returned before it was attached to an *earlier* confirm.
//! 3. When a confirm is seen, the publishes of all earlier confirms are among the [woken](wakeups) ones (rule 1), or were
//!    polled already. [`ChannelPublishes::check`] polls until no woken publish is left. So at its end, the confirms
//!    before each confirm that it saw have been seen too.
//! 4. Hence a publish whose confirm came without a return is settled at the end of that check: it has no queue if a
//!    confirm carried its message, and it is confirmed otherwise.
//! 5. A publish whose confirm carried the return of another publish is uncertain: its own return may be pending. If a
//!    *later* check sees a confirm without a return, that confirm came after the confirm of the uncertain publish (rule
//!    3). So no return from before is pending any more (rule 2), and the confirms that carried them have all been seen
//!    (rule 3). If none carried the message of the uncertain publish, it is confirmed.
//! 6. An uncertain publish is also settled when every publish on the channel has ended: a return is always followed by
//!    the confirm of the same message (rule 1), so no return can be pending then.
//! 7. If neither rule 5 nor rule 6 applies within [`PATIENCE`], no new publish is sent until one of them does.
//!
//! Returns are matched to publishes by tag. No two publishes with the same tag are in flight on a channel.
//!
//! A publish whose time is over gets its outcome, and stays among the publishes of the channel: its confirm still comes
//! when the queue works again, and may carry the return of another publish.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::time::Instant;

use super::load::PublishReply;
use super::outcome::{ChannelFault, LapinAnswer, PublishEnd};
use super::refusals::TopicRefusals;
use crate::message::Outcome;
use crate::reason::{Failure, Reason};
use wakeups::Wakeups;

mod wakeups;

/// How long an outcome may be uncertain before no new publish is sent.
const PATIENCE: Duration = Duration::from_secs(1);

/// A publish that is passed to lapin.
pub(super) struct NewPublish {
    pub(super) topic: Arc<str>,
    /// Identifies a returned message.
    pub(super) tag: u64,
    pub(super) bytes: usize,
    pub(super) deadline: Instant,
    pub(super) reply: PublishReply,
}

/// A publish that lapin has taken.
struct SentPublish {
    topic: Arc<str>,
    tag: u64,
    bytes: usize,
    deadline: Instant,
    /// `None` when it has ended.
    publish: Option<BoxFuture<'static, LapinAnswer>>,
    /// How it ended.
    end: Option<PublishEnd>,
    /// Whether a confirm carried its return.
    returned: bool,
    /// `None` when its time was over before the outcome was certain.
    reply: Option<PublishReply>,
    waker: Waker,
}

/// The publishes of one channel that have no outcome yet.
#[derive(Default)]
pub(super) struct ChannelPublishes {
    /// By slot, in the order in which they were sent.
    publishes: BTreeMap<u64, SentPublish>,
    /// The next slot. No slot is used twice.
    next_slot: u64,
    /// The slot of each tag.
    slots: HashMap<u64, u64>,
    /// How many have not ended.
    open: usize,
    /// How many have no reply: their time is over.
    expired: usize,
    wakeups: Arc<Wakeups>,
    /// The slots that ended or were returned since the last [`settle`](ChannelPublishes::settle).
    changed: Vec<u64>,
    /// Whether a confirm without a return was among them.
    without_return: bool,
    /// Slots that ended in an earlier check and are uncertain, and since when.
    uncertain: VecDeque<(Instant, u64)>,
    /// A return matched no publish: no answer on this channel can be trusted.
    stray_return: bool,
}

impl ChannelPublishes {
    pub(super) fn len(&self) -> usize {
        self.publishes.len()
    }

    /// How many wait for an outcome.
    pub(super) fn waiting(&self) -> usize {
        self.publishes.len() - self.expired
    }

    /// When the first of them must have an outcome.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.publishes.values().find(|sent| sent.reply.is_some()).map(|sent| sent.deadline)
    }

    /// The deadline of the oldest publish whose time is over and that the broker has not answered.
    pub(super) fn overdue(&self) -> Option<Instant> {
        let first = self.publishes.first_key_value().map(|(_, sent)| sent)?;
        first.reply.is_none().then_some(first.deadline)
    }

    /// The topics of all publishes.
    pub(super) fn topics(&self) -> BTreeSet<Arc<str>> {
        self.publishes.values().map(|sent| Arc::clone(&sent.topic)).collect()
    }

    /// Replies to every publish whose time is over, and returns the topics.
    pub(super) fn expire(&mut self) -> BTreeSet<Arc<str>> {
        let (now, mut topics) = (Instant::now(), BTreeSet::new());
        for sent in self.publishes.values_mut().filter(|sent| sent.reply.is_some()) {
            // Deadlines come in order.
            if sent.deadline > now {
                break;
            }
            if let Some(reply) = sent.reply.take() {
                reply.send(Outcome::Unknown(Reason::Timeout.into()));
                self.expired += 1;
                topics.insert(Arc::clone(&sent.topic));
            }
        }
        topics
    }

    /// Whether a publish with this tag is in flight.
    pub(super) fn contains(&self, tag: u64) -> bool {
        self.slots.contains_key(&tag)
    }

    /// Whether an outcome has been uncertain for so long that no publish should be added (rule 7).
    pub(super) fn must_drain(&self) -> bool {
        self.uncertain.front().is_some_and(|(since, _)| since.elapsed() >= PATIENCE)
    }

    /// Whether any publish has not ended.
    pub(super) fn has_open(&self) -> bool {
        self.open > 0
    }

    /// Adds a publish. Its first poll, here, passes it to lapin: the order of the calls is the order on the wire.
    pub(super) fn push(
        &mut self,
        new: NewPublish,
        publish: BoxFuture<'static, LapinAnswer>,
    ) -> Result<(), ChannelFault> {
        let slot = self.next_slot;
        self.next_slot += 1;
        self.open += 1;
        let NewPublish { topic, tag, bytes, deadline, reply } = new;
        self.slots.insert(tag, slot);
        let (publish, waker, reply) = (Some(publish), self.wakeups.waker(slot), Some(reply));
        let sent = SentPublish { topic, tag, bytes, deadline, publish, end: None, returned: false, reply, waker };
        self.publishes.insert(slot, sent);
        self.poll(slot)
    }

    /// Polls every woken publish, until no woken one is left. The next wakeup wakes the lane.
    pub(super) fn check(&mut self, cx: &Context<'_>) -> Result<(), ChannelFault> {
        self.wakeups.listen(cx.waker());
        let mut first = Ok(());
        loop {
            let slots = self.wakeups.take();
            if slots.is_empty() {
                return first;
            }
            for slot in slots {
                let polled = self.poll(slot);
                first = first.and(polled);
            }
        }
    }

    fn poll(&mut self, slot: u64) -> Result<(), ChannelFault> {
        let Some(sent) = self.publishes.get_mut(&slot) else { return Ok(()) };
        let mut cx = Context::from_waker(&sent.waker);
        let open = sent.publish.as_mut();
        let Some(Poll::Ready(answer)) = open.map(|publish| publish.poll_unpin(&mut cx)) else { return Ok(()) };
        sent.publish = None;
        self.open -= 1;
        self.changed.push(slot);
        let (end, returned, result) = match answer {
            LapinAnswer::NotSent(error) => (PublishEnd::NotSent, None, Err(ChannelFault::of(&error))),
            LapinAnswer::Lost(error) => (PublishEnd::Lost, None, Err(ChannelFault::of(&error))),
            LapinAnswer::Acked(returned) => {
                (PublishEnd::Acked { without_return: returned.is_none() }, returned, Ok(()))
            }
            LapinAnswer::Nacked(returned) => (PublishEnd::Nacked, returned, Ok(())),
            LapinAnswer::NotRequested => {
                (PublishEnd::NotRequested, None, Err(fault("a channel is not in confirm mode")))
            }
        };
        self.without_return |= matches!(end, PublishEnd::Acked { .. } | PublishEnd::Nacked) && returned.is_none();
        sent.end = Some(end);
        result.and(returned.map_or(Ok(()), |tag| self.mark_returned(tag)))
    }

    fn mark_returned(&mut self, tag: u64) -> Result<(), ChannelFault> {
        let slot = self.slots.get(&tag);
        let Some((slot, sent)) = slot.and_then(|slot| Some((*slot, self.publishes.get_mut(slot)?))) else {
            self.stray_return = true;
            return Err(fault("a returned message matches no publish"));
        };
        sent.returned = true;
        self.changed.push(slot);
        Ok(())
    }

    /// Replies to every publish whose outcome is certain after a [`check`](ChannelPublishes::check). Returns whether any
    /// message had no queue. `intact`: the channel has not failed, so outstanding confirms will still come.
    pub(super) fn settle(&mut self, intact: bool, refusals: &TopicRefusals) -> bool {
        if self.stray_return {
            return false;
        }
        let mut unroutable = false;
        if std::mem::take(&mut self.without_return) {
            unroutable |= self.settle_uncertain(refusals);
        }
        for slot in std::mem::take(&mut self.changed) {
            unroutable |= self.settle_one(slot, false, refusals);
        }
        if intact && !self.has_open() {
            unroutable |= self.settle_uncertain(refusals);
        }
        while self.uncertain.front().is_some_and(|(_, slot)| !self.publishes.contains_key(slot)) {
            self.uncertain.pop_front();
        }
        unroutable
    }

    fn settle_uncertain(&mut self, refusals: &TopicRefusals) -> bool {
        let uncertain = std::mem::take(&mut self.uncertain);
        uncertain.into_iter().fold(false, |unroutable, (_, slot)| self.settle_one(slot, true, refusals) || unroutable)
    }

    /// Replies to a publish if it has ended and its outcome is certain. Returns whether its message had no queue.
    fn settle_one(&mut self, slot: u64, certain: bool, refusals: &TopicRefusals) -> bool {
        let Some((end, returned)) = self.publishes.get(&slot).and_then(|sent| Some((sent.end?, sent.returned))) else {
            return false;
        };
        let Some(outcome) = end.outcome(returned, certain) else {
            if matches!(end, PublishEnd::Acked { .. }) {
                self.uncertain.push_back((Instant::now(), slot));
            }
            return false;
        };
        let unroutable = outcome.failure().is_some_and(|failure| failure.reason == Reason::Unroutable);
        if let Some(sent) = self.publishes.remove(&slot) {
            self.slots.remove(&sent.tag);
            if end.is_answer() {
                refusals.answered(&sent.topic);
            }
            match sent.reply {
                Some(reply) => reply.send(outcome),
                None => self.expired -= 1,
            }
        }
        unroutable
    }

    /// Replies to every publish that is left when the channel has failed. `last`: the tag of the last message sent on it.
    pub(super) fn fail_all(&mut self, fault: &ChannelFault, last: Option<u64>) {
        let now = Instant::now();
        for sent in std::mem::take(self).publishes.into_values() {
            let Some(reply) = sent.reply else { continue };
            let outcome = fault.outcome(last == Some(sent.tag), sent.bytes);
            let late = sent.deadline <= now && matches!(outcome, Outcome::Unknown(_));
            reply.send(if late { Outcome::Unknown(Reason::Timeout.into()) } else { outcome });
        }
    }
}

fn fault(detail: &'static str) -> ChannelFault {
    ChannelFault::Ended(Failure::new(Reason::Failed, detail))
}

#[cfg(test)]
mod tests;
