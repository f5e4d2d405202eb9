//! The admin listener: `/livez`, `/readyz`, `/metrics`, and the [`api`] for operators.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Value, json};

use crate::destination::{Handle, Health};
use crate::ingress::{identify, not_found};
use crate::lanes::Waiting;
use crate::letters::{LetterCount, Letters};
use crate::telemetry::logs::lines_lost;
use crate::telemetry::metrics::{DestinationLabel, LetterLabel};
use crate::vitals::Vitals;

pub use access::AdminAccess;
pub use api::api;

mod access;
mod api;
mod ledger_api;
mod letters_api;
mod openapi;
mod problem;
mod query;
mod shown;

/// What health and metrics show.
#[derive(Clone)]
struct HealthState {
    vitals: Arc<Vitals>,
    letters: Option<Arc<Letters>>,
}

/// The routes of the listener that anyone may call.
pub fn router(vitals: Arc<Vitals>, letters: Option<Arc<Letters>>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .layer(axum::middleware::from_fn(identify))
        .with_state(HealthState { vitals, letters })
}

/// The status is for Kubernetes. The JSON body also shows outages that do not make the process unready.
async fn ready(State(HealthState { vitals, .. }): State<HealthState>) -> impl IntoResponse {
    let destinations: serde_json::Map<String, Value> =
        vitals.courier.destinations().map(|handle| (handle.name().to_string(), shown(handle, &vitals))).collect();
    let store = match vitals.ledger.health() {
        Ok(()) => json!({"state": "up"}),
        Err(failure) => json!({"state": "down", "reason": failure.reason.word()}),
    };
    let status = match (vitals.ready(), vitals.draining.is_cancelled(), vitals.started()) {
        (true, ..) => "ready",
        (false, true, _) => "draining",
        (false, false, false) => "starting",
        (false, false, true) => "store-down",
    };
    let code = if status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({"status": status, "store": store, "destinations": destinations});
    (code, [(header::CONTENT_TYPE, "application/json")], body.to_string())
}

fn shown(handle: &Handle, vitals: &Vitals) -> Value {
    let (state, failure) = match handle.health() {
        Health::Starting(failure) => ("starting", failure),
        Health::Up => match handle.refusing() {
            None => ("up", None),
            Some(failure) => ("refusing", Some(failure)),
        },
        Health::Down(failure) => ("down", Some(failure)),
    };
    let mut shown = json!({"state": state});
    if vitals.optional.contains(handle.name()) {
        shown["optional"] = true.into();
    }
    if let Some(failure) = failure {
        shown["reason"] = failure.reason.word().into();
        if !failure.detail.is_empty() {
            shown["detail"] = failure.detail.into();
        }
    }
    let warnings = handle.warnings();
    if !warnings.is_empty() {
        shown["warnings"] = warnings.into();
    }
    shown
}

async fn metrics(State(HealthState { vitals, letters }): State<HealthState>) -> impl IntoResponse {
    let bytes = letters.map_or(0, |letters| letters.bytes());
    vitals.metrics.dead_letter_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    vitals.metrics.log_lines_lost.inner().store(lines_lost(), Ordering::Relaxed);
    vitals.metrics.ledger_forgotten.inner().store(vitals.ledger.forgotten(), Ordering::Relaxed);
    vitals.metrics.ledger_ids.set(i64::try_from(vitals.ledger.ids()).unwrap_or(i64::MAX));
    for handle in vitals.courier.destinations() {
        // A connection that was replaced may have reported its end after the new one was up.
        let label = DestinationLabel { destination: handle.name().to_string() };
        vitals.metrics.up.get_or_create(&label).set(i64::from(handle.health() == Health::Up));
    }
    for Waiting { depth, oldest } in vitals.lanes.iter().flat_map(|lanes| lanes.waiting()) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let (metrics, label) = (&vitals.metrics, DestinationLabel { destination: depth.destination });
        metrics.spool_events.get_or_create(&label).set(gauge(depth.events));
        metrics.spool_bytes.get_or_create(&label).set(gauge(depth.bytes));
        let age = oldest.filter(|_| depth.events > 0).map_or(0, |at| jiff::Timestamp::now().as_second() - at);
        metrics.spool_oldest.get_or_create(&label).set(age.max(0));
    }
    for LetterCount { source, reason, count } in vitals.ledger.dead_letters() {
        let gauge = vitals.metrics.dead_letters.get_or_create_owned(&LetterLabel { source, reason });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], vitals.metrics.page())
}
