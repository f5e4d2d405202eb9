//! VideoGen's endpoint API as it is documented, with faults on demand.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// The account's API key.
pub const KEY: &str = "vg_key_51f2";

/// What happens to the next request of a method.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status, with `Retry-After` and an error's body; nothing is done.
    Status(u16, Option<&'static str>),
    /// It is carried out, and the connection is lost.
    Lost,
    /// It is carried out, and answered 502.
    BadGateway,
    /// It is carried out with the next create: a time-out of the answer, and a late effect.
    Late,
    /// It is not answered at all.
    Silent,
    /// It is carried out, and the answer is no JSON.
    Garbled,
    /// It waits until the test goes on.
    Held(Arc<Notify>, Arc<Notify>),
}

#[derive(Default)]
struct Account {
    endpoints: Vec<Value>,
    late: Vec<Value>,
    created: usize,
    page: usize,
    faults: VecDeque<(Method, Fault)>,
    requests: Vec<String>,
}

/// A running stub.
#[derive(Clone)]
pub struct Stub {
    account: Arc<Mutex<Account>>,
    /// Its base URL.
    pub url: String,
}

impl Stub {
    /// Starts it.
    pub async fn start() -> Stub {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let stub = Stub { account: Arc::new(Mutex::new(Account { page: 2, ..Account::default() })), url };
        let router = Router::new()
            .route("/v1/webhooks/endpoints", get(list).post(create))
            .route("/v1/webhooks/endpoints/{id}", delete(remove))
            .layer(from_fn_with_state(stub.clone(), guard))
            .with_state(stub.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        stub
    }

    /// Adds an endpoint; returns its id and secret.
    pub fn add(&self, url: &str, events: &[&str]) -> (String, String) {
        let made = self.account.lock().make(&json!({"url": url, "events": events}));
        self.account.lock().endpoints.push(made.clone());
        let text = |name: &str| made[name].as_str().expect("text").to_owned();
        (text("endpointId"), text("signingSecret"))
    }

    /// Lets the next request of this method fail; several apply in order.
    pub fn fail(&self, method: Method, fault: Fault) {
        self.account.lock().faults.push_back((method, fault));
    }

    /// The endpoints, with their secrets.
    pub fn endpoints(&self) -> Vec<Value> {
        self.account.lock().endpoints.clone()
    }

    /// Their ids.
    pub fn ids(&self) -> Vec<String> {
        self.endpoints().iter().map(|endpoint| endpoint["endpointId"].as_str().expect("an id").to_owned()).collect()
    }

    /// The number of requests of a method.
    pub fn count(&self, method: &str) -> usize {
        self.account.lock().requests.iter().filter(|request| request.starts_with(method)).count()
    }

    /// Every request: method and path with query.
    pub fn requests(&self) -> Vec<String> {
        self.account.lock().requests.clone()
    }
}

impl Account {
    fn make(&mut self, wanted: &Value) -> Value {
        self.created += 1;
        let id = format!("ep_{}", self.created);
        let mut bytes = [7_u8; 32];
        bytes[31] = self.created as u8;
        bytes[30] = 255 - self.created as u8;
        let secret = format!("whsec_{}", STANDARD.encode(bytes));
        json!({
            "endpointId": id, "url": wanted["url"], "events": wanted["events"], "createdAt": 1_790_000_000 + self.created,
            "description": wanted["description"], "signingSecret": secret, "new": "a member of a later version",
        })
    }
}

fn error(status: u16, message: &str) -> Response {
    let body = json!({"message": message, "code": "some_code"}).to_string();
    (StatusCode::from_u16(status).expect("a status"), body).into_response()
}

async fn guard(
    State(stub): State<Stub>,
    method: Method,
    uri: Uri,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let headers: &HeaderMap = request.headers();
    let authorized = headers.get("authorization").is_some_and(|value| value == &format!("Bearer {KEY}"));
    let fault = {
        let mut account = stub.account.lock();
        account.requests.push(format!("{method} {uri}"));
        let position = account.faults.iter().position(|(of, _)| *of == method);
        position.and_then(|position| account.faults.remove(position)).map(|(_, fault)| fault)
    };
    if !authorized {
        return error(401, &format!("Unknown key {:?}\u{1b}[2J", headers.get("authorization")));
    }
    match fault {
        None => next.run(request).await,
        Some(Fault::Status(status, retry_after)) => {
            let mut response = error(status, "Please come\nback later.");
            if let Some(after) = retry_after {
                response.headers_mut().insert("retry-after", after.parse().expect("a value"));
            }
            response
        }
        Some(Fault::Lost) => {
            next.run(request).await;
            let lost = futures_util::stream::once(async { Err::<Bytes, _>(io::Error::other("lost")) });
            (StatusCode::OK, Body::from_stream(lost)).into_response()
        }
        Some(Fault::BadGateway) => {
            next.run(request).await;
            error(502, "The gateway has lost the answer.")
        }
        Some(Fault::Late) => {
            next.run(request).await;
            let mut account = stub.account.lock();
            let late = account.endpoints.pop();
            account.late.extend(late);
            error(504, "It takes longer.")
        }
        Some(Fault::Silent) => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            error(500, "never")
        }
        Some(Fault::Garbled) => {
            next.run(request).await;
            "<html>whsec_cGxlYXNlIGRvIG5vdCBzaG93".into_response()
        }
        Some(Fault::Held(reached, go_on)) => {
            reached.notify_one();
            go_on.notified().await;
            next.run(request).await
        }
    }
}

async fn list(State(stub): State<Stub>, uri: Uri) -> Response {
    let url = reqwest::Url::parse(&format!("http://stub{uri}")).expect("a URL");
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let account = stub.account.lock();
    let limit: usize = query.get("limit").map_or(50, |limit| limit.parse().expect("a number"));
    assert!((1..=200).contains(&limit));
    let from: usize =
        query.get("cursor").map_or(0, |cursor| cursor.trim_start_matches("after+/=").parse().expect("ours"));
    let to = (from + limit.min(account.page)).min(account.endpoints.len());
    let shown: Vec<Value> = account.endpoints[from..to]
        .iter()
        .map(|endpoint| {
            let mut shown = endpoint.clone();
            let secret = shown.as_object_mut().and_then(|members| members.remove("signingSecret"));
            let secret = secret.and_then(|secret| secret.as_str().map(str::to_owned)).expect("a secret");
            shown["signingSecretLast4"] = secret[secret.len() - 4..].into();
            shown
        })
        .collect();
    let more = to < account.endpoints.len();
    let cursor = more.then(|| format!("after+/={to}"));
    json!({"endpoints": shown, "hasMore": more, "nextCursor": cursor}).to_string().into_response()
}

async fn create(State(stub): State<Stub>, body: Bytes) -> Response {
    let wanted: Value = serde_json::from_slice(&body).expect("JSON");
    let events = wanted["events"].as_array().map_or(0, Vec::len);
    if events == 0 || !wanted["url"].as_str().is_some_and(|url| url.starts_with("https://")) {
        return error(400, "The url must be https, and events must not be empty.");
    }
    let mut account = stub.account.lock();
    let late = std::mem::take(&mut account.late);
    account.endpoints.extend(late);
    let made = account.make(&wanted);
    account.endpoints.push(made.clone());
    (StatusCode::CREATED, made.to_string()).into_response()
}

async fn remove(State(stub): State<Stub>, Path(id): Path<String>) -> Response {
    let mut account = stub.account.lock();
    let before = account.endpoints.len();
    account.endpoints.retain(|endpoint| endpoint["endpointId"] != id.as_str());
    match account.endpoints.len() < before {
        true => StatusCode::NO_CONTENT.into_response(),
        false => error(404, "There is no such endpoint."),
    }
}
