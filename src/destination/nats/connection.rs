//! How the destination connects: addresses, TLS, credentials and the options of the client library.
//!
//! Certificates and credential files are read again at each attempt, because they are renewed while the process runs.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;

use super::denied::DeniedSubjects;
use crate::backoff::Backoff;
use crate::destination::settings::{Auth, BrokerUrl, DestinationSettings, SettingFault, SettingPart, Tls};
use crate::destination::status::State;
use crate::reason::{Failure, Reason};
use crate::secret::Secret;
use crate::{settings_file, tls};

/// How often the library pings the server. It closes the connection at the third ping in a row without an answer.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// TCP, TLS and the handshake, for each address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between two attempts: of the library after a lost connection, and of the supervisor.
pub(super) const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// Messages between the queue of [`in_flight`](super::in_flight) and the socket. Few, because the library sends them on
/// the next connection when this one is lost.
const LIBRARY_QUEUE: usize = 256;
/// Reconnects of the library itself after a lost connection. The library knows servers of the cluster that are not in
/// the settings; but it does not read files again, and it hides why it fails. After these attempts, a new client is
/// created.
const LIBRARY_ATTEMPTS: usize = 8;

/// One connection of a client. When the client reconnects, that is another connection with another number.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) client: Client,
    /// Subjects that the server does not allow this user on this connection.
    pub(super) denied: Arc<DeniedSubjects>,
    /// Subjects that the server has let this user publish to on this connection, when it was asked.
    pub(super) permitted: Arc<Mutex<HashSet<String>>>,
    /// The largest request to the JetStream API that this client has sent, in bytes.
    pub(super) largest_request: Arc<AtomicUsize>,
}

impl Connection {
    /// Whether the connection with this number is the current one.
    pub(super) fn is_current(number: u64, state: &State<Connection>) -> bool {
        state.connection.as_ref().is_some_and(|current| current.number == number)
    }
}

/// Servers and credentials from the settings.
pub(super) struct Access {
    servers: Vec<ServerAddr>,
    user: Option<UrlCredentials>,
    tls: Tls,
    tls_required: bool,
    auth: Auth,
    /// How many answers the library buffers while the session is busy: more than there are publishes in flight.
    answers: usize,
}

#[derive(Clone, PartialEq, Eq)]
enum UrlCredentials {
    Password(Secret, Secret),
    Token(Secret),
}

impl Access {
    /// Parses the addresses and checks that every file can be used.
    pub(super) fn new(settings: &DestinationSettings) -> Result<Self, Failure> {
        let (servers, user) = servers(&settings.url)?;
        // The library would use plain text to servers that it discovers, so one `tls://` address applies to all.
        let tls_required = servers.iter().any(ServerAddr::tls_required) || settings.tls != Tls::default();
        let access = Access {
            servers,
            user,
            tls: settings.tls.clone(),
            tls_required,
            auth: settings.auth.clone(),
            answers: settings.in_flight.saturating_mul(2).max(65_536),
        };
        access.options()?;
        Ok(access)
    }

    fn options(&self) -> Result<ConnectOptions, Failure> {
        let mut options = ConnectOptions::new()
            .name("hookbridge")
            .ping_interval(PING_INTERVAL)
            .connection_timeout(CONNECT_TIMEOUT)
            .client_capacity(LIBRARY_QUEUE)
            .subscription_capacity(self.answers)
            .max_reconnects(LIBRARY_ATTEMPTS)
            // The library counts from 1, and its first attempt needs no pause.
            .reconnect_delay_callback(|attempt| {
                BACKOFF.after(u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX))
            })
            .require_tls(self.tls_required)
            .tls_client_config(tls::client_config(&self.tls)?);
        match &self.user {
            Some(UrlCredentials::Password(user, password)) => {
                options = options.user_and_password(user.expose().into(), password.expose().into());
            }
            Some(UrlCredentials::Token(token)) => options = options.token(token.expose().into()),
            None => {}
        }
        if let Some(token) = &self.auth.token {
            options = options.token(token.expose().trim().into());
        }
        if let Some(seed) = &self.auth.nkey {
            let seed = check_seed(seed).map_err(|why| Failure::new(Reason::NotAuthorized, why))?;
            options = options.nkey(seed.into());
        }
        if let Some(path) = &self.auth.creds {
            options = with_credentials(options, path)
                .map_err(|error| Failure::new(Reason::NotAuthorized, format!("{}: {error}", path.display())))?;
        }
        Ok(options)
    }

    /// Tries each server once: those of the settings, then those that an earlier connection discovered.
    pub(super) async fn connect(
        &self,
        discovered: &[String],
        events: UnboundedSender<Event>,
    ) -> Result<Client, Failure> {
        let mut servers = self.servers.clone();
        servers.extend(discovered.iter().filter_map(|server| server.parse().ok()));
        let options = self.options()?.event_callback(move |event| {
            // The session drops the receiver when it ends.
            let _ = events.send(event);
            std::future::ready(())
        });
        options.connect(servers).await.map_err(|error| {
            let reason = match error.kind() {
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => Reason::NotAuthorized,
                _ => Reason::Unreachable,
            };
            let mut text = error.to_string();
            // rustls does not say that this is what a server without TLS sends.
            if text.contains("InvalidContentType") {
                text += ": the server may not use TLS, which `tls://` or `tls` requires";
            }
            Failure::new(reason, text)
        })
    }
}

/// What is wrong with addresses and credentials.
pub(in crate::destination) fn faults(settings: &DestinationSettings) -> Vec<SettingFault> {
    let mut faults = Vec::new();
    let mut fault = |part, message| faults.push(SettingFault { part, message });
    let Auth { token, nkey, creds } = &settings.auth;
    match servers(&settings.url) {
        Err(failure) => fault(SettingPart::Url, failure.detail.into_owned()),
        Ok((_, Some(UrlCredentials::Token(_)))) if token.is_some() => {
            fault(SettingPart::Token, "`url` contains a token already".into());
        }
        Ok(_) => {}
    }
    if let Some(Err(why)) = nkey.as_ref().map(check_seed) {
        fault(SettingPart::Nkey, why.into());
    }
    if let Some(Err(error)) = creds.as_ref().map(|path| with_credentials(ConnectOptions::new(), path)) {
        fault(SettingPart::Creds, error.to_string());
    }
    faults
}

/// The addresses, and the user that they have in common.
fn servers(url: &BrokerUrl) -> Result<(Vec<ServerAddr>, Option<UrlCredentials>), Failure> {
    let BrokerUrl::Nats(urls) = url else {
        return Err(Failure::new(Reason::Unreachable, "not a NATS address"));
    };
    let mut users = Vec::new();
    let mut servers = Vec::new();
    for url in urls {
        let (server, user) = parse_address(url)?;
        servers.push(server);
        users.extend(user);
    }
    users.dedup();
    if users.len() > 1 {
        let why = "all addresses of a destination must have the same user, password or token";
        return Err(Failure::new(Reason::NotAuthorized, why));
    }
    Ok((servers, users.pop()))
}

fn check_seed(seed: &Secret) -> Result<&str, &'static str> {
    let seed = seed.expose().trim();
    nkeys::KeyPair::from_seed(seed).map(|_| seed).map_err(|_| "the nkey is not a seed (SU…)")
}

fn with_credentials(options: ConnectOptions, path: &Path) -> io::Result<ConnectOptions> {
    options.credentials(&without_empty_lines(&settings_file::read_text(path)?))
}

/// The library accepts no empty line between a token and its END line, where versions of `nsc` wrote one, and no END line
/// without a line end.
fn without_empty_lines(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Splits an address and its credentials. The library ignores credentials in an address, but may print them.
fn parse_address(url: &Secret) -> Result<(ServerAddr, Option<UrlCredentials>), Failure> {
    let unusable = || Failure::new(Reason::Unreachable, "an address is not host:port, nats://… or tls://…");
    let parsed: ServerAddr = url.expose().parse().map_err(|_| unusable())?;
    let mut parsed = parsed.into_inner();
    let user = match (parsed.username(), parsed.password()) {
        ("", None) => None,
        (user, Some(password)) => Some(UrlCredentials::Password(percent_decode(user), percent_decode(password))),
        (token, None) => Some(UrlCredentials::Token(percent_decode(token))),
    };
    parsed.set_username("").and_then(|()| parsed.set_password(None)).map_err(|()| unusable())?;
    Ok((ServerAddr::from_url(parsed).map_err(|_| unusable())?, user))
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

    fn parse(url: &str) -> (String, Option<UrlCredentials>) {
        let (server, user) = parse_address(&Secret::new(url)).unwrap();
        (server.as_url_str().to_string(), user)
    }

    #[test]
    fn credentials_are_removed_from_the_address() {
        assert!(parse("nats://h:1").1.is_none());
        let (server, user) = parse("tls://us%40er:p%2Fa%25ss@h:4222");
        assert_eq!(server, "tls://h:4222");
        assert!(user == Some(UrlCredentials::Password(Secret::new("us@er"), Secret::new("p/a%ss"))));
        let (server, user) = parse("nats://t0ken@h");
        assert_eq!(server, "nats://h");
        assert!(user == Some(UrlCredentials::Token(Secret::new("t0ken"))));
        assert!(parse_address(&Secret::new("http://h")).is_err());
    }

    #[test]
    fn creds_files_may_have_empty_lines() {
        let user = nkeys::KeyPair::new_user();
        let seed = user.seed().unwrap();
        let creds = |end: &str, last: &str| {
            format!(
                "-----BEGIN NATS USER JWT-----\neyJ0.eyJ9.x-_\n{end}------END NATS USER JWT------\n\n*** IMPORTANT ***\n\n\
                 -----BEGIN USER NKEY SEED-----\n{seed}\n{end}------END USER NKEY SEED------{last}"
            )
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in [creds("", "\n"), creds("\n", "\n"), creds("\r\n", "\r\n"), creds("", "")] {
            std::fs::write(file.path(), &text).unwrap();
            assert!(with_credentials(ConnectOptions::new(), file.path()).is_ok(), "{text}");
        }
        std::fs::write(file.path(), "no token").unwrap();
        let mut settings = DestinationSettings::new("nats", BrokerUrl::Nats(vec![Secret::new("nats://h")]));
        settings.auth = Auth { creds: Some(file.path().into()), nkey: Some(Secret::new("hunter2")), token: None };
        let faults: Vec<_> = faults(&settings).into_iter().map(|fault| (fault.part, fault.message)).collect();
        assert_eq!(
            faults,
            [
                (SettingPart::Nkey, "the nkey is not a seed (SU…)".to_owned()),
                (SettingPart::Creds, "cannot parse user JWT from the credentials file".to_owned()),
            ]
        );
    }

    #[test]
    fn addresses_with_different_users_are_refused() {
        let access = |urls: &[&str]| {
            let urls = urls.iter().map(|url| Secret::new(*url)).collect();
            Access::new(&DestinationSettings::new("nats", BrokerUrl::Nats(urls)))
        };
        assert!(access(&["nats://a:b@h", "nats://a:b@i"]).is_ok());
        assert!(access(&["nats://a:b@h", "nats://a:c@i"]).is_err());
    }
}
