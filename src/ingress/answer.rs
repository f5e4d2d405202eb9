//! HTTP answers: the only place where outcomes become statuses. All but 200 are problems (RFC 9457).

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::json;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::admission::Full;
use crate::delivery::REQUEST_ID;
use crate::pipeline::Answer;
use crate::reason::Reason;
use crate::signature::Refusal;

/// Why a request is not a delivery, or not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    NotFound,
    /// With the methods that are allowed.
    MethodNotAllowed(&'static str),
    HeadersTooLarge,
    /// The body has a content-encoding.
    Encoded,
    TooLarge,
    /// The body did not arrive within `limits.read_timeout`.
    TooSlow,
    /// The body ended before its announced length, or its chunks are malformed.
    Incomplete,
    Full(Full),
    Malformed(Refusal),
    Unverified(Refusal),
    Unavailable(Reason),
}

/// An answer, before it is written.
pub(super) enum Reply {
    Done { status: &'static str, id: String },
    Refused(Refused),
}

/// The body of 200.
#[derive(Serialize)]
struct Done<'a> {
    status: &'static str,
    id: &'a str,
}

impl From<Refused> for Reply {
    fn from(refused: Refused) -> Self {
        Reply::Refused(refused)
    }
}

impl From<Result<(Answer, String), Refused>> for Reply {
    fn from(result: Result<(Answer, String), Refused>) -> Self {
        let (answer, id) = match result {
            Ok(done) => done,
            Err(refused) => return Reply::Refused(refused),
        };
        let status = match answer {
            Answer::Accepted => "accepted",
            Answer::Duplicate => "duplicate",
            Answer::DeadLettered => "dead-lettered",
            Answer::Ignored => "ignored",
            Answer::Unavailable(reason) => return Reply::Refused(Refused::Unavailable(reason)),
        };
        Reply::Done { status, id }
    }
}

/// Status, word, title, detail, and seconds for `Retry-After`.
type Problem = (StatusCode, &'static str, &'static str, &'static str, Option<u32>);

impl Refused {
    /// Every way in which a request to a source can be refused.
    pub(super) fn all() -> impl Iterator<Item = Refused> {
        use Refusal as R;
        let plain = [
            Refused::MethodNotAllowed("POST"),
            Refused::HeadersTooLarge,
            Refused::Encoded,
            Refused::TooLarge,
            Refused::TooSlow,
            Refused::Incomplete,
            Refused::Full(Full::Source),
            Refused::Full(Full::Rate(0)),
            Refused::Full(Full::Process),
        ];
        let malformed = [R::DuplicateHeader, R::MissingHeader, R::InvalidId, R::InvalidTimestamp];
        let unverified = [R::TooOld, R::TooNew, R::NoMatch];
        let unavailable = Reason::ALL.iter().filter(|reason| !reason.is_about_event());
        let signed = malformed.map(Refused::Malformed).into_iter().chain(unverified.map(Refused::Unverified));
        plain.into_iter().chain(signed).chain(unavailable.map(|reason| Refused::Unavailable(*reason)))
    }

    /// The word for it in metrics, in the log and in the type of the problem.
    pub(super) fn word(self) -> &'static str {
        self.problem().1
    }

    /// Its HTTP status.
    pub(super) fn status(self) -> StatusCode {
        self.problem().0
    }

    fn problem(self) -> Problem {
        use StatusCode as S;
        match self {
            Refused::NotFound => (S::NOT_FOUND, "not_found", "Not found", "No source has this path.", None),
            Refused::MethodNotAllowed(_) => (
                S::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "Method not allowed",
                "Send deliveries to the source's path with POST; everything else is read with GET.",
                None,
            ),
            Refused::HeadersTooLarge => (
                S::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
                "Headers too large",
                "There are more header lines or bytes than limits.headers and limits.header_bytes allow.",
                None,
            ),
            Refused::Encoded => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "content_encoding",
                "Content encoding not supported",
                "The signature is over the bytes as sent: send the body without content-encoding.",
                None,
            ),
            Refused::TooLarge => (
                S::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "Body too large",
                "The body is over the limit; limits.body raises it.",
                None,
            ),
            Refused::TooSlow => (
                S::REQUEST_TIMEOUT,
                "body_too_slow",
                "Body too slow",
                "The body did not arrive within limits.read_timeout.",
                None,
            ),
            Refused::Incomplete => {
                (S::BAD_REQUEST, "body_incomplete", "Body incomplete", "The body ended early or is malformed.", None)
            }
            Refused::Full(Full::Source) => (
                S::TOO_MANY_REQUESTS,
                "source_full",
                "Too many requests",
                "This source has as many deliveries in flight as its in_flight allows.",
                Some(2),
            ),
            Refused::Full(Full::Rate(seconds)) => (
                S::TOO_MANY_REQUESTS,
                "source_rate",
                "Too many requests",
                "This source sends more deliveries a second than its rate allows.",
                Some(seconds),
            ),
            Refused::Full(Full::Process) => (
                S::SERVICE_UNAVAILABLE,
                "process_full",
                "Too much in flight",
                "As many requests or bytes are in flight as limits.requests and limits.bytes allow.",
                Some(2),
            ),
            Refused::Malformed(refusal) => (
                S::BAD_REQUEST,
                word(refusal),
                "Not a Standard Webhooks delivery",
                "A header among webhook-id, webhook-timestamp and webhook-signature is missing, repeated or malformed.",
                None,
            ),
            Refused::Unverified(refusal) => (
                S::UNAUTHORIZED,
                word(refusal),
                "Not verified",
                "The signature does not verify with this source's secrets, or the timestamp is outside the tolerance.",
                None,
            ),
            Refused::Unavailable(reason) => {
                (S::SERVICE_UNAVAILABLE, reason.word(), "Not safe yet", reason.about(), Some(retry_after(reason)))
            }
        }
    }
}

/// In seconds. A sender's own schedule usually waits longer.
fn retry_after(reason: Reason) -> u32 {
    match reason {
        Reason::Busy | Reason::InFlight | Reason::Closing => 2,
        _ => 5,
    }
}

fn word(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::DuplicateHeader => "duplicate_header",
        Refusal::MissingHeader => "missing_header",
        Refusal::InvalidId => "invalid_id",
        Refusal::InvalidTimestamp => "invalid_timestamp",
        Refusal::TooOld => "timestamp_too_old",
        Refusal::TooNew => "timestamp_too_new",
        Refusal::NoMatch => "no_matching_signature",
    }
}

impl Reply {
    /// The outcomes of deliveries in metrics.
    pub(super) const OUTCOMES: [&str; 6] =
        ["accepted", "duplicate", "dead-lettered", "ignored", "refused", "unavailable"];

    pub(super) fn into_response(self) -> Response {
        match self {
            Reply::Done { status, id } => {
                let body = serde_json::to_string(&Done { status, id: &id }).unwrap_or_default(); // texts are always JSON
                ([(header::CONTENT_TYPE, "application/json")], body).into_response()
            }
            Reply::Refused(refused) => {
                let (status, word, title, detail, retry_after) = refused.problem();
                // The type of a refused signature tells a forger nothing.
                let word = if status == StatusCode::UNAUTHORIZED { "not_verified" } else { word };
                let problem = json!({
                    "type": format!("urn:hookbridge:problem:{word}"), "title": title, "status": status.as_u16(),
                    "detail": detail,
                });
                let mut response = (status, problem.to_string()).into_response();
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
                if let Some(seconds) = retry_after {
                    headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                }
                if let Refused::MethodNotAllowed(methods) = refused {
                    headers.insert(header::ALLOW, HeaderValue::from_static(methods));
                }
                if status == StatusCode::REQUEST_TIMEOUT {
                    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
        }
    }
}

/// The answer at an unknown path.
pub(crate) async fn not_found() -> Response {
    Reply::from(Refused::NotFound).into_response()
}

/// The answer to other methods at a path that only serves GET.
pub(super) async fn read_only() -> Response {
    Reply::from(Refused::MethodNotAllowed("GET,HEAD")).into_response()
}

/// Gives every request and its answer an `x-request-id`: the client's if it is short, visible ASCII, else a new one.
pub(crate) async fn identify(mut request: Request<Body>, next: Next) -> Response {
    static PROCESS: LazyLock<u64> = LazyLock::new(rand::random);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let given = request.headers().get(&REQUEST_ID).cloned();
    let given = given.filter(|id| (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic));
    let ours = || {
        let id = format!("{:016x}{:08x}", *PROCESS, NEXT.fetch_add(1, Ordering::Relaxed));
        HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("unknown"))
    };
    let id = given.unwrap_or_else(ours);
    request.headers_mut().insert(&REQUEST_ID, id.clone());
    let mut response = next.run(request).await;
    response.headers_mut().insert(&REQUEST_ID, id);
    response
}
