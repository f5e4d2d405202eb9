//! A connection that posts signed deliveries: HTTP/1.1 by hand, so that the generator costs little.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::delivery::{Deliveries, Signer};
use super::load::{Load, Sender};
use super::support::sender::now;

/// See the module.
pub struct Connection {
    address: Arc<str>,
    stream: Option<TcpStream>,
    deliveries: Arc<Deliveries>,
    signer: Signer,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    /// As many connections to an address as the load has.
    pub fn open(load: &Load, address: &str) -> Vec<Connection> {
        let (address, deliveries, signer) = (Arc::from(address), Deliveries::new(load.body_bytes), Signer::new());
        let one = || Connection {
            address: Arc::clone(&address),
            stream: None,
            deliveries: Arc::clone(&deliveries),
            signer: signer.clone(),
            request: Vec::new(),
            answer: Vec::new(),
        };
        std::iter::repeat_with(one).take(load.connections).collect()
    }

    fn write_request(&mut self) {
        let (id, body) = self.deliveries.next();
        let timestamp = now().to_string();
        let signature = self.signer.sign(&id, &timestamp, body);
        self.request.clear();
        let head = format!(
            "POST /webhooks/videogen HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: compare\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nwebhook-id: {id}\r\nwebhook-timestamp: {timestamp}\r\nwebhook-signature: {signature}\r\n\r\n",
            body.len()
        );
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(body);
    }

    async fn exchange(&mut self) -> io::Result<u16> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(&*self.address).await?;
                stream.set_nodelay(true)?;
                none.insert(stream)
            }
        };
        stream.write_all(&self.request).await?;
        self.answer.clear();
        loop {
            if stream.read_buf(&mut self.answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(status) = complete(&self.answer) {
                return Ok(status);
            }
        }
    }
}

impl Sender for Connection {
    async fn send(&mut self) -> u16 {
        self.write_request();
        match self.exchange().await {
            Ok(status) => status,
            Err(_) => {
                self.stream = None;
                // Only paces the attempts.
                tokio::time::sleep(Duration::from_millis(10)).await;
                0
            }
        }
    }
}

/// The status of an answer, once all of it is there.
fn complete(answer: &[u8]) -> Option<u16> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let whole = answer.len() >= end + 4 + length.unwrap_or(0);
    whole.then(|| head.split(' ').nth(1)?.parse().ok())?
}
