//! Deliveries: bodies of sample events in a realistic mix, with ids that no other process uses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::support::program::SECRET;
use super::support::sender::now;

/// Of 20 events, how many have which name.
const MIX: [(&str, usize); 6] = [
    ("tool_execution.succeeded", 8),
    ("tool_execution.failed", 1),
    ("file.upload.completed", 3),
    ("file.playback_ready", 3),
    ("file.download_ready", 2),
    ("file.analysis_completed", 3),
];
/// Characters of the signature in a signed URL: about as many as content delivery networks use.
const SIGNATURE: usize = 220;
/// Most bytes of all bodies of a given size: limits the number of large ones.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// How many resources the events are about: as many partition keys.
const RESOURCES: u64 = 50;

/// Returns bodies and ids; shared by all connections.
pub struct Deliveries {
    bodies: Vec<Bytes>,
    run: u32,
    next: AtomicU64,
}

impl Deliveries {
    /// With bodies of this size; `None`: samples, unchanged.
    pub fn new(body_bytes: Option<usize>) -> Arc<Deliveries> {
        let number_and_name = (0..RESOURCES).flat_map(|number| {
            MIX.into_iter().flat_map(move |(name, count)| std::iter::repeat_n((number, name), count))
        });
        let signature = format!("?signature={}", "5f".repeat(SIGNATURE / 2));
        let body = |(number, name)| {
            let body = hookbridge::samples::sample(name, number, now()).body;
            Bytes::from(match body_bytes {
                None => body.replace("?signature=sample", &signature),
                Some(bytes) => padded(&body, bytes),
            })
        };
        let count = body_bytes.map_or(usize::MAX, |bytes| (MOST_BYTES / bytes.max(1)).max(1));
        // Samples that are larger than the given size are left out.
        let fits = |body: &Bytes| body_bytes.is_none_or(|bytes| body.len() <= bytes);
        let mut bodies: Vec<Bytes> = number_and_name.map(body).filter(fits).take(count).collect();
        assert!(!bodies.is_empty(), "every sample is larger");
        // Neighbours differ in name and resource, as 387 and 1000 have no common factor.
        if body_bytes.is_none() {
            bodies = (0..bodies.len()).map(|at| bodies[at * 387 % bodies.len()].clone()).collect();
        }
        Arc::new(Deliveries { bodies, run: rand::random(), next: AtomicU64::new(0) })
    }

    /// A new id, and a body.
    pub fn next(&self) -> (String, &Bytes) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (format!("msg_{:08x}{number:016x}", self.run), &self.bodies[number as usize % self.bodies.len()])
    }
}

/// The object with one more member, which pads it to this size.
fn padded(body: &str, bytes: usize) -> String {
    const MEMBER: &str = r#","padding":""}"#;
    let padding = "x".repeat(bytes.saturating_sub(body.len() - 1 + MEMBER.len()));
    let member = MEMBER.replace(r#""""#, &format!(r#""{padding}""#));
    format!("{}{member}", &body[..body.len() - 1])
}

/// The mean size of a body.
pub fn mean_bytes(body_bytes: Option<usize>) -> f64 {
    let deliveries = Deliveries::new(body_bytes);
    deliveries.bodies.iter().map(Bytes::len).sum::<usize>() as f64 / deliveries.bodies.len() as f64
}

/// Signs as a sender does, without code of the bridge.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl Signer {
    pub fn new() -> Signer {
        let key = STANDARD.decode(SECRET.trim_start_matches("whsec_")).expect("base64");
        Signer(Hmac::new_from_slice(&key).expect("any length"))
    }

    /// The value of `webhook-signature`.
    pub fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let mut hmac = self.0.clone();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            hmac.update(part);
        }
        format!("v1,{}", STANDARD.encode(hmac.finalize().into_bytes()))
    }
}
