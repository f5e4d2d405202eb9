//! What clients may ask of the process.

use std::time::Duration;

/// Bounds on what clients can make the process do.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest body in bytes. Default 8 MiB.
    pub body: usize,
    /// Largest sum of all header names and values in bytes. Default 32 KiB.
    pub header_bytes: usize,
    /// Most header lines. Default 80.
    pub headers: usize,
    /// How long the first head of a connection, and each body, may take to arrive. Default 5 s.
    pub read_timeout: Duration,
    /// The answer's deadline. Default 10 s.
    pub request_timeout: Duration,
    /// Most connections, as far as the system's limit on open files allows. Default 4096.
    pub connections: usize,
    /// Most requests in flight over all sources, until their work is over. Default 8192.
    pub requests: usize,
    /// Most bytes of bodies in flight over all sources, until their work is over. Default 256 MiB.
    pub bytes: usize,
}
