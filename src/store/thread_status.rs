//! Whether a thread of the store can do its work, also when it hangs or has ended, in whatever way.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::database::failure;
use crate::reason::{Failure, Reason};

/// How long a piece of work may take before the thread counts as stalled: a disk that hangs reports no error.
const STALLED: Duration = Duration::from_secs(5);

/// What others see of a thread. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct ThreadStatus(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    failure: Option<Failure>,
    /// Since when the thread is at its current work. All that waits behind it came later.
    busy_since: Option<Instant>,
}

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
        let inner = self.0.lock();
        if let Some(failure) = &inner.failure {
            return Err(failure.clone());
        }
        match inner.busy_since.map(|since| since.elapsed()).filter(|busy| *busy >= STALLED) {
            Some(busy) => Err(failure("disk", &format_args!("no answer for {} s", busy.as_secs()))),
            None => Ok(()),
        }
    }
}

impl Reporter {
    /// Whether the last report was a failure.
    pub(super) fn is_failing(&self) -> bool {
        self.status.0.lock().failure.is_some()
    }

    /// Work begins.
    pub(super) fn begin(&self) {
        self.status.0.lock().busy_since = Some(Instant::now());
    }

    /// Reports how the work went; returns whether the report before was a failure.
    pub(super) fn end(&self, failure: Option<Failure>) -> bool {
        let mut inner = self.status.0.lock();
        inner.busy_since = None;
        std::mem::replace(&mut inner.failure, failure).is_some()
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.end(Some(Failure::new(Reason::Failed, format!("the thread `{}` of the store has ended", self.name))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_ends_is_reported_however_it_ends() {
        let status = ThreadStatus::default();
        let reporter = status.reporter("writer");
        assert!(!reporter.end(Some(failure("write", &"full"))));
        assert!(status.health().is_err() && reporter.end(None) && status.health().is_ok());
        let thread = std::thread::spawn(move || {
            let _reporter = reporter;
            std::panic::resume_unwind(Box::new("a bug"));
        });
        assert!(thread.join().is_err());
        let failure = status.health().unwrap_err();
        assert!(failure.reason == Reason::Failed && failure.detail.contains("`writer`"), "{failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_hangs_is_reported_and_recovers() {
        let status = ThreadStatus::default();
        let reporter = status.reporter("writer");
        reporter.begin();
        assert!(status.health().is_ok());
        tokio::time::advance(STALLED).await;
        assert!(status.health().unwrap_err().detail.contains("no answer for 5 s"));
        reporter.end(None);
        assert!(status.health().is_ok());
    }
}
