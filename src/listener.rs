//! HTTP/1.1 and HTTP/2 connections: bounded in number, in the size of a request head and in the time it may take. Both
//! listeners use it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
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
/// The first bytes of an HTTP/2 connection (RFC 9113 §3.4).
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A request's connection, in the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionInfo {
    /// Its number since the start of the listener.
    pub number: u64,
    /// Its other end: the sender, or the last proxy.
    pub peer: SocketAddr,
}

/// Serves a router until `stop` is cancelled, then waits for the requests in progress.
///
/// When there are as many connections as the limits allow, the one that has been idle for longest is closed for a new one.
/// If no connection can be accepted (no file descriptors left), it tries again after a short pause.
pub async fn serve(listener: TcpListener, router: Router, limits: &Limits, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let (protocols, first_head) = (Arc::new(Protocols::new(limits)), limits.read_timeout);
    let (connections, idle) = (TaskTracker::new(), Arc::new(IdleConnections::default()));
    let mut failing = false;
    for number in 0_u64.. {
        let accept = async {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("connections are accepted again");
                    }
                    if room.available_permits() == 0 {
                        idle.close_longest();
                    }
                    Some((Arc::clone(&room).acquire_owned().await.ok()?, stream, peer))
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
        let Some((permit, stream, peer)) = accepted else { continue };
        let requests = Requests::new(ConnectionInfo { number, peer }, Arc::clone(&idle));
        let (protocols, router, stop) = (Arc::clone(&protocols), router.clone(), stop.clone());
        connections.spawn(async move {
            connection(&protocols, stream, router, first_head, requests, &stop).await;
            drop(permit);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// How connections are served.
struct Protocols {
    http1: Builder<TokioExecutor>,
    /// Finds the protocol from the first bytes. It returns them to hyper as a read of its own, and hyper's buffer then takes
    /// 16 KiB instead of 8, for as long as the connection lasts.
    any: Builder<TokioExecutor>,
}

impl Protocols {
    fn new(limits: &Limits) -> Self {
        let mut any = Builder::new(TokioExecutor::new());
        // Larger than the limits that our own 431 answers: hyper's 431 has no body.
        let head = (limits.header_bytes * 2).max(16 * 1024);
        let mut http1 = any.http1();
        http1.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(head).max_headers(limits.headers * 2);
        // A client that closes its side after its request still waits for the answer.
        http1.half_close(true);
        let mut http2 = any.http2();
        http2.timer(TokioTimer::new()).keep_alive_interval(PING).max_concurrent_streams(256);
        http2.max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX));
        Protocols { http1: any.clone().http1_only(), any }
    }

    /// Waits for the first bytes of a connection.
    async fn of(&self, stream: &TcpStream) -> &Builder<TokioExecutor> {
        let mut first = [0; HTTP2.len()];
        match stream.peek(&mut first).await {
            Ok(length) if !HTTP2.starts_with(&first[..length]) => &self.http1,
            _ => &self.any,
        }
    }
}

async fn connection(
    protocols: &Protocols,
    stream: TcpStream,
    router: Router,
    first_head: Duration,
    requests: Arc<Requests>,
    stop: &CancellationToken,
) {
    let _ = stream.set_nodelay(true); // without it, answers are only slower
    let counted = Arc::clone(&requests);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (router, requests) = (router.clone(), Arc::clone(&counted));
        request.extensions_mut().insert(requests.connection);
        async move {
            let _guard = RequestGuard::begin(requests);
            router.oneshot(request).await
        }
    });
    let unused = async {
        tokio::select! {
            () = requests.idle(first_head) => {}
            () = requests.closed.cancelled() => {}
        }
    };
    tokio::pin!(unused);
    let builder = tokio::select! {
        builder = protocols.of(&stream) => builder,
        () = unused.as_mut() => return,
        () = stop.cancelled() => return,
    };
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = unused => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// The requests of a connection. hyper's own timer does not run before the first byte of a connection, nor on an idle
/// HTTP/2 connection, and silent connections must not use up the limit.
struct Requests {
    connection: ConnectionInfo,
    begun: AtomicU64,
    ended: AtomicU64,
    idle: Arc<IdleConnections>,
    /// Cancelled to make room for another connection.
    closed: CancellationToken,
}

/// Counts the end of a request, however it ends.
struct RequestGuard(Arc<Requests>);

impl RequestGuard {
    fn begin(requests: Arc<Requests>) -> Self {
        if requests.begun.fetch_add(1, Ordering::Relaxed) == requests.ended.load(Ordering::Relaxed) {
            requests.idle.remove(requests.connection.number);
        }
        RequestGuard(requests)
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let requests = &self.0;
        if requests.ended.fetch_add(1, Ordering::Relaxed) + 1 == requests.begun.load(Ordering::Relaxed) {
            requests.idle.add(requests.connection.number, requests.closed.clone());
        }
    }
}

impl Requests {
    fn new(connection: ConnectionInfo, idle: Arc<IdleConnections>) -> Arc<Self> {
        let closed = CancellationToken::new();
        idle.add(connection.number, closed.clone());
        Arc::new(Requests { connection, begun: AtomicU64::new(0), ended: AtomicU64::new(0), idle, closed })
    }

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

impl Drop for Requests {
    fn drop(&mut self) {
        self.idle.remove(self.connection.number);
    }
}

/// The connections without a request in progress, by how long that has been so.
#[derive(Default)]
struct IdleConnections(Mutex<Idle>);

#[derive(Default)]
struct Idle {
    next: u64,
    by_age: BTreeMap<u64, (u64, CancellationToken)>,
    ages: HashMap<u64, u64>,
}

impl IdleConnections {
    fn add(&self, connection: u64, closed: CancellationToken) {
        let mut idle = self.0.lock();
        let age = idle.next;
        idle.next += 1;
        idle.by_age.insert(age, (connection, closed));
        if let Some(before) = idle.ages.insert(connection, age) {
            idle.by_age.remove(&before);
        }
    }

    fn remove(&self, connection: u64) {
        let mut idle = self.0.lock();
        if let Some(age) = idle.ages.remove(&connection) {
            idle.by_age.remove(&age);
        }
    }

    fn close_longest(&self) {
        let mut idle = self.0.lock();
        if let Some((_, (connection, closed))) = idle.by_age.pop_first() {
            idle.ages.remove(&connection);
            closed.cancel();
        }
    }
}
