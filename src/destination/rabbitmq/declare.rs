//! Declarations: the calls that check exchanges and queues, and create what is missing.

use std::fmt;

use futures_util::future::{BoxFuture, FutureExt as _, TryFutureExt as _};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, ErrorKind, ExchangeKind};

use super::connection::AmqpConnection;
use super::difference::consequence;
use super::message::short;
use super::outcome::failure;
use super::unanswered::Patience;
use crate::reason::{Failure, Reason};

/// An exchange or a queue. Displayed as `exchange NAME` or `queue NAME`.
#[derive(Clone, Debug)]
pub(super) enum TopologyItem {
    /// A durable topic exchange.
    Exchange(String),
    /// A durable queue that is bound to an exchange.
    Queue { name: String, arguments: FieldTable, exchange: String, key: String },
}

impl TopologyItem {
    /// The exchange itself, or the one that the queue is bound to.
    pub(super) fn exchange(&self) -> &str {
        match self {
            TopologyItem::Exchange(exchange) | TopologyItem::Queue { exchange, .. } => exchange,
        }
    }
}

impl fmt::Display for TopologyItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopologyItem::Exchange(name) => write!(f, "exchange {name}"),
            TopologyItem::Queue { name, .. } => write!(f, "queue {name}"),
        }
    }
}

/// What the broker answered about one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It exists. A queue has a line about its state.
    Exists { line: Option<String>, warnings: Vec<String> },
    /// It does not exist.
    Missing(Failure),
    /// It cannot be checked, created or bound.
    Refused(Failure),
}

impl Presence {
    /// Why the item cannot be used.
    pub(super) fn failure(&self) -> Option<&Failure> {
        match self {
            Presence::Exists { .. } => None,
            Presence::Missing(failure) | Presence::Refused(failure) => Some(failure),
        }
    }
}

/// Declares one item after the other. All methods fail only when the connection has ended. An item that the broker does
/// not answer is [refused](Presence::Refused).
pub(super) struct Declarer<'a> {
    connection: &'a AmqpConnection,
    /// An error ends a channel, so the next declaration takes another one.
    channel: Option<Channel>,
    patience: Patience,
}

impl<'a> Declarer<'a> {
    pub(super) fn new(connection: &'a AmqpConnection) -> Self {
        Declarer { connection, channel: None, patience: Patience::new() }
    }

    /// Checks an item, and creates nothing. AMQP cannot show arguments and bindings.
    pub(super) async fn check(&mut self, item: &TopologyItem) -> Result<Presence, Failure> {
        self.declare(item, true).await
    }

    /// Creates an item, and binds a queue. What exists already is not changed.
    pub(super) async fn create(&mut self, item: &TopologyItem) -> Result<Presence, Failure> {
        let (line, mut warnings) = match self.declare(item, false).await? {
            Presence::Exists { line, warnings } => (line, warnings),
            Presence::Refused(unanswered) if unanswered.reason == Reason::Timeout => {
                return Ok(Presence::Refused(unanswered));
            }
            Presence::Missing(refused) | Presence::Refused(refused) => match self.check(item).await? {
                // It exists, and the user may not create it.
                Presence::Exists { line, warnings } if refused.reason == Reason::NotAuthorized => (line, warnings),
                Presence::Exists { line, .. } => (line, vec![used_unchanged(item, &refused)]),
                Presence::Missing(_) | Presence::Refused(_) => return Ok(Presence::Refused(refused)),
            },
        };
        if let TopologyItem::Queue { name, exchange, key, .. } = item {
            match self.bind(name, exchange, key).await?.failure() {
                // It may be bound already, which AMQP cannot show. If it is not bound, the broker returns its messages,
                // unless another queue or an alternate exchange takes them.
                Some(refused) if refused.reason == Reason::NotAuthorized => warnings.push(refused.detail.to_string()),
                Some(refused) => return Ok(Presence::Refused(refused.clone())),
                None => {}
            }
        }
        Ok(Presence::Exists { line, warnings })
    }

    /// Closes the channel.
    pub(super) async fn end(self) {
        if let Some(channel) = self.channel {
            // Nothing depends on it.
            let _ = channel.close(200, "OK".into()).await;
        }
    }

    /// Declares an item. `passive`: it must exist already.
    async fn declare(&mut self, item: &TopologyItem, passive: bool) -> Result<Presence, Failure> {
        let channel = self.channel().await?;
        let (TopologyItem::Exchange(name) | TopologyItem::Queue { name, .. }) = item;
        let Some(legal) = short(name) else { return Ok(too_long(item)) };
        let call = match item {
            TopologyItem::Exchange(_) => {
                let options = ExchangeDeclareOptions { passive, durable: true, ..Default::default() };
                let none = FieldTable::default();
                let call = async move { channel.exchange_declare(legal, ExchangeKind::Topic, options, none).await };
                call.map_ok(|()| None).boxed()
            }
            TopologyItem::Queue { arguments, .. } => {
                let options = QueueDeclareOptions { passive, durable: true, ..Default::default() };
                let arguments = if passive { FieldTable::default() } else { arguments.clone() };
                let shown = item.to_string();
                let call = async move { channel.queue_declare(legal, options, arguments).await };
                call.map_ok(move |queue| {
                    let (messages, consumers) = (queue.message_count(), queue.consumer_count());
                    Some(format!("{shown}: {messages} messages, {consumers} consumers"))
                })
                .boxed()
            }
        };
        self.presence(&item.to_string(), call).await
    }

    async fn bind(&mut self, queue: &str, exchange: &str, key: &str) -> Result<Presence, Failure> {
        let channel = self.channel().await?;
        let what = format!("binding queue {queue} to {exchange}");
        let names = [queue, exchange, key].map(short);
        let [Some(queue), Some(exchange), Some(key)] = names else { return Ok(too_long(what)) };
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        let call = async move { channel.queue_bind(queue, exchange, key, options, none).await };
        self.presence(&what, call.map_ok(|()| None).boxed()).await
    }

    /// # Errors
    /// The connection ended.
    async fn presence(
        &mut self,
        what: &str,
        call: BoxFuture<'static, Result<Option<String>, lapin::Error>>,
    ) -> Result<Presence, Failure> {
        let error = match self.connection.unanswered.wait(what, call, &self.patience).await {
            Ok(Ok(line)) => return Ok(Presence::Exists { line, warnings: Vec::new() }),
            Ok(Err(error)) => error,
            Err(unanswered) => {
                self.channel = None;
                return Ok(Presence::Refused(unanswered));
            }
        };
        self.channel = None;
        let Failure { reason, detail } = failure(&error);
        let failure = Failure::new(reason, format!("{what}: {detail}"));
        match error.kind() {
            _ if reason == Reason::Unreachable => Err(failure),
            ErrorKind::ProtocolError(error) if error.get_id() == 404 => Ok(Presence::Missing(failure)),
            _ => Ok(Presence::Refused(failure)),
        }
    }

    async fn channel(&mut self) -> Result<Channel, Failure> {
        if let Some(channel) = self.channel.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let channel = self.connection.channel().await?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }
}

/// The warning about an item that exists and differs.
fn used_unchanged(item: &TopologyItem, refused: &Failure) -> String {
    let loss = match item {
        TopologyItem::Exchange(_) => "",
        TopologyItem::Queue { .. } => consequence(&refused.detail),
    };
    let separator = if loss.is_empty() { "" } else { ": " };
    format!("{}; it is used unchanged{separator}{loss}", refused.detail)
}

fn too_long(what: impl fmt::Display) -> Presence {
    Presence::Refused(Failure::new(Reason::Topology, format!("{what}: names have at most 255 bytes")))
}
