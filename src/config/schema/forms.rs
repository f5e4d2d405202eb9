//! The forms of JSON Schema that the settings have.

use serde_json::{Map, Value, json};

/// A mapping of settings: no other keys, except those that begin with `x-`.
pub(super) fn mapping(description: &str, settings: &[(&str, Value)]) -> Value {
    let properties: Map<String, Value> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    json!({
        "type": "object",
        "description": description,
        "properties": properties,
        "patternProperties": {"^x-": true},
        "additionalProperties": false,
    })
}

/// A mapping from names to values of one form.
pub(super) fn named(value: Value, description: &str) -> Value {
    json!({
        "type": "object",
        "description": description,
        "patternProperties": {"^x-": true},
        "additionalProperties": value,
    })
}

pub(super) fn required(mut mapping: Value, names: &[&str]) -> Value {
    mapping["required"] = names.iter().copied().collect();
    mapping
}

pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/definitions/{name}")})
}

/// In draft 7, nothing beside `$ref` counts.
pub(super) fn described(value: Value, description: &str) -> Value {
    json!({"description": description, "allOf": [value]})
}

pub(super) fn text(description: &str) -> Value {
    described(reference("text"), description)
}

pub(super) fn choice(words: &[&str]) -> Value {
    any(&[json!({"enum": words}), reference("reference")])
}

pub(super) fn any(forms: &[Value]) -> Value {
    json!({"anyOf": forms})
}
