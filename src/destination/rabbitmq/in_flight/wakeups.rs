//! Which publishes were woken, so that only those are polled.

use std::sync::Arc;
use std::task::{Wake, Waker};

use parking_lot::Mutex;

/// The woken publishes of one channel, by slot.
#[derive(Default)]
pub(super) struct Wakeups(Mutex<WokenSlots>);

#[derive(Default)]
struct WokenSlots {
    slots: Vec<u64>,
    lane: Option<Waker>,
}

impl Wakeups {
    /// Registers the lane: the next publish that is woken wakes the lane too.
    pub(super) fn listen(&self, lane: &Waker) {
        self.0.lock().lane.get_or_insert_with(|| lane.clone()).clone_from(lane);
    }

    /// The slots of all publishes that were woken since the last call.
    pub(super) fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.0.lock().slots)
    }

    /// The waker for the publish in this slot.
    pub(super) fn waker(self: &Arc<Self>, slot: u64) -> Waker {
        Arc::new(SlotWaker { slot, wakeups: Arc::clone(self) }).into()
    }
}

struct SlotWaker {
    slot: u64,
    wakeups: Arc<Wakeups>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let lane = {
            let mut woken = self.wakeups.0.lock();
            woken.slots.push(self.slot);
            woken.lane.take()
        };
        if let Some(lane) = lane {
            lane.wake();
        }
    }
}
