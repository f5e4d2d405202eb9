//! The owner of one channel: the only task that publishes on it.
//!
//! lapin numbers a publish under one lock and queues it under another, so tasks that share a channel can be told each
//! other's outcomes. Which of its answers is whose even so is [`super::in_flight`]'s concern.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::FutureExt as _;
use lapin::Channel;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::connection::{Link, failure};
use super::in_flight::{Sent, Trouble, Window};
use super::message::{Encoded, Encoder};
use super::outcome::{End, Fault, too_large};
use crate::message::Outcome;
use crate::reason::{Failure, Reason};

/// Most publishes on a channel without an answer.
const WINDOW: usize = 1024;
/// How long after a failure lapin may take to fail what was on the channel.
const GRACE: Duration = Duration::from_secs(3);

/// A publish on its way to a channel.
pub(super) struct Job {
    pub(super) encoded: Encoded,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Outcome>,
}

impl Job {
    fn answer(self, outcome: Outcome) {
        // Nobody listens any more: the outcome is nobody's concern then.
        let _ = self.answer.send(outcome);
    }
}

/// What the lanes of one connection share.
pub(super) struct Common {
    pub(super) link: Arc<Link>,
    pub(super) encoder: Arc<Encoder>,
    pub(super) exchange: ShortString,
    /// The broker's limit for a message, once it is known.
    pub(super) limit: Arc<AtomicUsize>,
    /// Takes why a lane failed.
    pub(super) failed: mpsc::UnboundedSender<Failure>,
    /// Told when a message had no queue.
    pub(super) unroutable: Arc<tokio::sync::Notify>,
    /// Ends the lanes: what waits is refused, what was sent is waited for.
    pub(super) stop: CancellationToken,
}

/// The future that owns a channel. Ends when the queue's senders are gone or it was stopped, and nothing is open.
pub(super) struct Lane {
    channel: Arc<Channel>,
    common: Arc<Common>,
    queue: mpsc::Receiver<Job>,
    /// Taken from the queue, but one with its tag is in flight.
    held: Option<Job>,
    window: Window,
    /// The tag of the last message handed to lapin.
    last: Option<u64>,
    fault: Option<Fault>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    stopping: bool,
    /// Whether the queue was refused to its end.
    drained: bool,
    timer: Pin<Box<Sleep>>,
}

impl Lane {
    /// `channel` must be in confirm mode and nobody else's.
    pub(super) fn new(channel: Arc<Channel>, queue: mpsc::Receiver<Job>, common: Arc<Common>) -> Self {
        Lane {
            channel,
            stopped: Box::pin(common.stop.clone().cancelled_owned()),
            common,
            queue,
            held: None,
            window: Window::default(),
            last: None,
            fault: None,
            stopping: false,
            drained: false,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// Looks at what is in flight, and answers whatever is certain; whether that was anything.
    fn settle(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.window.len();
        if let Err(trouble) = self.window.look(cx) {
            self.trouble(trouble);
        }
        if self.window.settle(self.fault.is_none()) {
            self.common.unroutable.notify_one();
        }
        self.window.len() < before
    }

    fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Error(error) => self.fail(Fault::of(&error), failure(&error)),
            Trouble::NoConfirms => {
                self.fail(Fault::Ended, Failure::new(Reason::Failed, "a channel was not in confirm mode"));
            }
            // Then nothing on this channel can be told apart any more.
            Trouble::Stray => {
                self.fail(Fault::Ended, Failure::new(Reason::Failed, "a returned message is of no publish"));
            }
        }
    }

    /// The first failure is the channel's end; what follows from it is no news.
    fn fail(&mut self, fault: Fault, failure: Failure) {
        if self.fault.is_some() {
            return;
        }
        if let Fault::TooLarge(limit) = fault {
            self.common.limit.store(limit, Ordering::Relaxed);
        }
        self.fault = Some(fault);
        self.timer.as_mut().reset(Instant::now() + GRACE);
        // The supervisor may have ended the connection itself.
        let _ = self.common.failed.send(failure);
    }

    /// Hands to lapin what fits; whether that was anything.
    fn take(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.window.len();
        while self.window.len() < WINDOW && !self.window.must_drain() && self.fault.is_none() {
            let Some(job) = self.held.take() else {
                match self.queue.poll_recv(cx) {
                    Poll::Ready(Some(job)) => self.held = Some(job),
                    Poll::Ready(None) | Poll::Pending => break,
                }
                continue;
            };
            if self.window.holds(job.encoded.tag) {
                self.held = Some(job);
                break;
            }
            if let Some(outcome) = self.hopeless(&job) {
                job.answer(outcome);
                continue;
            }
            let Job { encoded, deadline, answer } = job;
            self.last = Some(encoded.tag);
            let (tag, bytes) = (encoded.tag, encoded.body.len());
            let publish = publish(Arc::clone(&self.channel), Arc::clone(&self.common), encoded).boxed();
            let sent = Sent::new(tag, bytes, deadline, publish, answer);
            if let Err(trouble) = self.window.push(sent) {
                self.trouble(trouble);
            }
        }
        self.window.len() > before
    }

    /// Why a message is not even sent.
    fn hopeless(&self, job: &Job) -> Option<Outcome> {
        let (bytes, limit) = (job.encoded.body.len(), self.common.limit.load(Ordering::Relaxed));
        if bytes > limit {
            return Some(Outcome::Never(too_large(bytes, limit)));
        }
        if self.common.link.connection.status().blocked() {
            return Some(Outcome::Again(Reason::Blocked.into()));
        }
        (job.deadline <= Instant::now()).then(|| Outcome::Again(Reason::Timeout.into()))
    }

    /// Refuses what was not handed over. A poll may stop before the queue's end, when the task has run long enough.
    fn refuse(&mut self, cx: &mut Context<'_>) {
        self.queue.close();
        let refused = || match &self.fault {
            Some(Fault::Refused(failure)) => Outcome::Again(failure.clone()),
            _ => Outcome::Again(Reason::Unreachable.into()),
        };
        if let Some(job) = self.held.take() {
            job.answer(refused());
        }
        while !self.drained {
            match self.queue.poll_recv(cx) {
                Poll::Ready(Some(job)) => job.answer(refused()),
                Poll::Ready(None) => self.drained = true,
                Poll::Pending => break,
            }
        }
    }

    /// After a failure: waits until everything in the queue was refused and lapin has failed everything, and answers it.
    fn finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.window.is_open() {
            ready!(self.timer.as_mut().poll(cx));
        }
        self.window.give_up(self.fault.as_ref().unwrap_or(&Fault::Ended), self.last);
        if self.drained { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Future for Lane {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let lane = self.get_mut();
        lane.stopping = lane.stopping || lane.stopped.as_mut().poll(cx).is_ready();
        lane.settle(cx);
        // What ends at its first look wakes nobody, and makes room.
        while lane.fault.is_none() && !lane.stopping && lane.take(cx) && lane.settle(cx) {}
        if lane.fault.is_some() || lane.stopping {
            lane.refuse(cx);
        }
        if lane.fault.is_none() {
            let Some(deadline) = lane.window.deadline() else {
                let over = lane.queue.is_closed() && lane.queue.is_empty() && lane.held.is_none();
                return if over { Poll::Ready(()) } else { Poll::Pending };
            };
            // Deadlines come in order, so it is enough to set the timer again when it fires.
            ready!(lane.timer.as_mut().poll(cx));
            if deadline > Instant::now() {
                lane.timer.as_mut().reset(deadline);
                ready!(lane.timer.as_mut().poll(cx));
            }
            // Nobody can know any more what the broker will do with what is on this connection.
            lane.fail(Fault::Ended, Failure::new(Reason::Timeout, "a publish had no answer in time"));
            lane.refuse(cx);
        }
        lane.finish(cx)
    }
}

async fn publish(channel: Arc<Channel>, common: Arc<Common>, encoded: Encoded) -> End {
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let Encoded { routing_key, properties, body, .. } = encoded;
    let sent = channel.basic_publish(common.exchange.clone(), routing_key, options, &body, properties).await;
    drop(body);
    match sent {
        Err(error) => End::unsent(error, common.link.address.is_tls()),
        Ok(confirm) => match confirm.await {
            Ok(confirmation) => End::of(confirmation, &common.encoder),
            Err(error) => End::Lost(error),
        },
    }
}
