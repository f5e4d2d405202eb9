//! SEAM: a destination is a broker, or anything else that can make an event safe.
//!
//! A publish ends in one of four ways, and the difference between them is what the bridge exists for: see [`Outcome`].
//!
//! # To add a broker
//!
//! 1. A folder `destination/NAME/` and its facade `destination/NAME.rs` with `open`. The three brokers have the same files
//!    with the same jobs:
//!
//!    | file | job |
//!    |---|---|
//!    | `connection.rs` | how one connects: addresses, TLS, credentials (read again at each attempt), client options |
//!    | `supervisor.rs` | keeps the connection: connect, topology, watch, back off, report |
//!    | `topology.rs` | what is wanted, what was found, and the calls that create what is missing |
//!    | `message.rs` | event to the client's wire form; pure |
//!    | `in_flight.rs` | publishes without an outcome, their life and their order |
//!    | `outcome.rs` | the client's and the broker's answers to an [`Outcome`]; pure, one table |
//!
//! 2. A variant of [`Kind`](crate::naming::Kind) with its naming rules, one of
//!    [`BrokerUrl`](settings::BrokerUrl), and one arm in `open.rs`.
//! 3. One line in `tests/destinations.rs`, and a type there that starts, breaks and reads the broker. The conformance suite
//!    then runs over it.
//!
//! What is the same for all is here once: `status` (health, gauge, log lines, warnings), `keeper` (watched
//! background tasks), `reopen` (opens a destination again whose task has failed), `found` (what a look at the topology gives),
//! `permission` (whether the user may publish), [`cloudevents`], and [`Handle`] (bounds, metrics, and whether the destination and each of its topics answer).

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::message::{Message, Outcome};
use crate::reason::Failure;
use crate::telemetry::metrics::Metrics;

pub mod cloudevents;
mod encode;
mod file;
mod found;
mod handle;
mod kafka;
mod keeper;
mod nats;
mod open;
mod permission;
pub mod precheck;
mod rabbitmq;
mod reopen;
pub mod settings;
mod stall;
mod status;
mod streak;

pub use encode::encoded_size;
pub use handle::Handle;
pub use open::open;
pub use reopen::OpenDestination;

/// Resolves when the broker has answered, or surely will not. The publish is in flight whether or not it is polled.
pub type Confirm = BoxFuture<'static, Outcome>;

/// Whether a destination can be published to, as far as is known without a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not usable since the process started. Why the last attempt failed; `None` while the first is under way.
    Starting(Option<Failure>),
    /// Connected, and its topology fits.
    Up,
    /// Not connected, or its topology does not fit.
    Down(Failure),
}

/// A broker, or anything else that can make an event safe. All methods can be called from any task.
pub trait Destination: Send + Sync {
    /// Hands the message to the client library and returns at once: messages are sent in the order of the calls. The
    /// future resolves, and the message's memory is released, soon after [`Opening::publish_timeout`] at the latest.
    /// [`Handle`] bounds and counts the publishes in flight.
    fn publish(&self, message: Message) -> Confirm;

    /// Why the broker surely refuses a message of this size, as far as is known without sending it. `None` says nothing:
    /// [`publish`](Destination::publish) ends in `Never(too_large)` if it does.
    fn refuses_size(&self, _: &Message) -> Option<Failure> {
        None
    }

    /// Creates what its topics need; with `topology: verify`, only checks it. Never deletes or narrows what exists.
    fn ensure(&self) -> BoxFuture<'_, Result<(), Failure>>;

    /// Connects and describes what exists, a line for each thing and each warning, without a change: what
    /// `check --connect` prints.
    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>>;

    /// What is known of it without a query.
    fn health(&self) -> Health;

    /// What an operator should know although events are taken, as far as is known without a query: a topology that may
    /// throw events away, a topic that is refused. Empty if there is nothing.
    fn warnings(&self) -> Vec<String>;

    /// Resolves when it takes nothing any more: it was closed, or one of its background tasks has failed. In both cases
    /// every publish in flight has an outcome soon, and later ones are refused.
    fn ended(&self) -> BoxFuture<'_, ()>;

    /// Waits for the outcomes of the publishes in flight, at most as long as given, then disconnects.
    fn close(&self, at_most: Duration) -> BoxFuture<'_, ()>;
}

/// Makes messages smaller that are too large for their broker.
pub trait Reduction: Send + Sync {
    /// What it does.
    fn policy(&self) -> settings::OversizePolicy;

    /// The same event, with the same id, in a form that may be small enough. The error is the outcome of the publish.
    fn reduce(&self, message: Message) -> BoxFuture<'static, Result<Message, Outcome>>;
}

/// What a destination is opened with.
#[derive(Clone)]
pub struct Opening {
    /// Its settings.
    pub settings: settings::DestinationSettings,
    /// Every topic that the routes can lead to; `*` stands for a part that varies.
    pub topics: Vec<String>,
    /// How long a publish may be in flight.
    pub publish_timeout: Duration,
    /// The largest body that can arrive, in bytes: topics should take it.
    pub body_limit: usize,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
}
