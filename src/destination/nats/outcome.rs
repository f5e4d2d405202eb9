//! What an answer of the server means for a publish. One table.

use std::borrow::Cow;

use async_nats::StatusCode;
use serde::Deserialize;

use crate::message::Outcome;
use crate::reason::{Failure, Reason};

/// The body of a JetStream answer to a publish.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    stream: Option<Name<'a>>,
    #[serde(default)]
    seq: u64,
    error: Option<ApiError>,
}

/// Borrowed unless it is escaped, as Go does with `&`, `<` and `>`; of its own, as serde would not borrow it in an option.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// An error as JetStream writes it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ApiError {
    #[serde(default)]
    pub(super) code: u64,
    #[serde(default)]
    pub(super) err_code: u64,
    #[serde(default)]
    pub(super) description: String,
}

impl ApiError {
    /// As a failure, with the server's words.
    pub(super) fn failure(&self, reason: Reason) -> Failure {
        Failure::new(reason, format!("{} ({})", self.description, self.err_code))
    }
}

/// The outcome that an answer stands for. `None` where it is no answer of JetStream: anybody may subscribe to the
/// subject and reply, and that says nothing about the stream.
pub(super) fn of_answer(status: Option<StatusCode>, body: &[u8], stream: &str) -> Option<Outcome> {
    if status == Some(StatusCode::NO_RESPONDERS) {
        return Some(Outcome::Again(Failure::new(
            Reason::Unroutable,
            "no stream takes this subject, or its leader is being elected (no responders)",
        )));
    }
    let answer: Answer<'_> = serde_json::from_slice(body).ok()?;
    match answer.error {
        Some(error) => Some(of_error(&error)),
        // `duplicate: true` is a confirm: the id holds the subject, so the first copy was for this very target.
        None if answer.seq > 0 && answer.stream.is_some_and(|name| name.0 == stream) => Some(Outcome::Confirmed),
        None => None,
    }
}

/// The outcome that an error stands for. Only what this event's own bytes cause is `Never`.
pub(super) fn of_error(error: &ApiError) -> Outcome {
    let reason = match error.err_code {
        // Larger than the stream's max_msg_size; headers over 64 KiB.
        10054 | 10097 => return Outcome::Never(error.failure(Reason::TooLarge)),
        // Account, server, storage, memory, stream limits.
        10002 | 10023 | 10028 | 10047 | 10122 => Reason::Full,
        // What the store says; but where it is closed, say, other replicas may store it all the same.
        10077 => match &*error.description {
            "maximum messages exceeded" | "maximum bytes exceeded" | "maximum messages per subject exceeded" => {
                Reason::Full
            }
            // More than a file of the store holds; with the typing error of older servers.
            "message too large" | "message to large" => return Outcome::Never(error.failure(Reason::TooLarge)),
            _ => return Outcome::Unknown(error.failure(Reason::Refused)),
        },
        10059 => Reason::Unroutable,
        // Not the expected stream; JetStream not enabled (for the account); sealed.
        10060 | 10039 | 10076 | 10109 => Reason::Topology,
        // The first copy of this id is being stored: it may yet fail, so this is no confirm.
        10158 => Reason::InFlight,
        // Leader elections, offline streams, overload, and all that later servers will invent.
        _ => Reason::Refused,
    };
    Outcome::Again(error.failure(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Option<Outcome> {
        of_answer(None, body.as_bytes(), "E")
    }

    fn reason(outcome: Option<Outcome>) -> (&'static str, Reason) {
        match outcome {
            Some(Outcome::Again(failure)) => ("again", failure.reason),
            Some(Outcome::Unknown(failure)) => ("unknown", failure.reason),
            Some(Outcome::Never(failure)) => ("never", failure.reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_case_per_code() {
        for (code, expected) in [
            (10002, ("again", Reason::Full)),
            (10003, ("again", Reason::Refused)),
            (10008, ("again", Reason::Refused)),
            (10009, ("again", Reason::Refused)),
            (10023, ("again", Reason::Full)),
            (10028, ("again", Reason::Full)),
            (10039, ("again", Reason::Topology)),
            (10047, ("again", Reason::Full)),
            (10054, ("never", Reason::TooLarge)),
            (10059, ("again", Reason::Unroutable)),
            (10060, ("again", Reason::Topology)),
            (10070, ("again", Reason::Refused)),
            (10076, ("again", Reason::Topology)),
            (10077, ("unknown", Reason::Refused)),
            (10097, ("never", Reason::TooLarge)),
            (10109, ("again", Reason::Topology)),
            (10118, ("again", Reason::Refused)),
            (10122, ("again", Reason::Full)),
            (10158, ("again", Reason::InFlight)),
            (10167, ("again", Reason::Refused)),
            (10194, ("again", Reason::Refused)),
            (99999, ("again", Reason::Refused)),
        ] {
            let body =
                format!(r#"{{"error":{{"code":503,"err_code":{code},"description":"why"}},"stream":"E","seq":0}}"#);
            let outcome = answer(&body);
            assert_eq!(reason(outcome.clone()), expected, "{code}");
            let Some(Outcome::Again(failure) | Outcome::Unknown(failure) | Outcome::Never(failure)) = outcome else {
                unreachable!()
            };
            assert_eq!(failure.detail, format!("why ({code})"));
        }
    }

    #[test]
    fn what_the_store_says() {
        for (text, expected) in [
            ("maximum messages exceeded", ("again", Reason::Full)),
            ("maximum bytes exceeded", ("again", Reason::Full)),
            ("maximum messages per subject exceeded", ("again", Reason::Full)),
            ("message too large", ("never", Reason::TooLarge)),
            ("store is closed", ("unknown", Reason::Refused)),
        ] {
            let body = format!(r#"{{"error":{{"code":503,"err_code":10077,"description":"{text}"}},"stream":"E"}}"#);
            assert_eq!(reason(answer(&body)), expected, "{text}");
        }
    }

    #[test]
    fn names_may_be_escaped() {
        let body = br#"{"stream":"a\u0026\u003cb\"","seq":1}"#;
        assert_eq!(of_answer(None, body, "a&<b\""), Some(Outcome::Confirmed));
        let plain: Answer<'_> = serde_json::from_str(r#"{"stream":"E","seq":1}"#).unwrap();
        assert!(matches!(plain.stream, Some(Name(Cow::Borrowed("E")))), "no allocation for each answer");
    }

    #[test]
    fn confirms() {
        assert_eq!(answer(r#"{"stream":"E","seq":1}"#), Some(Outcome::Confirmed));
        assert_eq!(answer(r#"{"stream":"E","domain":"d","seq":7,"duplicate":true}"#), Some(Outcome::Confirmed));
    }

    #[test]
    fn no_responders_and_strangers() {
        assert_eq!(reason(of_answer(Some(StatusCode::NO_RESPONDERS), b"", "E")), ("again", Reason::Unroutable));
        for stranger in [
            "",
            "ok",
            "{}",
            "[]",
            r#"{"stream":"E"}"#,
            r#"{"seq":3}"#,
            "{\"stream\":\"E\",\"seq\":\"1\"}",
            r#"{"stream":"F","seq":1}"#,
        ] {
            assert_eq!(answer(stranger), None, "{stranger}");
        }
    }
}
