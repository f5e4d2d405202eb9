//! Shortens the URLs in a JSON text: a signed URL lets anyone download the file, and the text ends up in terminals and logs.

/// The text with each `http://` and `https://` URL in its strings cut at the query, where signatures are.
pub(super) fn shortened(json: &str) -> String {
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
