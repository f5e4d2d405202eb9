//! Where the servers are, who we are, and how one connection is opened.

use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use tokio::sync::mpsc::UnboundedSender;

use crate::destination::settings::{Auth, BrokerUrl, DestinationSettings, Tls};
use crate::reason::{Failure, Reason};
use crate::secret::Secret;
use crate::tls;

/// How often the server is asked whether it lives: the library gives up at the third tick without an answer.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// TCP, TLS and the handshake, for each address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Messages between our queue and the socket. Few: after a lost connection the library sends them on the next one.
const LIBRARY_QUEUE: usize = 256;
/// Attempts of the library itself after a lost connection. It knows servers of the cluster that we were not told of; but
/// it reads no file again and hides why it fails, so after these we build a new client.
const LIBRARY_ATTEMPTS: usize = 8;

/// Servers and credentials, as settings give them.
pub(super) struct Access {
    servers: Vec<ServerAddr>,
    user: Option<User>,
    tls: Tls,
    tls_required: bool,
    auth: Auth,
    /// Answers the library must hold while we are slow: one for each publish.
    answers: usize,
}

#[derive(Clone, PartialEq, Eq)]
enum User {
    Password(Secret, Secret),
    Token(Secret),
}

impl Access {
    /// Reads addresses and checks that every file can be used.
    pub(super) fn new(settings: &DestinationSettings) -> Result<Self, Failure> {
        let BrokerUrl::Nats(urls) = &settings.url else {
            return Err(Failure::new(Reason::Unreachable, "not a NATS address"));
        };
        let mut users = Vec::new();
        let mut servers = Vec::new();
        for url in urls {
            let (server, user) = address(url)?;
            servers.push(server);
            users.extend(user);
        }
        users.dedup();
        if users.len() > 1 {
            let why = "all addresses of a destination must have the same user, password or token";
            return Err(Failure::new(Reason::NotAuthorized, why));
        }
        // The library would speak plain text to servers it hears of from others, so one `tls://` counts for all.
        let tls_required = servers.iter().any(ServerAddr::tls_required) || settings.tls != Tls::default();
        let access = Access {
            servers,
            user: users.pop(),
            tls: settings.tls.clone(),
            tls_required,
            auth: settings.auth.clone(),
            answers: settings.in_flight.saturating_mul(2).max(65_536),
        };
        access.options()?;
        Ok(access)
    }

    /// Reads the files again at each call: certificates and credentials are renewed while we run.
    fn options(&self) -> Result<ConnectOptions, Failure> {
        let mut options = ConnectOptions::new()
            .name("hookbridge")
            .ping_interval(PING_INTERVAL)
            .connection_timeout(CONNECT_TIMEOUT)
            .client_capacity(LIBRARY_QUEUE)
            .subscription_capacity(self.answers)
            .max_reconnects(LIBRARY_ATTEMPTS)
            .reconnect_delay_callback(|attempt| pause(attempt.saturating_sub(1)))
            .require_tls(self.tls_required)
            .tls_client_config(tls::client_config(&self.tls)?);
        match &self.user {
            Some(User::Password(user, password)) => {
                options = options.user_and_password(user.expose().into(), password.expose().into());
            }
            Some(User::Token(token)) => options = options.token(token.expose().into()),
            None => {}
        }
        if let Some(token) = &self.auth.token {
            options = options.token(token.expose().trim().into());
        }
        if let Some(seed) = &self.auth.nkey {
            let seed = seed.expose().trim();
            nkeys::KeyPair::from_seed(seed)
                .map_err(|_| Failure::new(Reason::NotAuthorized, "the nkey is not a seed (SU…)"))?;
            options = options.nkey(seed.into());
        }
        if let Some(path) = &self.auth.creds {
            let bad =
                |error: std::io::Error| Failure::new(Reason::NotAuthorized, format!("{}: {error}", path.display()));
            let text = std::fs::read_to_string(path).map_err(bad)?;
            options = options.credentials(&text).map_err(bad)?;
        }
        Ok(options)
    }

    /// Tries each server once: those of the settings, then those that an earlier connection heard of.
    pub(super) async fn connect(&self, heard: &[String], events: UnboundedSender<Event>) -> Result<Client, Failure> {
        let mut servers = self.servers.clone();
        servers.extend(heard.iter().filter_map(|server| server.parse().ok()));
        let options = self.options()?.event_callback(move |event| {
            // The receiver goes with the connection.
            let _ = events.send(event);
            std::future::ready(())
        });
        options.connect(servers).await.map_err(|error| {
            let reason = match error.kind() {
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => Reason::NotAuthorized,
                _ => Reason::Unreachable,
            };
            Failure::new(reason, error.to_string())
        })
    }
}

/// An address without its credentials, which the library would ignore but might show, and the credentials.
fn address(url: &Secret) -> Result<(ServerAddr, Option<User>), Failure> {
    let unusable = || Failure::new(Reason::Unreachable, "an address is not host:port, nats://… or tls://…");
    let parsed: ServerAddr = url.expose().parse().map_err(|_| unusable())?;
    let mut parsed = parsed.into_inner();
    let user = match (parsed.username(), parsed.password()) {
        ("", None) => None,
        (user, Some(password)) => Some(User::Password(percent_decode(user), percent_decode(password))),
        (token, None) => Some(User::Token(percent_decode(token))),
    };
    parsed.set_username("").and_then(|()| parsed.set_password(None)).map_err(|()| unusable())?;
    Ok((ServerAddr::from_url(parsed).map_err(|_| unusable())?, user))
}

/// The pause before an attempt: none before the first, then doubling from 100 ms, half of it random so that replicas do
/// not come back at the same moment.
pub(super) fn pause(attempt: usize) -> Duration {
    if attempt == 0 {
        return Duration::ZERO;
    }
    let doubled = Duration::from_millis(50 << attempt.min(10));
    doubled.min(LONGEST_PAUSE).mul_f64(rand::random_range(0.5..=1.0))
}

fn percent_decode(text: &str) -> Secret {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = (byte == b'%').then(|| after.get(..2)).flatten();
        let decoded = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    Secret::new(String::from_utf8_lossy(&out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> (String, Option<User>) {
        let (server, user) = address(&Secret::new(url)).unwrap();
        (server.as_url_str().to_string(), user)
    }

    #[test]
    fn credentials_leave_the_address() {
        assert!(read("nats://h:1").1.is_none());
        let (server, user) = read("tls://us%40er:p%2Fa%25ss@h:4222");
        assert_eq!(server, "tls://h:4222");
        assert!(user == Some(User::Password(Secret::new("us@er"), Secret::new("p/a%ss"))));
        let (server, user) = read("nats://t0ken@h");
        assert_eq!(server, "nats://h");
        assert!(user == Some(User::Token(Secret::new("t0ken"))));
        assert!(address(&Secret::new("http://h")).is_err());
    }

    #[test]
    fn different_users_are_refused() {
        let mut settings = crate::destination::nats::tests::settings("nats://a:b@h");
        assert!(Access::new(&settings).is_ok());
        settings.url = BrokerUrl::Nats(vec![Secret::new("nats://a:b@h"), Secret::new("nats://a:c@i")]);
        assert!(Access::new(&settings).is_err());
    }

    #[test]
    fn pauses_grow_to_a_cap() {
        assert_eq!(pause(0), Duration::ZERO);
        for attempt in 1..40 {
            assert!((Duration::from_millis(50)..=LONGEST_PAUSE).contains(&pause(attempt)));
        }
        assert!(pause(30) >= LONGEST_PAUSE / 2);
    }
}
