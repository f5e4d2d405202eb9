//! VideoGen as the workers see it: files to download, and the call that renews links.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;

/// The API key that renews links.
pub const KEY: &str = "key-of-the-test";
/// The bytes of a file.
pub const BYTES: usize = 5_000;
/// How long a download below `/work` takes.
const WORK: std::time::Duration = std::time::Duration::from_millis(500);

/// A running stub.
pub struct Stub {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    shared: Arc<Shared>,
}

struct Shared {
    url: String,
    requests: Mutex<BTreeMap<String, u32>>,
    waiting: watch::Sender<usize>,
    open: watch::Sender<bool>,
}

impl Stub {
    /// Starts it.
    pub async fn start() -> Stub {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Arc::new(Shared {
            url: url.clone(),
            requests: Mutex::default(),
            waiting: watch::Sender::new(0),
            open: watch::Sender::new(false),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Stub { url, shared }
    }

    /// How often a path was requested.
    pub fn requests(&self, path: &str) -> u32 {
        self.shared.requests.lock().get(path).copied().unwrap_or_default()
    }

    /// The number of downloads below `/gate` and `/work` that wait.
    pub fn waiting(&self) -> usize {
        *self.shared.waiting.borrow()
    }

    /// Lets downloads below `/gate` and `/work` through, now and from now on.
    pub fn open(&self) {
        self.shared.open.send_replace(true);
    }
}

/// Counts a waiting download, also if its client goes away.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

async fn answer(State(stub): State<Arc<Shared>>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path();
    let earlier = {
        let mut requests = stub.requests.lock();
        let count = requests.entry(path.to_owned()).or_default();
        *count += 1;
        *count - 1
    };
    let renews = path.strip_prefix("/v1/files/").and_then(|rest| rest.strip_suffix("/hydrate"));
    if let Some(file) = renews {
        let key = headers.get("authorization").and_then(|value| value.to_str().ok());
        if method != Method::POST || key != Some(&format!("Bearer {KEY}")) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let url = format!("{}/new/{file}", stub.url);
        let file = json!({"fileId": file, "scope": "GLOBAL", "transcriptText": "renewed", "downloadUrl": url});
        return (StatusCode::OK, file.to_string()).into_response();
    }
    match path.split('/').nth(1) {
        Some("old") => StatusCode::FORBIDDEN.into_response(),
        Some("broken") => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Some("flaky") if earlier < 2 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Some(kind @ ("gate" | "work")) => {
            let waiting = Waiting::new(&stub.waiting);
            // The sender lives as long as this request.
            let _ = stub.open.subscribe().wait_for(|open| *open).await;
            drop(waiting);
            if kind == "work" {
                tokio::time::sleep(WORK).await; // so that several workers find something to do
            }
            "x".repeat(BYTES).into_response()
        }
        _ => "x".repeat(BYTES).into_response(),
    }
}
