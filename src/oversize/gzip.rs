//! Compresses bodies.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::destination::cloudevents::MessageBody;
use crate::destination::settings::Mode;
use crate::message::Message;

/// The body of a message in a content mode, in gzip (RFC 1952). The same body always gives the same bytes.
pub(super) fn body(message: &Message, mode: Mode) -> Bytes {
    let plain = MessageBody::new(message, mode).bytes;
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::default());
    // Writing to a Vec cannot fail.
    let _ = encoder.write_all(&plain);
    encoder.finish().unwrap_or_default().into()
}
