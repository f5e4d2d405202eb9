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
        StalledLanes { publishes: in_flight / 2, bytes: in_flight_bytes / 2, lanes: AtomicUsize::new(0) }
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
        if self.is_full() {
            return Err(Failure::new(Reason::Busy, "the topic confirms nothing, and has as much in flight as it may"));
        }
        self.publishes.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(LanePlace { load: Arc::clone(self), bytes })
    }

    /// Whether the lane confirms nothing, and holds its part.
    pub(super) fn is_full(&self) -> bool {
        if !self.stalled.load(Ordering::Relaxed) {
            return false;
        }
        let lanes = self.all.lanes.load(Ordering::Relaxed).max(1);
        self.publishes.load(Ordering::Relaxed) >= self.all.publishes / lanes
            || self.bytes.load(Ordering::Relaxed) >= self.all.bytes / lanes
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
        let lanes = [0, 1].map(|_| Arc::new(LaneLoad::new(Arc::clone(&all))));
        let mut places: Vec<_> = (0..6).map(|_| lanes[0].place(1).ok().unwrap()).collect();
        lanes[0].set_stalled(true);
        assert!(lanes[0].place(1).is_err_and(|failure| failure.reason == Reason::Busy));
        assert!(lanes[1].place(1).is_ok());
        places.truncate(3);
        assert!(!lanes[0].is_full(), "3 of 4");
        places.push(lanes[0].place(397).ok().unwrap());
        places.remove(0);
        assert!(!lanes[0].is_full(), "399 of 400 bytes");
        places.push(lanes[0].place(1).ok().unwrap());
        assert!(lanes[0].is_full(), "in bytes");
        places.truncate(2);
        lanes[1].set_stalled(true);
        assert!(lanes[0].is_full(), "two lanes share the half");
        drop(lanes[1].clone());
        let [first, second] = lanes;
        drop(second);
        assert!(!first.is_full());
        first.set_stalled(false);
        assert_eq!(all.lanes.load(Ordering::Relaxed), 0);
    }
}
