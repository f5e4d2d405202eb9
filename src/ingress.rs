//! The webhook listener: limits, then the signature, then the pipeline in a task of its own.
//!
//! A request that is not a verified delivery costs little and changes nothing (G8): no ledger entry, no publish, no
//! unbounded memory.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::{MethodRouter, any, get};
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Limits;
use crate::admission::{Admission, Gate, Room};
use crate::delivery::{Delivery, DeliveryKey};
use crate::pipeline::{Answer, Pipeline};
use crate::reason::Reason;
use crate::signature::{self, Head};
use crate::source::Source;
use crate::telemetry::metrics::{Metrics, SourceLabel};
use answer::{Refused, Reply};
pub(crate) use answer::{identify, not_found};

mod answer;
mod body;

/// What every request shares.
pub struct Ingress {
    pipeline: Arc<Pipeline>,
    gate: Arc<Gate>,
    limits: Limits,
    metrics: Arc<Metrics>,
    /// Deliveries in flight; they outlive their requests.
    work: TaskTracker,
    draining: CancellationToken,
}

/// What the requests of one source share.
struct SourceState {
    ingress: Arc<Ingress>,
    source: Source,
    room: Room,
    metrics: SourceMetrics,
}

/// Metrics that every verified delivery changes, looked up once.
struct SourceMetrics {
    accepted: Counter,
    last_delivery: Gauge<f64, AtomicU64>,
    clock_offset: Gauge,
}

impl SourceMetrics {
    fn new(source: &Source, metrics: &Metrics) -> SourceMetrics {
        let label = SourceLabel { source: source.name.to_string() };
        SourceMetrics {
            accepted: metrics.answered(&source.name, "accepted"),
            last_delivery: metrics.last_delivery.get_or_create_owned(&label),
            clock_offset: metrics.clock_offset.get_or_create_owned(&label),
        }
    }
}

impl Ingress {
    /// The part of the listener that all sources share. Once `draining` is cancelled, deliveries get 503.
    pub fn new(
        pipeline: Arc<Pipeline>,
        limits: Limits,
        metrics: Arc<Metrics>,
        work: TaskTracker,
        draining: CancellationToken,
    ) -> Arc<Ingress> {
        let gate = Gate::new(&limits, Arc::clone(&metrics));
        Arc::new(Ingress { pipeline, gate, limits, metrics, work, draining })
    }

    /// The routes of the listener: one path for each source, `/healthz`, and 404 for everything else.
    pub fn router(self: &Arc<Self>, sources: Vec<Source>, ready: Arc<dyn Fn() -> bool + Send + Sync>) -> Router {
        let health = move || {
            let ready = ready();
            async move { if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE } }
        };
        let mut router = Router::new().route("/healthz", get(health).fallback(answer::read_only));
        for source in sources {
            let path = source.path.clone();
            let room = Room::new(source.in_flight, source.rate);
            let metrics = SourceMetrics::new(&source, &self.metrics);
            let state = Arc::new(SourceState { ingress: Arc::clone(self), source, room, metrics });
            let post: MethodRouter = any(receive).with_state(state); // also answers other methods
            router = router.route(&path, post);
        }
        router.fallback(not_found).layer(axum::middleware::from_fn(identify))
    }
}

async fn receive(State(state): State<Arc<SourceState>>, request: Request) -> Response {
    let started = Instant::now();
    let ingress = &state.ingress;
    let (parts, mut body) = request.into_parts();
    // A client that asks before it sends its body gets the answer first, and sends none.
    let mut body_done = parts.headers.contains_key(header::EXPECT);
    let reply = if parts.method == axum::http::Method::POST {
        state.take(parts.headers, &mut body, &mut body_done, started).await
    } else {
        Err(Refused::MethodNotAllowed("POST"))
    };
    if !body_done && reply.as_ref().is_err_and(|refused| *refused != Refused::TooSlow) {
        // Read the rest, so that the sender sees the answer and the connection can be used again.
        body::discard(&mut body, ingress.limits.body).await;
    }
    let source = &*state.source.name;
    let accepted = matches!(reply, Ok((Answer::Accepted, _)));
    let reply = Reply::from(reply);
    if accepted {
        state.metrics.accepted.inc();
    } else {
        reply.count(&ingress.metrics, source);
    }
    ingress.metrics.request_seconds.observe(started.elapsed().as_secs_f64());
    reply.into_response(Some(source))
}

impl SourceState {
    async fn take(
        self: &Arc<Self>,
        headers: HeaderMap,
        body: &mut Body,
        body_done: &mut bool,
        started: Instant,
    ) -> Result<(Answer, String), Refused> {
        let Ingress { gate, limits, draining, work, .. } = &*self.ingress;
        let deadline = started + limits.request_timeout;
        check_headers(&headers, limits)?;
        let announced = body::announced(&headers, limits.body)?;
        let _working = work.token(); // shutdown waits for every request that passed this line
        if draining.is_cancelled() {
            return Err(Refused::Unavailable(Reason::Closing));
        }
        let admission = gate.admit(&self.room, announced.unwrap_or(0)).map_err(Refused::Full)?;
        let head = signature::head(&headers, self.source.legacy_headers).map_err(Refused::Malformed)?;
        *body_done = true;
        let (bytes, admission) =
            body::read(body, announced, limits, admission, started).await.inspect_err(|refused| {
                *body_done = *refused == Refused::TooSlow;
            })?;
        self.verify(&head, &bytes)?;
        let id = head.id.clone();
        let delivery = delivery(&self.source.name, head, headers, bytes);
        let answer = self.work(delivery, admission, deadline).await;
        Ok((answer, id))
    }

    /// Checks signature and time. Both are always checked, so that a good signature with a bad time is told apart from a
    /// forgery.
    fn verify(&self, head: &Head, body: &[u8]) -> Result<(), Refused> {
        let metrics = &self.ingress.metrics;
        let now = Timestamp::now().as_second();
        let timely = head.timely(now, self.source.tolerance.as_secs());
        let signed = head.signed(&self.source.keys, body);
        if let (Err(refusal), Ok(())) = (timely, signed) {
            let label = SourceLabel { source: self.source.name.to_string() };
            metrics.clock_refusals.get_or_create(&label).inc();
            let seconds = now.saturating_sub(head.timestamp);
            tracing::warn!(
                source = %self.source.name, webhook_id = %head.id, offset_seconds = seconds, reason = %refusal,
                "a good signature with a bad time: check this machine's clock"
            );
        }
        timely.and(signed).map_err(Refused::Unverified)?;
        self.metrics.last_delivery.set(now as f64);
        self.metrics.clock_offset.set(now - head.timestamp);
        Ok(())
    }

    /// Runs the pipeline in a task of its own; the request only waits for it.
    async fn work(self: &Arc<Self>, delivery: Delivery, admission: Admission, deadline: Instant) -> Answer {
        let state = Arc::clone(self);
        let (sender, answer) = oneshot::channel();
        self.ingress.work.spawn(async move {
            let ingress = &state.ingress;
            let answer = ingress.pipeline.accept(&state.source, delivery, admission, deadline).await;
            if sender.send(answer).is_err() {
                // The request was answered before.
                ingress.metrics.late.get_or_create(&SourceLabel { source: state.source.name.to_string() }).inc();
            }
        });
        match timeout_at(deadline, answer).await {
            Ok(answer) => answer.unwrap_or(Answer::Unavailable(Reason::Failed)),
            Err(_) => Answer::Unavailable(Reason::Timeout),
        }
    }
}

fn check_headers(headers: &HeaderMap, limits: &Limits) -> Result<(), Refused> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers.len() > limits.headers || bytes > limits.header_bytes {
        return Err(Refused::HeadersTooLarge);
    }
    let encodings = headers.get_all(header::CONTENT_ENCODING);
    if encodings.iter().any(|encoding| !encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity")) {
        return Err(Refused::Encoded);
    }
    Ok(())
}

fn delivery(source: &Arc<str>, head: Head, headers: HeaderMap, body: bytes::Bytes) -> Delivery {
    let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    let traceparent = text("traceparent").filter(|text| is_traceparent(text)).map(str::to_owned);
    Delivery {
        key: DeliveryKey { source: Arc::clone(source), id: head.id.into() },
        timestamp: head.timestamp,
        signature: head.signature,
        tracestate: traceparent.as_ref().and_then(|_| text("tracestate")).map(str::to_owned),
        traceparent,
        headers,
        body,
    }
}

/// W3C Trace Context: version, 32 hex digits, 16 hex digits, flags.
fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let mut parts = text.split('-');
    let mut next = |length| parts.next().is_some_and(|part| hex(part, length));
    next(2) && next(32) && next(16) && next(2)
}
