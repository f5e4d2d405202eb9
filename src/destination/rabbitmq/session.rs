//! A connection that is ready for publishing: its lanes, each with a channel in confirm mode.

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, ErrorKind};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::AmqpConnection;
use super::lane::{Lane, LaneContext, PublishContext, QueuedPublish};
use super::outcome::failure;
use crate::message::{Message, Outcome};
use crate::reason::{Failure, Reason};

/// Channels to publish on. A key always takes the same one. Several let the broker work on more messages at a time.
const LANES: usize = 4;
/// How long the broker may take to answer the message of [`detect_alarm`].
const ALARM_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection as publishers see it. Its lanes finish when the last reference to it is dropped.
pub(super) struct AmqpSession {
    pub(super) connection: Arc<AmqpConnection>,
    context: Arc<PublishContext>,
    /// The broker's limit for a frame, in bytes.
    frame_max: usize,
    lanes: Vec<mpsc::Sender<QueuedPublish>>,
}

impl AmqpSession {
    /// Queues a message for the lane of its key.
    ///
    /// # Errors
    /// The outcome of a message that cannot be queued.
    pub(super) fn publish(&self, message: &Message) -> Result<oneshot::Receiver<Outcome>, Outcome> {
        if self.connection.is_blocked() {
            return Err(Outcome::Again(Reason::Blocked.into()));
        }
        let encoded = self.context.encoder.encode(message).map_err(Outcome::Never)?;
        let (bytes, limit) = (encoded.header_bytes, self.frame_max);
        if bytes > limit {
            // AMQP sends all properties in one frame. The broker would end the whole connection over a larger one.
            let detail = format!("the attributes have {bytes} bytes, the broker's limit for a frame is {limit}");
            return Err(Outcome::Never(Failure::new(Reason::TooLarge, detail)));
        }
        let key = self.context.key_hasher.hash_one(message.key().unwrap_or(&message.event.id));
        let unreachable = || Outcome::Again(Reason::Unreachable.into());
        let lane = self.lanes.get((key % LANES as u64) as usize).ok_or_else(unreachable)?;
        let (reply, outcome) = oneshot::channel();
        let queued = QueuedPublish { encoded, deadline: Instant::now() + self.context.publish_timeout, reply };
        lane.try_send(queued).map_err(|error| match error {
            TrySendError::Full(_) => Outcome::Again(Reason::Busy.into()),
            TrySendError::Closed(_) => unreachable(),
        })?;
        Ok(outcome)
    }
}

/// A connection as the supervisor sees it.
pub(super) struct LaneTasks {
    pub(super) connection: Arc<AmqpConnection>,
    /// Kept until the connection has ended: lapin closes a channel that is dropped earlier, and reports an error when
    /// that coincides with the end of the connection.
    pub(super) channels: Vec<Arc<Channel>>,
    pub(super) lanes: JoinSet<()>,
    /// The failures of lanes.
    pub(super) failures: mpsc::UnboundedReceiver<Failure>,
    /// Stops the lanes.
    pub(super) stop: CancellationToken,
}

impl LaneTasks {
    /// Returns when every lane has ended.
    pub(super) async fn ended(&mut self) {
        while self.lanes.join_next().await.is_some() {}
    }
}

/// Opens channels on a connection and starts their lanes.
pub(super) async fn start(
    connection: &Arc<AmqpConnection>,
    publish: &Arc<PublishContext>,
) -> Result<(AmqpSession, LaneTasks), Failure> {
    let (sender, failures) = mpsc::unbounded_channel();
    let (connection, publish, stop) = (Arc::clone(connection), Arc::clone(publish), CancellationToken::new());
    let context = Arc::new(LaneContext {
        connection: Arc::clone(&connection),
        publish: Arc::clone(&publish),
        failures: sender,
        stop: stop.clone(),
    });
    let mut channels = Vec::with_capacity(LANES);
    for _ in 0..LANES {
        channels.push(Arc::new(confirm_channel(&connection).await?));
    }
    let (mut senders, mut lanes) = (Vec::with_capacity(LANES), JoinSet::new());
    for channel in &channels {
        let (sender, queue) = mpsc::channel(publish.queue_length);
        senders.push(sender);
        lanes.spawn(Lane::new(Arc::clone(channel), queue, Arc::clone(&context)));
    }
    let frame_max = connection.lapin.configuration().frame_max() as usize;
    let session = AmqpSession { connection: Arc::clone(&connection), context: publish, frame_max, lanes: senders };
    Ok((session, LaneTasks { connection, channels, lanes, failures, stop }))
}

/// A channel in confirm mode.
async fn confirm_channel(connection: &AmqpConnection) -> Result<Channel, Failure> {
    let channel = connection.channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(|error| failure(&error))?;
    match channel.status().confirm() {
        true => Ok(channel),
        false => Err(Failure::new(Reason::Failed, "the channel did not enter confirm mode")),
    }
}

/// Finds out whether the broker has a memory or disk alarm. The broker reports an alarm only to a connection that
/// publishes, and it does not answer that publish. So an empty message is published first, to no queue. Returns when the
/// broker has answered or is known to block.
pub(super) async fn detect_alarm(connection: &AmqpConnection) -> Result<(), Failure> {
    let channel = confirm_channel(connection).await?;
    let options = BasicPublishOptions::default();
    let answered = async {
        let nowhere = "hookbridge.nowhere".into();
        channel.basic_publish("".into(), nowhere, options, b"", BasicProperties::default()).await?.await
    };
    let detected = timeout(ALARM_TIMEOUT, async {
        tokio::select! { answer = answered => answer.map(drop), () = connection.blocked() => Ok(()) }
    });
    match detected.await {
        // Without access to the default exchange, the first event will show an alarm.
        Ok(Err(error)) if !matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == 403) => {
            Err(failure(&error))
        }
        _ => {
            if !connection.is_blocked() && channel.status().connected() {
                let _ = channel.close(200, "OK".into()).await;
            }
            Ok(())
        }
    }
}
