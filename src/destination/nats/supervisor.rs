//! Keeps the connection and the stream until the destination is closed.

use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::connection::{Access, BACKOFF, Connection};
use super::session;
use super::state::NatsState;
use super::topology::retention::Retention;
use super::topology::stream::{self, EnsuredStream};
use crate::destination::keeper;
use crate::destination::status::State;
use crate::message::Outcome;
use crate::reason::Reason;

/// After a connection that lasted this long, the back-off starts again with its first pause.
const STABLE: Duration = Duration::from_secs(5);
/// How often a stream is checked that keeps messages only while it has a consumer.
const CHECK_CONSUMERS: Duration = Duration::from_secs(2);

/// Starts the background tasks.
pub(super) fn start(access: Access, state: &Arc<NatsState>) {
    drop(keep("nats connection", state, keep_connected(access, Arc::clone(state))));
    drop(keep("nats topology", state, keep_topology(Arc::clone(state))));
}

/// Runs a task until the destination is closed. If it panics or ends before that, it ends the destination.
fn keep(name: &'static str, state: &Arc<NatsState>, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let shared = Arc::clone(state);
    keeper::task(name, &state.stop, task, move |failure| shared.end(failure))
}

/// Connects, runs a session until its client is of no use any more, and starts again.
async fn keep_connected(access: Access, state: Arc<NatsState>) {
    let (mut attempt, mut number, mut discovered) = (0_u32, 0, Vec::new());
    loop {
        sleep(BACKOFF.after(attempt)).await;
        attempt = attempt.saturating_add(1);
        let (sender, events) = unbounded_channel();
        match access.connect(&discovered, sender).await {
            Err(failure) => state.disconnected(failure),
            Ok(client) => {
                let since = Instant::now();
                let failure = session::run(&state, &client, events, &mut number).await;
                if since.elapsed() >= STABLE {
                    attempt = 1;
                }
                discovered = client.server_info().connect_urls;
                state.disconnected(failure);
                // The sender was cancelled before the library took the message.
                state.publishes.sender_stopped(&Outcome::Again(Reason::Unreachable.into()));
            }
        }
    }
}

/// Creates or checks the stream after each connect until it fits, and again when a publish reports that it does not:
/// the stream may have been deleted, or another replica, which added its own topics at the same time, removed ours.
async fn keep_topology(state: Arc<NatsState>) {
    let mut changes = state.status.subscribe();
    let (mut attempt, mut retention) = (0_u32, Retention::Keeps);
    loop {
        let current = changes.borrow_and_update().connection.clone();
        let Some(connection) = current else {
            attempt = 0;
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        };
        let ensured = stream::ensure(&state.wanted, &connection).await;
        let lost = |now: &State<Connection>| !Connection::is_current(connection.number, now);
        if lost(&changes.borrow()) {
            // The result says nothing about the next connection.
            continue;
        }
        attempt = attempt.saturating_add(1);
        let fits = ensured.and_then(|EnsuredStream { found, retention: now }| {
            // After a failed request, what was known of the stream stays.
            retention = now;
            state.status.warn(&found.warnings);
            found.fits()
        });
        // First, so that publishes are refused when the status says that the destination is down.
        state.publishes.checked(retention.discards());
        let fits = fits.map_or_else(
            |failure| {
                state.status.down(failure);
                false
            },
            |()| {
                state.status.up();
                true
            },
        );
        tokio::select! {
            () = sleep(BACKOFF.after(attempt)) => {}
            _ = changes.wait_for(lost) => continue,
        }
        if fits {
            tokio::select! {
                () = state.recheck.notified() => attempt = 1,
                () = sleep(CHECK_CONSUMERS), if retention == Retention::KeepsForConsumers => attempt = 1,
                _ = changes.wait_for(lost) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::in_flight::tests::message;
    use super::super::state::tests::state;
    use super::*;
    use crate::destination::Health;

    /// The queued publish was not sent; the two others may be stored.
    #[tokio::test]
    async fn panic_ends_the_destination_and_every_publish() {
        let state = state();
        let publishes = &state.publishes;
        publishes.connected(1);
        state.status.up();
        let [sent, sending, queued] = ["a", "b", "c"].map(|subject| publishes.submit(message(subject)).unwrap());
        publishes.sent(publishes.next().await.token, 1);
        publishes.next().await;
        keep("nats test", &state, async { panic!("on purpose") }).await.unwrap();
        let failure = publishes.refusal().expect("it refuses publishes");
        assert!(failure.reason == Reason::Failed && failure.detail.contains("`nats test` panicked"), "{failure}");
        assert_eq!(state.status.health(), Health::Down(failure.clone()));
        assert_eq!(sent.await.unwrap(), Outcome::Unknown(Reason::ConnectionLost.into()));
        assert_eq!(sending.await.unwrap(), Outcome::Unknown(Reason::ConnectionLost.into()));
        assert_eq!(queued.await.unwrap(), Outcome::Again(failure.clone()));
        publishes.connected(2);
        assert_eq!(
            publishes.submit(message("a")).unwrap_err(),
            failure,
            "a session that was still running reconnected"
        );
        assert!(state.stop.is_cancelled(), "the other task stops");
    }
}
