//! One connection to one address, with a way to end it at once.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FutureExt as _, TryFutureExt as _};
use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use parking_lot::Mutex;
use tokio::time::{interval, timeout};

use crate::reason::{Failure, Reason};
use crate::secret::Secret;

/// How often the two sides show that they live, unless the URL's `heartbeat` says otherwise: a dead link is noticed
/// after twice that.
const HEARTBEAT_SECONDS: u16 = 10;
/// How long connecting may take, unless the URL's `connection_timeout` (in milliseconds) says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// RabbitMQ's own default. lapin sizes its buffers by it, so "no limit" must not be what it gets.
const FRAME_MAX: u32 = 131_072;

/// Where a broker is, with its credentials.
#[derive(Clone)]
pub(super) struct Address {
    uri: AMQPUri,
    timeout: Duration,
}

impl Address {
    /// # Errors
    /// It is not an `amqp://` or `amqps://` URL.
    pub(super) fn parse(url: &Secret) -> Result<Self, Failure> {
        let text = url.expose();
        // The parser's message could repeat a part of the URL, and with it the password.
        let mut uri: AMQPUri =
            text.parse().map_err(|_| Failure::new(Reason::Unreachable, "not an amqp:// or amqps:// URL"))?;
        if let Some(host) = ipv6(text) {
            uri.authority.host = host.into(); // the parser takes an address in brackets for localhost
        }
        if uri.vhost.is_empty() {
            uri.vhost = "/".into(); // `amqp://host/` names a vhost without a name, which nobody means
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        uri.query.frame_max.get_or_insert(FRAME_MAX);
        let timeout = uri.query.connection_timeout.map_or(CONNECT_TIMEOUT, Duration::from_millis);
        Ok(Address { uri, timeout })
    }

    pub(super) fn is_tls(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }

    pub(super) fn host(&self) -> (&str, u16) {
        (&self.uri.authority.host, self.uri.authority.port)
    }

    /// Host and port: what may be logged.
    pub(super) fn shown(&self) -> String {
        let (host, port) = self.host();
        format!("{host}:{port}")
    }
}

fn ipv6(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split(['/', '?']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.strip_prefix('[')?.split_once(']').map(|(host, _)| host)
}

/// A connection. It ends when this is dropped.
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) address: Address,
    kill: Kill,
}

impl Link {
    /// Connects, within the address's time.
    pub(super) async fn open(
        address: &Address,
        tls: Option<&Arc<rustls::ClientConfig>>,
        name: &str,
    ) -> Result<Link, Failure> {
        let kill = Kill::default();
        let properties = ConnectionProperties::default()
            .with_connection_name(name.into())
            .with_client_property("product".into(), "hookbridge".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let (socket, at) = (kill.clone(), address.clone());
        let tls = tls.map(|config| RustlsConnector::from(Arc::clone(config)));
        let runtime = lapin::runtime::default_runtime().map_err(|error| failure(&error))?;
        let connecting = Connection::connector(
            address.uri.clone(),
            runtime,
            async move |_: AMQPUri, runtime| {
                let connecting = async {
                    let (host, port) = at.host();
                    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                    for found in tokio::net::lookup_host((host, port)).await? {
                        match AsyncTcpStream::connect(&runtime, found).await {
                            Ok(stream) => {
                                if let AsyncTcpStream::Plain(plain) = &stream {
                                    plain.get_ref().set_nodelay(true)?;
                                    socket.arm(plain.get_ref().as_fd().try_clone_to_owned()?)?;
                                }
                                return match tls.as_ref().filter(|_| at.is_tls()) {
                                    Some(connector) => stream.into_rustls(connector, host).await,
                                    None => Ok(stream),
                                };
                            }
                            Err(error) => last = error,
                        }
                    }
                    Err(last)
                };
                Ok(timeout(at.timeout, connecting).await.map_err(io::Error::from)??)
            },
            properties,
        );
        match timeout(address.timeout, connecting).await {
            Ok(Ok(connection)) => Ok(Link { connection, address: address.clone(), kill }),
            Ok(Err(error)) => {
                kill.kill();
                Err(failure(&error))
            }
            Err(_) => {
                kill.kill();
                Err(Failure::new(Reason::Unreachable, "no answer while connecting"))
            }
        }
    }

    /// A channel of its own.
    pub(super) fn channel(&self) -> impl Future<Output = Result<Channel, Failure>> + Send + '_ {
        self.connection.create_channel().map_err(|error| failure(&error))
    }

    /// Returns when the broker blocks this connection. It then answers nothing that is asked.
    pub(super) async fn blocked(&self) {
        let mut often = interval(Duration::from_millis(20));
        while !self.connection.status().blocked() {
            often.tick().await;
        }
    }

    /// Ends the connection in order, or at once when the time is over.
    pub(super) async fn close(&self, at_most: Duration) {
        let _ = timeout(at_most, self.connection.close(200, "OK".into()).boxed()).await;
        self.kill();
    }

    /// Ends it at once. Dropping a lapin connection only asks the broker to close it: while a frozen or blocked one does
    /// not answer, its thread and every frame it holds would stay, and be sent when the broker thaws.
    pub(super) fn kill(&self) {
        self.kill.kill();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A second handle of the connection's socket.
#[derive(Clone, Default)]
struct Kill(Arc<Mutex<Socket>>);

#[derive(Default)]
enum Socket {
    #[default]
    None,
    Open(TcpStream),
    Killed,
}

impl Kill {
    fn arm(&self, socket: std::os::fd::OwnedFd) -> io::Result<()> {
        let mut held = self.0.lock();
        if matches!(*held, Socket::Killed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        *held = Socket::Open(socket.into());
        Ok(())
    }

    fn kill(&self) {
        if let Socket::Open(socket) = std::mem::replace(&mut *self.0.lock(), Socket::Killed) {
            // Fails only where the connection is gone already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// What an error of lapin's means for the whole destination.
pub(super) fn failure(error: &lapin::Error) -> Failure {
    let reason = match error.kind() {
        ErrorKind::AuthProviderError(_) => Reason::NotAuthorized,
        ErrorKind::ProtocolError(error) => match error.get_id() {
            403 | 530 => Reason::NotAuthorized,
            404..=406 => Reason::Topology,
            _ => Reason::Unreachable,
        },
        _ => Reason::Unreachable,
    };
    Failure::new(reason, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> AMQPUri {
        Address::parse(&Secret::new(url)).unwrap().uri
    }

    #[test]
    fn urls() {
        let uri = parse("amqp://u:p%40@[::1]:5673/v");
        assert_eq!((uri.authority.host.as_str(), uri.authority.port, uri.vhost.as_str()), ("::1", 5673, "v"));
        assert_eq!(uri.authority.userinfo.password, "p@");
        assert_eq!(parse("amqp://h").vhost, "/");
        assert_eq!(parse("amqp://h/").vhost, "/");
        assert_eq!(parse("amqp://127.0.0.1/%2f").authority.host, "127.0.0.1");
        assert_eq!(parse("amqps://h").authority.port, 5671);
        assert_eq!(parse("amqp://h?heartbeat=3").query.heartbeat, Some(3));
        assert_eq!(parse("amqp://h").query.heartbeat, Some(HEARTBEAT_SECONDS));
        let failure = Address::parse(&Secret::new("http://user:secret@h")).err().unwrap();
        assert!(!failure.to_string().contains("secret"));
    }
}
