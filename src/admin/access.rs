//! Who may call the admin API: callers with the admin token; without one, programs on this machine.
//!
//! A browser on this machine can send requests for any page that it shows. A page of another site cannot read the token, and
//! without a token it is refused: its `Host` is not this machine (DNS rebinding), its `Origin` is another, or a call that
//! changes something lacks a header that a browser sends only after asking.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::problem::ApiProblem;
use crate::secret::Secret;

/// Who may call.
pub struct AdminAccess {
    token: Option<TokenHash>,
    /// Whether only this machine can connect.
    local: bool,
}

/// A token as a keyed hash, so that comparing takes the same time for each wrong one.
struct TokenHash {
    key: [u8; 32],
    hash: Vec<u8>,
}

impl TokenHash {
    fn new(token: &Secret) -> TokenHash {
        let key: [u8; 32] = rand::random();
        let hash = hashed(&key, token.expose()).map(|hash| hash.finalize().into_bytes().to_vec());
        TokenHash { key, hash: hash.unwrap_or_default() }
    }

    fn is(&self, token: &str) -> bool {
        hashed(&self.key, token).is_some_and(|hash| hash.verify_slice(&self.hash).is_ok())
    }
}

fn hashed(key: &[u8; 32], token: &str) -> Option<Hmac<Sha256>> {
    let mut hash = Hmac::<Sha256>::new_from_slice(key).ok()?;
    hash.update(token.as_bytes());
    Some(hash)
}

impl AdminAccess {
    /// The access to a listener at an address.
    pub fn new(token: Option<&Secret>, address: IpAddr) -> AdminAccess {
        AdminAccess { token: token.map(TokenHash::new), local: address.to_canonical().is_loopback() }
    }

    /// For a caller in this process.
    pub fn in_process() -> AdminAccess {
        AdminAccess { token: None, local: true }
    }

    fn check(&self, request: &Request) -> Result<(), ApiProblem> {
        let headers = request.headers();
        match &self.token {
            Some(token) if !bearer(headers).is_some_and(|given| token.is(given)) => {
                return Err(ApiProblem::unauthorized());
            }
            Some(_) => {}
            None if !self.local => {
                return Err(ApiProblem::missing(
                    "the API is served off loopback only with an admin token: see --admin-token-file",
                ));
            }
            None => check_local(request)?,
        }
        let json =
            |value: &str| value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json");
        if !request.method().is_safe() && !text(headers, header::CONTENT_TYPE).is_some_and(json) {
            return Err(ApiProblem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "content_type",
                "Content type not supported",
                "a call that changes something needs the header `content-type: application/json`, even without a body",
            ));
        }
        Ok(())
    }
}

/// Refuses what a browser sends for a page of another site.
fn check_local(request: &Request) -> Result<(), ApiProblem> {
    let forbidden = |detail: &str| Err(ApiProblem::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden", detail));
    let headers = request.headers();
    // HTTP/2 has the authority, HTTP/1.1 the header; a request with both must be right in both.
    let named = text(headers, header::HOST).map(|host| host.parse::<Authority>().ok());
    let hosts: Vec<Option<Authority>> = request.uri().authority().cloned().map(Some).into_iter().chain(named).collect();
    if hosts.is_empty() || !hosts.iter().flatten().all(is_this_machine) || hosts.contains(&None) {
        return forbidden("without an admin token, the `Host` must be localhost or a loopback address");
    }
    let origin = text(headers, header::ORIGIN);
    let same_origin = |origin: &str| {
        let authority = origin.split_once("://").and_then(|(_, rest)| rest.parse::<Authority>().ok());
        hosts.iter().all(|host| *host == authority)
    };
    let site = text(headers, header::HeaderName::from_static("sec-fetch-site"));
    if !origin.is_none_or(same_origin) || !site.is_none_or(|site| matches!(site, "same-origin" | "none")) {
        return forbidden("the request comes from a page of another site");
    }
    Ok(())
}

fn is_this_machine(host: &Authority) -> bool {
    let name = host.host();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// A header that is there once and readable; an unreadable or repeated one is an empty text.
fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    Some(if values.next().is_some() { "" } else { first.to_str().unwrap_or_default() })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, header::AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Lets a request through, or answers it.
pub(super) async fn guard(State(access): State<Arc<AdminAccess>>, request: Request, next: Next) -> Response {
    match access.check(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    const TOKEN: &str = "a-token-of-20-letters";

    fn status(access: &AdminAccess, method: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri("/api/v1/dead-letters");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        access.check(&request).map_or_else(|problem| problem.into_response().status().as_u16(), |()| 200)
    }

    fn at(address: &str, token: Option<&str>) -> AdminAccess {
        AdminAccess::new(token.map(Secret::new).as_ref(), address.parse().expect("an address"))
    }

    #[test]
    fn without_a_token_only_this_machine_may_call() {
        for loopback in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.9.9.9"] {
            let access = at(loopback, None);
            for host in ["localhost", "LocalHost:9464", "127.0.0.1:9464", "127.1.2.3", "[::1]:9464"] {
                assert_eq!(status(&access, "GET", &[("host", host)]), 200, "{loopback} {host}");
            }
            for host in
                ["evil.example", "evil.example:9464", "10.0.0.1", "localhost.evil.example", "", "127.0.0.1.nip.io"]
            {
                assert_eq!(status(&access, "GET", &[("host", host)]), 403, "{loopback} {host}");
            }
            assert_eq!(status(&access, "GET", &[]), 403);
            assert_eq!(status(&access, "GET", &[("host", "localhost"), ("host", "evil.example")]), 403);
        }
        for anywhere in ["0.0.0.0", "::", "10.0.0.1"] {
            assert_eq!(status(&at(anywhere, None), "GET", &[("host", "localhost")]), 404, "{anywhere}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let access = at("127.0.0.1", None);
        let host = ("host", "localhost:9464");
        for (headers, expected) in [
            (&[("origin", "http://localhost:9464")][..], 200),
            (&[("origin", "http://evil.example")], 403),
            (&[("origin", "http://localhost:3000")], 403),
            (&[("origin", "null")], 403),
            (&[("sec-fetch-site", "cross-site")], 403),
            (&[("sec-fetch-site", "same-site")], 403),
            (&[("sec-fetch-site", "same-origin")], 200),
            (&[("sec-fetch-site", "none")], 200),
        ] {
            assert_eq!(status(&access, "GET", &[&[host], headers].concat()), expected, "{headers:?}");
        }
        for (content_type, expected) in [
            (Some("application/json"), 200),
            (Some("application/json; charset=utf-8"), 200),
            (Some("text/plain"), 415),
            (Some("text/plain;application/json"), 415),
            (None, 415),
        ] {
            let kind: Vec<_> = content_type.map(|kind| ("content-type", kind)).into_iter().collect();
            for method in ["POST", "DELETE"] {
                assert_eq!(status(&access, method, &[&[host], &kind[..]].concat()), expected, "{content_type:?}");
            }
        }
    }

    #[test]
    fn a_token_is_needed_wherever_one_is_set() {
        for address in ["127.0.0.1", "0.0.0.0"] {
            let access = at(address, Some(TOKEN));
            let with = |value: &str| status(&access, "GET", &[("host", "bridge.example"), ("authorization", value)]);
            assert_eq!(with(&format!("Bearer {TOKEN}")), 200);
            assert_eq!(with(&format!("bearer {TOKEN}")), 200);
            for wrong in ["Bearer", "Bearer ", "Bearer a-token-of-20-letter", "Basic YTpi", TOKEN, "Bearer x y"] {
                assert_eq!(with(wrong), 401, "{wrong}");
            }
            assert_eq!(status(&access, "GET", &[("host", "localhost")]), 401);
        }
        let answer = ApiProblem::unauthorized().into_response();
        assert!(answer.headers().contains_key("www-authenticate"));
    }
}
