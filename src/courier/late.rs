//! Publishes whose deliveries were answered without them, because their targets are optional. Their outcomes are still
//! recorded. Until then, their targets are neither published to again nor replayed.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use crate::delivery::DeliveryKey;
use crate::protocol::Target;

type Publishes = Mutex<HashSet<(DeliveryKey, Target)>>;

/// See the module.
#[derive(Default)]
pub(super) struct LatePublishes {
    publishes: Arc<Publishes>,
    /// The tasks that wait for the outcomes.
    pub(super) tasks: TaskTracker,
}

/// A late publish, until this is dropped.
pub(super) struct LatePublish {
    publishes: Arc<Publishes>,
    about: (DeliveryKey, Target),
}

impl LatePublishes {
    pub(super) fn contains(&self, key: &DeliveryKey, target: &Target) -> bool {
        self.publishes.lock().contains(&(key.clone(), target.clone()))
    }

    pub(super) fn add(&self, key: DeliveryKey, target: Target) -> LatePublish {
        let about = (key, target);
        self.publishes.lock().insert(about.clone());
        LatePublish { publishes: Arc::clone(&self.publishes), about }
    }
}

impl Drop for LatePublish {
    fn drop(&mut self) {
        self.publishes.lock().remove(&self.about);
    }
}
