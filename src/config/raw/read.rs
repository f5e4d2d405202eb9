//! Text to [`File`], or the first mistake of structure. What the parser says of a value is never passed on, as the value
//! may be a secret: only where it is and what was expected.

use serde_saphyr::{Error, Location};

use super::File;
use crate::config::mistake::{Place, hint, shown_name};

/// Reads a file.
///
/// # Errors
/// Where the first mistake of structure is, and what was expected.
pub(in super::super) fn read(text: &str) -> Result<File, (Place, String)> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    // An empty file is one without settings.
    match serde_saphyr::from_str_with_options::<Option<File>>(text, options) {
        Ok(file) => Ok(file.unwrap_or_default()),
        Err(error) => Err(explain(error.without_snippet())),
    }
}

fn explain(error: &Error) -> (Place, String) {
    let place = error.location().filter(|location| *location != Location::UNKNOWN);
    let place = place.map_or(Place::File { line: 1, column: 1 }, |location| Place::File {
        line: location.line().max(1),
        column: location.column().max(1),
    });
    (place, describe(error))
}

fn describe(error: &Error) -> String {
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let name = shown_name(field).map_or_else(String::new, |name| format!(" {name}"));
            let near = hint(field, expected.iter().copied());
            format!("unknown setting{name}: expected one of {}{near}", list(expected))
        }
        Error::SerdeMissingField { field, .. } => format!("`{field}` is missing"),
        Error::DuplicateMappingKey { key, .. } => {
            let name = key.as_deref().and_then(shown_name).map_or_else(String::new, |name| format!(" {name}"));
            format!("the key{name} is here a second time")
        }
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            format!("expected {}", plain(expected))
        }
        Error::Unexpected { expected, .. } => format!("expected {}", plain(expected)),
        Error::NullIntoString { .. } => "expected a value, there is none".into(),
        Error::InvalidScalar { ty, .. } => format!("expected {ty}"),
        Error::Eof { .. } => "the file ends too early".into(),
        Error::MultipleDocuments { .. } => "expected one YAML document, there is a second one".into(),
        Error::AliasError { error, .. } => describe(error.without_snippet()),
        // Our own visitors' words: fixed texts.
        Error::Message { msg, .. } if msg.starts_with("expected a ") => msg.clone(),
        Error::UnknownAnchor { .. } => {
            "an alias (`*name`) without its anchor; a text that begins with `*` needs quotes".into()
        }
        Error::Budget { .. } => "the file is larger or deeper than a configuration can be".into(),
        _ => "not well-formed YAML: look at indentation, quotes and brackets here and just above".into(),
    }
}

/// serde's names of Rust types, in words of YAML.
fn plain(expected: &str) -> &str {
    match expected {
        _ if expected.starts_with("struct ") => "a mapping of settings",
        "a string" | "string" | "string scalar" => "a text",
        "a sequence" | "sequence start" => "a list",
        "mapping start" => "a mapping of settings",
        other => other,
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
