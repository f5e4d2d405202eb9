//! What publishing needs: on every connection of a destination, and on one.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use lapin::Channel;
use lapin::types::ShortString;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::connection::AmqpConnection;
use super::load::StalledLanes;
use super::message::Encoder;
use super::refusals::TopicRefusals;
use crate::reason::Failure;

/// What publishing needs on every connection of a destination.
pub(super) struct PublishContext {
    pub(super) encoder: Encoder,
    pub(super) exchange: ShortString,
    pub(super) publish_timeout: Duration,
    pub(super) refusals: TopicRefusals,
    pub(super) stalled: Arc<StalledLanes>,
    /// Every topic that is known in advance; `*` stands for a part that varies.
    pub(super) topics: Vec<String>,
    /// How many channels the broker allows this user; `usize::MAX` while it is unknown.
    pub(super) channels: AtomicUsize,
    /// The broker's limit for a message in bytes; `usize::MAX` while it is unknown.
    pub(super) message_limit: AtomicUsize,
    /// Notified when a message had no queue.
    pub(super) unroutable: Notify,
    /// Notified when a publish was not answered in time.
    pub(super) unanswered: Notify,
}

/// What the lanes of one connection share.
pub(super) struct LaneContext {
    pub(super) connection: Arc<AmqpConnection>,
    pub(super) publish: Arc<PublishContext>,
    /// Channels that are open and not used yet.
    pub(super) spare: Mutex<Vec<Channel>>,
    /// Kept until the connection has ended: lapin closes a channel that is dropped earlier, and reports an error when
    /// that coincides with the end of the connection.
    pub(super) kept: Mutex<Vec<Arc<Channel>>>,
    /// Receives the failure that ends the connection.
    pub(super) failures: mpsc::UnboundedSender<Failure>,
    /// Stops the lanes: queued publishes are refused, and publishes in flight are waited for.
    pub(super) stop: CancellationToken,
}
