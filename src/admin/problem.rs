//! What the admin API answers when it does not do what was asked: problems (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio_util::task::TaskTracker;

use crate::reason::{Failure, Reason};
use crate::replay::ReplayRefusal;

/// What a call answers.
pub(super) type ApiAnswer = Result<Response, ApiProblem>;

/// Does a call that changes something to its end, whether or not its caller waits: what was changed is logged.
pub(super) async fn to_the_end(
    work: &TaskTracker,
    call: impl Future<Output = ApiAnswer> + Send + 'static,
) -> ApiAnswer {
    work.spawn(call).await.unwrap_or_else(|_| Err(Failure::from(Reason::Failed).into()))
}

/// A problem.
#[derive(Debug)]
pub(super) struct ApiProblem {
    status: StatusCode,
    word: &'static str,
    title: &'static str,
    detail: String,
}

impl ApiProblem {
    pub(super) fn new(
        status: StatusCode,
        word: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> ApiProblem {
        ApiProblem { status, word, title, detail: detail.into() }
    }

    /// A parameter is wrong.
    pub(super) fn parameter(detail: impl Into<String>) -> ApiProblem {
        ApiProblem::new(StatusCode::BAD_REQUEST, "parameter", "Wrong parameter", detail)
    }

    pub(super) fn missing(detail: impl Into<String>) -> ApiProblem {
        ApiProblem::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
    }

    pub(super) fn no_dead_letter(number: u64) -> ApiProblem {
        ApiProblem::missing(format!("there is no dead letter {number}: it was replayed, discarded, or never kept"))
    }

    pub(super) fn in_flight(detail: impl Into<String>) -> ApiProblem {
        ApiProblem::new(StatusCode::CONFLICT, Reason::InFlight.word(), "In flight", detail)
    }

    pub(super) fn unauthorized() -> ApiProblem {
        let detail = "send the admin token as `Authorization: Bearer TOKEN`";
        ApiProblem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized", detail)
    }
}

impl From<Failure> for ApiProblem {
    fn from(failure: Failure) -> ApiProblem {
        let (status, title) = (StatusCode::SERVICE_UNAVAILABLE, "The store cannot be used");
        ApiProblem::new(status, failure.reason.word(), title, failure.detail)
    }
}

impl ApiProblem {
    /// Why a dead letter was not replayed.
    pub(super) fn refusal(number: u64, refusal: ReplayRefusal) -> ApiProblem {
        match refusal {
            ReplayRefusal::Missing => ApiProblem::no_dead_letter(number),
            ReplayRefusal::InFlight => {
                ApiProblem::in_flight("it is being replayed or discarded, or a delivery with its id is in flight")
            }
            ReplayRefusal::Delivered => {
                let detail =
                    "a later delivery with its id was delivered: discard it, or let `ledger forget` forget the id";
                ApiProblem::new(StatusCode::CONFLICT, "delivered", "Delivered", detail)
            }
            ReplayRefusal::NotConfigured(detail) => {
                ApiProblem::new(StatusCode::CONFLICT, "not_configured", "Not configured", detail)
            }
            ReplayRefusal::Store(failure) => failure.into(),
        }
    }
}

impl IntoResponse for ApiProblem {
    fn into_response(self) -> Response {
        let ApiProblem { status, word, title, detail } = self;
        let problem = json!({
            "type": format!("urn:hookbridge:problem:{word}"), "title": title, "status": status.as_u16(), "detail": detail,
        });
        let mut response = (status, problem.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"hookbridge\""));
        }
        response
    }
}
