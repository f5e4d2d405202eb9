//! Calls that block. Each runs on a thread of its own, not on the runtime's pool: the end of a runtime waits for that pool.

use tokio::sync::oneshot;

/// Runs the call. The receiver fails if the call panics or no thread can be started.
pub(super) fn spawn<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
    let (reply, result) = oneshot::channel();
    let run = move || drop(reply.send(call()));
    if let Err(error) = std::thread::Builder::new().name("kafka-blocking".into()).spawn(run) {
        tracing::error!(%error, "cannot start a thread for a call to Kafka");
    }
    result
}
