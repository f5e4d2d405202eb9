//! Texts from others, made safe for a terminal. Pure.

/// Most characters of an id or a URL that are shown.
pub const MOST_CHARACTERS: usize = 200;

/// A text without control characters, cut after so many characters.
pub fn printable(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == most {
            shown.push('…');
            break;
        }
        match character {
            '"' | '\'' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    shown
}
