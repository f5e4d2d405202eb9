//! Whether a thread of the store can do its work, also when it has ended, in whatever way.

use std::sync::Arc;

use parking_lot::Mutex;

use super::database::failure;
use crate::reason::Failure;

/// What others see of a thread. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct ThreadStatus(Arc<Mutex<Option<Failure>>>);

/// The thread's own side: when it is dropped, the thread has ended.
pub(super) struct Reporter {
    status: ThreadStatus,
    name: &'static str,
}

impl ThreadStatus {
    /// The reporter for the thread of this name.
    pub(super) fn reporter(&self, name: &'static str) -> Reporter {
        Reporter { status: self.clone(), name }
    }

    /// Whether the thread can do its work.
    pub(super) fn health(&self) -> Result<(), Failure> {
        self.0.lock().clone().map_or(Ok(()), Err)
    }
}

impl Reporter {
    /// Whether the last report was a failure.
    pub(super) fn is_failing(&self) -> bool {
        self.status.0.lock().is_some()
    }

    /// Reports how the last work went; returns whether the report before was a failure.
    pub(super) fn report(&self, failure: Option<Failure>) -> bool {
        std::mem::replace(&mut *self.status.0.lock(), failure).is_some()
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.report(Some(failure(&format!("thread {}", self.name), &"it has ended")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_ends_is_reported_however_it_ends() {
        let status = ThreadStatus::default();
        let reporter = status.reporter("writer");
        assert!(!reporter.report(Some(failure("write", &"full"))));
        assert!(status.health().is_err() && reporter.report(None) && status.health().is_ok());
        let thread = std::thread::spawn(move || {
            let _reporter = reporter;
            std::panic::resume_unwind(Box::new("a bug"));
        });
        assert!(thread.join().is_err());
        assert!(status.health().unwrap_err().detail.contains("writer: it has ended"));
    }
}
