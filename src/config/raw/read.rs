//! Parses text into a [`RawFile`], or reports the first mistake of structure: its place and what was expected. The
//! parser's own messages are not passed on, because they may quote a secret.

use serde_saphyr::{Error, Location};

use super::RawFile;
use super::node::value_at;
use super::section::Section;
use crate::config::mistake::{Place, hint, quoted_name};

/// Parses the text of a file.
///
/// # Errors
/// The place of the first mistake of structure, and what was expected.
pub(in super::super) fn read(text: &str) -> Result<RawFile, (Place, String)> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    // An empty file has no settings.
    match serde_saphyr::from_str_with_options::<Option<Section<RawFile>>>(text, options) {
        Ok(file) => Ok(file.map(|Section(file)| file).unwrap_or_default()),
        Err(error) => Err(explain(text, error.without_snippet())),
    }
}

fn explain(text: &str, error: &Error) -> (Place, String) {
    let place = error.location().filter(|location| *location != Location::UNKNOWN);
    let (line, column) = place.map_or((1, 1), |location| (location.line().max(1), location.column().max(1)));
    let message = describe(error);
    if message == NOT_WELL_FORMED
        && let Some((line, column)) = indenting_tab(text, line)
    {
        return (
            Place::File { line, column },
            "a tab indents this line: YAML takes only spaces for indentation".into(),
        );
    }
    let found = is_type_mismatch(error).then(|| value_at(text, line, column)).flatten();
    let message = match found {
        Some((key, found)) => {
            let key = key.as_deref().and_then(quoted_name).map_or_else(String::new, |key| format!("{key}: "));
            format!("{key}{message}, found {found}")
        }
        None => message,
    };
    (Place::File { line, column }, message)
}

const NOT_WELL_FORMED: &str = "not well-formed YAML: check indentation, quotes and brackets here and just above";

/// The first tab in the indentation of a line, up to the line after the one where the parser stopped.
fn indenting_tab(text: &str, stopped: u64) -> Option<(u64, u64)> {
    let lines = (1..=stopped.saturating_add(1)).zip(text.lines());
    lines.into_iter().find_map(|(line, text)| {
        let indentation = text.len() - text.trim_start().len();
        let tab = text[..indentation].find('\t')?;
        Some((line, tab as u64 + 1))
    })
}

fn is_type_mismatch(error: &Error) -> bool {
    match error {
        Error::SerdeInvalidType { .. }
        | Error::SerdeInvalidValue { .. }
        | Error::Unexpected { .. }
        | Error::NullIntoString { .. }
        | Error::InvalidScalar { .. } => true,
        Error::Message { msg, .. } => msg.starts_with("expected a "),
        _ => false,
    }
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
        _ => NOT_WELL_FORMED.into(),
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
