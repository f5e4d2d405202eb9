//! Short forms for the schemas in this directory.

use serde_json::{Map, Value, json};

/// A member of an object: its name, whether it is always there, and its schema.
pub(super) type Member<'a> = (&'a str, bool, Value);

/// The name of an event's type: `FileAnalysisCompleted` for `file.analysis_completed`.
pub fn type_name(event: &str) -> String {
    let words = event.split(['.', '_']).map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    words.collect()
}

/// A member that is always there.
pub(super) fn required(name: &str, schema: Value) -> Member<'_> {
    (name, true, schema)
}

/// A member that may be missing.
pub(super) fn optional(name: &str, schema: Value) -> Member<'_> {
    (name, false, schema)
}

/// An object, which may have further members.
pub(super) fn object<'a>(description: &str, members: impl IntoIterator<Item = Member<'a>>) -> Value {
    let (mut properties, mut always) = (Map::new(), Vec::new());
    for (name, required, schema) in members {
        properties.insert(name.to_owned(), schema);
        if required {
            always.push(name.to_owned());
        }
    }
    let mut schema = json!({"type": "object", "description": description, "properties": properties});
    if !always.is_empty() {
        schema["required"] = always.into();
    }
    schema
}

/// A text.
pub(super) fn string(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

/// One text. Generators of types need the type too.
pub(super) fn constant(text: &str) -> Value {
    json!({"type": "string", "const": text})
}

/// A word of a list that VideoGen extends: the known ones are examples.
pub(super) fn word(description: &str, known: &[&str]) -> Value {
    json!({"type": "string", "description": description, "examples": known})
}

/// A URL; unless the description says otherwise, a signed one.
pub(super) fn url(description: &str) -> Value {
    json!({"type": "string", "format": "uri", "description": description})
}

/// A number of another type than text.
pub(super) fn number(kind: &str, description: &str) -> Value {
    json!({"type": kind, "description": description})
}

/// Unix seconds.
pub(super) fn seconds(description: &str) -> Value {
    number("integer", description)
}

/// The same, or null.
pub(super) fn nullable(mut schema: Value) -> Value {
    match schema.get("type").cloned() {
        Some(kind) => {
            schema["type"] = json!([kind, "null"]);
            schema
        }
        None => json!({"anyOf": [schema, {"type": "null"}]}),
    }
}

/// A list.
pub(super) fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

/// Another definition.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}
