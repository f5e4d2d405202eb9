//! The protocol of one delivery: a pure function over facts.
//!
//! A ledger stores an [`Entry`] for each delivery and changes it only through [`step`]; which ledger, and what fails
//! around it, makes no difference here. Facts only grow: a confirm merges whoever brings it, also after its ticket was
//! lost; only `Release` and `Dead` need the current ticket; closed means that every target of the frozen set is confirmed
//! or dead.
//!
//! The rules without which events were lost or doubled, found by exploring all interleavings of senders, replicas, crashes
//! and late confirms. Code elsewhere names them; P2 to P4, P8, P11 and P13 are for spools and shared stores, whose facts are
//! in the types already.
//!
//! | | rule |
//! |---|---|
//! | P1 | The first `Accepted` of an id wins; a later one is refused and told the owner. It needs no current ticket. |
//! | P2 | A prepared row of a spool belongs to its ticket; whoever is refused deletes only its own. |
//! | P3 | A prepared row is deleted only after the ledger has said that another's `Accepted`, or an end, stands. |
//! | P4 | A prepared row without an entry (the store forgot) is claimed and accepted, never deleted. |
//! | P5 | 200 comes only from the ledger's merged answer, never from a task's own view of its targets. |
//! | P6 | After `Accepted`, the row's owner may bring `Dead`: that fact is its ticket. |
//! | P7 | Facts are read again before each publish; what is confirmed, or not in the frozen set, is skipped. Targets freeze at the first confirm, or at `Accepted`. Confirmed beats dead. |
//! | P8 | A lane's order is the position of the prepared row; an unresolved earlier row of a key holds that key. |
//! | P9 | Order is promised by the replica that holds or published the earlier event. |
//! | P10 | When a shared store forgets, order across replicas is lost too. |
//! | P11 | A spool with rows is drained whatever the mode; a key that has rows goes behind them. |
//! | P12 | Tickets are unique for ever, never a counter inside the entry. |
//! | P13 | A spool is known by the identity of its data directory. While its owner is not alive, a retry gets 503. |
//! | P14 | A RabbitMQ `nack` is unknown, not again: another queue may hold the message. |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::reason::Reason;

/// Destination and topic: what a fact is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target(pub Arc<str>);

impl Target {
    /// The target for a topic of a destination.
    pub fn new(destination: &str, topic: &str) -> Self {
        Target(format!("{destination}/{topic}").into())
    }

    /// The destination's name.
    pub fn destination(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(destination, _)| destination)
    }

    /// Stands for a delivery that cannot have targets, because it could not be normalized.
    pub fn whole() -> Self {
        Target("*".into())
    }
}

/// The right to publish a delivery, unique for ever (P12): random per process, counted within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    /// Random, drawn once by each process.
    pub process: u64,
    /// Counts within the process.
    pub number: u64,
}

/// Draws tickets.
#[derive(Debug)]
pub struct Tickets {
    process: u64,
    next: AtomicU64,
}

impl Default for Tickets {
    fn default() -> Self {
        Tickets { process: rand::random(), next: AtomicU64::new(0) }
    }
}

impl Tickets {
    /// A ticket that never was.
    pub fn draw(&self) -> Ticket {
        Ticket { process: self.process, number: self.next.fetch_add(1, Ordering::Relaxed) }
    }
}

/// The identity of a spool: made once for a data directory and kept in it (P13).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpoolId(pub Arc<str>);

/// Something that is known about a delivery and stays true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The target's broker has confirmed.
    Confirmed(Target),
    /// The target can never take it; its dead letter is kept.
    Dead(Target, Reason),
    /// A spool has it on its disk and will publish it.
    Accepted {
        /// Whose disk.
        spool: SpoolId,
        /// The ticket under which the row was prepared.
        ticket: Ticket,
    },
}

impl Fact {
    /// The target that this fact says is dead.
    pub fn dead(&self) -> Option<&Target> {
        match self {
            Fact::Dead(target, _) => Some(target),
            Fact::Confirmed(_) | Fact::Accepted { .. } => None,
        }
    }
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
    /// A spool has it.
    Stored,
}

/// What is known of the targets of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The targets, once frozen.
    pub frozen: Option<Vec<Target>>,
    /// Those that have confirmed.
    pub confirmed: BTreeSet<Target>,
    /// Those that can never take it.
    pub dead: BTreeMap<Target, Reason>,
}

impl Known {
    /// Whether a target needs no (further) publish: settled, or outside the frozen set (P7).
    pub fn skips(&self, target: &Target) -> bool {
        self.confirmed.contains(target)
            || self.dead.contains_key(target)
            || self.frozen.as_ref().is_some_and(|frozen| !frozen.contains(target))
    }

    fn settled(&self, targets: &[Target]) -> bool {
        targets.iter().all(|target| self.confirmed.contains(target) || self.dead.contains_key(target))
    }
}

/// All that a ledger knows of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Who may publish it now.
    pub holder: Option<Ticket>,
    /// What is known of its targets.
    pub known: Known,
    /// Which spool has it.
    pub accepted: Option<(SpoolId, Ticket)>,
}

/// What is asked of an entry.
#[derive(Clone, Debug)]
pub enum Input {
    /// May I publish it?
    Claim(Ticket),
    /// These facts have become known to the owner of a ticket that meant to reach these targets.
    Record {
        /// The ticket, current or not.
        ticket: Ticket,
        /// Where the routes send it, as that owner sees them.
        targets: Vec<Target>,
        /// What became known.
        facts: Vec<Fact>,
    },
    /// I will not publish it any more.
    Release(Ticket),
}

/// What the entry answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yours to publish; this is known already.
    Mine(Known),
    /// Somebody is at it.
    Busy,
    /// Done: nobody publishes it again.
    Closed(End),
    /// Not done yet.
    Open,
    /// Another spool accepted it first (P1): its owner.
    Owned(SpoolId, Ticket),
}

impl Entry {
    /// How the delivery ended, if it has.
    pub fn end(&self) -> Option<End> {
        let frozen = self.known.frozen.as_ref()?;
        if !self.known.settled(frozen) {
            return self.accepted.as_ref().map(|_| End::Stored);
        }
        let dead = frozen.iter().any(|target| !self.known.confirmed.contains(target));
        Some(match (frozen.is_empty(), dead) {
            (true, _) => End::Ignored,
            (false, true) => End::DeadLettered,
            (false, false) => End::Delivered,
        })
    }

    fn standing(&self) -> Answer {
        self.end().map_or(Answer::Open, Answer::Closed)
    }
}

/// The protocol's only transition. Pure: production and tests share it.
pub fn step(mut entry: Entry, input: Input) -> (Entry, Answer) {
    match input {
        Input::Claim(ticket) => match (entry.end(), entry.holder) {
            (Some(end), _) => (entry, Answer::Closed(end)),
            (None, Some(_)) => (entry, Answer::Busy),
            (None, None) => {
                entry.holder = Some(ticket);
                let known = entry.known.clone();
                (entry, Answer::Mine(known))
            }
        },
        Input::Release(ticket) => {
            if entry.holder == Some(ticket) {
                entry.holder = None;
            }
            let answer = entry.standing();
            (entry, answer)
        }
        Input::Record { ticket, targets, facts } => record(entry, ticket, targets, facts),
    }
}

fn record(mut entry: Entry, ticket: Ticket, targets: Vec<Target>, mut facts: Vec<Fact>) -> (Entry, Answer) {
    // Facts are a set: an accept gives its ticket the right to bring deaths, wherever it stands in the list.
    facts.sort_by_key(|fact| !matches!(fact, Fact::Accepted { .. }));
    let mut refused = None;
    for fact in facts {
        match fact {
            Fact::Confirmed(target) => {
                entry.known.dead.remove(&target);
                entry.known.confirmed.insert(target);
                entry.known.frozen.get_or_insert_with(|| targets.clone());
            }
            Fact::Dead(target, reason) => {
                let current = entry.holder == Some(ticket);
                let accepted = entry.accepted.as_ref().is_some_and(|(_, accepted)| *accepted == ticket);
                if (current || accepted) && !entry.known.confirmed.contains(&target) {
                    entry.known.dead.insert(target, reason);
                }
            }
            Fact::Accepted { spool, ticket } => match &entry.accepted {
                Some((owner, first)) if (owner, first) != (&spool, &ticket) => {
                    refused = Some(Answer::Owned(owner.clone(), *first));
                }
                _ => {
                    entry.accepted = Some((spool, ticket));
                    entry.known.frozen.get_or_insert_with(|| targets.clone());
                }
            },
        }
    }
    let current = entry.holder == Some(ticket);
    if current && entry.known.frozen.is_none() && entry.known.settled(&targets) {
        entry.known.frozen = Some(targets);
    }
    if entry.end().is_some() {
        entry.holder = None;
    }
    let answer = refused.unwrap_or_else(|| entry.standing());
    (entry, answer)
}

#[cfg(test)]
mod tests;
