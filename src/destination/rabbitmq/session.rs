//! A connection that is ready to be published on: channels in confirm mode with their owners, and the topology.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, ErrorKind};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::connection::{Link, failure};
use super::lane::{Common, Job, Lane};
use super::message::Encoder;
use crate::reason::{Failure, Reason};

/// Channels that are published on. Each key has its own; more of them let the broker work on more at a time.
const LANES: usize = 4;

/// What publishers see of a connection. Its lanes finish when the last of these is gone.
pub(super) struct Session {
    pub(super) link: Arc<Link>,
    pub(super) frame_max: usize,
    lanes: Vec<mpsc::Sender<Job>>,
}

impl Session {
    /// Queues a publish on the channel that its key belongs to.
    pub(super) fn send(&self, key: u64, job: Job) -> Result<(), Reason> {
        let lane = &self.lanes[(key % self.lanes.len() as u64) as usize];
        lane.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Reason::Busy,
            mpsc::error::TrySendError::Closed(_) => Reason::Unreachable,
        })
    }
}

/// What the supervisor holds of a connection.
pub(super) struct Work {
    pub(super) link: Arc<Link>,
    /// Kept until the connection is over: lapin closes a channel that is dropped before, and where that meets the end of the
    /// connection it calls it an error.
    pub(super) channels: Vec<Arc<Channel>>,
    /// The lanes' tasks.
    pub(super) lanes: JoinSet<()>,
    /// Why a lane failed.
    pub(super) failed: mpsc::UnboundedReceiver<Failure>,
    pub(super) stop: CancellationToken,
}

/// What all connections of a destination share.
pub(super) struct Parts {
    pub(super) encoder: Arc<Encoder>,
    pub(super) exchange: ShortString,
    pub(super) limit: Arc<AtomicUsize>,
    pub(super) unroutable: Arc<Notify>,
    /// Most publishes that wait for one channel.
    pub(super) queue: usize,
}

/// Opens channels on a connection and starts their owners.
pub(super) async fn start(link: Arc<Link>, parts: &Parts) -> Result<(Session, Work), Failure> {
    let (failed, failures) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let common = Arc::new(Common {
        link: Arc::clone(&link),
        encoder: Arc::clone(&parts.encoder),
        exchange: parts.exchange.clone(),
        limit: Arc::clone(&parts.limit),
        failed,
        unroutable: Arc::clone(&parts.unroutable),
        stop: stop.clone(),
    });
    let mut channels = Vec::with_capacity(LANES);
    for _ in 0..LANES {
        channels.push(Arc::new(confirming(&link).await?));
    }
    let (mut senders, mut lanes) = (Vec::with_capacity(LANES), JoinSet::new());
    for channel in &channels {
        let (sender, queue) = mpsc::channel(parts.queue);
        senders.push(sender);
        lanes.spawn(Lane::new(Arc::clone(channel), queue, Arc::clone(&common)));
    }
    let frame_max = link.connection.configuration().frame_max() as usize;
    let session = Session { link: Arc::clone(&link), frame_max, lanes: senders };
    Ok((session, Work { link, channels, lanes, failed: failures, stop }))
}

/// A channel in confirm mode.
async fn confirming(link: &Link) -> Result<Channel, Failure> {
    let channel = link.channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(|error| failure(&error))?;
    if channel.status().confirm() { Ok(channel) } else { Err(Failure::new(Reason::Failed, "no publisher confirms")) }
}

/// A broker under a memory or disk alarm says so only to a connection that publishes, and keeps that publish without an
/// answer. So an empty message goes first, to no queue. Returns when the broker has answered, or is known to block.
pub(super) async fn feel(link: &Link) -> Result<(), Failure> {
    const AT_MOST: Duration = Duration::from_secs(5);
    let channel = confirming(link).await?;
    let options = BasicPublishOptions::default();
    let answered = async {
        let nowhere = "hookbridge.nowhere".into();
        channel.basic_publish("".into(), nowhere, options, b"", BasicProperties::default()).await?.await
    };
    let felt = timeout(AT_MOST, async {
        tokio::select! { answer = answered => answer.map(drop), () = link.blocked() => Ok(()) }
    });
    match felt.await {
        // Users may be kept from the default exchange; then the first event tells.
        Ok(Err(error)) if !matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == 403) => {
            Err(failure(&error))
        }
        _ => {
            if !link.connection.status().blocked() && channel.status().connected() {
                let _ = channel.close(200, "OK".into()).await;
            }
            Ok(())
        }
    }
}
