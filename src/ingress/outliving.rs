//! Work that outlives the request that waits for it: a client that hangs up, or a request that times out, ends only the
//! waiting.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

/// Work that runs within the task of its request. If the request ends first, the work goes on in a task of its own.
pub(super) struct Outliving<T: Send + 'static, Place: Send + 'static> {
    /// `None` once it is done, or goes on without the request. `Err`: it panicked.
    work: Option<BoxFuture<'static, std::thread::Result<T>>>,
    /// Held until the work is done, at the latest until the deadline.
    place: Option<Place>,
    deadline: Instant,
    tracker: TaskTracker,
    /// Called when the work ends after its request.
    late: Option<Box<dyn FnOnce() + Send>>,
}

impl<T: Send + 'static, Place: Send + 'static> Outliving<T, Place> {
    pub(super) fn new(
        work: impl Future<Output = T> + Send + 'static,
        place: Place,
        deadline: Instant,
        tracker: &TaskTracker,
        late: impl FnOnce() + Send + 'static,
    ) -> Self {
        let work = Some(AssertUnwindSafe(work).catch_unwind().boxed());
        Outliving { work, place: Some(place), deadline, tracker: tracker.clone(), late: Some(Box::new(late)) }
    }
}

impl<T: Send + 'static, Place: Send + Unpin + 'static> Future for Outliving<T, Place> {
    type Output = std::thread::Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let done = work.poll_unpin(context);
        if done.is_ready() {
            self.work = None;
            self.place = None;
        }
        done
    }
}

impl<T: Send + 'static, Place: Send + 'static> Drop for Outliving<T, Place> {
    fn drop(&mut self) {
        let Some(mut work) = self.work.take() else { return };
        let (place, deadline, late) = (self.place.take(), self.deadline, self.late.take());
        let rest = async move {
            let in_time = timeout_at(deadline, &mut work).await;
            drop(place);
            if in_time.is_err() {
                let _ = work.await; // a panic is in the log
            }
            if let Some(late) = late {
                late();
            }
        };
        // Without a runtime, the process is ending.
        if let Ok(runtime) = Handle::try_current() {
            self.tracker.spawn_on(rest, &runtime);
        }
    }
}
