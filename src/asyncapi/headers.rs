//! The headers of a message: in binary mode the CloudEvents attributes, as the broker's binding names them.

use serde_json::{Map, Value, json};

use crate::destination::cloudevents::{CONTENT_ENCODING, GZIP, percent_encode};
use crate::destination::settings::{DestinationSettings, Mode, OversizePolicy};
use crate::event::{DATA_CONTENT_TYPE, STRUCTURED_CONTENT_TYPE};
use crate::naming::Kind;
use crate::payloads::{attributes, reference_attributes};
use crate::source::Source;

/// The headers that every event of a source has at a destination, as JSON Schema.
pub(super) fn headers(destination: &DestinationSettings, source: &Source) -> Value {
    let kind = destination.url.kind();
    let (mut headers, mut always) = (Map::new(), Vec::new());
    let mut add = |name: String, required: bool, schema: Value| {
        if required {
            always.push(name.clone());
        }
        headers.insert(name, schema);
    };
    if let (Mode::Binary, Some(prefix)) = (destination.mode, prefix(kind)) {
        let references =
            if destination.oversize == OversizePolicy::ClaimCheck { reference_attributes() } else { Vec::new() };
        for attribute in attributes().into_iter().chain(references) {
            add(format!("{prefix}{}", attribute.name), attribute.always, attribute.schema);
        }
        for (name, value) in source.attributes.iter() {
            let value = if kind == Kind::Nats { percent_encode(value) } else { value.as_str().into() };
            add(format!("{prefix}{name}"), true, json!({"const": value}));
        }
    }
    let content_type = match destination.mode {
        Mode::Binary => DATA_CONTENT_TYPE,
        Mode::Structured => STRUCTURED_CONTENT_TYPE,
    };
    match (kind, destination.mode) {
        (Kind::Nats, Mode::Binary) => add("ce-datacontenttype".into(), true, json!({"const": content_type})),
        (Kind::Nats, Mode::Structured) | (Kind::Kafka, _) => {
            add("content-type".into(), true, json!({"const": content_type}));
        }
        // AMQP has a property for it.
        (Kind::Rabbitmq | Kind::File, _) => {}
    }
    // AMQP has a property for it, too.
    if destination.oversize == OversizePolicy::Gzip && matches!(kind, Kind::Nats | Kind::Kafka) {
        let description = "Whether the body is compressed, as it was too large for the broker.";
        add(CONTENT_ENCODING.into(), false, json!({"const": GZIP, "description": description}));
    }
    if kind == Kind::Nats {
        add("Nats-Msg-Id".into(), true, json!({"type": "string", "description": "What JetStream drops copies by."}));
    }
    if destination.forward_signature && kind != Kind::File {
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            add(name.into(), true, json!({"type": "string", "description": "As received, to verify again."}));
        }
    }
    json!({"type": "object", "properties": headers, "required": always})
}

/// What precedes an attribute's name in binary mode.
pub(super) fn prefix(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Nats => Some("ce-"),
        Kind::Kafka => Some("ce_"),
        Kind::Rabbitmq => Some("cloudEvents_"),
        Kind::File => None,
    }
}
