//! Which module opens which kind of destination.

use std::sync::Arc;

use super::{Destination, Opening};
use super::{file, kafka, nats, rabbitmq};
use crate::naming::Kind;
use crate::reason::Failure;

/// Opens a destination. Returns at once, whether or not its broker can be reached: it connects and creates its topology in
/// the background until it is closed. Must be called on a tokio runtime.
///
/// # Errors
/// The settings can never work, for example because a certificate cannot be read.
pub fn open(opening: Opening) -> Result<Arc<dyn Destination>, Failure> {
    match opening.settings.url.kind() {
        Kind::Nats => nats::open(opening),
        Kind::Kafka => kafka::open(opening),
        Kind::Rabbitmq => rabbitmq::open(opening),
        Kind::File => file::open(opening),
    }
}
