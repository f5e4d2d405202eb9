//! Limits for clients.

use std::time::Duration;

/// Limits on what clients can make the process do.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest body in bytes. Default 8 MiB.
    pub body: usize,
    /// Largest sum of all header names and values in bytes. Default 32 KiB.
    pub header_bytes: usize,
    /// Most header lines. Default 80.
    pub headers: usize,
    /// Time limit for the first head on a connection, and for each body, to arrive. Default 5 s.
    pub read_timeout: Duration,
    /// Time limit for the answer. Default 10 s.
    pub request_timeout: Duration,
    /// Most connections; fewer if the system's limit on open files requires it. Default 4096.
    pub connections: usize,
    /// Most requests in flight over all sources, until they are finished. Default 8192.
    pub requests: usize,
    /// Most bytes of bodies in flight over all sources, until they are finished. Default 256 MiB.
    pub bytes: usize,
}
