//! Shortens the URLs in a text: a signed URL lets anyone download the file, and the text ends up in terminals and logs.

/// Where a text is in a URL.
enum Part {
    Outside,
    /// Behind `://`, which ends here.
    Authority(usize),
    Path,
    /// In what is left out.
    Cut,
}

/// A character of a text, decoded.
struct Decoded {
    character: char,
    /// Bytes of its encoded form.
    length: usize,
    /// Whether it was percent-encoded: then it does not end a URL.
    percent: bool,
}

/// The text with each URL cut at its query or fragment, where signatures and tokens are, and without user and password. URLs
/// are also found in JSON strings, in JSON within them, and percent-encoded; whatever their scheme is.
pub fn shortened(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    let (mut copied, mut at, mut part) = (0, 0, Part::Outside);
    let mut before = ['\0'; 2];
    while let Some(Decoded { character, length, percent }) = decoded(&text[at..]) {
        let end = at + length;
        let ends =
            !percent && (matches!(character, '"' | '<' | '>') || character.is_whitespace() || character.is_control());
        match (&part, character) {
            (Part::Cut, _) if ends => (copied, part) = (at, Part::Outside),
            (Part::Cut, _) => {}
            _ if ends => part = Part::Outside,
            (Part::Authority(start), '@') => {
                if copied <= *start {
                    short.push_str(&text[copied..*start]);
                    short.push('…');
                }
                copied = at;
            }
            (Part::Authority(_) | Part::Path, '?' | '#') => {
                short.push_str(&text[copied..at]);
                short.extend([character, '…']);
                part = Part::Cut;
            }
            (Part::Authority(_), '/') => part = Part::Path,
            _ => {}
        }
        if before == [':', '/'] && character == '/' && !matches!(part, Part::Cut) {
            part = Part::Authority(end);
        }
        before = [before[1], character];
        at = end;
    }
    if !matches!(part, Part::Cut) {
        short.push_str(&text[copied..]);
    }
    short
}

/// The first character of a text. An escape counts as what it stands for, however often it was escaped.
fn decoded(text: &str) -> Option<Decoded> {
    let bytes = text.as_bytes();
    let is_hex = |from: usize, to: usize| bytes.get(from..to).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    let code = |from: usize, to: usize| {
        let code = is_hex(from, to).then(|| u32::from_str_radix(&text[from..to], 16).ok()).flatten();
        code.map(|code| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
    };
    let first = text.chars().next()?;
    let (character, length) = match first {
        '\\' => {
            let run = bytes.iter().take_while(|byte| **byte == b'\\').count();
            match bytes.get(run) {
                Some(b'/') => ('/', run + 1),
                Some(b'"') => ('"', run + 1),
                Some(b'b' | b'f' | b'n' | b'r' | b't') => ('\n', run + 1),
                Some(b'u') => code(run + 1, run + 5).map_or(('\\', run), |character| (character, run + 5)),
                _ => ('\\', run),
            }
        }
        '%' => {
            let mut hex = 1;
            while bytes.get(hex..hex + 2) == Some(b"25") && is_hex(hex + 2, hex + 4) {
                hex += 2;
            }
            code(hex, hex + 2).map_or(('%', 1), |character| (character, hex + 2))
        }
        first => (first, first.len_utf8()),
    };
    Some(Decoded { character, length, percent: first == '%' })
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
            ("[http](https://h/f?sig=S)", "[http](https://h/f?…"),
            ("httphttps://h/f?sig=S", "httphttps://h/f?…"),
            ("HTTPS://h/f?sig=S next", "HTTPS://h/f?… next"),
            (r#"["https:\u002f\u002fh/f?sig=S"]"#, r#"["https:\u002f\u002fh/f?…"]"#),
            (r#"["\u0068ttps:\/\/h\u003Fsig=S"]"#, r#"["\u0068ttps:\/\/h?…"]"#),
            (r#"{"a":"{\"u\":\"https:\\/\\/h\\/f?sig=S\"}"}"#, r#"{"a":"{\"u\":\"https:\\/\\/h\\/f?…\"}"}"#),
            ("u=https%3A%2F%2Fh%2Ff%3Fsig%3DS%20T x", "u=https%3A%2F%2Fh%2Ff?… x"),
            ("https%253A%252F%252Fh%252Ff%253Fsig%253DS", "https%253A%252F%252Fh%252Ff?…"),
            ("https://user:PW@h/f", "https://…@h/f"),
            ("https://a@b:PW@h", "https://…@h"),
            ("https%3A%2F%2Fuser%3APW%40h", "https%3A%2F%2F…%40h"),
            ("https://h/f#access_token=T", "https://h/f#…"),
            ("https://h/to/https://user:PW@h?sig=S", "https://h/to/https://…@h?…"),
            ("s3://h/f?sig=S", "s3://h/f?…"),
            (r"a\\b % %zz \u12 ://", r"a\\b % %zz \u12 ://"),
        ] {
            assert_eq!(shortened(json), expected);
        }
    }
}
