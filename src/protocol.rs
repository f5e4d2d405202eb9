//! The protocol of one delivery: pure transitions over facts.
//!
//! A ledger stores an [`Entry`] for each delivery and changes it only through [`Entry::claim`], [`Entry::record`] and
//! [`Entry::release`]; which ledger, and what fails around it, makes no difference here. Facts only grow: a confirm is
//! merged whoever reports it, also after its ticket was lost. Only [`Fact::Dead`], [`Fact::Accepted`] and `release` need the
//! current ticket. A delivery is closed when every target of the frozen set is confirmed or dead, or when the spool has it.
//!
//! The rules below were found by exploring all interleavings of senders, replicas, crashes and late confirms: without
//! them, events are lost or doubled. Code elsewhere refers to them by number. The missing numbers are rules for ledgers that
//! several processes share.
//!
//! | | rule |
//! |---|---|
//! | P1 | The first `Accepted` of an id wins; a later one is ignored. |
//! | P5 | 200 comes only from the ledger's merged answer, never from a task's own view of its targets. |
//! | P6 | After `Accepted`, the end of each target is recorded in the spool, not in the ledger. |
//! | P7 | Facts are read again before each publish. A target that is confirmed, or not in the frozen set, is skipped. Targets freeze at the first confirm, or at `Accepted`. Confirmed beats dead. |
//! | P8 | A lane's order is the order of acceptance. An unsettled earlier event of a key holds that key. |
//! | P11 | A spool with rows is drained whatever the mode. A key that has rows goes behind them. |
//! | P12 | Tickets are unique forever, never a counter inside the entry. |
//! | P14 | A RabbitMQ `nack` is unknown, not again: another queue may hold the message. |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::reason::Reason;

/// What a fact is about: a topic of a destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The destination's name. `None`: the delivery has no targets, because it cannot be normalized or routed.
    pub destination: Option<Arc<str>>,
    /// The subject, topic or routing key. `None`: no legal name can be made for this event on the destination.
    pub topic: Option<Arc<str>>,
}

impl Target {
    /// A topic of a destination.
    pub fn new(destination: impl Into<Arc<str>>, topic: impl Into<Arc<str>>) -> Self {
        Target { destination: Some(destination.into()), topic: Some(topic.into()) }
    }

    /// A destination on which no legal name can be made for the event.
    pub fn unnamed(destination: impl Into<Arc<str>>) -> Self {
        Target { destination: Some(destination.into()), topic: None }
    }

    /// Stands for the whole of a delivery that has no targets.
    pub fn whole() -> Self {
        Target { destination: None, topic: None }
    }

    /// The same destination without a topic.
    pub fn without_topic(&self) -> Self {
        Target { destination: self.destination.clone(), topic: None }
    }

    /// Reads what [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Self {
        match text.split_once('/') {
            None => Target::whole(),
            Some((destination, "")) => Target::unnamed(destination),
            Some((destination, topic)) => Target::new(destination, topic),
        }
    }
}

/// `destination/topic`, `destination/` without a topic, `*` for the whole of a delivery. Names of destinations hold no
/// `/`, so the text is unambiguous.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.destination {
            Some(destination) => write!(f, "{destination}/{}", self.topic.as_deref().unwrap_or_default()),
            None => f.write_str("*"),
        }
    }
}

/// The right to publish a delivery, unique forever (P12): random per process, counted within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    /// Random, drawn once by each process.
    pub process: u64,
    /// Counts within the process.
    pub number: u64,
}

/// Something that is known about a delivery and stays true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The target's broker has confirmed.
    Confirmed(Target),
    /// The target can never take it, or is optional and did not take it in time; its dead letter is kept.
    Dead(Target, Reason),
    /// The event is in the spool, stored in the same transaction as this fact.
    Accepted,
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Every target confirmed.
    Delivered,
    /// Every target confirmed or dead, at least one dead.
    DeadLettered,
    /// The routes send it nowhere.
    Ignored,
    /// The event is in the spool, which takes it to its targets.
    Stored,
}

impl End {
    /// The word for it in answers and in the log.
    pub fn word(self) -> &'static str {
        match self {
            End::Delivered | End::Stored => "accepted",
            End::DeadLettered => "dead-lettered",
            End::Ignored => "ignored",
        }
    }
}

/// What is known of the targets of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The targets, once frozen.
    pub frozen: Option<Vec<Target>>,
    /// Those that have confirmed.
    pub confirmed: BTreeSet<Target>,
    /// Those that have a dead letter instead.
    pub dead: BTreeMap<Target, Reason>,
    /// Whether the spool has the event: it alone publishes it then.
    pub accepted: bool,
}

impl Known {
    /// Whether a target needs no (further) publish: settled, or outside the frozen set (P7).
    pub fn skips(&self, target: &Target) -> bool {
        self.confirmed.contains(target)
            || self.dead.contains_key(target)
            || self.frozen.as_ref().is_some_and(|frozen| !frozen.contains(target))
    }

    /// How a delivery to these targets ends, if they are all settled.
    fn end(&self, targets: &[Target]) -> Option<End> {
        let settled = |target| self.confirmed.contains(target) || self.dead.contains_key(target);
        if !targets.iter().all(settled) {
            return None;
        }
        let dead = targets.iter().any(|target| !self.confirmed.contains(target));
        Some(match (targets.is_empty(), dead) {
            (true, _) => End::Ignored,
            (false, true) => End::DeadLettered,
            (false, false) => End::Delivered,
        })
    }
}

/// All that a ledger knows of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Who may publish it now.
    pub holder: Option<Ticket>,
    /// What is known of its targets.
    pub known: Known,
}

/// The answer to "may I publish this delivery?"
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Yes; this is known already.
    Mine(Known),
    /// No: it is in flight under another ticket.
    Busy,
    /// No: it has ended, and is never published again.
    Closed(End),
}

impl Entry {
    /// How the delivery ended, if it has. For senders, it ends with its acceptance.
    pub fn end(&self) -> Option<End> {
        self.known.end(self.known.frozen.as_ref()?).or(self.known.accepted.then_some(End::Stored))
    }

    /// Asks for the right to publish.
    pub fn claim(&mut self, ticket: Ticket) -> Permission {
        match (self.end(), self.holder) {
            (Some(end), _) => Permission::Closed(end),
            (None, Some(_)) => Permission::Busy,
            (None, None) => {
                self.holder = Some(ticket);
                Permission::Mine(self.known.clone())
            }
        }
    }

    /// Gives the right back, if the ticket is the current one.
    pub fn release(&mut self, ticket: Ticket) {
        if self.holder == Some(ticket) {
            self.holder = None;
        }
    }

    /// Merges facts that became known to the owner of a ticket, current or not, whose routes lead to `targets`; returns
    /// how the delivery ended, if it has.
    pub fn record(&mut self, ticket: Ticket, targets: &[Target], facts: &[Fact]) -> Option<End> {
        let current = self.holder == Some(ticket);
        for fact in facts {
            match fact {
                Fact::Confirmed(target) => {
                    self.known.dead.remove(target);
                    self.known.confirmed.insert(target.clone());
                    self.known.frozen.get_or_insert_with(|| targets.to_vec());
                }
                Fact::Dead(target, reason) => {
                    if current && !self.known.confirmed.contains(target) {
                        self.known.dead.insert(target.clone(), *reason);
                    }
                }
                // The first one wins (P1). What is settled needs no spool.
                Fact::Accepted => {
                    if current && self.end().is_none() {
                        self.known.accepted = true;
                        self.known.frozen.get_or_insert_with(|| targets.to_vec());
                    }
                }
            }
        }
        if current && self.known.frozen.is_none() && self.known.end(targets).is_some() {
            self.known.frozen = Some(targets.to_vec());
        }
        let end = self.end();
        if end.is_some() {
            self.holder = None;
        }
        end
    }
}

#[cfg(test)]
mod tests;
