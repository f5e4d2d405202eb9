//! Brokers that advertise another address, for example that of a proxy. The proxy can remove the brokers from answers to
//! metadata requests.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::brokers::{Broker, Kind, With};

/// The key of a metadata request (Kafka's protocol guide).
const METADATA: [u8; 2] = [0, 3];
/// Topics that are added to an answer.
const ADDED: u64 = 100_000;

/// Starts a broker with a second listener, which advertises this address. Returns the port of its controller and the real
/// address of that listener too. With the port of another broker's controller, it joins that broker.
pub fn advertising(address: &str, join: Option<u16>) -> (Broker, u16, String) {
    // All at the same time, so that they differ.
    let free = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
    let [port, controller, second] = free.map(|socket| socket.local_addr().expect("an address").port());
    let own = if join.is_some() { String::new() } else { format!("CONTROLLER://127.0.0.1:{controller},") };
    let conf = format!(
        "listeners={own}PLAINTEXT://127.0.0.1:{port},SECOND://127.0.0.1:{second}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port},SECOND://{address}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECOND:PLAINTEXT\n"
    );
    let (port, controlled, join) = (port.to_string(), controller.to_string(), join.map(|port| port.to_string()));
    let mut env = vec![("KAFKA_PORT", &*port), ("KAFKA_CONTROLLER_PORT", &*controlled)];
    env.extend(join.as_deref().map(|join| ("KAFKA_JOIN", join)));
    let broker = Broker::start_with(Kind::Kafka, With { conf: &conf, env: &env });
    (broker, controller, format!("127.0.0.1:{second}"))
}

/// A proxy on a port of its own.
pub struct Proxy {
    pub address: String,
    state: Arc<Mutex<ProxyState>>,
}

#[derive(Default)]
struct ProxyState {
    /// Where connections lead; they are closed at once if it is `None`.
    upstream: Option<String>,
    connections: JoinSet<()>,
    hidden: Arc<AtomicBool>,
}

impl Proxy {
    pub async fn bind() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let state = Arc::new(Mutex::new(ProxyState::default()));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Some(upstream) = shared.lock().upstream.clone() else { continue };
                let Ok(server) = TcpStream::connect(&upstream).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                let (asked, mut state) = (Arc::new(Mutex::new(HashSet::new())), shared.lock());
                if state.upstream.is_none() {
                    continue; // closed meanwhile
                }
                let answers = answers(from_server, to_client, Arc::clone(&asked), Arc::clone(&state.hidden));
                state.connections.spawn(answers);
                state.connections.spawn(requests(from_client, to_server, asked));
            }
        });
        Proxy { address, state }
    }

    /// Passes connections on from now on.
    pub fn open(&self, upstream: &str) {
        self.state.lock().upstream = Some(upstream.to_owned());
    }

    /// Closes all connections, and new ones at once.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.upstream = None;
        state.connections.abort_all();
    }

    /// Whether answers from now on name no broker, as those of a single broker that was frozen for some seconds.
    pub fn hide_brokers(&self, hidden: bool) {
        self.state.lock().hidden.store(hidden, Relaxed);
    }
}

/// Passes requests on. Remembers which are for metadata.
async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asked: Arc<Mutex<HashSet<[u8; 4]>>>) {
    while let Some(frame) = read(&mut from).await {
        if frame[..2] == METADATA {
            assert!(frame[3] >= 10, "a metadata request of an old version");
            asked.lock().insert(frame[4..8].try_into().expect("four bytes"));
        }
        if write(&mut to, &frame).await.is_none() {
            break;
        }
    }
}

/// Passes answers on.
async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: Arc<Mutex<HashSet<[u8; 4]>>>,
    hide: Arc<AtomicBool>,
) {
    while let Some(mut frame) = read(&mut from).await {
        let id: [u8; 4] = frame[..4].try_into().expect("four bytes");
        if asked.lock().remove(&id) && hide.load(Relaxed) {
            frame = without_brokers(&frame);
        }
        if write(&mut to, &frame).await.is_none() {
            break;
        }
    }
}

/// Removes the brokers from a metadata response of version 10 to 13, and adds many topics. librdkafka stops the threads of the
/// brokers before it reads the topics and its timer after that, so the threads end in between, as they sometimes do anyway.
fn without_brokers(frame: &[u8]) -> Vec<u8> {
    // Lengths of arrays and strings are encoded as one more. Here they fit one byte.
    let string = |at: usize| usize::from(frame[at]).max(1);
    let mut at = 10; // after correlation id, tags, throttle time and the number of brokers
    for _ in 1..frame[9] {
        at += 4; // id
        at += string(at); // host
        at += 4; // port
        at += string(at); // rack
        at += 1; // tags
    }
    let topics = at + string(at) + 4; // after the cluster's id and the controller
    let mut all = [&frame[..9], &[1], &frame[at..topics]].concat();
    let mut count = ADDED + u64::from(frame[topics]);
    while count >= 128 {
        all.push(count as u8 | 128);
        count >>= 7;
    }
    all.push(count as u8);
    for number in 0..ADDED {
        all.extend([0, 3]); // it does not exist
        all.extend(format!("\u{9}{number:08}").as_bytes());
        all.extend([0; 16 + 1]); // id, not internal
        all.extend([1, 0, 0, 0, 0, 0]); // no partitions, no operations, no tags
    }
    all.extend(&frame[topics + 1..]);
    all
}

async fn read(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let length = from.read_u32().await.ok()?;
    let mut frame = vec![0; length as usize];
    from.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

async fn write(to: &mut OwnedWriteHalf, frame: &[u8]) -> Option<()> {
    let length = u32::try_from(frame.len()).expect("a short frame");
    to.write_all(&[&length.to_be_bytes(), frame].concat()).await.ok()
}
