//! The admin API of a bridge: over HTTP while the bridge runs, otherwise on the store in its data directory.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, header};
use http_body_util::BodyExt as _;
use reqwest::redirect::Policy;
use serde_json::Value;
use tower::ServiceExt as _;

use super::exit::{block_on, mistakes};
use super::inputs::{local, process_environment, start_logging};
use super::output::note;
use crate::app::offline::Offline;
use crate::config::{BridgeAccess, Flags, Settings, StoreKind, bridge_access};
use crate::ledger::embedded;
use crate::store;
use crate::telemetry::logs::Logs;

/// How long a bridge may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a call may take. A replay takes as long as its publish besides.
const ANSWER: Duration = Duration::from_secs(30);

/// The API of a bridge.
pub(super) enum BridgeApi {
    Running(RunningBridge),
    /// The store in the data directory.
    Directory(Offline),
}

/// A bridge that answers.
pub(super) struct RunningBridge {
    client: reqwest::Client,
    base: String,
    /// How long a replay may take.
    replay: Duration,
}

/// A call that was answered with an error.
#[derive(Debug)]
pub(super) struct CallRefused(String);

impl fmt::Display for CallRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CallRefused {}

/// Runs a command's work on the API, and prints its error with the causes. Exit 1 if there is no API.
/// `logs` is set once something is logged.
pub(super) fn with_api(
    flags: &Flags,
    logs: &mut Option<Logs>,
    settings: Option<&Settings>,
    work: impl AsyncFnOnce(&BridgeApi) -> anyhow::Result<()>,
) -> ExitCode {
    let access = match bridge_access(flags, &process_environment) {
        Ok(access) => access,
        Err(all) => return mistakes(&all),
    };
    block_on(async {
        let api = BridgeApi::open(flags, &access, settings, logs).await?;
        let done = work(&api).await;
        if let BridgeApi::Directory(offline) = api {
            offline.close().await;
        }
        done
    })
}

impl BridgeApi {
    /// Finds the bridge. Without one, opens the store; and its destinations, if there are settings. Unless an address is
    /// given, a store that no process uses is preferred: what answers at the address is then the bridge of another store.
    ///
    /// # Errors
    /// Neither can be used.
    async fn open(
        flags: &Flags,
        access: &BridgeAccess,
        settings: Option<&Settings>,
        logs: &mut Option<Logs>,
    ) -> anyhow::Result<BridgeApi> {
        let is_named = flags.data.is_some() || embedded::exists(&access.data).is_ok();
        let is_local = access.store == StoreKind::Embedded && flags.admin.is_none() && is_named;
        if is_local && !store::is_in_use(&access.data) {
            let opened = BridgeApi::directory(access, settings, logs).await?;
            note(format_args!("no bridge runs on {}: using its store", access.data.display()));
            return Ok(opened);
        }
        let why = match RunningBridge::connect(access).await? {
            Ok(bridge) => return Ok(BridgeApi::Running(bridge)),
            Err(why) => why,
        };
        let nobody = format!("no bridge answers at {} ({why})", local(access.admin));
        if access.store == StoreKind::Memory {
            anyhow::bail!(
                "{nobody}, and the store `memory` is gone with its bridge: give the --admin of a running one"
            );
        }
        if store::is_in_use(&access.data) {
            let data = access.data.display();
            anyhow::bail!("{nobody}, and another process uses {data}: give the --admin of that bridge");
        }
        let opened = BridgeApi::directory(access, settings, logs).await;
        let opened = opened.with_context(|| format!("{nobody}, and its store cannot be used"))?;
        note(format_args!("{nobody}: using {}", access.data.display()));
        Ok(opened)
    }

    async fn directory(
        access: &BridgeAccess,
        settings: Option<&Settings>,
        logs: &mut Option<Logs>,
    ) -> anyhow::Result<BridgeApi> {
        if logs.is_none() {
            *logs = Some(start_logging().map_err(|_| anyhow::anyhow!("the log cannot be started"))?);
        }
        let offline = Offline::open(access, settings).await.map_err(|failure| anyhow::anyhow!("{}", failure.detail))?;
        Ok(BridgeApi::Directory(offline))
    }

    /// Calls. `path` includes the query.
    ///
    /// # Errors
    /// [`CallRefused`]: the call was not done. Otherwise there is no answer.
    pub(super) async fn call(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        let (status, body) = match self {
            BridgeApi::Running(bridge) => bridge.call(method, path).await?,
            BridgeApi::Directory(offline) => call_router(offline.api.clone(), method, path).await?,
        };
        let value: Option<Value> = serde_json::from_slice(&body).ok();
        match (status, value) {
            (200..300, Some(value)) => Ok(value),
            (401, _) => {
                let advice = "the bridge refuses the admin token: give that of `serve` with --admin-token-file or \
                              HOOKBRIDGE_ADMIN_TOKEN";
                Err(CallRefused(advice.into()).into())
            }
            (_, Some(Value::Object(problem))) if problem.get("type").is_some_and(is_ours) => {
                let detail = problem.get("detail").and_then(Value::as_str).unwrap_or_default();
                Err(CallRefused(detail.to_owned()).into())
            }
            _ => anyhow::bail!("the answer is not that of a bridge (status {status}): check --admin"),
        }
    }
}

fn is_ours(kind: &Value) -> bool {
    kind.as_str().is_some_and(|kind| kind.starts_with("urn:hookbridge:"))
}

impl RunningBridge {
    /// Connects; or why no bridge answers.
    async fn connect(access: &BridgeAccess) -> anyhow::Result<Result<RunningBridge, String>> {
        let mut headers = header::HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(token) = &access.admin_token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).context("the admin token")?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).default_headers(headers);
        let client = client.build().context("cannot create an HTTP client")?;
        let address = local(access.admin);
        let tried = tokio::time::timeout(CONNECT, tokio::net::TcpStream::connect(address)).await;
        Ok(match tried {
            Ok(Ok(_)) => {
                let replay = access.publish_timeout + ANSWER;
                Ok(RunningBridge { client, base: format!("http://{address}"), replay })
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no connection within {} s", CONNECT.as_secs())),
        })
    }

    async fn call(&self, method: Method, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
        let request = self.client.request(method, format!("{}{path}", self.base));
        let limit = if path.ends_with("/replay") { self.replay } else { ANSWER };
        let answer = async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status().as_u16(), response.bytes().await?.to_vec()))
        };
        let named = || format!("the bridge at {} did not answer", self.base);
        let late = || format!("{} within {} s: what was asked may be done nevertheless", named(), limit.as_secs());
        let answer = tokio::time::timeout(limit, answer).await.with_context(late)?;
        answer.map_err(reqwest::Error::without_url).with_context(named)
    }
}

async fn call_router(api: Router, method: Method, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
    let request = Request::builder().method(method).uri(path);
    let request = request.header(header::HOST, "localhost").header(header::CONTENT_TYPE, "application/json");
    let response = api.oneshot(request.body(Body::empty())?).await?;
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes().to_vec()))
}
