//! Background tasks and threads that are meant to run until they are stopped. One that panics, or ends by itself, is
//! reported: otherwise a destination would look healthy while nobody works for it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::future::FutureExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::reason::{Failure, Reason};

/// Runs a task until it ends or `stop` is cancelled. If it panics, or ends before that, `failed` is told why.
pub(super) fn task(
    name: &'static str,
    stop: &CancellationToken,
    task: impl Future<Output = ()> + Send + 'static,
    failed: impl FnOnce(Failure) + Send + 'static,
) -> JoinHandle<()> {
    let stop = stop.clone();
    tokio::spawn(async move {
        let outcome = AssertUnwindSafe(stop.run_until_cancelled(task)).catch_unwind().await;
        report(name, &stop, outcome.is_err(), failed);
    })
}

/// Runs a thread, likewise. `work` has to notice by itself that it is stopped, and `stop` is cancelled before it does.
///
/// # Errors
/// The system gives no thread.
pub(super) fn thread(
    name: &'static str,
    stop: &CancellationToken,
    work: impl FnOnce() + Send + 'static,
    failed: impl FnOnce(Failure) + Send + 'static,
) -> io::Result<()> {
    let stop = stop.clone();
    let run = move || {
        let outcome = catch_unwind(AssertUnwindSafe(work));
        report(name, &stop, outcome.is_err(), failed);
    };
    std::thread::Builder::new().name(name.into()).spawn(run).map(drop)
}

/// Runs a callback on a thread that is not ours. If it panics, `failed` is told why.
pub(super) fn callback(name: &'static str, work: impl FnOnce(), failed: impl FnOnce(Failure)) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        failed(Failure::new(Reason::Failed, format!("the callback `{name}` panicked")));
    }
}

fn report(name: &str, stop: &CancellationToken, panicked: bool, failed: impl FnOnce(Failure)) {
    if panicked || !stop.is_cancelled() {
        let how = if panicked { "panicked" } else { "ended" };
        failed(Failure::new(Reason::Failed, format!("the background task `{name}` {how}")));
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    async fn reported(start: impl FnOnce(Box<dyn FnOnce(Failure) + Send>)) -> Option<String> {
        let (tell, told) = oneshot::channel();
        start(Box::new(|failure| tell.send(failure).expect("somebody listens")));
        told.await.ok().map(|failure| failure.detail.into_owned())
    }

    #[tokio::test]
    async fn a_task_that_panics_or_ends_is_reported() {
        let stop = CancellationToken::new();
        let panics = reported(|failed| drop(task("t", &stop, async { panic!("on purpose") }, failed))).await;
        assert_eq!(panics.as_deref(), Some("the background task `t` panicked"));
        let ends = reported(|failed| drop(task("t", &stop, async {}, failed))).await;
        assert_eq!(ends.as_deref(), Some("the background task `t` ended"));
        let panics = reported(|failed| thread("t", &stop, || panic!("on purpose"), failed).expect("a thread")).await;
        assert_eq!(panics.as_deref(), Some("the background task `t` panicked"));
        let ends = reported(|failed| thread("t", &stop, || (), failed).expect("a thread")).await;
        assert_eq!(ends.as_deref(), Some("the background task `t` ended"));
        let panics = reported(|failed| callback("t", || panic!("on purpose"), failed)).await;
        assert_eq!(panics.as_deref(), Some("the callback `t` panicked"));
        assert_eq!(reported(|failed| callback("t", || (), failed)).await, None);
    }

    #[tokio::test]
    async fn one_that_is_stopped_is_not() {
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(reported(|failed| drop(task("t", &stop, std::future::pending(), failed))).await, None);
        assert_eq!(reported(|failed| thread("t", &stop, || (), failed).expect("a thread")).await, None);
    }
}
