//! One connection to one address, with a way to end it at once.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt as _;
use lapin::options::ConfirmSelectOptions;
use lapin::tcp::AsyncTcpStream;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use parking_lot::Mutex;
use tokio::time::{interval, timeout};

use super::address::BrokerAddress;
use super::outcome::{connect_failure, failure};
use super::unanswered::UnansweredCalls;
use crate::reason::{Failure, Reason};

/// How often [`AmqpConnection::unless_blocked`] checks for an alarm.
const ALARM_POLL: Duration = Duration::from_millis(20);

/// A connection. It ends when this is dropped.
pub(super) struct AmqpConnection {
    pub(super) lapin: Connection,
    pub(super) address: BrokerAddress,
    pub(super) unanswered: UnansweredCalls,
    socket: SocketHandle,
}

impl AmqpConnection {
    /// Connects within the address's timeout. `name` is shown in the broker's list of connections.
    pub(super) async fn open(address: &BrokerAddress, name: &str) -> Result<AmqpConnection, Failure> {
        let tls = address.tls_connector()?;
        let socket = SocketHandle::default();
        let properties = ConnectionProperties::default()
            .with_connection_name(name.into())
            .with_client_property("product".into(), "hookbridge".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let (handle, target) = (socket.clone(), address.clone());
        let runtime = lapin::runtime::default_runtime().map_err(|error| failure(&error))?;
        let connecting = Connection::connector(
            address.uri.clone(),
            runtime,
            async move |_: AMQPUri, runtime| {
                let connecting = async {
                    let (host, port) = target.host();
                    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
                    for resolved in target.in_order(tokio::net::lookup_host((host, port)).await?) {
                        match AsyncTcpStream::connect(&runtime, resolved).await {
                            Ok(stream) => {
                                if let AsyncTcpStream::Plain(plain) = &stream {
                                    plain.get_ref().set_nodelay(true)?;
                                    handle.arm(plain.get_ref().as_fd().try_clone_to_owned()?)?;
                                }
                                return match tls.as_ref() {
                                    Some(connector) => stream.into_rustls(connector, host).await,
                                    None => Ok(stream),
                                };
                            }
                            Err(error) => last = error,
                        }
                    }
                    Err(last)
                };
                Ok(timeout(target.connect_timeout, connecting).await.map_err(io::Error::from)??)
            },
            properties,
        );
        let connected = match timeout(address.connect_timeout, connecting).await {
            Ok(connected) => connected.map_err(|error| connect_failure(&error, address.is_tls())),
            Err(_) => Err(Failure::new(Reason::Unreachable, "the broker did not answer while connecting")),
        };
        match connected {
            Ok(lapin) => {
                Ok(AmqpConnection { lapin, address: address.clone(), unanswered: UnansweredCalls::default(), socket })
            }
            Err(failure) => {
                socket.shut_down();
                address.attempt_failed();
                Err(failure)
            }
        }
    }

    /// A new channel.
    pub(super) async fn channel(&self) -> Result<Channel, Failure> {
        loop {
            match self.lapin.create_channel().await {
                // lapin gives the number of a channel that the broker closed to a later channel, and fails that one with
                // the error of the first. It keeps the number then, so the next channel has another one.
                Err(error) if self.is_connected() && matches!(error.kind(), ErrorKind::ProtocolError(_)) => {}
                created => return created.map_err(|error| failure(&error)),
            }
        }
    }

    /// A new channel in confirm mode.
    pub(super) async fn confirm_channel(&self) -> Result<Channel, Failure> {
        let channel = self.channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(|error| failure(&error))?;
        match channel.status().confirm() {
            true => Ok(channel),
            false => Err(Failure::new(Reason::Failed, "the channel did not enter confirm mode")),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.lapin.status().connected()
    }

    /// Whether the broker blocks this connection (memory or disk alarm).
    pub(super) fn is_blocked(&self) -> bool {
        self.lapin.status().blocked()
    }

    /// Returns when the broker blocks this connection.
    pub(super) async fn blocked(&self) {
        let mut poll = interval(ALARM_POLL);
        while !self.is_blocked() {
            poll.tick().await;
        }
    }

    /// Does some work on the connection, but does not wait for the end of an alarm: the broker answers nothing on a
    /// blocked connection.
    pub(super) async fn unless_blocked<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.blocked() => Err(Reason::Blocked.into()),
            done = work => done,
        }
    }

    /// Closes the connection in order, or at once when the time is over.
    pub(super) async fn close(&self, at_most: Duration) {
        let _ = timeout(at_most, self.lapin.close(200, "OK".into()).boxed()).await;
        self.kill();
    }

    /// Ends the connection at once. Dropping a lapin connection only asks the broker to close it: while a frozen or
    /// blocked broker does not answer, lapin's thread and all frames that it holds would stay, and would be sent when
    /// the broker thaws.
    pub(super) fn kill(&self) {
        self.socket.shut_down();
    }
}

impl Drop for AmqpConnection {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A second handle to the connection's socket.
#[derive(Clone, Default)]
struct SocketHandle(Arc<Mutex<SocketState>>);

#[derive(Default)]
enum SocketState {
    #[default]
    NotConnected,
    Open(TcpStream),
    ShutDown,
}

impl SocketHandle {
    /// Takes the socket; fails if it was to be shut down before it was connected.
    fn arm(&self, socket: OwnedFd) -> io::Result<()> {
        let mut state = self.0.lock();
        if matches!(*state, SocketState::ShutDown) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        *state = SocketState::Open(socket.into());
        Ok(())
    }

    fn shut_down(&self) {
        if let SocketState::Open(socket) = std::mem::replace(&mut *self.0.lock(), SocketState::ShutDown) {
            // It only fails when the connection has ended already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::settings::Tls;
    use crate::secret::Secret;

    /// Of a host name with several addresses, one that takes connections and never answers must not hold up every attempt.
    #[tokio::test]
    async fn each_attempt_begins_with_another_address() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("amqp://{}?connection_timeout=100", silent.local_addr().unwrap());
        let address = BrokerAddress::new(&Secret::new(url), &Tls::default()).unwrap();
        let all = ["127.0.0.1:1", "127.0.0.2:1"].map(|text| text.parse().unwrap());
        assert_eq!(address.in_order(all.into_iter()), all);
        assert!(AmqpConnection::open(&address.clone(), "test").await.is_err(), "it never answers");
        assert_eq!(address.in_order(all.into_iter()), [all[1], all[0]]);
        assert!(AmqpConnection::open(&address, "test").await.is_err());
        assert_eq!(address.in_order(all.into_iter()), all);
    }
}
