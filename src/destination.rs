//! SEAM: a destination is a broker, or anything else that can make an event safe.
//!
//! A publish ends in one of four ways, and the difference between them is what the bridge exists for: see [`Outcome`].
//! To add a broker: one file under `destination/`, one arm in [`open`], one line in `tests/destinations.rs`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::message::{Message, Outcome};
use crate::reason::Failure;
use crate::telemetry::metrics::Metrics;

mod backoff;
pub mod cloudevents;
mod file;
mod found;
mod handle;
mod kafka;
mod keeper;
mod nats;
mod open;
mod rabbitmq;
pub mod settings;
mod status;

pub use handle::Handle;
pub use open::open;

/// Resolves when the broker has answered, or surely will not. Its publish is under way whether or not it is polled.
pub type Confirm = BoxFuture<'static, Outcome>;

/// Whether a destination can be published to, as far as is known without asking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not reached since the start.
    Starting,
    /// Connected, and its topology was found or made.
    Up,
    /// Not connected, or its topology does not fit.
    Down(Failure),
}

/// A broker, or anything else that can make an event safe. All methods can be called from any task.
pub trait Destination: Send + Sync {
    /// Hands the message to the client library and returns at once: calls made in order are sent in order. Resolves,
    /// and has let go of the message's memory, soon after the publish's life ([`Opening::publish_timeout`]) is over.
    /// [`Handle`] bounds how many there are, and counts them.
    fn publish(&self, message: Message) -> Confirm;

    /// Makes (or, with `topology: verify`, checks) what its topics need. Never deletes or narrows what exists.
    fn ensure(&self) -> BoxFuture<'_, Result<(), Failure>>;

    /// Reaches the broker; the text says what was found, a line for each warning (`check --connect` prints them).
    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>>;

    /// What is known of it without asking.
    fn health(&self) -> Health;

    /// Sends what was handed over and waits for its outcomes, at most as long as given; then ends its connections.
    fn close(&self, at_most: Duration) -> BoxFuture<'_, ()>;
}

/// What a destination is opened with.
pub struct Opening {
    /// Its settings.
    pub settings: settings::DestinationSettings,
    /// Every topic that the routes can make for it; `{subject}` stands for any one part.
    pub topics: Vec<String>,
    /// How long a publish may stay without an outcome.
    pub publish_timeout: Duration,
    /// The largest body that can arrive, in bytes: topics must take it.
    pub body_limit: usize,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
}
