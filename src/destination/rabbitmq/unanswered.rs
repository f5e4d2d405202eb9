//! Declarations that the broker has not answered: the process of a queue may be stuck. Each holds a channel until it is
//! answered, so none is repeated before that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::reason::{Failure, Reason};

/// How long one declaration may take.
const LONGEST: Duration = Duration::from_secs(5);
/// How long all declarations of a check wait together; after that, each waits for [`SHORTEST`].
const TOTAL: Duration = Duration::from_secs(15);
const SHORTEST: Duration = Duration::from_millis(250);

/// What one connection waits for.
#[derive(Clone, Default)]
pub(super) struct UnansweredCalls {
    what: Arc<Mutex<BTreeSet<String>>>,
    /// Notified when one of them was answered.
    pub(super) answered: Arc<Notify>,
}

impl UnansweredCalls {
    /// Waits for the answer to a declaration, as long as `patience` allows. Without an answer, the call goes on in a task.
    ///
    /// # Errors
    /// The broker does not answer.
    pub(super) async fn wait<T: Send + 'static>(
        &self,
        what: &str,
        call: BoxFuture<'static, T>,
        patience: &Patience,
    ) -> Result<T, Failure> {
        let mut call = call;
        if !self.what.lock().contains(what) {
            match timeout(patience.next(), &mut call).await {
                Ok(answer) => return Ok(answer),
                Err(_) => {
                    let (calls, what) = (self.clone(), what.to_owned());
                    calls.what.lock().insert(what.clone());
                    tokio::spawn(async move {
                        // The end of the connection ends the call too.
                        let _ = call.await;
                        calls.what.lock().remove(&what);
                        calls.answered.notify_one();
                    });
                }
            }
        }
        Err(Failure::new(Reason::Timeout, format!("{what}: the broker does not answer; the queue may be stuck")))
    }
}

/// How long a check may still wait.
pub(super) struct Patience(Instant);

impl Patience {
    pub(super) fn new() -> Patience {
        Patience(Instant::now() + TOTAL)
    }

    fn next(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now()).clamp(SHORTEST, LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::{FutureExt as _, ready};
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_is_not_repeated() {
        let (calls, patience) = (UnansweredCalls::default(), Patience::new());
        let (answer, call) = oneshot::channel::<()>();
        let unanswered = calls.wait("queue a", call.boxed(), &patience).await;
        assert_eq!(unanswered.unwrap_err().reason, Reason::Timeout);
        assert!(calls.wait("queue a", ready(1).boxed(), &patience).await.is_err(), "it is not called again");
        assert_eq!(calls.wait("queue b", ready(1).boxed(), &patience).await, Ok(1));
        answer.send(()).unwrap();
        calls.answered.notified().await;
        assert_eq!(calls.wait("queue a", ready(1).boxed(), &patience).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn many_calls_without_an_answer_are_waited_for_in_bounded_time() {
        let (calls, patience, before) = (UnansweredCalls::default(), Patience::new(), Instant::now());
        for number in 0..100 {
            let pending = std::future::pending::<()>().boxed();
            assert!(calls.wait(&format!("queue {number}"), pending, &patience).await.is_err());
        }
        assert!(before.elapsed() < Duration::from_secs(45), "{:?}", before.elapsed());
    }
}
