//! Shortens the URLs in a JSON text: a signed URL lets anyone download the file, and the text ends up in terminals and logs.

/// The text with each `http://` and `https://` URL in its strings cut at the query, where signatures are.
pub fn shortened(json: &str) -> String {
    let mut short = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(start) = rest.find("http") {
        let (before, from) = rest.split_at(start);
        short.push_str(before);
        let url = &from[..end(from)];
        rest = &from[url.len()..];
        let scheme =
            ["http://", "https://", r"http:\/\/", r"https:\/\/"].into_iter().any(|scheme| url.starts_with(scheme));
        let query = [url.find('?'), url.find(r"\u003f"), url.find(r"\u003F")].into_iter().flatten().min();
        match query.filter(|_| scheme) {
            Some(query) => {
                short.push_str(&url[..query]);
                short.push_str("?…");
            }
            None => short.push_str(url),
        }
    }
    short.push_str(rest);
    short
}

/// The same for bytes that need not be text.
pub fn shortened_bytes(bytes: &[u8]) -> Vec<u8> {
    let one_character_a_byte: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let mut short = Vec::with_capacity(bytes.len());
    for character in shortened(&one_character_a_byte).chars() {
        match u8::try_from(character) {
            Ok(byte) => short.push(byte),
            Err(_) => short.extend(character.to_string().bytes()),
        }
    }
    short
}

/// Where a URL ends in a JSON string: at its end, at a space, or at an escaped quote or line end.
fn end(text: &str) -> usize {
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' | ' ' | '<' | '>' => return at,
            '\\' if !matches!(characters.next(), Some((_, '/' | 'u' | '\\'))) => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_as_they_are_elsewhere() {
        assert_eq!(shortened_bytes(b"\xff https://h/a?s=1 \xc3"), b"\xff https://h/a?\xe2\x80\xa6 \xc3");
    }

    #[test]
    fn queries_are_cut() {
        for (json, expected) in [
            (r#"{"a":"https://h/f.mp4?sig=x&b=1","b":"?"}"#, r#"{"a":"https://h/f.mp4?…","b":"?"}"#),
            (r#"["http:\/\/h\/f\u003fsig=x\u0026b=\"1\""]"#, r#"["http:\/\/h\/f?…\"1\""]"#),
            (
                r#"{"text":"see https://h/a?s=1 and https://h/b?s=2\nhttps://h/c"}"#,
                r#"{"text":"see https://h/a?… and https://h/b?…\nhttps://h/c"}"#,
            ),
            (r#"{"http":"https","x":"http?","é":"https://h"}"#, r#"{"http":"https","x":"http?","é":"https://h"}"#),
            ("", ""),
        ] {
            assert_eq!(shortened(json), expected);
        }
    }
}
