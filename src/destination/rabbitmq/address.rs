//! The address of a broker: its URL with the credentials, and the TLS files.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lapin::tcp::RustlsConnector;
use lapin::uri::{AMQPScheme, AMQPUri};

use crate::destination::settings::Tls;
use crate::reason::{Failure, Reason};
use crate::secret::Secret;
use crate::tls;

/// Heartbeat interval, unless the URL's `heartbeat` sets another: a dead link is detected after two intervals.
const HEARTBEAT_SECONDS: u16 = 10;
/// How long connecting may take, unless the URL's `connection_timeout` (in milliseconds) sets another limit.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// RabbitMQ's default. lapin sizes its buffers by it, so lapin must not get "no limit".
const FRAME_MAX: u32 = 131_072;

/// Where a broker is, and how to log in. Displayed as host and port only.
#[derive(Clone)]
pub(super) struct BrokerAddress {
    pub(super) uri: AMQPUri,
    pub(super) connect_timeout: Duration,
    tls: Option<Tls>,
    /// How many attempts to connect have failed, of all clones.
    failed: Arc<AtomicUsize>,
}

impl BrokerAddress {
    /// Parses a URL, and checks the TLS files if the URL is `amqps://`.
    ///
    /// # Errors
    /// It is not an `amqp://` or `amqps://` URL, or a TLS file cannot be used.
    pub(super) fn new(url: &Secret, tls: &Tls) -> Result<Self, Failure> {
        let text = url.expose();
        // The parser's message could repeat a part of the URL, and with it the password.
        let mut uri: AMQPUri =
            text.parse().map_err(|_| Failure::new(Reason::Unreachable, "not an amqp:// or amqps:// URL"))?;
        if let Some(host) = ipv6(text) {
            uri.authority.host = host.into(); // the parser reads an address in brackets as localhost
        }
        if uri.vhost.is_empty() {
            uri.vhost = "/".into(); // `amqp://host/` names a vhost with an empty name, which is never meant
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        uri.query.frame_max.get_or_insert(FRAME_MAX);
        let connect_timeout = uri.query.connection_timeout.map_or(CONNECT_TIMEOUT, Duration::from_millis);
        let tls = (uri.scheme == AMQPScheme::AMQPS).then(|| tls.clone());
        let address = BrokerAddress { uri, connect_timeout, tls, failed: Arc::default() };
        address.tls_connector()?;
        Ok(address)
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub(super) fn host(&self) -> (&str, u16) {
        (&self.uri.authority.host, self.uri.authority.port)
    }

    /// An attempt to connect failed: the next one begins with the host name's next address, as one that takes connections
    /// and never answers would hold up every attempt.
    pub(super) fn attempt_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// The addresses of the host name, in the order in which the next attempt tries them.
    pub(super) fn in_order(&self, resolved: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> = resolved.collect();
        let first = self.failed.load(Ordering::Relaxed).checked_rem(addresses.len()).unwrap_or_default();
        addresses.rotate_left(first);
        addresses
    }

    /// TLS for one connection; `None` for `amqp://`. Each call reads the files again, so that rotated certificates are
    /// used without a restart.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(super) fn tls_connector(&self) -> Result<Option<RustlsConnector>, Failure> {
        let Some(files) = &self.tls else { return Ok(None) };
        Ok(Some(Arc::new(tls::client_config(files)?).into()))
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = self.host();
        write!(f, "{host}:{port}")
    }
}

fn ipv6(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split(['/', '?']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.strip_prefix('[')?.split_once(']').map(|(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Result<BrokerAddress, Failure> {
        BrokerAddress::new(&Secret::new(url), &Tls { ca: Some("missing.pem".into()), ..Tls::default() })
    }

    #[test]
    fn urls_are_parsed_with_defaults() {
        let parse = |url| address(url).unwrap().uri;
        let uri = parse("amqp://u:p%40@[::1]:5673/v");
        assert_eq!((uri.authority.host.as_str(), uri.authority.port, uri.vhost.as_str()), ("::1", 5673, "v"));
        assert_eq!(uri.authority.userinfo.password, "p@");
        assert_eq!(parse("amqp://h").vhost, "/");
        assert_eq!(parse("amqp://h/").vhost, "/");
        assert_eq!(parse("amqp://127.0.0.1/%2f").authority.host, "127.0.0.1");
        assert_eq!(parse("amqp://h?heartbeat=3").query.heartbeat, Some(3));
        assert_eq!(parse("amqp://h").query.heartbeat, Some(HEARTBEAT_SECONDS));
        assert_eq!(address("amqp://u:p@h/v").unwrap().to_string(), "h:5672");
    }

    #[test]
    fn tls_files_are_checked_only_for_amqps() {
        assert!(address("amqp://h").unwrap().tls_connector().unwrap().is_none());
        let failure = address("amqps://h").err().unwrap();
        assert_eq!(failure.reason, Reason::Io);
        let tls = BrokerAddress::new(&Secret::new("amqps://h"), &Tls::default()).unwrap();
        assert!(tls.is_tls());
        assert_eq!(tls.host(), ("h", 5671));
    }

    #[test]
    fn failures_do_not_show_the_password() {
        let failure = address("http://user:secret@h").err().unwrap();
        assert!(!failure.to_string().contains("secret"));
    }
}
