//! The broker's `max_message_size`, which AMQP does not show: only a message that is larger makes the broker name it.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use tokio::time::timeout;

use super::connection::AmqpConnection;
use super::outcome::ChannelFault;
use crate::destination::settings::OversizePolicy;

/// Time limit for the answer to a message of the largest size.
const ANSWER: Duration = Duration::from_secs(15);

/// A warning if the broker refuses a message of `body_limit` bytes. The message goes to no queue. Without access to the
/// default exchange, nothing is known.
pub(super) async fn warning(connection: &AmqpConnection, body_limit: usize, policy: OversizePolicy) -> Option<String> {
    let channel = connection.confirm_channel().await.ok()?;
    let published = async {
        let (body, nowhere) = (vec![0; body_limit], "hookbridge.nowhere".into());
        let options = BasicPublishOptions::default();
        channel.basic_publish("".into(), nowhere, options, &body, BasicProperties::default()).await?.await
    };
    let answer = timeout(ANSWER, published).await;
    if channel.status().connected() {
        let _ = channel.close(200, "OK".into()).await;
    }
    match ChannelFault::of(&answer.ok()?.err()?) {
        ChannelFault::TooLarge(limit, _) => Some(format!(
            "the broker's max_message_size is {limit} bytes, and limits.body {body_limit} bytes: {}",
            policy.consequence()
        )),
        ChannelFault::Refused(_) | ChannelFault::Ended(_) => None,
    }
}
