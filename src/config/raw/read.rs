//! Parses text into a [`RawFile`], or reports the first mistake of structure: its place and what was expected. The
//! parser's own messages are not passed on, because they may quote a secret.

use serde_saphyr::{Error, Location};

use super::RawFile;
use crate::config::mistake::{Place, hint, quoted_name};

/// Parses the text of a file.
///
/// # Errors
/// The place of the first mistake of structure, and what was expected.
pub(in super::super) fn read(text: &str) -> Result<RawFile, (Place, String)> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    // An empty file has no settings.
    match serde_saphyr::from_str_with_options::<Option<RawFile>>(text, options) {
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
            let name = quoted_name(field).map_or_else(String::new, |name| format!(" {name}"));
            let near = hint(field, expected.iter().copied());
            format!("unknown setting{name}: expected one of {}{near}", list(expected))
        }
        Error::SerdeMissingField { field, .. } => format!("`{field}` is missing"),
        Error::DuplicateMappingKey { key, .. } => {
            let name = key.as_deref().and_then(quoted_name).map_or_else(String::new, |name| format!(" {name}"));
            format!("the key{name} occurs twice")
        }
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            format!("expected {}", plain(expected))
        }
        Error::Unexpected { expected, .. } => format!("expected {}", plain(expected)),
        Error::NullIntoString { .. } => "expected a value".into(),
        Error::InvalidScalar { ty, .. } => format!("expected {ty}"),
        Error::Eof { .. } => "unexpected end of the file".into(),
        Error::MultipleDocuments { .. } => "expected one YAML document, found a second one".into(),
        Error::AliasError { error, .. } => describe(error.without_snippet()),
        // A message of the visitors in `leaf`, which contains no value.
        Error::Message { msg, .. } if msg.starts_with("expected a ") => msg.clone(),
        Error::UnknownAnchor { .. } => "unknown alias (`*name`); quote a string that begins with `*`".into(),
        Error::Budget { .. } => "the file is too large or too deeply nested".into(),
        _ => "not well-formed YAML: check indentation, quotes and brackets here and just above".into(),
    }
}

/// The YAML terms for serde's names of Rust types.
fn plain(expected: &str) -> &str {
    match expected {
        _ if expected.starts_with("struct ") => "a mapping of settings",
        "a string" | "string" | "string scalar" => "a string",
        "a sequence" | "sequence start" => "a list",
        "mapping start" => "a mapping of settings",
        other => other,
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
