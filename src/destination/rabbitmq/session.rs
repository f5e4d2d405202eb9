//! A connection that is ready for publishing, and its lanes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, ErrorKind};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::AmqpConnection;
use super::context::{LaneContext, PublishContext};
use super::lane::{Lane, QueuedPublish};
use super::lane_map::LaneMap;
use super::load::{LaneLoad, PublishReply};
use super::outcome::failure;
use crate::message::{Message, Outcome};
use crate::reason::{Failure, Reason};

/// Channels that are opened with the connection. Lanes open more when they need them.
const SPARE_CHANNELS: usize = 4;
/// How long the broker may take to answer the message of [`detect_alarm`].
const ALARM_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection as publishers see it. Its lanes finish when the last reference to it is dropped.
pub(super) struct AmqpSession {
    pub(super) connection: Arc<AmqpConnection>,
    pub(super) context: Arc<PublishContext>,
    /// The broker's limit for a frame, in bytes.
    frame_max: usize,
    map: Arc<LaneMap>,
    lanes: Vec<(mpsc::UnboundedSender<QueuedPublish>, Arc<LaneLoad>)>,
}

impl AmqpSession {
    /// Queues a message for the lane of its topic and key.
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
        let topic = Arc::clone(&message.topic);
        let unreachable = || Outcome::Again(Reason::Unreachable.into());
        let key = message.key().unwrap_or(&message.event.id);
        let (lane, load) = self.lanes.get(self.map.lane(&topic, key)).ok_or_else(unreachable)?;
        let place = load.place(encoded.body.len()).map_err(Outcome::Again)?;
        let timeout = self.context.publish_timeout;
        let trial = self.context.refusals.enter(&topic, timeout).map_err(Outcome::Again)?;
        let (reply, outcome) = PublishReply::new(place);
        let queued = QueuedPublish { topic, encoded, deadline: Instant::now() + timeout, trial, reply };
        lane.send(queued).map_err(|_| unreachable())?;
        Ok(outcome)
    }
}

/// A connection as the supervisor sees it.
pub(super) struct LaneTasks {
    pub(super) connection: Arc<AmqpConnection>,
    pub(super) context: Arc<LaneContext>,
    pub(super) map: Arc<LaneMap>,
    pub(super) lanes: JoinSet<()>,
    /// The failures that end the connection.
    pub(super) failures: mpsc::UnboundedReceiver<Failure>,
}

impl LaneTasks {
    /// Returns when every lane has ended.
    pub(super) async fn ended(&mut self) {
        while self.lanes.join_next().await.is_some() {}
    }
}

/// Starts the lanes of a connection.
pub(super) async fn start(
    connection: &Arc<AmqpConnection>,
    publish: &Arc<PublishContext>,
) -> Result<(AmqpSession, LaneTasks), Failure> {
    let (sender, failures) = mpsc::unbounded_channel();
    let (connection, publish) = (Arc::clone(connection), Arc::clone(publish));
    let configuration = connection.lapin.configuration();
    let (frame_max, most) = (configuration.frame_max() as usize, usize::from(configuration.channel_max()));
    let map = Arc::new(LaneMap::new(&publish.topics, most.min(publish.channels.load(Ordering::Relaxed))));
    let mut spare = Vec::new();
    for _ in 0..map.len().min(SPARE_CHANNELS) {
        spare.push(connection.confirm_channel().await?);
    }
    let context = Arc::new(LaneContext {
        connection: Arc::clone(&connection),
        publish: Arc::clone(&publish),
        spare: Mutex::new(spare),
        kept: Mutex::default(),
        failures: sender,
        stop: CancellationToken::new(),
    });
    let (mut senders, mut lanes) = (Vec::with_capacity(map.len()), JoinSet::new());
    for _ in 0..map.len() {
        let (sender, queue) = mpsc::unbounded_channel();
        let load = Arc::new(LaneLoad::new(Arc::clone(&publish.stalled)));
        lanes.spawn(Lane::new(queue, Arc::clone(&load), Arc::clone(&context)));
        senders.push((sender, load));
    }
    let tasks = LaneTasks { connection: Arc::clone(&connection), context, map: Arc::clone(&map), lanes, failures };
    Ok((AmqpSession { connection, context: publish, frame_max, map, lanes: senders }, tasks))
}

/// Finds out whether the broker has a memory or disk alarm. The broker reports an alarm only to a connection that
/// publishes, and it does not answer that publish. So an empty message is published first, to no queue. Returns when the
/// broker has answered or is known to block.
pub(super) async fn detect_alarm(connection: &AmqpConnection) -> Result<(), Failure> {
    let channel = connection.confirm_channel().await?;
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
