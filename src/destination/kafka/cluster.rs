//! What is known of the cluster and its topics, and what the supervisor has to do next. Callbacks and the supervisor
//! write it, each publish reads it. Every change is passed on to [`Status`], which alone holds the health.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::destination::Health;
use crate::destination::found::Found;
use crate::destination::permission;
use crate::destination::status::Status;
use crate::reason::{Failure, Reason};

/// Largest message of each topic that exists, in bytes; `None` where the broker does not let us read the setting.
pub(super) type TopicLimits = HashMap<String, Option<usize>>;

/// Refused topics that a warning names: the names of topics may come from events.
const MOST_REFUSED: usize = 20;

/// The cluster of one destination.
pub(super) struct Cluster {
    status: Status<()>,
    state: Mutex<ClusterState>,
    /// Whether messages can be produced, derived from `state`. Each publish reads it, so it takes no lock.
    usable: AtomicBool,
    /// Topics of the routes.
    wanted: Vec<String>,
    limits: RwLock<TopicLimits>,
    warnings: Mutex<ClusterWarnings>,
    /// Whether a topic is refused, derived from `warnings`: each report reads it.
    refuses: AtomicBool,
    changed: Notify,
}

/// What an operator should know although events are taken.
#[derive(Default)]
struct ClusterWarnings {
    /// Of the last check of the topics.
    topology: Vec<String>,
    /// Topics that this user may not write to.
    refused: BTreeSet<String>,
}

#[derive(Default)]
struct ClusterState {
    connected: bool,
    /// At least one attempt to reach the cluster is over.
    tried: bool,
    /// The last statistics show a connection.
    linked: bool,
    /// The statistics show no connection: the cluster has to be asked.
    doubted: bool,
    /// The producer may have a fatal error: it has to be asked.
    suspect: bool,
    /// The producer's fatal error.
    fatal: Option<Failure>,
    /// The topics have to be checked.
    check_topics: bool,
    /// Result of the last check; `None` before the first.
    topics: Option<Result<(), Failure>>,
    /// Topics of the routes that this user may not write to.
    refused: Option<Failure>,
    /// The last connection error since the cluster was last reached.
    trouble: Option<Failure>,
    /// Why the last attempt to reach the cluster failed.
    unreached: Option<Failure>,
    /// Why the destination has ended: it is closed, or its supervisor has failed.
    ended: Option<Failure>,
}

/// What the supervisor has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    InspectProducer,
    ReplaceProducer,
    ReachCluster,
    CheckTopics,
    WaitForChange,
}

impl Cluster {
    /// A cluster that was not reached yet, and the topics that the routes publish to.
    pub(super) fn new(status: Status<()>, wanted: &[String]) -> Cluster {
        Cluster {
            status,
            state: Mutex::default(),
            usable: AtomicBool::new(false),
            wanted: wanted.to_vec(),
            limits: RwLock::default(),
            warnings: Mutex::default(),
            refuses: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    pub(super) fn status(&self) -> &Status<()> {
        &self.status
    }

    /// Why a message for this topic cannot be produced now, if so.
    pub(super) fn refusal(&self, topic: &str) -> Option<Failure> {
        if !self.usable.load(Relaxed) {
            return match self.status.health() {
                Health::Down(failure) => Some(failure),
                Health::Starting(_) | Health::Up => self.status.connection().err(),
            };
        }
        // The broker decides about topics that no route names.
        let missing = !self.limits.read().contains_key(topic) && self.wanted.iter().any(|wanted| wanted == topic);
        missing.then(|| Failure::new(Reason::Unroutable, "the topic does not exist yet"))
    }

    /// Largest message that a topic takes, where that is known.
    pub(super) fn limit(&self, topic: &str) -> Option<usize> {
        self.limits.read().get(topic).copied().flatten()
    }

    /// Replaces what is known of the topics that exist.
    pub(super) fn set_topics(&self, limits: TopicLimits, warnings: Vec<String>) {
        *self.limits.write() = limits;
        self.warn(|known| known.topology = warnings);
    }

    /// The broker does not let this user write to the topic. rdkafka gives no safe access to the operations that a user is
    /// authorized for, so nothing but another event tells when that has changed.
    pub(super) fn topic_refused(&self, topic: &str) {
        self.warn(|warnings| {
            if warnings.refused.len() < MOST_REFUSED {
                warnings.refused.insert(topic.to_owned());
            }
        });
    }

    /// The broker has stored an event of the topic.
    pub(super) fn topic_confirmed(&self, topic: &str) {
        if self.refuses.load(Relaxed) {
            self.warn(|warnings| {
                warnings.refused.remove(topic);
            });
        }
    }

    fn warn(&self, change: impl FnOnce(&mut ClusterWarnings)) {
        let mut warnings = self.warnings.lock();
        change(&mut warnings);
        self.refuses.store(!warnings.refused.is_empty(), Relaxed);
        let refused = warnings.refused.iter().map(|topic| format!("topic {topic}: this user may not write to it"));
        let all: Vec<_> = refused.chain(warnings.topology.iter().cloned()).collect();
        // Under the lock, so that the status follows the order of the changes.
        self.status.warn(&all);
        // A topic that an event has named may never get another event, so it is only a warning.
        let wanted = warnings.refused.iter().filter(|topic| self.wanted.contains(topic));
        let problems = wanted.map(|topic| permission::denied(topic, &"Kafka: Topic authorization failed")).collect();
        let refused = Found { problems, ..Found::default() }.fits().err();
        self.set(|state| state.refused = refused);
    }

    /// The connections to all brokers are lost.
    pub(super) fn connections_lost(&self) {
        self.notify(|state| (state.connected, state.tried, state.check_topics) = (false, true, true));
    }

    /// The connection to a broker failed.
    pub(super) fn connection_failed(&self, failure: Failure) {
        self.set(|state| state.trouble = Some(failure));
    }

    /// A broker closed its connection, or did not answer. An error says more. While connected, this is usual.
    pub(super) fn connection_closed(&self, failure: Failure) {
        self.set(|state| {
            if !state.connected {
                state.trouble.get_or_insert(failure);
            }
        });
    }

    /// The statistics show this number of connections. Without any, the cluster has to be asked.
    pub(super) fn connections_counted(&self, connections: usize) {
        if connections > 0 {
            return self.set(|state| state.linked = true);
        }
        self.notify(|state| (state.linked, state.doubted) = (false, true));
    }

    /// Whether the last statistics show a connection.
    pub(super) fn linked(&self) -> bool {
        self.state.lock().linked
    }

    /// The producer may have a fatal error.
    pub(super) fn suspect_producer(&self) {
        self.notify(|state| state.suspect = true);
    }

    /// The producer was asked for its fatal error.
    pub(super) fn producer_inspected(&self, fatal: Option<Failure>) {
        self.set(|state| {
            state.suspect = false;
            state.fatal = state.fatal.take().or(fatal);
        });
    }

    /// The producer reaches no broker, although the cluster can be reached.
    pub(super) fn producer_stranded(&self) {
        let text = "the producer reaches no broker and a new client does: the producer is being replaced";
        self.set(|state| state.fatal = Some(Failure::new(Reason::Unreachable, text)));
    }

    /// A new producer is in place, or could not be created.
    pub(super) fn producer_replaced(&self, created: Result<(), Failure>) {
        self.set(|state| state.fatal = created.err());
    }

    /// A message was refused because its topic does not exist, or its leader did not answer. Topics that no route names are
    /// not created, so they need no check.
    pub(super) fn suspect_topic(&self, topic: &str) {
        if self.limits.read().contains_key(topic) {
            self.notify(|state| state.check_topics = true);
        }
    }

    /// The cluster was reached, through this broker.
    pub(super) fn reached(&self, server: &str) {
        self.set(|state| {
            if !state.connected {
                self.status.connected((), server);
            }
            (state.connected, state.tried, state.doubted) = (true, true, false);
            (state.trouble, state.unreached) = (None, None);
        });
    }

    /// The cluster was not reached.
    pub(super) fn not_reached(&self, failure: Failure) {
        self.set(|state| {
            (state.connected, state.tried, state.doubted, state.check_topics) = (false, true, false, true);
            state.unreached = Some(failure);
        });
    }

    /// A check of the topics begins. A message that is refused from now on requests another check.
    pub(super) fn checking_topics(&self) {
        self.set(|state| state.check_topics = false);
    }

    /// Result of the check.
    pub(super) fn topics_checked(&self, topics: Result<(), Failure>) {
        self.set(|state| {
            state.check_topics |= topics.is_err();
            state.topics = Some(topics);
        });
    }

    /// The destination is closed, or its supervisor has failed. This is final.
    pub(super) fn end(&self, failure: Failure) {
        self.set(|state| {
            state.ended.get_or_insert(failure);
        });
    }

    /// The producer's fatal error.
    pub(super) fn fatal(&self) -> Option<Failure> {
        self.state.lock().fatal.clone()
    }

    /// The last connection error since the cluster was last reached.
    pub(super) fn trouble(&self) -> Option<Failure> {
        self.state.lock().trouble.clone()
    }

    pub(super) fn next_step(&self) -> Step {
        let state = self.state.lock();
        if state.fatal.is_some() {
            Step::ReplaceProducer
        } else if state.suspect {
            Step::InspectProducer
        } else if !state.connected || state.doubted {
            Step::ReachCluster
        } else if state.check_topics || state.topics.is_none() {
            Step::CheckTopics
        } else {
            Step::WaitForChange
        }
    }

    /// Waits until a callback or a publish reports something.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn notify(&self, change: impl FnOnce(&mut ClusterState)) {
        self.set(change);
        self.changed.notify_one();
    }

    fn set(&self, change: impl FnOnce(&mut ClusterState)) {
        let mut state = self.state.lock();
        change(&mut state);
        // First, so that publishes are refused when the status says that the destination is down.
        self.usable.store(state.connected && state.fatal.is_none() && state.ended.is_none(), Relaxed);
        // Under the lock, so that the status follows the order of the changes.
        state.report(&self.status);
    }
}

impl ClusterState {
    fn report(&self, status: &Status<()>) {
        if let Some(failure) = &self.ended {
            return status.end(failure.clone());
        }
        match (&self.fatal, self.connected, &self.topics) {
            (Some(failure), ..) | (None, true, Some(Err(failure))) => status.down(failure.clone()),
            (None, true, Some(Ok(()))) => match &self.refused {
                Some(failure) => status.down(failure.clone()),
                None => status.up(),
            },
            // The first check of the topics is not over.
            (None, true, None) => {}
            (None, false, _) if self.tried => {
                let failure = self.unreached.as_ref().or(self.trouble.as_ref());
                status.disconnected(failure.cloned().unwrap_or_else(|| Reason::Unreachable.into()));
            }
            (None, false, _) => {}
        }
    }
}

#[cfg(test)]
mod tests;
