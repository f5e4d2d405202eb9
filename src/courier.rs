//! The courier drives an event to its targets: it publishes to those that are not settled yet, and yields each outcome
//! as it comes. Who records them, and who is waiting, is not its affair: both ways of acknowledging share it.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::destination::Handle;
use crate::event::Event;
use crate::message::{Message, Outcome};
use crate::protocol::{Known, Target};
use crate::reason::{Failure, Reason};
use crate::route::Planned;

/// All destinations, by name.
#[derive(Clone)]
pub struct Courier {
    destinations: Arc<HashMap<Arc<str>, Handle>>,
}

/// Publishes under way. Dropping it does not stop them: their outcomes are then not seen.
pub struct Drive {
    pending: FuturesUnordered<BoxFuture<'static, (Target, Outcome)>>,
}

impl Courier {
    /// A courier for these destinations.
    pub fn new(destinations: impl IntoIterator<Item = Handle>) -> Self {
        let destinations = destinations.into_iter().map(|handle| (Arc::clone(handle.name()), handle)).collect();
        Courier { destinations: Arc::new(destinations) }
    }

    /// Every destination.
    pub fn destinations(&self) -> impl Iterator<Item = &Handle> {
        self.destinations.values()
    }

    /// Publishes to every target that is not settled; all are under way when this returns (G5).
    pub fn drive(&self, planned: Vec<Planned>, known: &Known) -> Drive {
        let open = planned.into_iter().filter(|planned| !known.skips(&planned.target));
        Drive { pending: open.map(|planned| self.publish(planned)).collect() }
    }

    fn publish(&self, planned: Planned) -> BoxFuture<'static, (Target, Outcome)> {
        let Planned { target, destination, message } = planned;
        let confirm = match (message, self.destinations.get(&destination)) {
            (Err(failure), _) => std::future::ready(Outcome::Never(failure)).boxed(),
            (Ok(message), Some(handle)) => handle.publish(message),
            (Ok(_), None) => {
                let detail = "the delivery was confirmed in part by a destination that is no longer configured";
                std::future::ready(Outcome::Again(Failure::new(Reason::Topology, detail))).boxed()
            }
        };
        confirm.map(|outcome| (target, outcome)).boxed()
    }
}

impl Drive {
    /// The next outcome; `None` when there are no more.
    pub async fn next(&mut self) -> Option<(Target, Outcome)> {
        self.pending.next().await
    }
}

/// The targets that are still to be reached: once frozen, those of the first confirm, whatever the routes say now (P7).
pub fn reconcile(planned: Vec<Planned>, known: &Known, event: &Arc<Event>) -> Vec<Planned> {
    let Some(frozen) = &known.frozen else { return planned };
    let mut planned = planned;
    planned.retain(|planned| frozen.contains(&planned.target));
    for target in frozen {
        if planned.iter().any(|planned| planned.target == *target) {
            continue;
        }
        let (destination, topic) = target.0.split_once('/').unwrap_or((&target.0, ""));
        let message = match topic {
            "" => Err(Failure::from(Reason::IllegalName)), // no name could be made then
            topic => Ok(Message { event: Arc::clone(event), topic: topic.into(), key: None }),
        };
        planned.push(Planned { target: target.clone(), destination: destination.into(), message });
    }
    planned
}
