//! Keeps a connection, for ever: connects, makes the topology, watches, drains, and begins again.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use lapin::Event;
use rand::Rng as _;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::connection::{Address, Link, failure};
use super::session::{self, Parts, Session, Work};
use super::topology::{Found, Wanted};
use crate::destination::Health;
use crate::reason::{Failure, Reason};
use crate::telemetry::metrics::{Metrics, OfDestination};

const BACKOFF: Duration = Duration::from_millis(200);
const BACKOFF_AT_MOST: Duration = Duration::from_secs(5);
/// How long opening channels and making the topology may take.
const SETUP: Duration = Duration::from_secs(60);
/// How long publishes on other channels are waited for when one channel failed.
const DRAIN: Duration = Duration::from_secs(1);
/// How long lanes may take after their connection was ended.
const END: Duration = Duration::from_secs(4);
/// How often a topology that does not fit is looked at again.
const RECHECK: Duration = Duration::from_secs(5);
/// How often one that fits is: a queue or binding that is gone is not told where anything else takes its messages.
const AUDIT: Duration = Duration::from_secs(60);

/// Where a destination stands.
#[derive(Clone)]
pub(super) enum State {
    /// Never connected yet; why not, once that is known.
    Starting(Option<Failure>),
    Down(Failure),
    /// Connected. With a problem, some topics cannot be published to.
    Up(Arc<Session>, Option<Failure>),
    Closing,
}

impl State {
    /// As a supervisor told it last; without one, nobody connects again.
    pub(super) fn watched(state: &watch::Receiver<State>) -> Health {
        match state.has_changed() {
            Ok(_) => state.borrow().health(),
            Err(_) if matches!(*state.borrow(), State::Closing) => state.borrow().health(),
            Err(_) => Health::Down(Failure::new(Reason::Failed, "the connection's supervisor ended")),
        }
    }

    fn health(&self) -> Health {
        match self {
            State::Starting(_) => Health::Starting,
            State::Down(failure) => Health::Down(failure.clone()),
            State::Up(_, Some(problem)) => Health::Down(problem.clone()),
            State::Up(session, None) if session.link.connection.status().blocked() => {
                Health::Down(Reason::Blocked.into())
            }
            State::Up(_, None) => Health::Up,
            State::Closing => Health::Down(Reason::Closing.into()),
        }
    }
}

pub(super) struct Supervisor {
    pub(super) name: Arc<str>,
    pub(super) addresses: Vec<Address>,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    pub(super) wanted: Arc<Wanted>,
    pub(super) parts: Parts,
    pub(super) state: watch::Sender<State>,
    pub(super) metrics: Arc<Metrics>,
    /// Ends the connection in order, until `give_up`.
    pub(super) closing: CancellationToken,
    /// Ends it at once.
    pub(super) give_up: CancellationToken,
    /// What was warned of already.
    pub(super) warned: HashSet<String>,
}

impl Supervisor {
    pub(super) async fn run(mut self) {
        let closing = self.closing.clone();
        let (mut turn, mut failures) = (0, 0_u32);
        loop {
            let address = self.addresses[turn % self.addresses.len()].clone();
            let opened = tokio::select! {
                biased;
                () = closing.cancelled() => break,
                opened = self.open(&address) => opened,
            };
            let served = opened.is_ok();
            match opened {
                Ok((work, events, problem)) => {
                    let since = Instant::now();
                    let Some(failure) = self.serve(work, events, problem).await else { return };
                    self.down(failure);
                    failures = if since.elapsed() > BACKOFF_AT_MOST { 0 } else { failures + 1 };
                }
                Err(failure) => {
                    self.down(failure);
                    failures += 1;
                    turn += 1;
                }
            }
            // Every address has its try before there is a pause; one that let us in is tried again after it.
            if failures > 0 && (served || turn.is_multiple_of(self.addresses.len())) {
                tokio::select! {
                    () = closing.cancelled() => break,
                    () = tokio::time::sleep(backoff(failures)) => {}
                }
            }
        }
        self.state.send_replace(State::Closing);
    }

    async fn open(&mut self, address: &Address) -> Result<(Work, Events, Option<Failure>), Failure> {
        let name = format!("hookbridge {}", self.name);
        let link = Arc::new(Link::open(address, self.tls.as_ref(), &name).await?);
        let events = Box::pin(link.connection.events_listener());
        let setup = async {
            let found = self.wanted.ensure(&link).await?;
            let (session, work) = session::start(Arc::clone(&link), &self.parts).await?;
            session::feel(&link).await?;
            Ok::<_, Failure>((found, session, work))
        };
        let late = || Failure::new(Reason::Unreachable, "no answer while opening channels and queues");
        let ready = timeout(SETUP, setup).await.unwrap_or_else(|_| Err(late()));
        // The task that makes the topology holds the link too, and may wait for ever.
        let (found, session, work) = ready.inspect_err(|_| link.kill())?;
        self.metrics.connects.get_or_create(&self.label()).inc();
        let problem = self.report(found);
        if problem.is_none() {
            info!(destination = %self.name, broker = address.shown(), "connected");
        }
        self.up(Arc::new(session), problem.clone());
        Ok((work, events, problem))
    }

    /// Until the connection ends: why, or `None` when this destination is closing.
    async fn serve(&mut self, mut work: Work, mut events: Events, mut problem: Option<Failure>) -> Option<Failure> {
        let unroutable = Arc::clone(&self.parts.unroutable);
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut checked, mut missing, mut check) = (Instant::now(), false, None);
        let closing = self.closing.clone();
        let failure = loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => {
                    self.close(work).await;
                    return None;
                }
                Some(failure) = work.failed.recv() => break failure,
                // One that fails tells so before it ends, and none ends well while publishers can reach it.
                Some(_) = work.lanes.join_next() => break Failure::new(Reason::Failed, "a channel's owner ended"),
                Some(event) = events.next() => match event {
                    // Also the ends of channels come here; a lane tells of its own.
                    Event::Error(error) if !work.link.connection.status().connected() => break failure(&error),
                    Event::ConnectionBlocked(reason) => {
                        warn!(destination = %self.name, reason, "the broker blocks publishers");
                        self.gauge(false);
                    }
                    Event::ConnectionUnblocked => {
                        info!(destination = %self.name, "the broker takes messages again");
                        self.gauge(problem.is_none());
                    }
                    _ => {}
                },
                () = unroutable.notified() => missing = true,
                // lapin tells of some ends by nothing but the state.
                _ = tick.tick() => {
                    if !work.link.connection.status().connected() {
                        break Failure::new(Reason::Unreachable, "the connection ended");
                    }
                    let blocked = work.link.connection.status().blocked();
                    if check.is_none() && checked.elapsed() >= due(missing, problem.is_some()) && !blocked {
                        let (wanted, link) = (Arc::clone(&self.wanted), Arc::clone(&work.link));
                        check = Some(async move { wanted.ensure(&link).await }.boxed());
                        missing = false;
                    }
                }
                found = maybe(&mut check) => {
                    (check, checked) = (None, Instant::now());
                    match found {
                        Ok(found) => {
                            let now = self.report(found);
                            if now != problem {
                                self.change(now.clone());
                            }
                            problem = now;
                        }
                        Err(failure) => break failure,
                    }
                }
            }
        };
        // From here on publishers are refused. Whatever it was, what counts for them is that there is no connection.
        let unreachable = Failure::new(Reason::Unreachable, failure.detail);
        self.down(unreachable.clone());
        work.stop.cancel();
        let _ = timeout(DRAIN, ended(&mut work.lanes)).await;
        work.link.kill();
        let _ = timeout(END, ended(&mut work.lanes)).await;
        drop(work.channels);
        if failure.reason != Reason::Topology {
            // Another broker, or this one after a restart, may take more.
            self.parts.limit.store(usize::MAX, Ordering::Relaxed);
        }
        Some(unreachable)
    }

    /// Lets the lanes finish; they do when nobody can send to them any more.
    async fn close(&self, mut work: Work) {
        self.gauge(false);
        self.state.send_replace(State::Closing);
        tokio::select! {
            () = ended(&mut work.lanes) => {}
            () = self.give_up.cancelled() => work.stop.cancel(),
        }
        work.link.close(Duration::from_millis(500)).await;
        let _ = timeout(END, ended(&mut work.lanes)).await;
        drop(work.channels);
    }

    /// Tells of what was found, each thing once; gives the first problem.
    fn report(&mut self, found: Found) -> Option<Failure> {
        for warning in found.warnings {
            if self.warned.insert(warning.clone()) {
                warn!(destination = %self.name, warning, "topology");
            }
        }
        found.problems.into_iter().next()
    }

    fn up(&self, session: Arc<Session>, problem: Option<Failure>) {
        if let Some(problem) = &problem {
            warn!(destination = %self.name, reason = %problem.reason, detail = %problem.detail, "topology");
        }
        self.gauge(problem.is_none() && !session.link.connection.status().blocked());
        self.state.send_replace(State::Up(session, problem));
    }

    /// The topology fits now, or does not any more.
    fn change(&self, problem: Option<Failure>) {
        let state = self.state.borrow().clone();
        if let State::Up(session, _) = state {
            self.up(session, problem);
        }
    }

    /// Logged once for each change.
    fn down(&self, failure: Failure) {
        self.gauge(false);
        // A broker that refuses us was reached; one that does not answer was not, and we are still starting.
        let starting = failure.reason == Reason::Unreachable && matches!(*self.state.borrow(), State::Starting(_));
        let now = if starting { State::Starting(Some(failure.clone())) } else { State::Down(failure.clone()) };
        let before = match self.state.send_replace(now) {
            State::Starting(before) => before,
            State::Down(before) => Some(before),
            State::Up(..) | State::Closing => None,
        };
        if before.is_none_or(|before| before.reason != failure.reason) {
            warn!(destination = %self.name, reason = %failure.reason, detail = %failure.detail, "not connected");
        }
    }

    fn gauge(&self, up: bool) {
        self.metrics.up.get_or_create(&self.label()).set(i64::from(up));
    }

    fn label(&self) -> OfDestination {
        OfDestination { destination: self.name.to_string() }
    }
}

type Events = std::pin::Pin<Box<dyn futures_util::Stream<Item = Event> + Send>>;

/// What is under way, if anything is.
async fn maybe<T>(work: &mut Option<BoxFuture<'static, T>>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

async fn ended(lanes: &mut tokio::task::JoinSet<()>) {
    while lanes.join_next().await.is_some() {}
}

/// How long after the last look at the topology the next one is due.
fn due(missing: bool, problem: bool) -> Duration {
    match (missing, problem) {
        (true, _) => Duration::from_secs(1),
        (false, true) => RECHECK,
        (false, false) => AUDIT,
    }
}

/// Half to all of a time that doubles with each failure.
fn backoff(failures: u32) -> Duration {
    let most = BACKOFF.saturating_mul(1 << (failures - 1).min(10)).min(BACKOFF_AT_MOST);
    most.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_supervisor_it_is_down() {
        let (state, watched) = watch::channel(State::Starting(None));
        assert_eq!(State::watched(&watched), Health::Starting);
        drop(state);
        assert!(matches!(State::watched(&watched), Health::Down(failure) if failure.reason == Reason::Failed));
        let (_, watched) = watch::channel(State::Closing);
        assert!(matches!(State::watched(&watched), Health::Down(failure) if failure.reason == Reason::Closing));
    }

    #[test]
    fn the_topology_is_looked_at_also_without_a_cause() {
        assert_eq!([(true, true), (true, false)].map(|(missing, problem)| due(missing, problem).as_secs()), [1, 1]);
        assert_eq!((due(false, true), due(false, false)), (RECHECK, AUDIT));
    }

    #[test]
    fn backoff_is_capped_and_never_nothing() {
        for failures in [1, 2, 5, 31, 32, 33, 1000, u32::MAX] {
            let pause = backoff(failures);
            assert!(pause >= BACKOFF / 2 && pause <= BACKOFF_AT_MOST, "{failures}: {pause:?}");
        }
    }
}
