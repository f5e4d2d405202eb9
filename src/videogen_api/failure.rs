//! Why a call failed, in words that never hold the API key or a signing secret.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::printable::printable;
use crate::secret::Secret;

/// Most characters of the API's own message that are shown.
const MOST_CHARACTERS: usize = 300;

/// A call that failed.
#[derive(Clone, Debug)]
pub struct ApiFailure {
    /// Method and URL.
    pub call: String,
    /// What happened.
    pub kind: FailureKind,
    /// When the API asks to try again.
    pub retry_after: Option<Duration>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection: the API has not seen the request.
    NotSent(String),
    /// The request may have been carried out.
    NoAnswer(String),
    /// A status other than 2xx, and the API's own message.
    Status(u16, String),
    /// A 2xx answer that cannot be used.
    Unreadable(String),
}

impl ApiFailure {
    /// Whether a later attempt may succeed.
    pub fn is_temporary(&self) -> bool {
        match &self.kind {
            FailureKind::NotSent(_) | FailureKind::NoAnswer(_) => true,
            FailureKind::Status(status, _) => matches!(status, 408 | 429 | 500..),
            FailureKind::Unreadable(_) => false,
        }
    }

    /// Whether the API may have carried out the request nevertheless.
    pub fn may_have_acted(&self) -> bool {
        match &self.kind {
            FailureKind::NotSent(_) => false,
            FailureKind::NoAnswer(_) | FailureKind::Unreadable(_) => true,
            FailureKind::Status(status, _) => matches!(status, 408 | 500..),
        }
    }
}

impl fmt::Display for ApiFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.call)?;
        match &self.kind {
            FailureKind::NotSent(why) | FailureKind::NoAnswer(why) | FailureKind::Unreadable(why) => {
                f.write_str(why)?
            }
            FailureKind::Status(status, message) => {
                write!(f, "{status}")?;
                if !message.is_empty() {
                    write!(f, ": {message}")?;
                }
                if *status == 401 {
                    f.write_str(" (check the API key: VIDEOGEN_API_KEY or --api-key-file)")?;
                }
            }
        }
        match self.retry_after {
            Some(pause) => write!(f, "; try again in {} s", pause.as_secs()),
            None => Ok(()),
        }
    }
}

impl Error for ApiFailure {}

#[derive(Deserialize)]
struct ErrorBody {
    message: String,
    #[serde(default)]
    code: Option<String>,
}

/// The message and code of an error's body; empty if it has none.
pub(super) fn message(body: &[u8], key: &Secret) -> String {
    let Ok(ErrorBody { message, code }) = serde_json::from_slice(body) else { return String::new() };
    let text = match code {
        Some(code) => format!("{message} ({code})"),
        None => message,
    };
    // An API may quote the key that it rejects.
    if text.contains("whsec_") || text.contains(key.expose()) {
        return "(its message is not shown, as it contains a secret)".into();
    }
    printable(&text, MOST_CHARACTERS)
}

/// The innermost cause: the outer ones say only that the connection failed, and quote the URL.
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    format!("cannot connect: {}", printable(&innermost.to_string(), MOST_CHARACTERS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_bounded_escaped_and_without_secrets() {
        let key = Secret::new("vg_key");
        let shown = |body: &str| message(body.as_bytes(), &key);
        assert_eq!(shown(r#"{"message":"No.\u001b[2J\n","code":"bad_url"}"#), r"No.\u{1b}[2J\n (bad_url)");
        assert_eq!(shown(r#"{"message":"a \"quoted\" word","code":null}"#), r#"a "quoted" word"#);
        assert_eq!(shown("<html>"), "");
        assert_eq!(shown(&format!(r#"{{"message":"{}"}}"#, "x".repeat(9999))).chars().count(), 301);
        for body in [r#"{"message":"unknown key vg_key"}"#, r#"{"message":"whsec_abc"}"#] {
            assert_eq!(shown(body), "(its message is not shown, as it contains a secret)");
        }
    }

    #[test]
    fn only_what_cannot_have_acted_is_safe_to_repeat() {
        let of = |kind| ApiFailure { call: String::new(), kind, retry_after: None };
        let status = |status| of(FailureKind::Status(status, String::new()));
        let both = |failure: ApiFailure| (failure.is_temporary(), failure.may_have_acted());
        assert_eq!(both(of(FailureKind::NotSent(String::new()))), (true, false));
        assert_eq!(both(of(FailureKind::NoAnswer(String::new()))), (true, true));
        assert_eq!(both(of(FailureKind::Unreadable(String::new()))), (false, true));
        for (code, expected) in [
            (301, (false, false)),
            (401, (false, false)),
            (408, (true, true)),
            (429, (true, false)),
            (500, (true, true)),
        ] {
            assert_eq!(both(status(code)), expected, "{code}");
        }
    }
}
