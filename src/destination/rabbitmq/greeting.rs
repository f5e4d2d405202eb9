//! The broker's greeting (`connection.start` in AMQP 0.9.1): product, version and cluster. lapin does not keep it, so it
//! is read on a connection of its own.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use lapin::protocol::{AMQPClass, connection, parse_class};
use lapin::types::{AMQPValue, FieldTable};

use super::address::BrokerAddress;

/// For connecting, and for each read and write.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest greeting that is read, in bytes. A real one has some hundred bytes.
const MOST_BYTES: usize = 64 * 1024;

/// One line with the broker's product, version and cluster. Publishing does not depend on it, so it never fails.
pub(super) async fn describe(address: BrokerAddress) -> String {
    match tokio::task::spawn_blocking(move || read(&address)).await {
        Ok(Ok(properties)) => line(&properties),
        Ok(Err(error)) => format!("version unknown: {error}"),
        Err(_) => "version unknown".into(),
    }
}

fn read(address: &BrokerAddress) -> io::Result<FieldTable> {
    let (host, port) = address.host();
    let addresses = address.in_order((host, port).to_socket_addrs()?);
    let mut socket = TcpStream::connect_timeout(addresses.first().ok_or(io::ErrorKind::NotFound)?, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    match address.tls_connector().map_err(io::Error::other)? {
        Some(tls) => {
            let session = tls.connect(host, socket).map_err(|_| io::Error::other("the TLS handshake failed"))?;
            server_properties(session)
        }
        None => server_properties(&mut socket),
    }
}

fn server_properties(mut stream: impl Read + Write) -> io::Result<FieldTable> {
    stream.write_all(b"AMQP\x00\x00\x09\x01")?;
    stream.flush()?;
    let mut head = [0; 7]; // frame type, channel (2 bytes), length (4 bytes)
    stream.read_exact(&mut head)?;
    let [1, 0, 0, length @ ..] = head else { return Err(io::Error::other("not an AMQP 0.9.1 broker")) };
    let length = u32::from_be_bytes(length) as usize;
    if length > MOST_BYTES {
        return Err(io::Error::other("not an AMQP 0.9.1 broker"));
    }
    let mut method = vec![0; length];
    stream.read_exact(&mut method)?;
    match parse_class(method.as_slice()) {
        Ok((_, AMQPClass::Connection(connection::AMQPMethod::Start(start)))) => Ok(start.server_properties),
        _ => Err(io::Error::other("not the greeting of an AMQP 0.9.1 broker")),
    }
}

fn line(properties: &FieldTable) -> String {
    let text = |name: &str| match properties.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => "?".into(),
    };
    format!("{} {}, cluster {}", text("product"), text("version"), text("cluster_name"))
}
