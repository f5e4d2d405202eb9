//! What workers receive, as JSON Schema: VideoGen's payloads, and the CloudEvent around them.
//!
//! The shapes are those of VideoGen's OpenAPI document of October 2026. Every object may gain members, and every list of
//! words may grow, so no schema is closed: words are strings with examples. Only the event's name is fixed.
//!
//! The schemas are within the part of JSON Schema that draft 7 and 2020-12 share, because AsyncAPI takes draft 7.

use serde_json::{Map, Value, json};

use crate::source::VIDEOGEN_EVENTS;
pub use attributes::{Attribute, attributes, reference_attributes};
pub use build::type_name;
use build::{constant, object, reference, required, string};

mod attributes;
mod build;
mod events;
mod shared;

/// The dialect of [`schema`].
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// The default prefix of the CloudEvents `type`.
const TYPE_PREFIX: &str = "io.videogen.";

/// The schema of one event's body, or of each of them; `structured`: of the CloudEvent in structured mode.
///
/// `None` if there is no such event.
pub fn schema(event: Option<&str>, structured: bool) -> Option<Value> {
    let mut all = definitions();
    let root = match (event, structured) {
        (None, false) => "VideoGenEvent".to_owned(),
        (None, true) => "CloudEvent".to_owned(),
        (Some(event), _) => VIDEOGEN_EVENTS.contains(&event).then(|| type_name(event))?,
    };
    let mut schema = match (event, structured) {
        (Some(event), true) => {
            let mut schema = cloud_event(Some(&format!("{TYPE_PREFIX}{event}")), reference(&root));
            schema["title"] = format!("{root}CloudEvent").into();
            schema
        }
        _ => {
            let mut schema = all.remove(&root)?;
            schema["title"] = root.into();
            schema
        }
    };
    schema["$schema"] = DIALECT.into();
    if event.is_some() {
        let used = reachable(&schema, &all);
        all.retain(|name, _| used.contains(name));
    } else if structured {
        all.retain(|name, _| name != "CloudEvent");
    } else {
        // The CloudEvent's data is the root itself.
        if let Some(data) = all.get_mut("CloudEvent").and_then(|it| it.pointer_mut("/properties/data")) {
            *data = json!({"$ref": "#"});
        }
    }
    if !all.is_empty() {
        schema["$defs"] = Value::Object(all);
    }
    Some(schema)
}

/// Every schema by name: the 18 events, their parts, `VideoGenEvent` (any of the events) and `CloudEvent`. References
/// begin with `#/$defs/`.
pub fn definitions() -> Map<String, Value> {
    let mut all = shared::definitions();
    let events = VIDEOGEN_EVENTS.into_iter().map(|event| (type_name(event), events::definition(event)));
    all.extend(events);
    let references: Vec<Value> = VIDEOGEN_EVENTS.into_iter().map(|event| reference(&type_name(event))).collect();
    all.insert(
        "VideoGenEvent".into(),
        json!({"description": "One of VideoGen's events; `event` tells which.", "oneOf": references}),
    );
    all.insert("CloudEvent".into(), cloud_event(None, reference("VideoGenEvent")));
    all
}

/// An event in structured mode. Attributes of the source's configuration are further members.
pub fn cloud_event(kind: Option<&str>, data: Value) -> Value {
    let attributes = attributes();
    let mut members: Vec<(&str, bool, Value)> =
        attributes.into_iter().map(|it| (it.name, it.always, it.schema)).collect();
    if let Some(kind) = kind {
        members.retain(|(name, ..)| *name != "type");
        members.push(required("type", constant(kind)));
    }
    members.push(required("datacontenttype", constant(crate::event::DATA_CONTENT_TYPE)));
    members.push(required("data", data));
    object("A CloudEvent (1.0) in structured mode, `application/cloudevents+json`.", members)
}

/// A body of a source whose payload is not VideoGen's, or of an event whose name is new: an object, with the event's name
/// in the member `field` if that is not a JSON pointer.
pub fn plain(field: &str, event: Option<&str>) -> Value {
    let mut members = Vec::new();
    if !field.starts_with('/') {
        let name = event.map_or_else(|| string("The event's name."), constant);
        members.push(required(field, name));
    }
    object("An event of another payload, or with a name that is new to hookbridge.", members)
}

/// The same schema with references that begin with another prefix than `#/$defs/`.
pub fn with_references(schema: &Value, prefix: &str) -> Value {
    match schema {
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| {
                let value = match value.as_str().and_then(|text| text.strip_prefix("#/$defs/")) {
                    Some(target) if name == "$ref" => Value::String(format!("{prefix}{target}")),
                    _ => with_references(value, prefix),
                };
                (name.clone(), value)
            };
            members.iter().map(member).collect()
        }
        Value::Array(items) => items.iter().map(|item| with_references(item, prefix)).collect(),
        other => other.clone(),
    }
}

/// The names of all definitions that a schema refers to, directly or through another.
fn reachable(schema: &Value, all: &Map<String, Value>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut open = vec![schema];
    while let Some(next) = open.pop() {
        match next {
            Value::Object(members) => {
                let target = members.get("$ref").and_then(Value::as_str).and_then(|it| it.strip_prefix("#/$defs/"));
                if let Some(name) = target.filter(|name| !found.iter().any(|known| known == name)) {
                    found.push(name.to_owned());
                    open.extend(all.get(name));
                }
                open.extend(members.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    found
}
