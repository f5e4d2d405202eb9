//! What is in flight on one channel, and which of lapin's answers is whose.
//!
//! lapin adds a returned message to whichever acknowledgement it completes next. What makes the answers exact nevertheless:
//!
//! - The broker sends a message's return before its acknowledgement, and lapin handles both in that order, one after the
//!   other. It wakes who waits for an acknowledgement before it completes the next.
//! - lapin takes a waiting return with every acknowledgement. One that comes without a return says that none is waiting, so
//!   every message returned before it came along with an *earlier* acknowledgement.
//! - Whoever saw an acknowledgement finds the publishes of all earlier ones among those that were [woken](wakeups), or
//!   has looked at them. [`Window::look`] looks until none is left there, so at its end all earlier ones have been seen too.
//! - So a publish that was acknowledged without a return is confirmed after that look, if none brought its message.
//! - A publish that was acknowledged with another's return waits. An acknowledgement without a return that only a later
//!   look finds came after this publish's own, so none of the returns before that was waiting any more, and all that came
//!   along have been seen: then it is certain. It also is when nothing on the channel is open: as every return has its own
//!   acknowledgement after it, none can be waiting then. Where neither comes about soon, nothing new is sent meanwhile.
//!
//! Returned messages are told apart by their tag, of which there is only one at a time on a channel.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::outcome::{End, Fault, Seen};
use crate::message::Outcome;
use crate::reason::Reason;
use wakeups::Woken;

mod wakeups;

/// How long an outcome may be uncertain until nothing new is sent.
const PATIENCE: Duration = Duration::from_secs(1);

/// A publish that was handed to lapin.
pub(super) struct Sent {
    tag: u64,
    bytes: usize,
    deadline: Instant,
    /// Until it ended.
    publish: Option<BoxFuture<'static, End>>,
    /// How, once it ended.
    seen: Option<Seen>,
    returned: bool,
    answer: oneshot::Sender<Outcome>,
    waker: Waker,
}

impl Sent {
    pub(super) fn new(
        tag: u64,
        bytes: usize,
        deadline: Instant,
        publish: BoxFuture<'static, End>,
        answer: oneshot::Sender<Outcome>,
    ) -> Self {
        let waker = Waker::noop().clone();
        Sent { tag, bytes, deadline, publish: Some(publish), seen: None, returned: false, answer, waker }
    }

    fn answer(self, outcome: Outcome) {
        // Nobody listens any more: then the outcome is nobody's concern.
        let _ = self.answer.send(outcome);
    }
}

/// Why a channel is of no use any more.
#[derive(Debug)]
pub(super) enum Trouble {
    /// What lapin says.
    Error(lapin::Error),
    /// It is not in confirm mode.
    NoConfirms,
    /// It gave back a message that was not sent.
    Stray,
}

/// The publishes on a channel that have no outcome yet.
#[derive(Default)]
pub(super) struct Window {
    /// By slot: in the order in which they were handed over.
    sent: BTreeMap<u64, Sent>,
    /// The next slot. None is used twice.
    next: u64,
    slots: HashMap<u64, u64>,
    open: usize,
    woken: Arc<Woken>,
    /// Those that ended or were returned since the last settling.
    news: Vec<u64>,
    /// Whether an acknowledgement without a return was among them.
    alone: bool,
    /// Those that ended in an earlier look, and since when that is not certain.
    uncertain: VecDeque<(Instant, u64)>,
    /// Nothing can be told apart any more.
    stray: bool,
}

impl Window {
    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    /// When the first of them must have an outcome.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sent.first_key_value().map(|(_, sent)| sent.deadline)
    }

    /// Whether one with this tag is in flight.
    pub(super) fn holds(&self, tag: u64) -> bool {
        self.slots.contains_key(&tag)
    }

    /// Whether an outcome has been uncertain for so long that nothing should be added.
    pub(super) fn must_drain(&self) -> bool {
        self.uncertain.front().is_some_and(|(since, _)| since.elapsed() >= PATIENCE)
    }

    /// Whether any publish has not ended.
    pub(super) fn is_open(&self) -> bool {
        self.open > 0
    }

    /// Adds a publish. Its first poll, here, is what hands it to lapin: the order of the calls is the order on the wire.
    pub(super) fn push(&mut self, mut sent: Sent) -> Result<(), Trouble> {
        let slot = self.next;
        self.next += 1;
        self.open += 1;
        self.slots.insert(sent.tag, slot);
        sent.waker = self.woken.waker(slot);
        self.sent.insert(slot, sent);
        self.look_at(slot)
    }

    /// Looks at every publish that was woken, until none is left; the next one wakes the lane.
    pub(super) fn look(&mut self, cx: &Context<'_>) -> Result<(), Trouble> {
        self.woken.listen(cx.waker());
        let mut first = Ok(());
        loop {
            let slots = self.woken.take();
            if slots.is_empty() {
                return first;
            }
            for slot in slots {
                let looked = self.look_at(slot);
                first = first.and(looked);
            }
        }
    }

    fn look_at(&mut self, slot: u64) -> Result<(), Trouble> {
        let Some(sent) = self.sent.get_mut(&slot) else { return Ok(()) };
        let mut cx = Context::from_waker(&sent.waker);
        let open = sent.publish.as_mut();
        let Some(Poll::Ready(end)) = open.map(|publish| publish.poll_unpin(&mut cx)) else { return Ok(()) };
        sent.publish = None;
        self.open -= 1;
        self.news.push(slot);
        self.alone |= matches!(end, End::Acked(None) | End::Nacked(None));
        let (seen, returned, result) = match end {
            End::NotSent(error) => (Seen::NotSent, None, Err(Trouble::Error(error))),
            End::Lost(error) => (Seen::Lost, None, Err(Trouble::Error(error))),
            End::Acked(returned) => (Seen::Acked { alone: returned.is_none() }, returned, Ok(())),
            End::Nacked(returned) => (Seen::Nacked, returned, Ok(())),
            End::Unasked => (Seen::Unasked, None, Err(Trouble::NoConfirms)),
        };
        sent.seen = Some(seen);
        result.and(returned.map_or(Ok(()), |tag| self.returned(tag)))
    }

    fn returned(&mut self, tag: u64) -> Result<(), Trouble> {
        let slot = self.slots.get(&tag);
        let Some((slot, sent)) = slot.and_then(|slot| Some((*slot, self.sent.get_mut(slot)?))) else {
            self.stray = true;
            return Err(Trouble::Stray);
        };
        sent.returned = true;
        self.news.push(slot);
        Ok(())
    }

    /// Answers whatever is certain after a [`look`](Window::look); says whether any message had no queue. `whole`: the
    /// channel is well, so what is still to come will come.
    pub(super) fn settle(&mut self, whole: bool) -> bool {
        if self.stray {
            return false;
        }
        let mut unroutable = false;
        if std::mem::take(&mut self.alone) {
            unroutable |= self.settle_uncertain();
        }
        for slot in std::mem::take(&mut self.news) {
            unroutable |= self.tell(slot, false);
        }
        if whole && !self.is_open() {
            unroutable |= self.settle_uncertain();
        }
        while self.uncertain.front().is_some_and(|(_, slot)| !self.sent.contains_key(slot)) {
            self.uncertain.pop_front();
        }
        unroutable
    }

    fn settle_uncertain(&mut self) -> bool {
        let uncertain = std::mem::take(&mut self.uncertain);
        uncertain.into_iter().fold(false, |unroutable, (_, slot)| self.tell(slot, true) || unroutable)
    }

    /// Answers a publish, if it ended and its outcome is certain; says whether its message had no queue.
    fn tell(&mut self, slot: u64, certain: bool) -> bool {
        let Some((seen, returned)) = self.sent.get(&slot).and_then(|sent| Some((sent.seen?, sent.returned))) else {
            return false;
        };
        let Some(outcome) = seen.outcome(returned, certain) else {
            if matches!(seen, Seen::Acked { .. }) {
                self.uncertain.push_back((Instant::now(), slot));
            }
            return false;
        };
        let unroutable = matches!(&outcome, Outcome::Again(failure) if failure.reason == Reason::Unroutable);
        if let Some(sent) = self.sent.remove(&slot) {
            self.slots.remove(&sent.tag);
            sent.answer(outcome);
        }
        unroutable
    }

    /// Answers all that is left when the channel is over.
    pub(super) fn give_up(&mut self, fault: &Fault, last: Option<u64>) {
        let now = Instant::now();
        for sent in std::mem::take(self).sent.into_values() {
            let outcome = fault.outcome(last == Some(sent.tag), sent.bytes);
            let late = sent.deadline <= now && matches!(outcome, Outcome::Unknown(_));
            sent.answer(if late { Outcome::Unknown(Reason::Timeout.into()) } else { outcome });
        }
    }
}

#[cfg(test)]
mod tests;
