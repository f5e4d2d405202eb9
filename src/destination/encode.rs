//! The wire forms of a message without a broker, for measurements.

use super::cloudevents;
use super::kafka::message::EncodedRecord;
use super::nats::message::NatsMessage;
use super::rabbitmq::message::Encoder;
use super::settings::DestinationSettings;
use crate::message::Message;
use crate::naming::Kind;
use crate::reason::Failure;

/// Encodes a message as the client of its broker takes it. Returns about how many bytes that are.
///
/// # Errors
/// The broker has no form for it.
pub fn encoded_size(settings: &DestinationSettings, message: &Message) -> Result<usize, Failure> {
    let (mode, forward_signature) = (settings.mode, settings.forward_signature);
    match settings.url.kind() {
        Kind::Nats => Ok(NatsMessage::new(settings, message).size()),
        Kind::Kafka => Ok(EncodedRecord::new(message, mode, forward_signature).size),
        Kind::Rabbitmq => {
            let encoded = Encoder::new(mode, forward_signature).encode(message)?;
            Ok(encoded.header_bytes + encoded.body.len())
        }
        Kind::File => Ok(cloudevents::structured(&message.event).len()),
    }
}
