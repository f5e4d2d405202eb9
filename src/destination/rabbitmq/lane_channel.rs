//! The channel of a lane: how it is opened and released, and one publish on it.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::{BoxFuture, FutureExt as _};
use lapin::Channel;
use lapin::options::BasicPublishOptions;

use super::context::LaneContext;
use super::message::Encoded;
use super::outcome::LapinAnswer;
use crate::reason::Failure;

/// A channel in confirm mode. No other task publishes on it.
pub(super) enum LaneChannel {
    Closed,
    Opening(BoxFuture<'static, Result<Channel, Failure>>),
    Open(Arc<Channel>),
}

impl LaneChannel {
    /// The channel, which is opened first if need be.
    pub(super) fn open(
        &mut self,
        context: &Arc<LaneContext>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Arc<Channel>, Failure>> {
        loop {
            match self {
                LaneChannel::Open(channel) => return Poll::Ready(Ok(Arc::clone(channel))),
                LaneChannel::Opening(opening) => match ready!(opening.poll_unpin(cx)) {
                    Ok(channel) => *self = LaneChannel::Open(Arc::new(channel)),
                    Err(failure) => {
                        *self = LaneChannel::Closed;
                        return Poll::Ready(Err(failure));
                    }
                },
                LaneChannel::Closed => {
                    let spare = context.spare.lock().pop();
                    let connection = Arc::clone(&context.connection);
                    *self = match spare {
                        Some(channel) => LaneChannel::Open(Arc::new(channel)),
                        None => LaneChannel::Opening(async move { connection.confirm_channel().await }.boxed()),
                    };
                }
            }
        }
    }

    /// Whether it is open: lapin has not failed the publishes on it.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, LaneChannel::Open(channel) if channel.status().connected())
    }

    /// Closes it. `keep`: the connection is about to end.
    pub(super) fn release(&mut self, context: &LaneContext, keep: bool) {
        if let LaneChannel::Open(channel) = std::mem::replace(self, LaneChannel::Closed)
            && keep
        {
            context.kept.lock().push(channel);
        }
    }
}

pub(super) async fn publish(channel: Arc<Channel>, context: Arc<LaneContext>, encoded: Encoded) -> LapinAnswer {
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let Encoded { routing_key, properties, body, .. } = encoded;
    let exchange = context.publish.exchange.clone();
    let sent = channel.basic_publish(exchange, routing_key, options, &body, properties).await;
    drop(body);
    match sent {
        Err(error) => LapinAnswer::of_unsent(error, context.connection.address.is_tls()),
        Ok(confirm) => match confirm.await {
            Ok(confirmation) => LapinAnswer::of_confirmation(confirmation, &context.publish.encoder),
            Err(error) => LapinAnswer::Lost(error),
        },
    }
}
