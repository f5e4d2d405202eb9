//! Exchange, queues and bindings: made or only checked. What exists is taken as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind, Queue};

use super::connection::{Link, failure};
use super::message::short;
use crate::destination::settings::Topology;
use crate::reason::{Failure, Reason};

/// Bytes that a queue holds before it refuses more.
const QUEUE_BYTES: i64 = 1 << 30;

/// What a destination needs.
pub(super) struct Wanted {
    pub(super) topology: Topology,
    pub(super) exchange: String,
    /// Queues, and the routing key that each is bound with.
    queues: BTreeMap<String, String>,
}

/// What was found, or made.
#[derive(Default)]
pub(super) struct Found {
    /// What keeps some topics from being published to.
    pub(super) problems: Vec<Failure>,
    /// What exists in another way than it would be made.
    pub(super) warnings: Vec<String>,
    /// A line for each thing that is there.
    pub(super) lines: Vec<String>,
}

impl Wanted {
    pub(super) fn new(topology: Topology, exchange: String, topics: &[String]) -> Self {
        let queues = topics.iter().map(|topic| (topic.clone(), pattern(topic))).collect();
        Wanted { topology, exchange, queues }
    }

    fn dead(&self) -> String {
        format!("{}.dead", self.exchange)
    }

    /// Makes or checks everything, in a task of its own: were it dropped half-way, our closing of a channel could meet the
    /// broker's, and lapin then ends the whole connection.
    ///
    /// # Errors
    /// There is no exchange, so nothing can be published; or the connection ended.
    pub(super) async fn ensure(self: &Arc<Self>, link: &Arc<Link>) -> Result<Found, Failure> {
        let (wanted, link) = (Arc::clone(self), Arc::clone(link));
        let ensured = tokio::spawn(async move { wanted.go(&link).await }).await;
        ensured.unwrap_or_else(|_| Err(Failure::new(Reason::Failed, "making the topology ended unexpectedly")))
    }

    async fn go(&self, link: &Link) -> Result<Found, Failure> {
        let mut found = Found::default();
        let mut declarer = Declarer { link, channel: None };
        let make = self.topology == Topology::Ensure;
        if make && let Err(failure) = self.dead_letters(&mut declarer, &mut found).await {
            found.warnings.push(format!("no dead letters: {failure}"));
        }
        if make {
            declarer.make_exchange(&self.exchange, &mut found).await?;
        } else {
            declarer.has_exchange(&self.exchange).await?;
        }
        for (queue, key) in &self.queues {
            let outcome = if make {
                let arguments = self.arguments();
                declarer.make_queue(queue, arguments, &self.exchange, key, &mut found).await
            } else {
                declarer.has_queue(queue).await.map(|queue| found.lines.push(line(&queue)))
            };
            match outcome {
                Ok(()) => {}
                Err(failure) if failure.reason == Reason::Unreachable => return Err(failure),
                Err(failure) => found.problems.push(failure),
            }
        }
        declarer.end().await;
        Ok(found)
    }

    async fn dead_letters(&self, declarer: &mut Declarer<'_>, found: &mut Found) -> Result<(), Failure> {
        let dead = self.dead();
        declarer.make_exchange(&dead, found).await?;
        declarer.make_queue(&dead, quorum(), &dead, "#", found).await
    }

    fn arguments(&self) -> FieldTable {
        let mut arguments = quorum();
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(QUEUE_BYTES));
        arguments.insert("x-overflow".into(), text("reject-publish"));
        arguments.insert("x-dead-letter-exchange".into(), text(&self.dead()));
        arguments
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

/// The routing key for a topic: a part that varies (`*`, or a placeholder) is any one word.
fn pattern(topic: &str) -> String {
    let part = |part| if str::contains(part, ['*', '{']) { "*" } else { part };
    topic.split('.').map(part).collect::<Vec<_>>().join(".")
}

fn line(queue: &Queue) -> String {
    format!("queue {}: {} messages, {} consumers", queue.name(), queue.message_count(), queue.consumer_count())
}

/// Declares one thing after the other. An error ends a channel, so each goes on with another one.
struct Declarer<'a> {
    link: &'a Link,
    channel: Option<Channel>,
}

impl Declarer<'_> {
    async fn channel(&mut self) -> Result<Channel, Failure> {
        if let Some(channel) = self.channel.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let channel = self.link.channel().await?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    async fn end(mut self) {
        if let Some(channel) = self.channel.take() {
            // Nothing depends on it.
            let _ = channel.close(200, "OK".into()).await;
        }
    }

    /// The error of a declaration, and that its channel is gone with it.
    fn failed(&mut self, what: &str, error: &lapin::Error) -> Failure {
        self.channel = None;
        let Failure { reason, detail } = failure(error);
        Failure::new(reason, format!("{what}: {detail}"))
    }

    async fn exchange(&mut self, name: &str, passive: bool) -> Result<(), Failure> {
        let options = ExchangeDeclareOptions { passive, durable: true, ..Default::default() };
        let channel = self.channel().await?;
        let declared =
            channel.exchange_declare(legal(name)?, ExchangeKind::Topic, options, FieldTable::default()).await;
        declared.map_err(|error| self.failed(&format!("exchange {name}"), &error))
    }

    async fn has_exchange(&mut self, name: &str) -> Result<(), Failure> {
        self.exchange(name, true).await
    }

    async fn make_exchange(&mut self, name: &str, found: &mut Found) -> Result<(), Failure> {
        let Err(refused) = self.exchange(name, false).await else { return Ok(()) };
        if refused.reason == Reason::Unreachable {
            return Err(refused);
        }
        // Without the permission to make what is there, or where it is there in another way, it is taken as it is.
        match self.has_exchange(name).await {
            Ok(()) if refused.reason == Reason::NotAuthorized => Ok(()),
            Ok(()) => {
                found.warnings.push(format!("{}; taken as it is", refused.detail));
                Ok(())
            }
            Err(missing) if missing.reason == Reason::Unreachable => Err(missing),
            Err(_) => Err(refused),
        }
    }

    async fn queue(&mut self, name: &str, passive: bool, arguments: FieldTable) -> Result<Queue, Failure> {
        let options = QueueDeclareOptions { passive, durable: true, ..Default::default() };
        let channel = self.channel().await?;
        let declared = channel.queue_declare(legal(name)?, options, arguments).await;
        declared.map_err(|error| self.failed(&format!("queue {name}"), &error))
    }

    async fn has_queue(&mut self, name: &str) -> Result<Queue, Failure> {
        self.queue(name, true, FieldTable::default()).await
    }

    async fn make_queue(
        &mut self,
        name: &str,
        arguments: FieldTable,
        exchange: &str,
        key: &str,
        found: &mut Found,
    ) -> Result<(), Failure> {
        let queue = match self.queue(name, false, arguments).await {
            Ok(queue) => queue,
            Err(refused) if refused.reason == Reason::Unreachable => return Err(refused),
            Err(refused) => match self.has_queue(name).await {
                Ok(queue) => {
                    if refused.reason != Reason::NotAuthorized {
                        found.warnings.push(format!("{}; taken as it is", refused.detail));
                    }
                    queue
                }
                Err(missing) if missing.reason == Reason::Unreachable => return Err(missing),
                Err(_) => return Err(refused),
            },
        };
        found.lines.push(line(&queue));
        let channel = self.channel().await?;
        let options = QueueBindOptions::default();
        let bound =
            channel.queue_bind(legal(name)?, legal(exchange)?, legal(key)?, options, FieldTable::default()).await;
        match bound.map_err(|error| self.failed(&format!("binding queue {name} to {exchange}"), &error)) {
            // It may be bound already, which AMQP cannot ask. If it is not, the messages come back, unless another queue or
            // an alternate exchange takes them.
            Err(refused) if refused.reason == Reason::NotAuthorized => {
                found.warnings.push(refused.detail.into_owned());
                Ok(())
            }
            other => other,
        }
    }
}

fn legal(name: &str) -> Result<ShortString, Failure> {
    short(name).ok_or_else(|| Failure::new(Reason::Topology, format!("{name}: names have at most 255 bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        assert_eq!(pattern("file.ready"), "file.ready");
        assert_eq!(pattern("file.*"), "file.*");
        assert_eq!(pattern("file.{subject}.x"), "file.*.x");
        assert_eq!(pattern("file.p-*"), "file.*");
    }
}
