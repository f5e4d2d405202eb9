//! A lane publishes the messages of its topics in order, on a channel of its own: it is the only task that publishes on
//! the channel. It opens the channel for its first publish, and opens another one when the broker has closed it.
//!
//! lapin numbers a publish under one lock and queues it under another. Tasks that share a channel can therefore get each
//! other's confirms. [`super::in_flight`] finds out which publish each of lapin's answers belongs to.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::FutureExt as _;
use lapin::Channel;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::context::LaneContext;
use super::in_flight::{ChannelPublishes, NewPublish};
use super::lane_channel::{LaneChannel, publish};
use super::load::{LaneLoad, PublishReply};
use super::message::Encoded;
use super::outcome::{ChannelFault, too_large};
use super::refusals::{Retry, TopicRefusals};
use crate::message::Outcome;
use crate::reason::{Failure, Reason};

/// Most publishes in flight on a channel. RabbitMQ's flow control stops reading the whole connection when a channel has
/// more than about 232 messages that a queue does not take: 32 for a quorum queue, and 200 for the channel.
const MOST_IN_FLIGHT: usize = 200;
/// How long lapin may take to fail the publishes of a channel after the channel failed.
const GRACE: Duration = Duration::from_secs(3);
/// A lane whose publishes are not confirmed for this long confirms nothing.
const STALL: Duration = Duration::from_secs(1);
/// How long after its deadline an answer to a publish is still expected.
const LATE: Duration = Duration::from_secs(60);

/// A publish that waits for its lane.
pub(super) struct QueuedPublish {
    pub(super) topic: Arc<str>,
    pub(super) encoded: Encoded,
    pub(super) deadline: Instant,
    /// Whether it tries a refused topic.
    pub(super) trial: bool,
    pub(super) reply: PublishReply,
}

impl QueuedPublish {
    /// Ends it without sending it.
    fn not_sent(self, outcome: Outcome, refusals: &TopicRefusals) {
        if self.trial {
            refusals.not_tried(&self.topic);
        }
        self.reply.send(outcome);
    }
}

/// The future that owns a channel. It ends when nothing waits for an outcome and the queue's senders are gone or the lane
/// was stopped; or when the connection has failed.
pub(super) struct Lane {
    context: Arc<LaneContext>,
    load: Arc<LaneLoad>,
    queue: mpsc::UnboundedReceiver<QueuedPublish>,
    /// Whether the queue was emptied, and nothing more can arrive.
    ended: bool,
    /// Taken from the queue, in order.
    waiting: VecDeque<QueuedPublish>,
    channel: LaneChannel,
    in_flight: ChannelPublishes,
    /// Whether the broker has answered a publish on this channel. The first publish is sent alone: if the broker refuses
    /// it, the outcomes of the others are certain too.
    proven: bool,
    /// The tag of the last message that was passed to lapin.
    last: Option<u64>,
    fault: Option<ChannelFault>,
    /// When the broker last answered, or the lane last had nothing to do.
    progress: Instant,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The lane was stopped, or the connection has failed: nothing more is sent.
    stopping: bool,
    timer: Pin<Box<Sleep>>,
}

impl Lane {
    pub(super) fn new(
        queue: mpsc::UnboundedReceiver<QueuedPublish>,
        load: Arc<LaneLoad>,
        context: Arc<LaneContext>,
    ) -> Self {
        Lane {
            stopped: Box::pin(context.stop.clone().cancelled_owned()),
            context,
            load,
            queue,
            ended: false,
            waiting: VecDeque::new(),
            channel: LaneChannel::Closed,
            in_flight: ChannelPublishes::default(),
            proven: false,
            last: None,
            fault: None,
            progress: Instant::now(),
            stopping: false,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// Takes all publishes from the queue. One poll may stop before its end: tokio limits the work of a task.
    fn receive(&mut self, cx: &mut Context<'_>) {
        while !self.ended {
            match self.queue.poll_recv(cx) {
                Poll::Ready(Some(queued)) => {
                    if !self.is_busy() {
                        self.progress = Instant::now();
                    }
                    self.waiting.push_back(queued);
                }
                Poll::Ready(None) => self.ended = true,
                Poll::Pending => break,
            }
        }
    }

    /// Whether any publish waits for an outcome.
    fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || self.in_flight.waiting() > 0
    }

    /// Checks what is in flight, and replies where the outcome is certain. Returns whether there was any such outcome.
    fn settle(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.in_flight.len();
        let checked = self.in_flight.check(cx);
        let intact = checked.is_ok() && self.fault.is_none();
        if self.in_flight.settle(intact, &self.context.publish.refusals) {
            self.context.publish.unroutable.notify_one();
        }
        if let Err(fault) = checked {
            self.fail(fault);
        }
        let settled = self.in_flight.len() < before;
        if settled {
            self.proven = true;
            self.progress = Instant::now();
        }
        settled
    }

    /// The channel cannot be used any more. Only the first failure counts: later ones follow from it.
    fn fail(&mut self, fault: ChannelFault) {
        if self.fault.is_some() {
            return;
        }
        if let ChannelFault::TooLarge(limit, _) = fault {
            self.context.publish.message_limit.store(limit, Ordering::Relaxed);
        }
        if !self.context.connection.is_connected() || fault.concerns_all() {
            self.end_connection(fault.failure().clone());
        }
        self.timer.as_mut().reset(Instant::now() + GRACE);
        self.fault = Some(fault);
    }

    fn end_connection(&mut self, failure: Failure) {
        self.stopping = true;
        // An error means that the supervisor has ended the connection itself.
        let _ = self.context.failures.send(failure);
    }

    /// After a failure of the channel: waits until lapin has failed every publish, and replies to what was in flight.
    fn finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(fault) = self.fault.clone() else { return Poll::Ready(()) };
        if self.in_flight.has_open() && !self.channel.is_open() {
            ready!(self.timer.as_mut().poll(cx));
        }
        if !self.stopping {
            self.refuse_topics(&fault);
        }
        self.in_flight.fail_all(&fault, self.last);
        (self.fault, self.last, self.proven, self.progress) = (None, None, false, Instant::now());
        self.channel.release(&self.context, self.stopping || self.ended);
        self.refuse_waiting();
        Poll::Ready(())
    }

    /// Refuses the topics that were on the channel, for some time, unless the message itself was the cause.
    fn refuse_topics(&self, fault: &ChannelFault) {
        let (topics, refusals) = (self.in_flight.topics(), &self.context.publish.refusals);
        let failure = fault.failure();
        // "access to topic 'a.b' in exchange 'events' in vhost '/' refused for user 'u'"
        let named = |topic: &Arc<str>| failure.detail.contains(&format!("'{topic}'"));
        let any_named = topics.iter().any(named);
        refusals.answers_lost(|topic| topics.contains(topic), false);
        if failure.reason != Reason::Timeout && !matches!(fault, ChannelFault::TooLarge(..)) {
            for topic in topics.iter().filter(|topic| !any_named || named(topic)) {
                refusals.refuse(topic, failure.clone(), Retry::AfterPause);
            }
        }
    }

    /// Replies to every publish whose time is over.
    fn expire(&mut self) {
        let (now, publish) = (Instant::now(), Arc::clone(&self.context.publish));
        let topics = self.in_flight.expire();
        for topic in &topics {
            let failure = Failure::new(Reason::Timeout, "a publish was not confirmed in time");
            publish.refusals.refuse(topic, failure, Retry::WithAnswer);
        }
        let mut late = !topics.is_empty();
        if late {
            self.refuse_waiting();
        }
        // Deadlines come in order.
        while self.waiting.front().is_some_and(|queued| queued.deadline <= now) {
            let Some(queued) = self.waiting.pop_front() else { break };
            queued.not_sent(Outcome::Again(Reason::Timeout.into()), &publish.refusals);
            late = true;
        }
        if late {
            publish.unanswered.notify_one();
        }
        // Publishes to a topic that does not answer must not take the room of others.
        let no_room = !self.waiting.is_empty() && self.in_flight.waiting() == 0 && !self.has_room();
        if no_room || self.in_flight.overdue().is_some_and(|deadline| deadline + LATE <= now) {
            self.fail(ChannelFault::Ended(Failure::new(Reason::Timeout, "the broker does not answer on the channel")));
        }
    }

    /// Refuses the queued publishes that must not be sent.
    fn refuse_waiting(&mut self) {
        for queued in std::mem::take(&mut self.waiting) {
            match self.refusal(&queued) {
                Some(outcome) => queued.not_sent(outcome, &self.context.publish.refusals),
                None => self.waiting.push_back(queued),
            }
        }
    }

    /// While the broker confirms nothing, the lane holds only its part of the destination's places.
    fn watch_load(&mut self) {
        if !self.is_busy() {
            self.progress = Instant::now();
        }
        self.load.set_stalled(self.progress.elapsed() >= STALL);
        while self.load.is_over() {
            let Some(queued) = self.waiting.pop_back() else { break };
            queued.not_sent(Outcome::Again(Reason::Busy.into()), &self.context.publish.refusals);
        }
    }

    /// The channel; `None` while it is being opened.
    fn channel(&mut self, cx: &mut Context<'_>) -> Option<Arc<Channel>> {
        match self.channel.open(&self.context, cx) {
            Poll::Pending => None,
            Poll::Ready(Ok(channel)) => Some(channel),
            Poll::Ready(Err(failure)) => {
                self.end_connection(failure);
                None
            }
        }
    }

    fn has_room(&self) -> bool {
        let most = if self.proven { MOST_IN_FLIGHT } else { 1 };
        self.in_flight.len() < most && !self.in_flight.must_drain()
    }

    /// Passes queued publishes to lapin, as many as there is room for. Returns whether it passed any.
    fn send(&mut self, cx: &mut Context<'_>) -> bool {
        if self.waiting.is_empty() || self.fault.is_some() || self.stopping {
            return false;
        }
        let Some(channel) = self.channel(cx) else { return false };
        let mut sent = false;
        while self.fault.is_none() && self.has_room() {
            // No two publishes with the same tag are in flight on a channel.
            if self.waiting.front().is_some_and(|queued| self.in_flight.contains(queued.encoded.tag)) {
                break;
            }
            let Some(queued) = self.waiting.pop_front() else { break };
            if let Some(outcome) = self.refusal(&queued) {
                queued.not_sent(outcome, &self.context.publish.refusals);
                continue;
            }
            let QueuedPublish { topic, encoded, deadline, reply, .. } = queued;
            let new = NewPublish { topic, tag: encoded.tag, bytes: encoded.body.len(), deadline, reply };
            self.last = Some(encoded.tag);
            sent = true;
            let publish = publish(Arc::clone(&channel), Arc::clone(&self.context), encoded).boxed();
            if let Err(fault) = self.in_flight.push(new, publish) {
                self.fail(fault);
            }
        }
        sent
    }

    /// The outcome of a publish that must not be sent.
    fn refusal(&self, queued: &QueuedPublish) -> Option<Outcome> {
        if self.stopping {
            return Some(Outcome::Again(Reason::Unreachable.into()));
        }
        let publish = &self.context.publish;
        let (bytes, limit) = (queued.encoded.body.len(), publish.message_limit.load(Ordering::Relaxed));
        if bytes > limit {
            return Some(Outcome::Never(too_large(bytes, limit)));
        }
        if self.context.connection.is_blocked() {
            return Some(Outcome::Again(Reason::Blocked.into()));
        }
        if queued.trial {
            return None;
        }
        publish.refusals.failure(&queued.topic).map(Outcome::Again)
    }

    /// Waits for the next moment at which something is due without a wakeup.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let stall = (self.is_busy() && self.progress.elapsed() < STALL).then(|| self.progress + STALL);
        let waiting = self.waiting.front().map(|queued| queued.deadline);
        let late = self.in_flight.overdue().map(|deadline| deadline + LATE);
        let Some(next) = [self.in_flight.deadline(), waiting, late, stall].into_iter().flatten().min() else {
            return Poll::Pending;
        };
        // Setting the timer takes a lock, so one that is due earlier is left alone until then.
        while next > Instant::now() {
            if self.timer.is_elapsed() || self.timer.deadline() > next {
                self.timer.as_mut().reset(next);
            }
            ready!(self.timer.as_mut().poll(cx));
        }
        Poll::Ready(())
    }
}

impl Future for Lane {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let lane = self.get_mut();
        loop {
            lane.stopping = lane.stopping || lane.stopped.as_mut().poll(cx).is_ready();
            if lane.stopping {
                lane.queue.close();
            }
            lane.receive(cx);
            lane.settle(cx);
            ready!(lane.finish(cx));
            lane.expire();
            if lane.stopping {
                lane.refuse_waiting();
            }
            // A publish that ends at its first poll causes no wakeup, but it makes room.
            while lane.send(cx) && lane.settle(cx) {}
            if lane.fault.is_some() {
                continue;
            }
            lane.watch_load();
            if lane.ended && !lane.is_busy() {
                lane.channel.release(&lane.context, true);
                return Poll::Ready(());
            }
            ready!(lane.wait(cx));
        }
    }
}
