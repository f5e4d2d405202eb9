//! What a lane holds of the destination's places, queued or in flight. While the broker confirms nothing on a lane, the
//! lane may hold only a part of them, so that publishes to other topics find a place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::oneshot;

use crate::message::Outcome;
use crate::reason::{Failure, Reason};

/// What all lanes that confirm nothing may hold together.
pub(super) struct StalledLanes {
    publishes: usize,
    bytes: usize,
    lanes: AtomicUsize,
}

impl StalledLanes {
    /// Half of the destination's places.
    pub(super) fn new(in_flight: usize, in_flight_bytes: usize) -> Self {
        StalledLanes { publishes: in_flight.div_ceil(2), bytes: in_flight_bytes / 2, lanes: AtomicUsize::new(0) }
    }
}

/// What one lane holds.
pub(super) struct LaneLoad {
    all: Arc<StalledLanes>,
    publishes: AtomicUsize,
    bytes: AtomicUsize,
    stalled: AtomicBool,
}

impl LaneLoad {
    pub(super) fn new(all: Arc<StalledLanes>) -> Self {
        LaneLoad { all, publishes: AtomicUsize::new(0), bytes: AtomicUsize::new(0), stalled: AtomicBool::new(false) }
    }

    /// A place for a publish of `bytes`.
    ///
    /// # Errors
    /// The lane confirms nothing, and holds its part already.
    pub(super) fn place(self: &Arc<Self>, bytes: usize) -> Result<LanePlace, Failure> {
        if !self.has_room(1, bytes) {
            return Err(Failure::new(Reason::Busy, "the topic confirms nothing, and has as much in flight as it may"));
        }
        self.publishes.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(LanePlace { load: Arc::clone(self), bytes })
    }

    /// Whether the lane holds more than its part.
    pub(super) fn is_over(&self) -> bool {
        !self.has_room(0, 0)
    }

    fn has_room(&self, publishes: usize, bytes: usize) -> bool {
        let lanes = self.all.lanes.load(Ordering::Relaxed).max(1);
        let within = |held: &AtomicUsize, more, most: usize| held.load(Ordering::Relaxed) + more <= most / lanes;
        !self.stalled.load(Ordering::Relaxed)
            || (within(&self.publishes, publishes, self.all.publishes) && within(&self.bytes, bytes, self.all.bytes))
    }

    /// Whether the broker confirms nothing on the lane at the moment.
    pub(super) fn set_stalled(&self, stalled: bool) {
        if self.stalled.swap(stalled, Ordering::Relaxed) == stalled {
            return;
        }
        if stalled {
            self.all.lanes.fetch_add(1, Ordering::Relaxed);
        } else {
            self.all.lanes.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for LaneLoad {
    fn drop(&mut self) {
        self.set_stalled(false);
    }
}

/// A place of a publish: released when this is dropped.
pub(super) struct LanePlace {
    load: Arc<LaneLoad>,
    bytes: usize,
}

impl Drop for LanePlace {
    fn drop(&mut self) {
        self.load.publishes.fetch_sub(1, Ordering::Relaxed);
        self.load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Where the outcome of a publish goes. Its place is released with the outcome.
pub(super) struct PublishReply {
    outcome: oneshot::Sender<Outcome>,
    _place: LanePlace,
}

impl PublishReply {
    pub(super) fn new(place: LanePlace) -> (PublishReply, oneshot::Receiver<Outcome>) {
        let (outcome, receiver) = oneshot::channel();
        (PublishReply { outcome, _place: place }, receiver)
    }

    pub(super) fn send(self, outcome: Outcome) {
        // An error means that the publisher does not wait any more.
        let _ = self.outcome.send(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lane_that_confirms_nothing_is_bounded() {
        let all = Arc::new(StalledLanes::new(8, 800));
        let [first, second] = [0, 1].map(|_| Arc::new(LaneLoad::new(Arc::clone(&all))));
        let place = |bytes| first.place(bytes).map_err(|failure| failure.reason);
        let mut places: Vec<_> = (0..6).map(|_| place(1).ok().unwrap()).collect();
        assert!(!first.is_over());
        first.set_stalled(true);
        assert!(first.is_over() && place(0).is_err_and(|reason| reason == Reason::Busy) && second.place(1).is_ok());
        places.truncate(4);
        assert!(!first.is_over() && place(0).is_err(), "4 of 4");
        places.truncate(1);
        assert!(place(400).is_err(), "401 of 400 bytes");
        places.push(place(399).ok().unwrap());
        assert!(place(0).is_ok() && place(1).is_err(), "400 of 400 bytes");
        second.set_stalled(true);
        assert!(first.is_over(), "two lanes share the half");
        drop(second);
        assert!(!first.is_over());
        first.set_stalled(false);
        assert_eq!(all.lanes.load(Ordering::Relaxed), 0);
    }
}
