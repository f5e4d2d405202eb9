//! A lane owns one channel: it is the only task that publishes on the channel.
//!
//! lapin numbers a publish under one lock and queues it under another. Tasks that share a channel can therefore get each
//! other's confirms. [`super::in_flight`] finds out which publish each of lapin's answers belongs to.

use std::future::Future;
use std::hash::RandomState;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::FutureExt as _;
use lapin::Channel;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::connection::AmqpConnection;
use super::in_flight::ChannelPublishes;
use super::message::{Encoded, Encoder};
use super::outcome::{ChannelFault, LapinAnswer, too_large};
use crate::message::Outcome;
use crate::reason::{Failure, Reason};

/// Most publishes in flight on a channel.
const MOST_IN_FLIGHT: usize = 1024;
/// How long lapin may take to fail the publishes of a channel after the channel failed.
const GRACE: Duration = Duration::from_secs(3);

/// A publish that waits for its lane.
pub(super) struct QueuedPublish {
    pub(super) encoded: Encoded,
    pub(super) deadline: Instant,
    /// Sending fails when the publisher does not wait any more.
    pub(super) reply: oneshot::Sender<Outcome>,
}

/// What publishing needs on every connection of a destination.
pub(super) struct PublishContext {
    pub(super) encoder: Encoder,
    pub(super) exchange: ShortString,
    pub(super) publish_timeout: Duration,
    /// Most publishes that wait for one lane.
    pub(super) queue_length: usize,
    /// Chooses the lane of a key.
    pub(super) key_hasher: RandomState,
    /// The broker's limit for a message in bytes; `usize::MAX` while it is unknown.
    pub(super) message_limit: AtomicUsize,
    /// Notified when a message had no queue.
    pub(super) unroutable: Notify,
}

/// What the lanes of one connection share.
pub(super) struct LaneContext {
    pub(super) connection: Arc<AmqpConnection>,
    pub(super) publish: Arc<PublishContext>,
    /// Receives the failure of a lane.
    pub(super) failures: mpsc::UnboundedSender<Failure>,
    /// Stops the lanes: queued publishes are refused, and publishes in flight are waited for.
    pub(super) stop: CancellationToken,
}

/// The future that owns a channel. It ends when nothing is in flight and the queue's senders are gone or the lane was
/// stopped; or when the channel has failed.
pub(super) struct Lane {
    channel: Arc<Channel>,
    context: Arc<LaneContext>,
    queue: mpsc::Receiver<QueuedPublish>,
    /// Taken from the queue, but waits because a publish with the same tag is in flight.
    held: Option<QueuedPublish>,
    in_flight: ChannelPublishes,
    /// The tag of the last message that was passed to lapin.
    last: Option<u64>,
    fault: Option<ChannelFault>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    stopping: bool,
    /// Whether the queue was refused to its end.
    drained: bool,
    timer: Pin<Box<Sleep>>,
}

impl Lane {
    /// `channel` must be in confirm mode, and no other task may publish on it.
    pub(super) fn new(channel: Arc<Channel>, queue: mpsc::Receiver<QueuedPublish>, context: Arc<LaneContext>) -> Self {
        Lane {
            channel,
            stopped: Box::pin(context.stop.clone().cancelled_owned()),
            context,
            queue,
            held: None,
            in_flight: ChannelPublishes::default(),
            last: None,
            fault: None,
            stopping: false,
            drained: false,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// Checks what is in flight, and replies where the outcome is certain. Returns whether there was any such outcome.
    fn settle(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.in_flight.len();
        if let Err(fault) = self.in_flight.check(cx) {
            self.fail(fault);
        }
        if self.in_flight.settle(self.fault.is_none()) {
            self.context.publish.unroutable.notify_one();
        }
        self.in_flight.len() < before
    }

    /// Only the first failure counts: later ones follow from it.
    fn fail(&mut self, fault: ChannelFault) {
        if self.fault.is_some() {
            return;
        }
        if let ChannelFault::TooLarge(limit, _) = fault {
            self.context.publish.message_limit.store(limit, Ordering::Relaxed);
        }
        self.timer.as_mut().reset(Instant::now() + GRACE);
        // An error means that the supervisor has ended the connection itself.
        let _ = self.context.failures.send(fault.failure().clone());
        self.fault = Some(fault);
    }

    /// Passes queued publishes to lapin, as many as there is room for. Returns whether it passed any.
    fn send(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.in_flight.len();
        while self.in_flight.len() < MOST_IN_FLIGHT && !self.in_flight.must_drain() && self.fault.is_none() {
            let Some(queued) = self.held.take() else {
                match self.queue.poll_recv(cx) {
                    Poll::Ready(Some(queued)) => self.held = Some(queued),
                    Poll::Ready(None) | Poll::Pending => break,
                }
                continue;
            };
            if self.in_flight.contains(queued.encoded.tag) {
                self.held = Some(queued);
                break;
            }
            if let Some(outcome) = self.refusal(&queued) {
                let _ = queued.reply.send(outcome);
                continue;
            }
            let QueuedPublish { encoded, deadline, reply } = queued;
            self.last = Some(encoded.tag);
            let (tag, bytes) = (encoded.tag, encoded.body.len());
            let publish = publish(Arc::clone(&self.channel), Arc::clone(&self.context), encoded).boxed();
            if let Err(fault) = self.in_flight.push(tag, bytes, deadline, publish, reply) {
                self.fail(fault);
            }
        }
        self.in_flight.len() > before
    }

    /// The outcome of a publish that must not be sent.
    fn refusal(&self, queued: &QueuedPublish) -> Option<Outcome> {
        let (bytes, limit) = (queued.encoded.body.len(), self.context.publish.message_limit.load(Ordering::Relaxed));
        if bytes > limit {
            return Some(Outcome::Never(too_large(bytes, limit)));
        }
        if self.context.connection.is_blocked() {
            return Some(Outcome::Again(Reason::Blocked.into()));
        }
        (queued.deadline <= Instant::now()).then(|| Outcome::Again(Reason::Timeout.into()))
    }

    /// Refuses what was not sent. One poll may stop before the end of the queue: tokio limits the work of a task.
    fn refuse_queue(&mut self, cx: &mut Context<'_>) {
        self.queue.close();
        let refused = || match &self.fault {
            Some(ChannelFault::Refused(failure)) => Outcome::Again(failure.clone()),
            _ => Outcome::Again(Reason::Unreachable.into()),
        };
        if let Some(queued) = self.held.take() {
            let _ = queued.reply.send(refused());
        }
        while !self.drained {
            match self.queue.poll_recv(cx) {
                Poll::Ready(Some(queued)) => drop(queued.reply.send(refused())),
                Poll::Ready(None) => self.drained = true,
                Poll::Pending => break,
            }
        }
    }

    /// After a failure: waits until lapin has failed every publish and the whole queue was refused, and replies to what
    /// was in flight.
    fn finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.in_flight.has_open() {
            ready!(self.timer.as_mut().poll(cx));
        }
        if let Some(fault) = &self.fault {
            self.in_flight.fail_all(fault, self.last);
        }
        if self.drained { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Future for Lane {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let lane = self.get_mut();
        lane.stopping = lane.stopping || lane.stopped.as_mut().poll(cx).is_ready();
        lane.settle(cx);
        // A publish that ends at its first poll causes no wakeup, but it makes room.
        while lane.fault.is_none() && !lane.stopping && lane.send(cx) && lane.settle(cx) {}
        if lane.fault.is_some() || lane.stopping {
            lane.refuse_queue(cx);
        }
        if lane.fault.is_none() {
            let Some(deadline) = lane.in_flight.deadline() else {
                let over = lane.queue.is_closed() && lane.queue.is_empty() && lane.held.is_none();
                return if over { Poll::Ready(()) } else { Poll::Pending };
            };
            // Deadlines come in order, so it is enough to set the timer again when it fires.
            ready!(lane.timer.as_mut().poll(cx));
            if deadline > Instant::now() {
                lane.timer.as_mut().reset(deadline);
                ready!(lane.timer.as_mut().poll(cx));
            }
            // What the broker will do with the messages on this connection cannot be known any more.
            lane.fail(ChannelFault::Ended(Failure::new(Reason::Timeout, "a publish was not confirmed in time")));
            lane.refuse_queue(cx);
        }
        lane.finish(cx)
    }
}

async fn publish(channel: Arc<Channel>, context: Arc<LaneContext>, encoded: Encoded) -> LapinAnswer {
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let Encoded { routing_key, properties, body, .. } = encoded;
    let exchange = context.publish.exchange.clone();
    let sent = channel.basic_publish(exchange, routing_key, options, &body, properties).await;
    drop(body);
    match sent {
        Err(error) => LapinAnswer::of_unsent(error, context.connection.address.is_tls()),
        Ok(confirm) => match confirm.await {
            Ok(confirmation) => LapinAnswer::of_confirmation(confirmation, &context.publish.encoder),
            Err(error) => LapinAnswer::Lost(error),
        },
    }
}
