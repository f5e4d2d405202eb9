//! What a broker says of itself: lapin does not keep the greeting, so the probe asks for it on a connection of its own.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use lapin::protocol::{AMQPClass, connection, parse_class};
use lapin::tcp::RustlsConnector;
use lapin::types::{AMQPValue, FieldTable};

use super::connection::Address;

const TIMEOUT: Duration = Duration::from_secs(5);
/// The greeting has some hundred bytes.
const GREETING_AT_MOST: usize = 64 * 1024;

/// Product, version and cluster of the broker. Blocks.
pub(super) fn product(address: &Address, tls: Option<Arc<rustls::ClientConfig>>) -> io::Result<String> {
    let (host, port) = address.host();
    let resolved = (host, port).to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let mut socket = TcpStream::connect_timeout(&resolved, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    let properties = match tls.filter(|_| address.is_tls()) {
        Some(config) => greeting(
            RustlsConnector::from(config).connect(host, socket).map_err(|_| io::Error::other("no TLS session"))?,
        )?,
        None => greeting(&mut socket)?,
    };
    Ok(shown(&properties))
}

/// The server's properties out of `connection.start`.
fn greeting(mut stream: impl Read + Write) -> io::Result<FieldTable> {
    stream.write_all(b"AMQP\x00\x00\x09\x01")?;
    stream.flush()?;
    let mut head = [0; 7]; // type, channel, length
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    if head[..3] != [1, 0, 0] || length > GREETING_AT_MOST {
        return Err(io::Error::other("not an AMQP 0.9.1 broker"));
    }
    let mut method = vec![0; length];
    stream.read_exact(&mut method)?;
    match parse_class(method.as_slice()) {
        Ok((_, AMQPClass::Connection(connection::AMQPMethod::Start(start)))) => Ok(start.server_properties),
        _ => Err(io::Error::other("not the greeting of an AMQP 0.9.1 broker")),
    }
}

fn shown(properties: &FieldTable) -> String {
    let text = |name: &str| match properties.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => "?".into(),
    };
    format!("{} {}, cluster {}", text("product"), text("version"), text("cluster_name"))
}
