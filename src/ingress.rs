//! The webhook listener: limits, then the signature, then the pipeline, which outlives its request.
//!
//! A request that is not a verified delivery costs little and changes nothing (G8): no ledger entry, no publish, no
//! unbounded memory.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::{MethodRouter, any, get};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, Gate, Limits, Room, SourcePlace};
use crate::delivery::{Delivery, DeliveryKey};
use crate::fail_point::{Step, fail_point};
use crate::keyring::Keyring;
use crate::listener::ConnectionInfo;
use crate::pipeline::{Answer, Pipeline};
use crate::reason::Reason;
use crate::signature::{self, Head};
use crate::source::Source;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::throttle::Throttle;
use crate::trace_context::trace_context;
use answer::{Refused, Reply};
pub(crate) use answer::{identify, not_found};
use outliving::Outliving;
use report::{RequestFacts, SourceReport};

mod answer;
mod body;
mod outliving;
mod report;

/// From this size in bytes, a body is hashed on a thread of its own.
const LARGE_BODY: usize = 256 << 10;
/// Largest body of a delivery outside the tolerance that is verified nevertheless.
const SAMPLED_BODY: usize = 64 << 10;

/// What every request shares.
pub struct Ingress {
    pipeline: Arc<Pipeline>,
    gate: Arc<Gate>,
    limits: Limits,
    metrics: Arc<Metrics>,
    /// Deliveries in flight; they outlive their requests.
    work: TaskTracker,
    draining: CancellationToken,
    /// Large bodies that are hashed at the same time.
    hashing: Arc<Semaphore>,
}

/// What the requests of one source share.
struct SourceState {
    ingress: Arc<Ingress>,
    source: Source,
    keyring: Arc<Keyring>,
    room: Room,
    report: SourceReport,
    /// Which deliveries outside the tolerance are verified nevertheless.
    clock_samples: Throttle<()>,
}

/// How a delivery's timestamp compares with our clock, in unix seconds.
struct Clock {
    now: i64,
    timely: Result<(), Refused>,
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
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let hashing = Arc::new(Semaphore::new(cores));
        Arc::new(Ingress { pipeline, gate, limits, metrics, work, draining, hashing })
    }

    /// The routes of the listener: one path for each source, `/healthz`, and 404 for everything else.
    pub fn router(
        self: &Arc<Self>,
        sources: impl IntoIterator<Item = (Source, Arc<Keyring>)>,
        ready: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> Router {
        let health = move || {
            let ready = ready();
            async move { if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE } }
        };
        let mut router = Router::new().route("/healthz", get(health).fallback(answer::read_only));
        for (source, keyring) in sources {
            let path = source.path.clone();
            let room = Room::new(source.in_flight, source.rate);
            let report = SourceReport::new(&source, &self.metrics);
            let state = Arc::new(SourceState {
                ingress: Arc::clone(self),
                source,
                keyring,
                room,
                report,
                clock_samples: Throttle::default(),
            });
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
    let connection = parts.extensions.get::<ConnectionInfo>();
    let (connection, peer) = (connection.map_or(0, |it| it.number), connection.map(|it| it.peer));
    let facts = RequestFacts::new(&parts.headers, state.source.legacy_headers, peer);
    // A client that asks before it sends its body gets the answer first, and sends none.
    let mut body_done = parts.headers.contains_key(header::EXPECT);
    let reply = if parts.method == axum::http::Method::POST {
        state.take(parts.headers, &mut body, &mut body_done, connection, started).await
    } else {
        Err(Refused::MethodNotAllowed("POST"))
    };
    if !body_done && reply.is_err() {
        // Read the rest, so that the sender sees the answer and the connection can be used again.
        body::discard(&mut body, ingress.limits.body).await;
    }
    let reply = Reply::from(reply);
    fail_point(Step::Answering);
    state.report.answered(&reply, &facts);
    ingress.metrics.request_seconds.observe(started.elapsed().as_secs_f64());
    reply.into_response()
}

impl SourceState {
    async fn take(
        self: &Arc<Self>,
        headers: HeaderMap,
        body: &mut Body,
        body_done: &mut bool,
        connection: u64,
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
        let head = signature::head(&headers, self.source.legacy_headers).map_err(Refused::Malformed)?;
        let clock = self.clock(&head, announced)?;
        *body_done = true;
        let request = gate.read(connection);
        let (bytes, request) = body::read(body, announced, limits, request, started).await.inspect_err(|refused| {
            *body_done = matches!(refused, Refused::TooSlow | Refused::Incomplete);
        })?;
        let head = self.verify(head, bytes.clone(), clock).await?;
        let (admission, place) = request.admit(&self.room).map_err(Refused::Full)?;
        let id = head.id.clone();
        let delivery = delivery(&self.source.name, head, headers, bytes);
        let answer = self.work(delivery, admission, place, deadline).await;
        Ok((answer, id))
    }

    /// Whether the timestamp is within the tolerance. A delivery outside it is refused from its head, except for a few small
    /// ones: if their signatures are good, it is a clock that is wrong, and not a replay.
    fn clock(&self, head: &Head, announced: Option<usize>) -> Result<Clock, Refused> {
        let now = Timestamp::now().as_second();
        let timely = head.timely(now, self.source.tolerance.as_secs()).map_err(Refused::Unverified);
        let small = announced.is_some_and(|length| length <= SAMPLED_BODY);
        match timely {
            Err(_) if small && self.clock_samples.admit(()).is_some() => Ok(Clock { now, timely }),
            Err(refused) => Err(refused),
            Ok(()) => Ok(Clock { now, timely }),
        }
    }

    /// Checks the signature. A large body is hashed on a thread of its own, and only a few of them at a time, as that takes
    /// many milliseconds before it is known whether the sender has the secret.
    async fn verify(self: &Arc<Self>, head: Head, body: Bytes, clock: Clock) -> Result<Head, Refused> {
        let (head, signed) = if body.len() < LARGE_BODY {
            let signed = head.signed(&self.keyring.keys(), &body);
            (head, signed)
        } else {
            let hashing = Arc::clone(&self.ingress.hashing).acquire_owned().await;
            let state = Arc::clone(self);
            let verified = tokio::task::spawn_blocking(move || {
                let signed = head.signed(&state.keyring.keys(), &body);
                drop(hashing);
                (head, signed)
            });
            verified.await.map_err(|_| Refused::Unavailable(Reason::Failed))?
        };
        if clock.timely.is_err() && signed.is_ok() {
            self.report.bad_clock(&head.id, clock.now.saturating_sub(head.timestamp));
        }
        clock.timely?;
        let key = signed.map_err(Refused::Unverified)?;
        self.report.verified(key, clock.now, head.timestamp);
        Ok(head)
    }

    /// Runs the pipeline; the request only waits for it. The place in the source is released when the work is over, at the
    /// latest at the deadline, when the request is answered.
    async fn work(
        self: &Arc<Self>,
        delivery: Delivery,
        admission: Admission,
        place: SourcePlace,
        deadline: Instant,
    ) -> Answer {
        let state = Arc::clone(self);
        let accept = async move { state.ingress.pipeline.accept(&state.source, delivery, admission, deadline).await };
        let state = Arc::clone(self);
        let work = Outliving::new(accept, place, deadline, &self.ingress.work, move || state.report.late());
        match timeout_at(deadline, work).await {
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
    let is_plain = |encoding: &[u8]| encoding.is_empty() || encoding.eq_ignore_ascii_case(b"identity");
    let encodings = headers.get_all(header::CONTENT_ENCODING);
    if !encodings.iter().all(|encoding| is_plain(encoding.as_bytes().trim_ascii())) {
        return Err(Refused::Encoded);
    }
    Ok(())
}

fn delivery(source: &Arc<str>, head: Head, headers: HeaderMap, body: bytes::Bytes) -> Delivery {
    let (traceparent, tracestate) = trace_context(&headers);
    Delivery {
        key: DeliveryKey { source: Arc::clone(source), id: head.id.into() },
        timestamp: head.timestamp,
        signature: head.signature,
        traceparent,
        tracestate,
        headers,
        body,
    }
}
