//! Bounds on admitted work: requests and bytes, until they are finished. Refuses a request before its body is read.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::telemetry::metrics::Metrics;
pub use limits::Limits;

mod limits;

/// The bounds for all sources together.
pub struct Gate {
    requests: Arc<Semaphore>,
    /// In KiB, because a semaphore counts at most 2^32 permits in one call.
    kibibytes: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// The bounds of one source.
pub struct Room {
    in_flight: Arc<Semaphore>,
    rate: Option<DefaultDirectRateLimiter>,
}

impl Room {
    /// Bounds for requests in flight, and per second with bursts of up to one second's worth.
    pub fn new(in_flight: usize, rate: Option<NonZeroU32>) -> Room {
        let rate = rate.map(|rate| RateLimiter::direct(Quota::per_second(rate)));
        Room { in_flight: Arc::new(Semaphore::new(in_flight)), rate }
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, Full> {
        let permit = Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| Full::Source)?;
        let Some(rate) = &self.rate else { return Ok(permit) };
        rate.check().map(|()| permit).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            Full::Rate(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1))
        })
    }
}

/// Why a request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The source has reached its limit of requests in flight.
    Source,
    /// The source has reached its rate; the value is the number of seconds to wait.
    Rate(u32),
    /// The process has reached its limit of requests or bytes in flight.
    Process,
}

/// One admitted request. Releases what it holds when dropped.
pub struct Admission {
    gate: Arc<Gate>,
    _request: OwnedSemaphorePermit,
    _source: OwnedSemaphorePermit,
    bytes: Option<OwnedSemaphorePermit>,
}

impl Gate {
    /// Creates the bounds from the limits.
    pub fn new(limits: &Limits, metrics: Arc<Metrics>) -> Arc<Gate> {
        Arc::new(Gate {
            requests: Arc::new(Semaphore::new(limits.requests)),
            kibibytes: Arc::new(Semaphore::new(limits.bytes.div_ceil(1024))),
            metrics,
        })
    }

    /// Admits a request that announces this many bytes. The bytes are reserved by [`Admission::grow`], as they arrive.
    ///
    /// # Errors
    /// The bound that is reached.
    pub fn admit(self: &Arc<Self>, room: &Room, announced: usize) -> Result<Admission, Full> {
        let source = room.enter()?;
        let request = Arc::clone(&self.requests).try_acquire_owned().map_err(|_| Full::Process)?;
        if self.kibibytes.available_permits() < announced.div_ceil(1024).max(1) {
            return Err(Full::Process);
        }
        self.metrics.in_flight.inc();
        Ok(Admission { gate: Arc::clone(self), _request: request, _source: source, bytes: None })
    }
}

impl Admission {
    /// Reserves this many bytes in total.
    ///
    /// # Errors
    /// The process has reached its limit of bytes in flight.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let reserved = self.bytes.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let Some(more) = bytes.div_ceil(1024).checked_sub(reserved).filter(|more| *more > 0) else { return Ok(()) };
        let more = u32::try_from(more).map_err(|_| Full::Process)?;
        let permit = Arc::clone(&self.gate.kibibytes).try_acquire_many_owned(more).map_err(|_| Full::Process)?;
        self.gate.metrics.in_flight_bytes.inc_by(i64::from(more) * 1024);
        match &mut self.bytes {
            Some(bytes) => bytes.merge(permit),
            None => self.bytes = Some(permit),
        }
        Ok(())
    }

    /// Releases the bytes, but not the request: the body has been dropped.
    pub fn release_bytes(&mut self) {
        if let Some(bytes) = self.bytes.take() {
            self.gate.metrics.in_flight_bytes.dec_by(bytes.num_permits() as i64 * 1024);
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.release_bytes();
        self.gate.metrics.in_flight.dec();
    }
}
