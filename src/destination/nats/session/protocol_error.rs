//! What the text of an error from the server (`-ERR` of the NATS protocol), or from the library, means.

/// The meaning of an error text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ProtocolError {
    /// A message exceeds the user's limit.
    TooLarge,
    /// The user may not publish, or not subscribe, to this subject.
    Denied(String),
    /// The server does not accept the credentials, or not any more.
    Credentials,
    Other,
}

impl ProtocolError {
    pub(super) fn parse(text: &str) -> ProtocolError {
        let lower = text.to_lowercase();
        if lower.contains("maximum payload") {
            return ProtocolError::TooLarge;
        }
        let permission = text.starts_with("Permissions Violation");
        if let Some(subject) = permission.then(|| quoted(text)).flatten() {
            return ProtocolError::Denied(subject);
        }
        if lower.contains("authentication") || lower.contains("authorization") {
            return ProtocolError::Credentials;
        }
        ProtocolError::Other
    }
}

/// The first quoted text, as Go's `%q` writes it.
fn quoted(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut characters = text.split_once('"')?.1.chars();
    loop {
        match characters.next()? {
            '"' => return Some(out),
            '\\' => out.push(characters.next()?),
            character => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts_have_a_meaning() {
        let denied = |subject: &str| ProtocolError::Denied(subject.into());
        for (text, expected) in [
            ("Maximum Payload Violation", ProtocolError::TooLarge),
            (r#"Permissions Violation for Publish to "a.b""#, denied("a.b")),
            (r#"Permissions Violation for Subscription to "a\"\\b" (sid "1")"#, denied("a\"\\b")),
            (r#"Permissions Violation for Publish to "authorization""#, denied("authorization")),
            ("Permissions Violation", ProtocolError::Other),
            (r#"Permissions Violation for Publish to "a"#, ProtocolError::Other),
            ("User Authentication Expired", ProtocolError::Credentials),
            ("authorization violation", ProtocolError::Credentials),
            ("Stale Connection", ProtocolError::Other),
        ] {
            assert_eq!(ProtocolError::parse(text), expected, "{text}");
        }
    }
}
