//! Which publishes may have ended, so that only those are looked at.

use std::sync::Arc;
use std::task::{Wake, Waker};

use parking_lot::Mutex;

/// The publishes of one channel that were woken, by their slots.
#[derive(Default)]
pub(super) struct Woken(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    slots: Vec<u64>,
    lane: Option<Waker>,
}

impl Woken {
    /// The next that is woken wakes the lane too.
    pub(super) fn listen(&self, lane: &Waker) {
        self.0.lock().lane.get_or_insert_with(|| lane.clone()).clone_from(lane);
    }

    /// All that were woken since this was asked last.
    pub(super) fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.0.lock().slots)
    }

    /// What the publish in this slot is to be polled with.
    pub(super) fn waker(self: &Arc<Self>, slot: u64) -> Waker {
        Arc::new(Slot { slot, woken: Arc::clone(self) }).into()
    }
}

struct Slot {
    slot: u64,
    woken: Arc<Woken>,
}

impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let lane = {
            let mut inner = self.woken.0.lock();
            inner.slots.push(self.slot);
            inner.lane.take()
        };
        if let Some(lane) = lane {
            lane.wake();
        }
    }
}
