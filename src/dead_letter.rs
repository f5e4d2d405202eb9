//! What is kept of a delivery that cannot be published; and the same as an event, for the destination that `dead_letters.to`
//! names.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::delivery::Delivery;
use crate::event::{Event, Signed};
use crate::protocol::Target;
use crate::reason::Failure;
use crate::route::Planned;

/// What is kept of a delivery that cannot be published.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The delivery. Its credentials are not kept.
    pub delivery: Delivery,
    /// The event's name, if it has one.
    pub event: Option<String>,
    /// What went wrong, for the operator.
    pub failure: Failure,
}

/// The topic that dead letters go to.
pub const TOPIC: &str = "dead-letters";

/// The publish of a dead letter: a CloudEvent of type `io.hookbridge.dead_letter`. Its data holds the reason, the headers
/// and the original bytes (`body`, or `body_base64` if they are not UTF-8).
pub fn planned(destination: &Arc<str>, letter: &DeadLetter, target: &Target) -> Planned {
    let delivery = &letter.delivery;
    let mut data = json!({
        "source": &*delivery.key.source,
        "webhook_id": &*delivery.key.id,
        "event": letter.event,
        "reason": letter.failure.reason.word(),
        "detail": letter.failure.detail,
        "targets": [target.to_string()],
        "headers": delivery.kept_headers(),
    });
    match std::str::from_utf8(&delivery.body) {
        Ok(body) => data["body"] = Value::from(body),
        Err(_) => data["body_base64"] = Value::from(STANDARD.encode(&delivery.body)),
    }
    let event = Event {
        // A delivery may have a letter for each target: the broker must not take them for copies of one message.
        id: format!("{}:{}", delivery.key.id, target).into(),
        source_name: delivery.key.source.clone(),
        source: format!("urn:hookbridge:source:{}", delivery.key.source).into(),
        name: "dead_letter".into(),
        known: true,
        kind: "io.hookbridge.dead_letter".into(),
        subject: Some(delivery.key.id.to_string()),
        time: jiff::Timestamp::from_second(delivery.timestamp).unwrap_or_default().to_string(),
        partitionkey: None,
        traceparent: delivery.traceparent.clone(),
        tracestate: delivery.tracestate.clone(),
        urlexpiry: None,
        attributes: Arc::new([]),
        signed: Signed { timestamp: delivery.timestamp.to_string(), signature: delivery.signature.clone() },
        data: data.to_string().into(),
    };
    Planned::new(destination, TOPIC.into(), None, &Arc::new(event))
}
