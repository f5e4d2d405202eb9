//! What is known of a destination, and how it is told: its health, the gauge, and one log line for each change, in the
//! same words for every kind.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Health;
use crate::reason::{Failure, Reason};
use crate::telemetry::metrics::{DestinationLabel, Metrics};

/// How long [`Status::first_attempt`] waits. Longer than an attempt to connect may take.
const FIRST_ATTEMPT: Duration = Duration::from_secs(15);

/// The status of one destination. `C` is its connection: what publishers need while there is one.
pub(super) struct Status<C> {
    name: Arc<str>,
    metrics: Arc<Metrics>,
    label: DestinationLabel,
    state: watch::Sender<State<C>>,
    /// Warnings that the log has already.
    warned: Mutex<Vec<String>>,
}

/// What is known at one moment.
pub(super) struct State<C> {
    /// As others see it.
    pub(super) health: Health,
    /// The connection, usable or not.
    pub(super) connection: Option<C>,
    /// Why the last attempt to connect failed, or why the connection ended; `None` before the first attempt is over.
    failure: Option<Failure>,
    /// Whether there was a connection since the start: until then a failure leaves the destination starting.
    reached: bool,
    /// Nothing changes any more: it is closed, or a background task has failed.
    over: bool,
}

impl<C: Clone> Status<C> {
    /// The status of a destination that was not reached yet.
    pub(super) fn new(name: &Arc<str>, metrics: &Arc<Metrics>) -> Self {
        let state =
            State { health: Health::Starting(None), connection: None, failure: None, reached: false, over: false };
        let label = DestinationLabel { destination: name.to_string() };
        metrics.up.get_or_create(&label).set(0);
        let (name, metrics) = (Arc::clone(name), Arc::clone(metrics));
        Status { name, metrics, label, state: watch::Sender::new(state), warned: Mutex::default() }
    }

    /// The destination's name, for log lines.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where it counts, and under which label.
    pub(super) fn metrics(&self) -> (&Metrics, &DestinationLabel) {
        (&self.metrics, &self.label)
    }

    /// As others see it.
    pub(super) fn health(&self) -> Health {
        self.state.borrow().health.clone()
    }

    /// To be told of changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<State<C>> {
        self.state.subscribe()
    }

    /// The connection.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn connection(&self) -> Result<C, Failure> {
        self.state.borrow().connection()
    }

    /// The connection; waits while the first attempt is under way.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn first_attempt(&self) -> Result<C, Failure> {
        let mut state = self.state.subscribe();
        let tried = |state: &State<C>| state.connection.is_some() || state.failure.is_some();
        match timeout(FIRST_ATTEMPT, state.wait_for(tried)).await {
            Ok(Ok(state)) => state.connection(),
            Ok(Err(_)) | Err(_) => Err(Reason::Unreachable.into()),
        }
    }

    /// The server was reached, although there is no usable connection yet: failures from now on are
    /// [down](Health::Down).
    pub(super) fn reached(&self) {
        self.change(|state| state.reached = true);
    }

    /// There is a connection. Whether it can be used is said by [`up`](Status::up) or [`down`](Status::down).
    pub(super) fn connected(&self, connection: C, server: &str) {
        let changed = self.change(|state| {
            (state.connection, state.failure, state.reached) = (Some(connection), None, true);
            if let Health::Starting(failure) = &mut state.health {
                *failure = None;
            }
        });
        if !changed {
            return;
        }
        self.metrics.connects.get_or_create(&self.label).inc();
        tracing::info!(destination = %self.name, server, "connected");
    }

    /// It can be published to, unless its connection has ended meanwhile.
    pub(super) fn up(&self) {
        self.change(|state| {
            if state.connection.is_some() {
                state.health = Health::Up;
            }
        });
    }

    /// It is connected and cannot be used, or not for all of its topics.
    pub(super) fn down(&self, failure: Failure) {
        self.change(|state| state.health = Health::Down(failure));
    }

    /// There is no connection. Before the first one, the destination stays [starting](Health::Starting).
    pub(super) fn disconnected(&self, failure: Failure) {
        self.change(|state| {
            (state.connection, state.failure) = (None, Some(failure.clone()));
            state.health = if state.reached { Health::Down(failure) } else { Health::Starting(Some(failure)) };
        });
    }

    /// It was closed, or one of its background tasks has failed: nothing that comes later changes that.
    pub(super) fn end(&self, failure: Failure) {
        self.change(|state| {
            (state.connection, state.failure, state.over) = (None, Some(failure.clone()), true);
            state.health = Health::Down(failure);
        });
    }

    /// Resolves after [`end`](Status::end).
    pub(super) async fn ended(&self) {
        // The sender is part of this status.
        let _ = self.state.subscribe().wait_for(|state| state.over).await;
    }

    /// Logs each warning that was not there the last time.
    pub(super) fn warn(&self, warnings: &[String]) {
        let mut warned = self.warned.lock();
        for warning in warnings.iter().filter(|warning| !warned.contains(warning)) {
            tracing::warn!(destination = %self.name, "{warning}");
        }
        *warned = warnings.to_vec();
    }

    /// The warnings of the last [`warn`](Status::warn).
    pub(super) fn warnings(&self) -> Vec<String> {
        self.warned.lock().clone()
    }

    /// Returns whether the change was made: after [`end`](Status::end) none is.
    fn change(&self, change: impl FnOnce(&mut State<C>)) -> bool {
        let mut told = None;
        let changed = self.state.send_if_modified(|state| {
            if state.over {
                return false;
            }
            let (health, failure) = (state.health.clone(), state.failure.clone());
            change(state);
            told = news(&health, failure.as_ref(), state);
            // Under the lock, so that the gauge follows the order of the changes.
            self.metrics.up.get_or_create(&self.label).set(i64::from(state.health == Health::Up));
            true
        });
        match told {
            Some(News::Up) => tracing::info!(destination = %self.name, "destination is up"),
            Some(News::Down(Failure { reason, detail })) => {
                tracing::warn!(destination = %self.name, %reason, %detail, "destination is down");
            }
            Some(News::NotReached(Failure { reason, detail })) => {
                tracing::warn!(destination = %self.name, %reason, %detail, "destination not reached yet");
            }
            None => {}
        }
        changed
    }
}

impl<C: Clone> State<C> {
    /// The connection.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn connection(&self) -> Result<C, Failure> {
        let why = || self.failure.clone().unwrap_or_else(|| Reason::Unreachable.into());
        self.connection.clone().ok_or_else(why)
    }
}

/// What the log is told.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Up,
    Down(Failure),
    NotReached(Failure),
}

/// Whether a change is worth a line. The same reason with another detail is not: details may change at each attempt.
fn news<C>(before: &Health, failed: Option<&Failure>, now: &State<C>) -> Option<News> {
    match (before, &now.health) {
        (Health::Up, Health::Up) => None,
        (_, Health::Up) => Some(News::Up),
        // Asked for.
        (_, Health::Down(failure)) if failure.reason == Reason::Closing => None,
        (Health::Down(before), Health::Down(failure)) if before.reason == failure.reason => None,
        (_, Health::Down(failure)) => Some(News::Down(failure.clone())),
        (_, Health::Starting(_)) => {
            let failure = now.failure.as_ref().filter(|now| failed.is_none_or(|before| before.reason != now.reason));
            failure.cloned().map(News::NotReached)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status<u32> {
        Status::new(&"broker".into(), &Arc::default())
    }

    fn gauge(status: &Status<u32>) -> i64 {
        status.metrics.up.get_or_create(&status.label).get()
    }

    fn failure(detail: &'static str) -> Failure {
        Failure::new(Reason::Unreachable, detail)
    }

    #[tokio::test]
    async fn from_the_start_to_the_end() {
        let status = status();
        assert_eq!((status.health(), gauge(&status)), (Health::Starting(None), 0));
        status.disconnected(failure("refused"));
        assert_eq!(status.health(), Health::Starting(Some(failure("refused"))), "it was never reached");
        assert_eq!(status.first_attempt().await, Err(failure("refused")));
        status.connected(1, "server");
        assert_eq!(
            (status.health(), status.connection()),
            (Health::Starting(None), Ok(1)),
            "its topology is not known yet"
        );
        status.up();
        assert_eq!((status.health(), gauge(&status)), (Health::Up, 1));
        status.down(Reason::Topology.into());
        assert_eq!((status.health(), gauge(&status)), (Health::Down(Reason::Topology.into()), 0));
        assert_eq!(status.connection(), Ok(1), "some topics may fit");
        status.disconnected(failure("reset"));
        assert_eq!((status.health(), status.connection()), (Health::Down(failure("reset")), Err(failure("reset"))));
        status.up();
        assert_eq!(status.health(), Health::Down(failure("reset")), "it is not connected");
        status.end(Reason::Closing.into());
        status.connected(2, "server");
        status.up();
        assert_eq!((status.health(), gauge(&status)), (Health::Down(Reason::Closing.into()), 0));
        assert_eq!(status.metrics.connects.get_or_create(&status.label).get(), 1, "none after the end");
    }

    #[test]
    fn a_server_that_was_reached_is_down_without_a_connection() {
        let status = status();
        status.disconnected(failure("refused"));
        status.reached();
        assert_eq!(status.health(), Health::Starting(Some(failure("refused"))), "reaching it is no failure");
        status.disconnected(Reason::Topology.into());
        assert_eq!(status.health(), Health::Down(Reason::Topology.into()));
        assert_eq!(status.connection(), Err(Reason::Topology.into()));
    }

    #[test]
    fn the_warnings_are_those_of_the_last_check() {
        let status = status();
        for warnings in [vec!["a".to_owned(), "b".to_owned()], vec!["b".to_owned()], Vec::new()] {
            status.warn(&warnings);
            assert_eq!(status.warnings(), warnings);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_attempt_is_waited_for_but_not_for_ever() {
        let status = status();
        assert_eq!(status.first_attempt().await, Err(Reason::Unreachable.into()));
        let (found, ()) = tokio::join!(status.first_attempt(), async { status.connected(7, "server") });
        assert_eq!(found, Ok(7));
    }

    #[test]
    fn one_line_for_each_change_and_none_for_each_attempt() {
        let state = |health: Health, failure: Option<Failure>| State {
            health,
            connection: None::<u32>,
            failure,
            reached: true,
            over: false,
        };
        let down = |failure: Failure| Health::Down(failure);
        for (before, failed, now, why, told) in [
            (
                Health::Starting(None),
                None,
                Health::Starting(None),
                Some(failure("a")),
                Some(News::NotReached(failure("a"))),
            ),
            (Health::Starting(None), Some(failure("a")), Health::Starting(None), Some(failure("b")), None),
            (Health::Starting(None), None, Health::Up, None, Some(News::Up)),
            (Health::Up, None, Health::Up, None, None),
            (Health::Up, None, down(failure("a")), None, Some(News::Down(failure("a")))),
            (down(failure("a")), None, down(failure("b")), None, None),
            (down(failure("a")), None, down(Reason::Full.into()), None, Some(News::Down(Reason::Full.into()))),
            (Health::Up, None, down(Reason::Closing.into()), None, None),
            (down(failure("a")), None, Health::Up, None, Some(News::Up)),
        ] {
            assert_eq!(news(&before, failed.as_ref(), &state(now, why)), told, "{before:?}");
        }
    }
}
