//! What is known of the cluster: reached or not, its topics fitting or not. Written by callbacks and by the monitor,
//! read by every publish.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::destination::Health;
use crate::reason::{Failure, Reason};

/// The state, and a bell for the monitor.
#[derive(Default)]
pub(super) struct Link {
    state: Mutex<State>,
    /// Whether something can be published, as the state says: every publish asks.
    usable: AtomicBool,
    bell: Notify,
}

#[derive(Default)]
struct State {
    connected: bool,
    /// Connected at least once.
    reached: bool,
    /// Statistics show no connection: ask.
    doubted: bool,
    /// The producer may have ended with a fatal error.
    suspect: bool,
    /// It has, with this one.
    failed: Option<Failure>,
    /// Topics are to be looked at.
    look: bool,
    /// What the topics were found to be; `None` before the first look.
    topics: Option<Result<(), Failure>>,
    trouble: Option<Failure>,
}

/// What the monitor has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Task {
    Inspect,
    Replace,
    Reach,
    Look,
    Rest,
}

impl Link {
    /// Every broker's connection is gone.
    pub fn lost(&self) {
        self.change(|state| {
            state.connected = false;
            state.look = true;
        });
    }

    /// A broker's connection failed, for this reason.
    pub fn trouble(&self, failure: Failure) {
        self.state.lock().trouble = Some(failure);
    }

    /// No broker seems connected.
    pub fn doubt(&self) {
        self.change(|state| state.doubted = true);
    }

    /// The producer may be unusable: to be asked.
    pub fn suspect(&self) {
        self.change(|state| state.suspect = true);
    }

    /// What it answered: the fatal error, if there is one.
    pub fn inspected(&self, fatal: Option<Failure>) {
        self.set(|state| {
            state.suspect = false;
            state.failed = state.failed.take().or(fatal);
        });
    }

    /// A topic was not there.
    pub fn look_at_topics(&self) {
        self.change(|state| state.look = true);
    }

    /// The cluster answered; says whether it had not before.
    pub fn reached(&self) -> bool {
        self.set(|state| {
            let news = !state.connected;
            (state.connected, state.reached, state.doubted, state.trouble) = (true, true, false, None);
            news
        })
    }

    /// The cluster did not answer; says whether it had before.
    pub fn not_reached(&self, failure: Failure) -> bool {
        self.set(|state| {
            let news = state.connected;
            (state.connected, state.doubted, state.look) = (false, false, true);
            state.trouble.get_or_insert(failure);
            news
        })
    }

    /// The producer was replaced.
    pub fn replaced(&self) {
        self.set(|state| state.failed = None);
    }

    /// A look at the topics begins: what is noticed from now on asks for another.
    pub fn looking(&self) {
        self.state.lock().look = false;
    }

    /// What the look found.
    pub fn looked(&self, topics: Result<(), Failure>) {
        let mut state = self.state.lock();
        state.look |= topics.is_err();
        state.topics = Some(topics);
    }

    /// Why nothing can be published now, if nothing can.
    pub fn down(&self) -> Option<Failure> {
        if self.usable.load(Relaxed) {
            return None;
        }
        let state = self.state.lock();
        match &state.failed {
            Some(failure) => Some(failure.clone()),
            None if state.connected => None,
            None => Some(state.why()),
        }
    }

    /// What went wrong, if that is known and nothing went well since.
    pub fn cause(&self) -> Option<Failure> {
        let state = self.state.lock();
        state.failed.clone().or_else(|| state.trouble.clone())
    }

    /// What is known without asking.
    pub fn health(&self) -> Health {
        let state = self.state.lock();
        if let Some(failure) = &state.failed {
            return Health::Down(failure.clone());
        }
        match (&state.topics, state.connected) {
            (_, false) if !state.reached => Health::Starting,
            (_, false) => Health::Down(state.why()),
            (None, true) => Health::Starting,
            (Some(Ok(())), true) => Health::Up,
            (Some(Err(failure)), true) => Health::Down(failure.clone()),
        }
    }

    /// What is to be done next.
    pub fn task(&self) -> Task {
        let state = self.state.lock();
        if state.failed.is_some() {
            Task::Replace
        } else if state.suspect {
            Task::Inspect
        } else if !state.connected || state.doubted {
            Task::Reach
        } else if state.look || state.topics.is_none() {
            Task::Look
        } else {
            Task::Rest
        }
    }

    /// Waits for a change.
    pub async fn changed(&self) {
        self.bell.notified().await;
    }

    fn change(&self, what: impl FnOnce(&mut State)) {
        self.set(what);
        self.bell.notify_one();
    }

    fn set<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let told = what(&mut state);
        self.usable.store(state.connected && state.failed.is_none(), Relaxed);
        told
    }
}

impl State {
    fn why(&self) -> Failure {
        self.trouble.clone().unwrap_or_else(|| Reason::Unreachable.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_start_to_loss_and_back() {
        let link = Link::default();
        assert_eq!((link.health(), link.task()), (Health::Starting, Task::Reach));
        link.not_reached(Reason::Unreachable.into());
        assert_eq!(link.health(), Health::Starting);
        assert!(link.reached());
        assert_eq!((link.health(), link.task()), (Health::Starting, Task::Look));
        link.looking();
        link.looked(Ok(()));
        assert_eq!((link.health(), link.task()), (Health::Up, Task::Rest));
        link.trouble(Failure::new(Reason::NotAuthorized, "no"));
        link.lost();
        assert_eq!(link.health(), Health::Down(Failure::new(Reason::NotAuthorized, "no")));
        assert_eq!(link.down().map(|failure| failure.reason), Some(Reason::NotAuthorized));
        assert!(link.reached());
        assert_eq!((link.health(), link.task()), (Health::Up, Task::Look), "topics are looked at after each outage");
        link.looking();
        link.look_at_topics();
        link.looked(Ok(()));
        assert_eq!(link.task(), Task::Look, "what was noticed during a look asks for another");
        link.suspect();
        assert_eq!((link.task(), link.down()), (Task::Inspect, None));
        link.inspected(None);
        assert_eq!(link.task(), Task::Look);
        let fatal = Failure::new(Reason::ConnectionLost, "fatal");
        link.inspected(Some(fatal.clone()));
        assert_eq!(
            (link.task(), link.down(), link.health()),
            (Task::Replace, Some(fatal.clone()), Health::Down(fatal))
        );
        link.replaced();
        assert_eq!((link.task(), link.down()), (Task::Look, None));
    }
}
