//! The event of a delivery that was not received, from the normalizer that `serve` uses.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use crate::delivery::{Delivery, DeliveryKey};
use crate::event::Event;
use crate::normalize::normalize;
use crate::reason::Failure;
use crate::source::Source;

/// The event that a source's delivery with this body would become now.
///
/// # Errors
/// It would become a dead letter.
pub(super) fn event_of(source: &Source, body: impl Into<Bytes>) -> Result<Arc<Event>, Failure> {
    let delivery = Delivery {
        key: DeliveryKey { source: Arc::clone(&source.name), id: "msg_dry_run".into() },
        timestamp: jiff::Timestamp::now().as_second(),
        signature: String::new(),
        traceparent: None,
        tracestate: None,
        headers: HeaderMap::new(),
        body: body.into(),
    };
    normalize(source, &delivery).map(Arc::new)
}
