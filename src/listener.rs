//! HTTP/1.1 and HTTP/2 connections: bounded in number, in the size of a request head and in the time it may take. Both
//! listeners use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::admission::Limits;

pub mod descriptors;

/// How long a connection may be idle, and how long the head of a later request may take.
const IDLE: Duration = Duration::from_secs(30);
/// How often an HTTP/2 connection is pinged, to find dead ones.
const PING: Duration = Duration::from_secs(20);

/// Serves a router until `stop` is cancelled, then waits for the requests in progress.
///
/// If no connection can be accepted (no file descriptors left), it tries again after a short pause.
pub async fn serve(listener: TcpListener, router: Router, limits: &Limits, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let (builder, first_head) = (Arc::new(builder(limits)), limits.read_timeout);
    let connections = TaskTracker::new();
    let mut failing = false;
    loop {
        let accept = async {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return None };
            match listener.accept().await {
                Ok((stream, _)) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("connections are accepted again");
                    }
                    Some((permit, stream))
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "connections cannot be accepted");
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    None
                }
            }
        };
        let accepted = tokio::select! {
            accepted = accept => accepted,
            () = stop.cancelled() => break,
        };
        let Some((permit, stream)) = accepted else { continue };
        let (builder, router, stop) = (Arc::clone(&builder), router.clone(), stop.clone());
        connections.spawn(async move {
            connection(&builder, stream, router, first_head, &stop).await;
            drop(permit);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // Larger than the limits that our own 431 answers: hyper's 431 has no body.
    let head = (limits.header_bytes * 2).max(16 * 1024);
    let mut http1 = builder.http1();
    http1.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(head).max_headers(limits.headers * 2);
    // A client that closes its side after its request still waits for the answer.
    http1.half_close(true);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(PING).max_concurrent_streams(256);
    http2.max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX));
    builder
}

async fn connection(
    builder: &Builder<TokioExecutor>,
    stream: TcpStream,
    router: Router,
    first_head: Duration,
    stop: &CancellationToken,
) {
    let _ = stream.set_nodelay(true); // without it, answers are only slower
    let requests = Arc::new(Requests::default());
    let counted = Arc::clone(&requests);
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, requests) = (router.clone(), Arc::clone(&counted));
        async move {
            requests.begun.fetch_add(1, Ordering::Relaxed);
            let _guard = RequestGuard(requests);
            router.oneshot(request).await
        }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = requests.idle(first_head) => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Counts the requests of a connection. hyper's own timer does not run before the first byte of a connection, nor on an
/// idle HTTP/2 connection, and silent connections must not use up the limit.
#[derive(Default)]
struct Requests {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// Counts the end of a request, however it ends.
struct RequestGuard(Arc<Requests>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl Requests {
    /// Resolves when no request came within `first`, or later within [`IDLE`] to twice that.
    async fn idle(&self, first: Duration) {
        tokio::time::sleep(first).await;
        if self.begun.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut before = None;
        loop {
            let begun = self.begun.load(Ordering::Relaxed);
            if before == Some(begun) && self.ended.load(Ordering::Relaxed) == begun {
                return;
            }
            before = Some(begun);
            tokio::time::sleep(IDLE).await;
        }
    }
}
