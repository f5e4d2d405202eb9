//! Bounds on what clients can make the process hold: requests and the bytes of their bodies.
//!
//! A request first reads its body as an [`Unverified`] one. Such requests never take a place of verified deliveries: when
//! there are too many of them, or their bytes are needed, the oldest gives way ([`Unverified::evicted`]). Only a verified
//! delivery is [admitted](Unverified::admit) to the bounds of its source and of the process. It keeps its place in the
//! process until the work on it is over, and in its source until it is answered: a destination that answers late must not
//! take every place of a source that has others too.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::telemetry::metrics::Metrics;
pub use limits::Limits;

mod limits;

/// Most unverified requests of one connection: more than a sender opens before it waits for answers.
const MOST_PER_CONNECTION: usize = 128;

/// The bounds for all sources together.
pub struct Gate {
    state: Mutex<State>,
    requests: Arc<Semaphore>,
    /// Most unverified requests.
    most_unverified: usize,
    /// Most bytes, verified or not.
    most_bytes: usize,
    metrics: Arc<Metrics>,
}

/// What is held now.
#[derive(Default)]
struct State {
    next: u64,
    /// By the order of their arrival.
    unverified: BTreeMap<u64, Reading>,
    per_connection: HashMap<u64, usize>,
    /// Bytes of bodies, as allocated.
    bytes: usize,
}

/// An unverified request.
struct Reading {
    connection: u64,
    bytes: usize,
    /// Dropped when the request has to give way.
    _keep: oneshot::Sender<()>,
}

/// The bounds of one source.
pub struct Room {
    in_flight: Arc<Semaphore>,
    rate: Option<DefaultDirectRateLimiter>,
}

impl Room {
    /// Bounds for deliveries in flight, and per second with bursts of up to one second's worth.
    pub fn new(in_flight: usize, rate: Option<NonZeroU32>) -> Room {
        let rate = rate.map(|rate| RateLimiter::direct(Quota::per_second(rate)));
        Room { in_flight: Arc::new(Semaphore::new(in_flight)), rate }
    }

    fn enter(&self) -> Result<SourcePlace, Full> {
        let place = Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| Full::Source).map(SourcePlace)?;
        let Some(rate) = &self.rate else { return Ok(place) };
        rate.check().map(|()| place).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            Full::Rate(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1))
        })
    }
}

/// Why a request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The source has reached its limit of deliveries in flight.
    Source,
    /// The source has reached its rate; the value is the number of seconds to wait.
    Rate(u32),
    /// The process has reached its limit of requests or bytes in flight.
    Process,
}

/// A request whose body is being read. Releases what it holds when dropped.
pub struct Unverified {
    gate: Arc<Gate>,
    number: u64,
    evicted: oneshot::Receiver<()>,
}

/// A verified delivery in the bounds of the process. Releases what it holds when dropped.
pub struct Admission {
    gate: Arc<Gate>,
    _request: OwnedSemaphorePermit,
    bytes: usize,
}

/// The place of a verified delivery in the bounds of its source. Released when dropped.
pub struct SourcePlace(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl Gate {
    /// Creates the bounds from the limits.
    pub fn new(limits: &Limits, metrics: Arc<Metrics>) -> Arc<Gate> {
        Arc::new(Gate {
            state: Mutex::default(),
            requests: Arc::new(Semaphore::new(limits.requests)),
            most_unverified: limits.requests,
            most_bytes: limits.bytes,
            metrics,
        })
    }

    /// Lets a request of a connection read its body. Always succeeds: an older request gives way if need be, first one of
    /// the same connection.
    pub fn read(self: &Arc<Self>, connection: u64) -> Unverified {
        let (keep, evicted) = oneshot::channel();
        let mut state = self.state.lock();
        if state.per_connection.get(&connection).is_some_and(|count| *count >= MOST_PER_CONNECTION) {
            let oldest = state.unverified.iter().find(|(_, reading)| reading.connection == connection);
            let oldest = oldest.map(|(number, _)| *number);
            self.evict(&mut state, oldest);
        }
        if state.unverified.len() >= self.most_unverified {
            let oldest = state.unverified.keys().next().copied();
            self.evict(&mut state, oldest);
        }
        let number = state.next;
        state.next += 1;
        *state.per_connection.entry(connection).or_default() += 1;
        state.unverified.insert(number, Reading { connection, bytes: 0, _keep: keep });
        drop(state);
        Unverified { gate: Arc::clone(self), number, evicted }
    }

    /// Ends an unverified request, if it is still there; returns its bytes, which stay reserved.
    fn end(&self, state: &mut State, number: u64) -> Option<usize> {
        let reading = state.unverified.remove(&number)?;
        if let Some(count) = state.per_connection.get_mut(&reading.connection) {
            *count -= 1;
            if *count == 0 {
                state.per_connection.remove(&reading.connection);
            }
        }
        Some(reading.bytes)
    }

    fn evict(&self, state: &mut State, number: Option<u64>) {
        let bytes = number.and_then(|number| self.end(state, number));
        self.release(state, bytes.unwrap_or(0));
    }

    fn release(&self, state: &mut State, bytes: usize) {
        state.bytes -= bytes;
        self.metrics.in_flight_bytes.dec_by(bytes as i64);
    }
}

impl Unverified {
    /// Resolves when this request has to give way to another.
    pub async fn evicted(&mut self) {
        let _ = (&mut self.evicted).await; // the sender is dropped, never used
    }

    /// Reserves this many bytes in total: what is allocated for the body. Older unverified requests give way if need be.
    ///
    /// # Errors
    /// Verified deliveries hold the rest, or this request has given way itself.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let (gate, state) = (&self.gate, &mut *self.gate.state.lock());
        let held = state.unverified.get(&self.number).ok_or(Full::Process)?.bytes;
        let Some(more) = bytes.checked_sub(held).filter(|more| *more > 0) else { return Ok(()) };
        while state.bytes.saturating_add(more) > gate.most_bytes {
            let others = state.unverified.iter().find(|(number, reading)| **number != self.number && reading.bytes > 0);
            let oldest = others.map(|(number, _)| *number).ok_or(Full::Process)?;
            gate.evict(state, Some(oldest));
        }
        state.bytes += more;
        state.unverified.entry(self.number).and_modify(|reading| reading.bytes = bytes);
        gate.metrics.in_flight_bytes.inc_by(more as i64);
        Ok(())
    }

    /// Admits the delivery, now that it is verified, to the bounds of its source and of the process.
    ///
    /// # Errors
    /// The bound that is reached.
    pub fn admit(self, room: &Room) -> Result<(Admission, SourcePlace), Full> {
        let source = room.enter()?;
        let request = Arc::clone(&self.gate.requests).try_acquire_owned().map_err(|_| Full::Process)?;
        let gate = Arc::clone(&self.gate);
        let bytes = gate.end(&mut gate.state.lock(), self.number).ok_or(Full::Process)?;
        gate.metrics.in_flight.inc();
        Ok((Admission { gate, _request: request, bytes }, source))
    }
}

impl Drop for Unverified {
    fn drop(&mut self) {
        self.gate.evict(&mut self.gate.state.lock(), Some(self.number));
    }
}

impl Admission {
    /// Releases the bytes, but not the place: the body has been dropped.
    pub fn release_bytes(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.gate.release(&mut self.gate.state.lock(), bytes);
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.release_bytes();
        self.gate.metrics.in_flight.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::FutureExt as _;

    use super::*;

    fn gate(requests: usize, bytes: usize) -> Arc<Gate> {
        let time = Duration::from_secs(1);
        let limits = Limits {
            body: bytes,
            header_bytes: 1,
            headers: 1,
            read_timeout: time,
            request_timeout: time,
            connections: 1,
            requests,
            bytes,
        };
        Gate::new(&limits, Arc::default())
    }

    fn is_evicted(request: &mut Unverified) -> bool {
        request.evicted().now_or_never().is_some()
    }

    #[test]
    fn unverified_requests_give_way_to_newer_ones() {
        let gate = gate(2, 100);
        let (mut first, mut second) = (gate.read(1), gate.read(2));
        assert!(!is_evicted(&mut first));
        let mut third = gate.read(3);
        assert!(is_evicted(&mut first) && !is_evicted(&mut second) && !is_evicted(&mut third));
        second.grow(80).unwrap();
        third.grow(30).unwrap();
        assert!(is_evicted(&mut second), "its bytes are needed");
        assert_eq!(second.grow(1), Err(Full::Process));
        assert_eq!(gate.state.lock().bytes, 30);
    }

    #[test]
    fn a_connection_pushes_out_its_own_requests_first() {
        let gate = gate(10 * MOST_PER_CONNECTION, 100);
        let mut other = gate.read(0);
        let mut own: Vec<_> = (0..=MOST_PER_CONNECTION).map(|_| gate.read(1)).collect();
        assert!(is_evicted(&mut own[0]) && !is_evicted(&mut own[1]) && !is_evicted(&mut other));
    }

    #[test]
    fn verified_deliveries_keep_their_places() {
        let (gate, room) = (gate(1, 100), Room::new(1, None));
        let mut first = gate.read(1);
        first.grow(60).unwrap();
        let admitted = first.admit(&room).unwrap();
        let mut second = gate.read(1);
        assert_eq!(second.grow(60), Err(Full::Process), "the bytes of a verified delivery are not taken");
        second.grow(40).unwrap();
        assert_eq!(second.admit(&room).err(), Some(Full::Source));
        assert_eq!(gate.state.lock().bytes, 60);
        drop(admitted);
        let mut third = gate.read(1);
        third.grow(100).unwrap();
        drop(third.admit(&room).unwrap());
        let state = gate.state.lock();
        assert_eq!((state.bytes, state.unverified.len(), state.per_connection.len()), (0, 0, 0));
    }
}
