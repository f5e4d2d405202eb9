//! `/api/v1`: dead letters and the ledger, for operators and for the commands `dead-letters` and `ledger`.
//!
//! | module | job |
//! |---|---|
//! | `access` | who may call |
//! | `query` | the parameters of a request |
//! | `letters_api`, `ledger_api` | what a call does |
//! | `openapi` | the description of all calls |
//! | `problem` | answers that are errors |

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, delete, get, post};

use super::access::{AdminAccess, guard};
use super::problem::ApiProblem;
use super::{ledger_api, letters_api, openapi};
use crate::ingress::identify;
use crate::management::Management;

/// Every call: its method, its path, and what it does.
type Call = (&'static str, &'static str, fn() -> MethodRouter<Arc<Management>>);

const CALLS: [Call; 7] = [
    ("get", "/api/v1/dead-letters", || get(letters_api::list)),
    ("get", "/api/v1/dead-letters/{id}", || get(letters_api::show)),
    ("delete", "/api/v1/dead-letters/{id}", || delete(letters_api::discard)),
    ("post", "/api/v1/dead-letters/{id}/replay", || post(letters_api::replay)),
    ("get", "/api/v1/ledger", || get(ledger_api::show)),
    ("delete", "/api/v1/ledger", || delete(ledger_api::forget)),
    ("get", "/api/v1/openapi.json", || get(openapi::page)),
];

/// The routes of the API.
pub fn api(management: Arc<Management>, access: AdminAccess) -> Router {
    let mut router = Router::new();
    for (_, path, call) in CALLS {
        router = router.route(path, call());
    }
    router
        .route("/api/{*path}", axum::routing::any(unknown))
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::new(access), guard))
        .layer(from_fn(identify))
        .with_state(management)
}

async fn unknown() -> Response {
    ApiProblem::missing("there is no such call: see /api/v1/openapi.json").into_response()
}

async fn wrong_method() -> Response {
    let (status, word) = (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
    ApiProblem::new(status, word, "Method not allowed", "see /api/v1/openapi.json").into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn description_has_every_call_and_no_other() {
        let description = openapi::description();
        let paths = description["paths"].as_object().expect("paths");
        let described: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, calls)| {
                let calls = calls.as_object().expect("calls").keys().filter(|key| *key != "parameters");
                calls.map(|method| (method.clone(), path.clone())).collect::<Vec<_>>()
            })
            .collect();
        let served = CALLS.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()));
        assert_eq!(described, served.collect());
    }
}
