//! VideoGen's API of webhook endpoints: list, create and delete. It has no other calls for endpoints.
//!
//! Each request has a time limit, follows no redirect, and reads a bounded answer. A request is repeated only where that is
//! safe: GET and DELETE after no answer, 429 or 5xx; POST only where nothing can have been created. Whether a create whose
//! answer is lost took place is the caller's to find out: see [`ApiFailure::may_have_acted`].

use std::time::Duration;

use anyhow::Context as _;
use http::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, Url};
use serde::de::DeserializeOwned;

use crate::destination::settings::Tls;
use crate::secret::Secret;
use crate::tls::client_config;
use shapes::Page;

pub use failure::{ApiFailure, FailureKind};
pub use shapes::{NewEndpoint, WebhookEndpoint};
pub use url::{base_url, same_url};

mod failure;
mod retry;
mod shapes;
mod url;

/// Time limit for a request, from its start to the end of its answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer. A page of 200 endpoints has some 200 kB.
const MOST_BYTES: usize = 8 << 20;
/// Most endpoints on a page: the API's limit.
const PAGE: &str = "200";
/// A list that is longer has no end.
const MOST_PAGES: usize = 100;

/// The API, for one account. `Debug` does not show its key.
#[derive(Debug)]
pub struct VideoGenApi {
    client: Client,
    base: Url,
    key: Secret,
    authorization: HeaderValue,
}

impl VideoGenApi {
    /// Connects at the first request. `base` comes from [`base_url`].
    ///
    /// # Errors
    /// The key cannot be sent in a header, or the HTTP client cannot be created.
    pub fn new(base: Url, key: Secret) -> anyhow::Result<VideoGenApi> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
            .ok()
            .filter(|_| key.expose().bytes().all(|byte| byte.is_ascii_graphic()))
            .context("the API key contains spaces or characters that a header cannot carry")?;
        authorization.set_sensitive(true);
        let mut builder = Client::builder().timeout(REQUEST_TIMEOUT).redirect(Policy::none());
        builder = match base.scheme() {
            // Without TLS, and so only on this machine: a proxy would see the key.
            "http" => builder.no_proxy(),
            _ => {
                let tls = client_config(&Tls::default()).map_err(|failure| anyhow::anyhow!("{}", failure.detail))?;
                builder.tls_backend_preconfigured(tls)
            }
        };
        let client = builder.build().context("cannot create an HTTP client")?;
        Ok(VideoGenApi { client, base, key, authorization })
    }

    /// Every endpoint of the account.
    ///
    /// # Errors
    /// A page cannot be read, or the pages have no end.
    pub async fn list(&self) -> Result<Vec<WebhookEndpoint>, ApiFailure> {
        let mut all: Vec<WebhookEndpoint> = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut url = self.url(None);
            url.query_pairs_mut().append_pair("limit", PAGE);
            if let Some(cursor) = &cursor {
                url.query_pairs_mut().append_pair("cursor", cursor);
            }
            let page: Page = self.call(&Method::GET, &url, None, ApiFailure::is_temporary).await?;
            for endpoint in page.endpoints {
                // An endpoint can move to the next page between two requests.
                if !all.iter().any(|known| known.endpoint_id == endpoint.endpoint_id) {
                    all.push(endpoint);
                }
            }
            match (page.has_more, page.next_cursor) {
                (false, _) => return Ok(all),
                (true, Some(next)) if cursor.as_ref() != Some(&next) => cursor = Some(next),
                (true, _) => {
                    let why = "the list has more pages, and the answer has no new cursor";
                    return Err(self.unreadable(&Method::GET, why));
                }
            }
        }
        Err(self.unreadable(&Method::GET, "the list of endpoints has no end"))
    }

    /// Creates an endpoint. The answer holds its signing secret, which VideoGen shows only here.
    ///
    /// # Errors
    /// It was refused, or the answer is lost.
    pub async fn create(&self, endpoint: &NewEndpoint) -> Result<WebhookEndpoint, ApiFailure> {
        let safe = |failure: &ApiFailure| failure.is_temporary() && !failure.may_have_acted();
        self.call(&Method::POST, &self.url(None), Some(&endpoint.json()), safe).await
    }

    /// Deletes an endpoint. A missing one counts as deleted: an earlier attempt, whose answer was lost, may have deleted it.
    ///
    /// # Errors
    /// It was refused, or no attempt was answered.
    pub async fn delete(&self, id: &str) -> Result<(), ApiFailure> {
        // Their path would be that of all endpoints.
        if matches!(id, "" | "." | "..") {
            return Ok(());
        }
        let url = self.url(Some(id));
        match self.repeat(&Method::DELETE, &url, None, ApiFailure::is_temporary).await {
            Ok(_) => Ok(()),
            Err(ApiFailure { kind: FailureKind::Status(404 | 410, _), .. }) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    fn url(&self, id: Option<&str>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["v1", "webhooks", "endpoints"]).extend(id);
        }
        url
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: &Method,
        url: &Url,
        body: Option<&str>,
        repeatable: impl Fn(&ApiFailure) -> bool,
    ) -> Result<T, ApiFailure> {
        let bytes = self.repeat(method, url, body, repeatable).await?;
        // The parser's message would quote the answer, which can hold a secret.
        serde_json::from_slice(&bytes)
            .map_err(|_| self.unreadable(method, "the answer does not have the expected form"))
    }

    async fn repeat(
        &self,
        method: &Method,
        url: &Url,
        body: Option<&str>,
        repeatable: impl Fn(&ApiFailure) -> bool,
    ) -> Result<Vec<u8>, ApiFailure> {
        let mut attempt = 1;
        loop {
            let failure = match self.once(method, url, body).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => failure,
            };
            let pause = retry::pause(attempt, failure.retry_after).filter(|_| repeatable(&failure));
            let Some(pause) = pause else { return Err(failure) };
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    /// One attempt; returns the body of a 2xx answer.
    async fn once(&self, method: &Method, url: &Url, body: Option<&str>) -> Result<Vec<u8>, ApiFailure> {
        let mut request = self.client.request(method.clone(), url.clone());
        request = request.header(AUTHORIZATION, self.authorization.clone()).header("accept", "application/json");
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        let mut response = request.send().await.map_err(|error| self.no_answer(method, &error))?;
        let (status, retry_after) = (response.status(), retry_after(&response));
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.no_answer(method, &error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MOST_BYTES {
                return Err(self.unreadable(method, "the answer is larger than 8 MiB"));
            }
        }
        if status.is_success() {
            return Ok(bytes);
        }
        let message = failure::message(&bytes, &self.key);
        let kind = FailureKind::Status(status.as_u16(), message);
        Err(ApiFailure { retry_after, ..self.failure(method, kind) })
    }

    fn no_answer(&self, method: &Method, error: &reqwest::Error) -> ApiFailure {
        let kind = match (error.is_connect() || error.is_builder(), error.is_timeout()) {
            (true, _) => FailureKind::NotSent(failure::cause(error)),
            (false, true) => FailureKind::NoAnswer(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs())),
            (false, false) => FailureKind::NoAnswer("the connection was lost before the end of the answer".into()),
        };
        self.failure(method, kind)
    }

    fn unreadable(&self, method: &Method, why: &str) -> ApiFailure {
        self.failure(method, FailureKind::Unreadable(why.into()))
    }

    fn failure(&self, method: &Method, kind: FailureKind) -> ApiFailure {
        ApiFailure { call: format!("{method} {}", self.url(None)), kind, retry_after: None }
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    retry::parse(value, jiff::Timestamp::now())
}
