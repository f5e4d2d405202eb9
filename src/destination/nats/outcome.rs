//! What the server's answer means for a publish: one table.

use std::borrow::Cow;

use async_nats::StatusCode;
use serde::Deserialize;

use crate::message::Outcome;
use crate::reason::{Failure, Reason};

/// The body of JetStream's answer to a publish.
#[derive(Deserialize)]
struct PubAck<'a> {
    #[serde(borrow)]
    stream: Option<StreamName<'a>>,
    #[serde(default)]
    seq: u64,
    error: Option<ApiError>,
}

/// Borrowed unless it is escaped: Go escapes `&`, `<` and `>`. A type of its own, because serde does not borrow a `Cow`
/// inside an `Option`.
#[derive(Deserialize)]
struct StreamName<'a>(#[serde(borrow)] Cow<'a, str>);

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
    /// A failure with the server's description.
    pub(super) fn failure(&self, reason: Reason) -> Failure {
        Failure::new(reason, format!("{} ({})", self.description, self.err_code))
    }
}

/// The outcome of an answer. `None` if it is not from JetStream: any client may subscribe to the subject and reply, and
/// its reply says nothing about the stream.
pub(super) fn of_answer(status: Option<StatusCode>, body: &[u8], stream: &str) -> Option<Outcome> {
    if status == Some(StatusCode::NO_RESPONDERS) {
        return Some(Outcome::Again(Failure::new(
            Reason::Unroutable,
            "no stream takes this subject, or its leader is being elected (no responders)",
        )));
    }
    let answer: PubAck<'_> = serde_json::from_slice(body).ok()?;
    match answer.error {
        Some(error) => Some(of_error(&error)),
        // `duplicate: true` is a confirm too: the id contains the subject, so the first copy was for the same target.
        None if answer.seq > 0 && answer.stream.is_some_and(|name| name.0 == stream) => Some(Outcome::Confirmed),
        None => None,
    }
}

/// The outcome of an error. `Never` only for what the bytes of this event cause.
fn of_error(error: &ApiError) -> Outcome {
    let reason = match error.err_code {
        // Larger than the stream's max_msg_size; headers over 64 KiB.
        10054 | 10097 => return Outcome::Never(error.failure(Reason::TooLarge)),
        // Limits of the account, server, storage, memory or stream.
        10002 | 10023 | 10028 | 10047 | 10122 => Reason::Full,
        // An error of the store. After some of them, such as a closed store, other replicas may still store the
        // message.
        10077 => match &*error.description {
            "maximum messages exceeded" | "maximum bytes exceeded" | "maximum messages per subject exceeded" => {
                Reason::Full
            }
            // Larger than a block of the file store. Older servers write "to large".
            "message too large" | "message to large" => return Outcome::Never(error.failure(Reason::TooLarge)),
            _ => return Outcome::Unknown(error.failure(Reason::Refused)),
        },
        10059 => Reason::Unroutable,
        // Not the expected stream; JetStream not enabled (for the account); sealed.
        10060 | 10039 | 10076 | 10109 => Reason::Topology,
        // The first copy of this id is being stored. That may still fail, so this is no confirm.
        10158 => Reason::InFlight,
        // Leader elections, offline streams, overload, and codes of later servers.
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

    fn reason(outcome: Option<&Outcome>) -> Option<(&'static str, Reason)> {
        outcome.and_then(|outcome| Some((outcome.word(), outcome.failure()?.reason)))
    }

    #[test]
    fn each_error_code_has_its_outcome() {
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
            assert_eq!(reason(outcome.as_ref()), Some(expected), "{code}");
            let detail = outcome.as_ref().and_then(Outcome::failure).map(|failure| &*failure.detail);
            assert_eq!(detail, Some(&*format!("why ({code})")));
        }
    }

    #[test]
    fn each_store_error_has_its_outcome() {
        for (text, expected) in [
            ("maximum messages exceeded", ("again", Reason::Full)),
            ("maximum bytes exceeded", ("again", Reason::Full)),
            ("maximum messages per subject exceeded", ("again", Reason::Full)),
            ("message too large", ("never", Reason::TooLarge)),
            ("store is closed", ("unknown", Reason::Refused)),
        ] {
            let body = format!(r#"{{"error":{{"code":503,"err_code":10077,"description":"{text}"}},"stream":"E"}}"#);
            assert_eq!(reason(answer(&body).as_ref()), Some(expected), "{text}");
        }
    }

    #[test]
    fn escaped_stream_name_is_a_confirm() {
        let body = br#"{"stream":"a\u0026\u003cb\"","seq":1}"#;
        assert_eq!(of_answer(None, body, "a&<b\""), Some(Outcome::Confirmed));
        let plain: PubAck<'_> = serde_json::from_str(r#"{"stream":"E","seq":1}"#).unwrap();
        assert!(matches!(plain.stream, Some(StreamName(Cow::Borrowed("E")))), "no allocation for each answer");
    }

    #[test]
    fn stored_and_duplicate_are_confirms() {
        assert_eq!(answer(r#"{"stream":"E","seq":1}"#), Some(Outcome::Confirmed));
        assert_eq!(answer(r#"{"stream":"E","domain":"d","seq":7,"duplicate":true}"#), Some(Outcome::Confirmed));
    }

    #[test]
    fn no_responders_is_unroutable_and_other_replies_are_ignored() {
        let no_responders = of_answer(Some(StatusCode::NO_RESPONDERS), b"", "E");
        assert_eq!(reason(no_responders.as_ref()), Some(("again", Reason::Unroutable)));
        for reply in [
            "",
            "ok",
            "{}",
            "[]",
            r#"{"stream":"E"}"#,
            r#"{"seq":3}"#,
            "{\"stream\":\"E\",\"seq\":\"1\"}",
            r#"{"stream":"F","seq":1}"#,
        ] {
            assert_eq!(answer(reply), None, "{reply}");
        }
    }
}
