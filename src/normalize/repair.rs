//! Replaces what JSON's grammar allows and serde_json refuses.

use serde::de::IgnoredAny;

/// The text with replacements, if there are any.
pub(super) fn repair(text: &str) -> Option<String> {
    let characters = characters(text);
    let numbers = numbers(characters.as_deref().unwrap_or(text));
    numbers.or(characters)
}

/// Halves of surrogate pairs become the replacement character. In JSON, backslashes occur only in strings.
fn characters(text: &str) -> Option<String> {
    let unit = |at: usize| match text.get(at..at + 6)?.strip_prefix("\\u") {
        Some(hex) => u16::from_str_radix(hex, 16).ok(),
        None => None,
    };
    let (mut repaired, mut at) = (None, 0);
    while let Some(found) = text.get(at..)?.find('\\') {
        at += found;
        at += match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                repaired.get_or_insert_with(|| text.to_owned()).replace_range(at..at + 6, "\\ufffd");
                6
            }
            _ => 2,
        };
    }
    repaired
}

/// Numbers that no double can hold become `null`.
fn numbers(text: &str) -> Option<String> {
    let (mut repaired, mut copied, mut at) = (None, 0, 0);
    while let Some(found) = text[at..].find(|c: char| matches!(c, '"' | '-' | '0'..='9')) {
        at += found;
        let rest = &text[at..];
        let length = if rest.starts_with('"') { string(rest) } else { number(rest) };
        let token = &rest[..length];
        let is_infinite = token.parse::<f64>().is_ok_and(f64::is_infinite);
        // The grammar is stricter than Rust's: it has no 01e400.
        if is_infinite && serde_json::from_str::<IgnoredAny>(token).is_ok() {
            let repaired: &mut String = repaired.get_or_insert_default();
            repaired.push_str(&text[copied..at]);
            repaired.push_str("null");
            copied = at + length;
        }
        at += length;
    }
    repaired.map(|repaired| repaired + &text[copied..])
}

/// Length in bytes of the string that the text begins with, or of the whole text if it does not end.
fn string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| match byte {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' => {
            escaped = true;
            false
        }
        _ => byte == b'"',
    });
    end.map_or(text.len(), |end| end + 2)
}

/// Length in bytes of the number that the text begins with.
fn number(text: &str) -> usize {
    text.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')).unwrap_or(text.len())
}
