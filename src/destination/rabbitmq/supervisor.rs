//! Keeps a destination connected until it is closed: connects, ensures the topology, watches the connection, drains it
//! when it fails, and starts again after a pause.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, OptionFuture};
use futures_util::{Stream, StreamExt as _};
use lapin::Event;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::address::BrokerAddress;
use super::connection::AmqpConnection;
use super::context::PublishContext;
use super::lane_map::refused_channels;
use super::outcome::failure;
use super::permitted;
use super::session::{self, AmqpSession, LaneTasks};
use super::topology::Wanted;
use crate::backoff::Backoff;
use crate::destination::found::Found;
use crate::destination::status::Status;
use crate::reason::{Failure, Reason};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long opening channels and ensuring the topology may take.
const SETUP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long publishes on the other channels may still be confirmed after one channel failed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long lanes may take to end after their connection has ended.
const END_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a connection may take to close in order.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How often the state of the connection is checked: lapin reports some ends by the state only.
const POLL: Duration = Duration::from_secs(1);
/// How long the broker may take to open a channel, when a publish was not answered in time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval of topology checks after a message had no queue, or a queue answered late.
const CHECK_CHANGED: Duration = Duration::from_secs(1);
/// Interval of topology checks while the topology does not fit.
const CHECK_PROBLEM: Duration = Duration::from_secs(5);
/// Interval of topology checks otherwise: the broker does not report that a queue or binding was deleted while another
/// queue takes the same messages.
const CHECK_FITTING: Duration = Duration::from_secs(60);

type ConnectionEvents = Pin<Box<dyn Stream<Item = Event> + Send>>;

pub(super) struct ConnectionSupervisor {
    pub(super) status: Arc<Status<Arc<AmqpSession>>>,
    pub(super) addresses: Vec<BrokerAddress>,
    pub(super) wanted: Arc<Wanted>,
    pub(super) publish: Arc<PublishContext>,
    /// Ends the connection in order.
    pub(super) closing: CancellationToken,
    /// Ends it at once, after `closing`.
    pub(super) give_up: CancellationToken,
}

impl ConnectionSupervisor {
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut addresses = self.addresses.iter().cycle();
        let (mut next, mut attempts) = (addresses.next(), 0_usize);
        while let Some(address) = next {
            let opened = tokio::select! {
                biased;
                () = self.closing.cancelled() => break,
                opened = self.open(address) => opened,
            };
            let pause = match opened {
                Ok((mut lanes, events, found)) => {
                    let since = Instant::now();
                    match self.watch(&mut lanes, events, found).await {
                        Some(failure) => self.abandon(lanes, failure).await,
                        None => return self.close(lanes).await,
                    }
                    if since.elapsed() > LONGEST_PAUSE {
                        backoff.reset();
                        Duration::ZERO
                    } else {
                        backoff.next()
                    }
                }
                Err(failure) => {
                    self.note_channel_limit(&failure, usize::MAX);
                    self.status.disconnected(failure);
                    (next, attempts) = (addresses.next(), attempts.wrapping_add(1));
                    let pause = backoff.next();
                    // Every address is tried before there is a pause.
                    if attempts.is_multiple_of(self.addresses.len()) { pause } else { Duration::ZERO }
                }
            };
            tokio::select! {
                () = self.closing.cancelled() => break,
                () = sleep(pause) => {}
            }
        }
        self.status.end(Reason::Closing.into());
    }

    /// Connects to one address, ensures the topology and starts the lanes.
    async fn open(&self, address: &BrokerAddress) -> Result<(LaneTasks, ConnectionEvents, Found), Failure> {
        let name = format!("hookbridge {}", self.status.name());
        let connection = Arc::new(AmqpConnection::open(address, &name).await?);
        let events = Box::pin(connection.lapin.events_listener());
        let setup = async {
            let mut found = self.wanted.ensure(&connection).await?;
            let (session, lanes) = session::start(&connection, &self.publish).await?;
            session::detect_alarm(&connection).await?;
            // During an alarm, the broker answers no question about permissions.
            if !connection.is_blocked() {
                found.problems.extend(permitted::problems(address, &self.publish).await);
            }
            Ok((found, session, lanes))
        };
        let late = || Failure::new(Reason::Unreachable, "the broker did not answer while opening channels and queues");
        let ready = timeout(SETUP_TIMEOUT, setup).await.unwrap_or_else(|_| Err(late()));
        let (found, session, lanes) = ready.inspect_err(|failure| {
            // The task that ensures the topology holds the connection too, and may wait forever.
            connection.kill();
            if failure.reason != Reason::Unreachable {
                self.status.reached();
            }
        })?;
        self.warn(&lanes, &found);
        self.status.connected(Arc::new(session), &address.to_string());
        Ok((lanes, events, found))
    }

    /// Watches a connection until it fails, and returns why; `None` when the destination is closing.
    async fn watch(&self, lanes: &mut LaneTasks, mut events: ConnectionEvents, mut found: Found) -> Option<Failure> {
        let connection = Arc::clone(&lanes.connection);
        let (mut alarm, mut reported) = (Failure::from(Reason::Blocked), None);
        let (mut checked, mut recheck) = (Instant::now(), connection.is_blocked());
        let mut ask = recheck;
        let mut check: Option<BoxFuture<'static, Result<Found, Failure>>> = None;
        let mut answer: Option<BoxFuture<'static, Result<(), Failure>>> = None;
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let problem = found.fits().err();
            let obstacle = problem.clone().or_else(|| connection.is_blocked().then(|| alarm.clone()));
            if reported.as_ref() != Some(&obstacle) {
                obstacle.clone().map_or_else(|| self.status.up(), |failure| self.status.down(failure));
                reported = Some(obstacle);
            }
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return None,
                Some(failure) = lanes.failures.recv() => return Some(failure),
                // A lane sends its failure before it ends, and no lane ends in order while publishers can reach it.
                Some(_) = lanes.lanes.join_next() => {
                    return Some(Failure::new(Reason::Failed, "the task of a channel ended unexpectedly"));
                }
                Some(event) = events.next() => match event {
                    // Channel errors arrive here too, but the lanes report those.
                    Event::Error(error) if !connection.is_connected() => return Some(failure(&error)),
                    Event::ConnectionBlocked(why) => alarm = Failure::new(Reason::Blocked, why),
                    _ => {}
                },
                () = self.publish.unroutable.notified() => recheck = true,
                () = connection.unanswered.answered.notified() => recheck = true,
                () = self.publish.refusals.changed.notified() => {
                    self.warn(lanes, &found);
                    recheck |= !self.publish.refusals.denied().is_empty();
                }
                () = self.publish.unanswered.notified(), if answer.is_none() => {
                    let connection = Arc::clone(&connection);
                    answer = Some(async move { answers(&connection).await }.boxed());
                }
                Some(answered) = OptionFuture::from(answer.as_mut()) => {
                    answer = None;
                    if let Err(failure) = answered {
                        return Some(failure);
                    }
                }
                _ = poll.tick() => {
                    self.warn(lanes, &found);
                    if !connection.is_connected() {
                        return Some(Failure::new(Reason::Unreachable, "the connection ended"));
                    }
                    let pause = match (recheck, &problem) {
                        (true, _) => CHECK_CHANGED,
                        (false, Some(_)) => CHECK_PROBLEM,
                        (false, None) => CHECK_FITTING,
                    };
                    if check.is_none() && checked.elapsed() >= pause && !connection.is_blocked() {
                        let (wanted, connection) = (Arc::clone(&self.wanted), Arc::clone(&connection));
                        let publish = Arc::clone(&self.publish);
                        // While the topology fits, the first refused publish shows that a permission was removed.
                        let denied = |problem: &Failure| problem.reason == Reason::NotAuthorized;
                        let ask = std::mem::take(&mut ask)
                            || found.problems.iter().any(denied)
                            || !publish.refusals.denied().is_empty();
                        let ensured = async move {
                            let mut found = wanted.ensure(&connection).await?;
                            if ask {
                                found.problems.extend(permitted::problems(&connection.address, &publish).await);
                            }
                            Ok(found)
                        };
                        check = Some(ensured.boxed());
                        recheck = false;
                    }
                }
                Some(result) = OptionFuture::from(check.as_mut()) => {
                    (check, checked) = (None, Instant::now());
                    match result {
                        Ok(result) => {
                            found = result;
                            self.warn(lanes, &found);
                        }
                        Err(failure) => return Some(failure),
                    }
                }
            }
        }
    }

    /// Ends a connection after a failure.
    async fn abandon(&self, mut lanes: LaneTasks, failure: Failure) {
        // From here on publishers are refused. Whatever the failure was: for them, there is no connection.
        self.note_channel_limit(&failure, lanes.map.len());
        self.status.disconnected(Failure::new(Reason::Unreachable, failure.detail));
        lanes.context.stop.cancel();
        let _ = timeout(DRAIN_TIMEOUT, lanes.ended()).await;
        lanes.connection.kill();
        let _ = timeout(END_TIMEOUT, lanes.ended()).await;
        self.publish.refusals.answers_lost(|_| true, true);
        // Another broker, or this one after a restart, may take larger messages.
        self.publish.message_limit.store(usize::MAX, Ordering::Relaxed);
    }

    /// Logs and shows what an operator should know: differences, each problem, refused topics, and too few channels.
    fn warn(&self, lanes: &LaneTasks, found: &Found) {
        // The first problem is the reason why the destination is down.
        let problems = found.problems.iter().skip(1).map(Failure::to_string);
        let warnings = found.warnings.iter().cloned().chain(problems);
        let all: Vec<_> = warnings.chain(lanes.map.warning()).chain(self.publish.refusals.lines()).collect();
        for over in self.status.warnings().iter().filter(|before| !all.contains(before)) {
            tracing::info!(destination = %self.status.name(), "warning no longer applies: {over}");
        }
        self.status.warn(&all);
    }

    /// The next connection opens fewer channels if the broker has refused one.
    fn note_channel_limit(&self, failure: &Failure, lanes: usize) {
        let lanes = lanes.min(self.publish.channels.load(Ordering::Relaxed));
        if let Some(channels) = refused_channels(&failure.detail, lanes) {
            self.publish.channels.store(channels, Ordering::Relaxed);
        }
    }

    /// Ends a connection in order, after every queued publish has its outcome.
    async fn close(&self, mut lanes: LaneTasks) {
        // This drops the session: the lanes finish when no publisher can reach them.
        self.status.end(Reason::Closing.into());
        tokio::select! {
            () = lanes.ended() => {}
            () = self.give_up.cancelled() => lanes.context.stop.cancel(),
        }
        lanes.connection.close(CLOSE_TIMEOUT).await;
        let _ = timeout(END_TIMEOUT, lanes.ended()).await;
    }
}

/// Whether the broker still answers on a connection on which a publish was not answered: if it does, one queue has the
/// trouble.
async fn answers(connection: &AmqpConnection) -> Result<(), Failure> {
    match timeout(ANSWER_TIMEOUT, connection.channel()).await {
        // Without a free channel, only heartbeats show whether the broker answers.
        Ok(Err(failure)) if !connection.is_connected() => Err(failure),
        Ok(_) => Ok(()),
        Err(_) => {
            Err(Failure::new(Reason::Timeout, "a publish was not confirmed in time, and the broker does not answer"))
        }
    }
}
