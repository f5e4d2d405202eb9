//! The AsyncAPI 3.0 document of a configuration: the channels that `serve` publishes to, and the messages in each.
//!
//! The channels come from [`crate::overview`], which `check` prints, and from [`Settings::topics`], which destinations create
//! topology for. What each broker's message looks like is in `headers` and `bindings`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::config::Settings;
use crate::payloads;
use channels::{Channel, channels};
use headers::headers;
use messages::SCHEMAS;

mod bindings;
mod channels;
mod headers;
mod messages;
mod servers;

/// The document.
pub fn document(settings: &Settings) -> Value {
    let (mut described, mut operations) = (Map::new(), Map::new());
    for (name, channel) in named(channels(settings)) {
        operations.insert(format!("publish.{name}"), bindings::operation(channel.destination, &name));
        described.insert(name, messages::channel(settings, &channel));
    }
    let mut schemas: Map<String, Value> = payloads::definitions()
        .iter()
        .map(|(name, schema)| (name.clone(), payloads::with_references(schema, SCHEMAS)))
        .collect();
    for destination in &settings.destinations {
        for source in &settings.sources {
            schemas.insert(messages::headers_name(destination, source), headers(destination, source));
        }
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Events that hookbridge publishes",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Workers receive what the operations send. Unknown members and headers may be added. Signed URLs \
                            in the payloads let anyone download a file: treat the channels as secret.",
        },
        "defaultContentType": crate::event::DATA_CONTENT_TYPE,
        "servers": servers::servers(&settings.destinations),
        "channels": described,
        "operations": operations,
        "components": {"schemas": schemas},
    })
}

/// A key of the document for each channel: destination and address, in characters that every reference may contain.
fn named(channels: Vec<Channel<'_>>) -> BTreeMap<String, Channel<'_>> {
    let mut named = BTreeMap::new();
    for channel in channels {
        let legal = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
        let name: String = format!("{}.{}", channel.destination.name, channel.outline).chars().map(legal).collect();
        let mut free = name.clone();
        let mut number = 2;
        while named.contains_key(&free) {
            free = format!("{name}-{number}");
            number += 1;
        }
        named.insert(free, channel);
    }
    named
}
