//! Which module opens which kind of destination.

use std::sync::Arc;

use super::reopen::OpenDestination;
use super::{Opening, file, kafka, nats, rabbitmq};
use crate::naming::Kind;
use crate::reason::Failure;

/// Opens a destination. Returns at once, whether or not its broker can be reached: it connects and creates its topology in
/// the background until it is closed, and is opened again if one of its background tasks fails. Must be called on a tokio
/// runtime.
///
/// # Errors
/// The settings can never work, for example because a certificate cannot be read.
pub fn open(opening: Opening) -> Result<Arc<OpenDestination>, Failure> {
    let open = match opening.settings.url.kind() {
        Kind::Nats => nats::open,
        Kind::Kafka => kafka::open,
        Kind::Rabbitmq => rabbitmq::open,
        Kind::File => file::open,
    };
    OpenDestination::new(opening, Box::new(open))
}
