//! The topology of a destination: exchange, queues and bindings. It is created or only checked; nothing that exists is
//! changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use lapin::types::{AMQPValue, FieldTable};

use super::connection::AmqpConnection;
use super::declare::{Declarer, Presence, TopologyItem};
use crate::destination::found::Found;
use crate::destination::settings::Topology;
use crate::reason::{Failure, Reason};

/// Bytes that a queue holds before it refuses more.
const QUEUE_BYTES: i64 = 1 << 30;

/// What a destination needs.
pub(super) struct Wanted {
    topology: Topology,
    exchange: String,
    /// Queues, and the routing key that each is bound with.
    queues: BTreeMap<String, String>,
}

impl Wanted {
    pub(super) fn new(topology: Topology, exchange: String, topics: &[String]) -> Self {
        let queues = topics.iter().map(|topic| (topic.clone(), routing_key(topic))).collect();
        Wanted { topology, exchange, queues }
    }

    /// Creates what is missing; with `topology: verify` only checks.
    ///
    /// # Errors
    /// There is no exchange, so nothing can be published; or the connection ended.
    pub(super) async fn ensure(self: &Arc<Self>, connection: &Arc<AmqpConnection>) -> Result<Found, Failure> {
        self.run(connection, self.topology == Topology::Ensure).await
    }

    /// Checks everything and creates nothing.
    ///
    /// # Errors
    /// There is no exchange, and `ensure` would not create it; or the connection ended.
    pub(super) async fn check(self: &Arc<Self>, connection: &Arc<AmqpConnection>) -> Result<Found, Failure> {
        self.run(connection, false).await
    }

    /// Works in a task of its own, which is not cancelled halfway: if our closing of a channel met the broker's, lapin
    /// would end the whole connection.
    async fn run(self: &Arc<Self>, connection: &Arc<AmqpConnection>, create: bool) -> Result<Found, Failure> {
        let (wanted, connection) = (Arc::clone(self), Arc::clone(connection));
        let observed = tokio::spawn(async move { wanted.observe(&connection, create).await }).await;
        let failed = |_| Err(Failure::new(Reason::Failed, "the task that checks the topology ended unexpectedly"));
        Ok(self.compare(observed.unwrap_or_else(failed)?))
    }

    /// Asks the broker about every item, and creates it with `create`.
    async fn observe(
        &self,
        connection: &AmqpConnection,
        create: bool,
    ) -> Result<Vec<(TopologyItem, Presence)>, Failure> {
        let mut declarer = Declarer::new(connection);
        let (mut observed, mut unusable) = (Vec::new(), None);
        for item in self.items() {
            if unusable.as_deref() == Some(item.exchange()) {
                continue;
            }
            let presence = if create { declarer.create(&item).await? } else { declarer.check(&item).await? };
            let will_be_created = self.topology == Topology::Ensure && !create;
            if let (TopologyItem::Exchange(name), Some(failure), false) = (&item, presence.failure(), will_be_created) {
                if *name == self.exchange {
                    // Nothing can be published.
                    return Err(failure.clone());
                }
                unusable = Some(name.clone());
            }
            observed.push((item, presence));
        }
        declarer.end().await;
        Ok(observed)
    }

    /// Each exchange comes before its queues.
    fn items(&self) -> Vec<TopologyItem> {
        let mut items = Vec::new();
        if self.topology == Topology::Ensure {
            let dead = self.dead_letters();
            items.push(TopologyItem::Exchange(dead.clone()));
            items.push(TopologyItem::Queue {
                name: dead.clone(),
                arguments: quorum(),
                exchange: dead,
                key: "#".into(),
            });
        }
        items.push(TopologyItem::Exchange(self.exchange.clone()));
        items.extend(self.queues.iter().map(|(name, key)| TopologyItem::Queue {
            name: name.clone(),
            arguments: self.arguments(),
            exchange: self.exchange.clone(),
            key: key.clone(),
        }));
        items
    }

    /// The name of the exchange, and of its queue, for messages that a consumer rejects.
    fn dead_letters(&self) -> String {
        format!("{}.dead", self.exchange)
    }

    fn arguments(&self) -> FieldTable {
        let mut arguments = quorum();
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(QUEUE_BYTES));
        arguments.insert("x-overflow".into(), text("reject-publish"));
        arguments.insert("x-dead-letter-exchange".into(), text(&self.dead_letters()));
        arguments
    }

    fn compare(&self, observed: Vec<(TopologyItem, Presence)>) -> Found {
        let mut found = Found::default();
        for (item, presence) in observed {
            match presence {
                Presence::Exists { line, warnings } => {
                    found.lines.extend(line);
                    found.warnings.extend(warnings);
                }
                Presence::Missing(_) if self.topology == Topology::Ensure => {
                    found.lines.push(format!("{item} does not exist yet"));
                }
                Presence::Missing(failure) | Presence::Refused(failure) if item.exchange() == self.exchange => {
                    found.problems.push(failure);
                }
                // Publishing does not depend on dead letters.
                Presence::Missing(failure) | Presence::Refused(failure) => {
                    found.warnings.push(format!("no dead letters: {failure}"));
                }
            }
        }
        found
    }
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// The routing key for a topic. A part that varies (`*` or a placeholder) matches any one word.
fn routing_key(topic: &str) -> String {
    let part = |part| if str::contains(part, ['*', '{']) { "*" } else { part };
    topic.split('.').map(part).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_vary_become_wildcards() {
        assert_eq!(routing_key("file.ready"), "file.ready");
        assert_eq!(routing_key("file.*"), "file.*");
        assert_eq!(routing_key("file.{subject}.x"), "file.*.x");
        assert_eq!(routing_key("file.p-*"), "file.*");
    }

    fn wanted(topology: Topology) -> Wanted {
        Wanted::new(topology, "events".into(), &["a.b".into()])
    }

    #[test]
    fn dead_letters_are_wanted_only_if_they_are_created() {
        let items = |topology| wanted(topology).items().iter().map(TopologyItem::to_string).collect::<Vec<_>>();
        let checked = ["exchange events", "queue a.b"];
        assert_eq!(items(Topology::Verify), checked);
        assert_eq!(items(Topology::Ensure), [&["exchange events.dead", "queue events.dead"], &checked[..]].concat());
    }

    #[test]
    fn what_exists_is_compared_to_what_is_wanted() {
        let why = || Failure::new(Reason::Topology, "why");
        let exists = |line: &str| Presence::Exists { line: Some(line.into()), warnings: Vec::new() };
        let differs = Presence::Exists { line: None, warnings: vec!["differs".into()] };
        for (topology, number, presence, expected) in [
            (Topology::Ensure, 3, exists("0 messages"), "0 messages"),
            (Topology::Ensure, 3, differs, "warning: differs"),
            (Topology::Ensure, 3, Presence::Missing(why()), "queue a.b does not exist yet"),
            (Topology::Ensure, 3, Presence::Refused(why()), "problem: topology: why"),
            (Topology::Ensure, 0, Presence::Missing(why()), "exchange events.dead does not exist yet"),
            (Topology::Ensure, 0, Presence::Refused(why()), "warning: no dead letters: topology: why"),
            (Topology::Verify, 0, Presence::Missing(why()), "problem: topology: why"),
            (Topology::Verify, 1, Presence::Missing(why()), "problem: topology: why"),
        ] {
            let wanted = wanted(topology);
            let item = wanted.items().remove(number);
            let found = wanted.compare(vec![(item.clone(), presence.clone())]);
            let lines = found.report().unwrap_or_else(|failure| vec![format!("problem: {failure}")]);
            assert_eq!(lines, [expected], "{item}: {presence:?}");
        }
    }
}
