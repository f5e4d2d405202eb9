//! A channel of the document with its messages.

use serde_json::{Map, Value, json};

use super::bindings;
use super::channels::{Channel, Content};
use super::headers::prefix;
use crate::config::Settings;
use crate::destination::settings::{DestinationSettings, Mode, OversizePolicy};
use crate::event::{DATA_CONTENT_TYPE, STRUCTURED_CONTENT_TYPE};
use crate::naming::Kind;
use crate::payloads::{self, reference_attributes, type_name};
use crate::samples::sample_of;
use crate::source::{Fields, Source, VIDEOGEN_EVENTS};

/// Where the document has its schemas.
pub(super) const SCHEMAS: &str = "#/components/schemas/";
/// The time of the examples, 2026-01-01: the document must not depend on when it is made.
const EXAMPLE_TIME: i64 = 1_767_225_600;
/// The name of the message for events whose names are new to hookbridge.
const OTHER: &str = "other";

/// The channel object.
pub(super) fn channel(settings: &Settings, channel: &Channel<'_>) -> Value {
    let destination = channel.destination;
    let (address, parameters) = address(&channel.outline);
    let address = if destination.url.kind() == Kind::File { format!("{address}.ndjson") } else { address };
    let mut messages = Map::new();
    for content in &channel.content {
        let (name, mut message) = match content {
            Content::DeadLetters => ("dead_letter".to_owned(), dead_letter(destination)),
            Content::Event { source, event, when } => {
                let own = event.unwrap_or(OTHER);
                let name = if settings.sources.len() > 1 { format!("{}.{own}", source.name) } else { own.to_owned() };
                (name, message(destination, source, *event, when.as_deref()))
            }
        };
        if let Some(earlier) = messages.get(&name) {
            // The same event by another condition.
            message["summary"] = match (earlier["summary"].as_str(), message["summary"].as_str()) {
                (Some(earlier), Some(when)) => format!("{earlier} or {when}").into(),
                _ => Value::Null,
            };
        }
        if message["summary"].is_null()
            && let Some(members) = message.as_object_mut()
        {
            members.remove("summary");
        }
        messages.insert(name, message);
    }
    let mut described = json!({
        "address": address,
        "servers": [{"$ref": format!("#/servers/{}", destination.name)}],
        "messages": messages,
    });
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    bindings::add_to_channel(&mut described, channel, &address);
    described
}

/// The name of the schema of a source's headers at a destination.
pub(super) fn headers_name(destination: &DestinationSettings, source: &Source) -> String {
    format!("headers.{}.{}", destination.name, source.name)
}

fn message(destination: &DestinationSettings, source: &Source, event: Option<&str>, when: Option<&str>) -> Value {
    let kind = event.map(|event| format!("{}{event}", source.type_prefix));
    let common = json!({"$ref": format!("{SCHEMAS}{}", headers_name(destination, source))});
    let fixed_type = prefix(destination.url.kind()).filter(|_| destination.mode == Mode::Binary).zip(kind.as_ref());
    let headers = fixed_type.map_or(common.clone(), |(prefix, kind)| {
        let own = json!({"type": "object", "properties": {format!("{prefix}type"): {"const": kind}}});
        json!({"type": "object", "allOf": [common, own]})
    });
    let videogen = source.fields == Fields::videogen();
    let data = match event.filter(|event| videogen && VIDEOGEN_EVENTS.contains(event)) {
        Some(event) => json!({"$ref": format!("{SCHEMAS}{}", type_name(event))}),
        None => payloads::plain(&source.fields.event, event),
    };
    let mut message = json!({
        "name": kind.as_deref().unwrap_or(OTHER),
        "summary": when.map(|when| format!("if {when}")),
        "contentType": content_type(destination),
        "payload": payload(destination, kind.as_deref(), data),
    });
    if destination.url.kind() != Kind::File {
        message["headers"] = headers;
    }
    if let Some(bindings) = bindings::message(destination, kind.as_deref()) {
        message["bindings"] = bindings;
    }
    if let (Some(event), Mode::Binary) = (event, destination.mode)
        && let Ok(payload) = serde_json::from_str::<Value>(&sample_of(source, event, 1, EXAMPLE_TIME).body)
    {
        message["examples"] = json!([{"payload": payload}]);
    }
    message
}

fn dead_letter(destination: &DestinationSettings) -> Value {
    let data = json!({
        "type": "object",
        "description": "A delivery that can never be published: its reason, its headers, and its bytes in `body` or `body_base64`.",
        "properties": {"reason": {"type": "string"}, "body": {"type": "string"}, "body_base64": {"type": "string"}},
        "required": ["reason"],
    });
    let kind = "io.hookbridge.dead_letter";
    let payload = payload(destination, Some(kind), data);
    json!({"name": kind, "contentType": content_type(destination), "payload": payload})
}

fn content_type(destination: &DestinationSettings) -> &'static str {
    match destination.mode {
        Mode::Binary => DATA_CONTENT_TYPE,
        Mode::Structured => STRUCTURED_CONTENT_TYPE,
    }
}

fn payload(destination: &DestinationSettings, kind: Option<&str>, data: Value) -> Value {
    let claim_check = destination.oversize == OversizePolicy::ClaimCheck;
    let data = match claim_check {
        true => json!({"oneOf": [data, {"type": "null", "description": "The data are the object at `dataref`."}]}),
        false => data,
    };
    if destination.mode == Mode::Binary {
        return data;
    }
    let mut event = payloads::cloud_event(kind, data);
    if claim_check {
        for attribute in reference_attributes() {
            event["properties"][attribute.name] = attribute.schema;
        }
    }
    event
}

/// The address of a channel, and its parameters: AsyncAPI names them without `:N`.
fn address(outline: &str) -> (String, Map<String, Value>) {
    let (mut address, mut parameters) = (String::new(), Map::new());
    let mut rest = outline;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((placeholder, after)) = after.split_once('}') else { break };
        let (name, parameter) = match placeholder.strip_prefix("partition:") {
            Some(count) => {
                let numbers: Vec<String> =
                    (0..count.parse::<u32>().unwrap_or_default()).map(|it| it.to_string()).collect();
                ("partition", json!({"description": "The partition of the event's key.", "enum": numbers}))
            }
            None => ("subject", json!({"description": "The event's subject, or `none`."})),
        };
        let again = parameters.keys().filter(|key| key.starts_with(name)).count();
        let name = if again > 0 && name == "partition" { format!("{name}{}", again + 1) } else { name.to_owned() };
        address += &format!("{before}{{{name}}}");
        parameters.insert(name, parameter);
        rest = after;
    }
    (address + rest, parameters)
}
