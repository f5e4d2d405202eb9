//! The queue and the table, without a server.

use futures_util::future::FutureExt as _;

use super::*;

/// A message without headers and body.
pub(in crate::destination::nats) fn message(subject: &str) -> NatsMessage {
    sized(subject, 0)
}

fn sized(subject: &str, bytes: usize) -> NatsMessage {
    NatsMessage { subject: subject.into(), headers: async_nats::HeaderMap::new(), body: vec![0; bytes].into() }
}

/// A table with connection 1.
fn connected(timeout: Duration) -> PublishTable {
    let table = PublishTable::new(timeout);
    table.connected(1);
    table
}

const LONG: Duration = Duration::from_secs(60);

/// Publishes and sends a message of this size on connection 1. Returns the pending outcome and the token.
async fn send(table: &PublishTable, bytes: usize) -> (oneshot::Receiver<Outcome>, u64) {
    let outcome = table.submit(sized("a", bytes)).unwrap();
    let token = table.next().await.token;
    table.sent(token, 1);
    (outcome, token)
}

async fn ended(outcome: oneshot::Receiver<Outcome>) -> (&'static str, Option<Reason>) {
    let outcome = outcome.await.unwrap();
    (outcome.word(), outcome.failure().map(|failure| failure.reason))
}

#[tokio::test]
async fn end_of_a_connection_separates_queued_from_sent() {
    let table = PublishTable::new(LONG);
    assert_eq!(table.submit(message("a")).unwrap_err().reason, Reason::Unreachable);
    table.connected(1);
    let outcomes = [(); 4].map(|()| table.submit(message("a")).unwrap());
    let first = table.next().await.token;
    table.sent(first, 1);
    let second = table.next().await.token;
    table.sent(second, 1);
    let third = table.next().await.token;
    assert!(first < second && second < third);
    table.resolve(second, Outcome::Confirmed);
    table.disconnected(Reason::Unreachable.into());
    // The library took it after its connection ended, and may send it on the next one.
    table.sent(third, 1);
    for (outcome, expected) in outcomes.into_iter().zip([
        ("unknown", Some(Reason::ConnectionLost)),
        ("confirmed", None),
        ("unknown", Some(Reason::ConnectionLost)),
        ("again", Some(Reason::Unreachable)),
    ]) {
        assert_eq!(ended(outcome).await, expected);
    }
    assert_eq!(table.len(), 0);
    table.connected(2);
    assert!(table.next().now_or_never().is_none(), "a publish with an outcome is not sent later");
}

#[tokio::test]
async fn timed_out_publishes_leave_the_table() {
    let table = connected(Duration::ZERO);
    for _ in 0..10_000 {
        let (sent, _) = send(&table, 0).await;
        let queued = table.submit(message("a")).unwrap();
        assert!(!table.stalled(Duration::from_secs(5)));
        table.expire();
        assert!(table.stalled(Duration::from_secs(5)));
        assert_eq!(table.len(), 0);
        assert_eq!(ended(sent).await, ("unknown", Some(Reason::Timeout)));
        assert_eq!(ended(queued).await, ("again", Some(Reason::Timeout)));
        assert!(table.next().now_or_never().is_none());
    }
}

#[tokio::test]
async fn denied_subject_ends_only_its_own_publishes() {
    let table = connected(LONG);
    let [first, second, third] = ["a", "b", "a"].map(|subject| table.submit(message(subject)).unwrap());
    for _ in 0..2 {
        table.sent(table.next().await.token, 1);
    }
    table.denied("a", &Reason::NotAuthorized.into());
    assert_eq!(ended(first).await, ("again", Some(Reason::NotAuthorized)));
    assert!(second.now_or_never().is_none(), "another subject");
    assert!(third.now_or_never().is_none(), "not sent yet");
}

/// The subject was allowed before, so confirms may still arrive. Publishes after the first refusal are refused too.
#[tokio::test]
async fn revoked_permission_makes_earlier_publishes_unknown() {
    let table = connected(LONG);
    let ((_, first), (second, _)) = (send(&table, 0).await, send(&table, 0).await);
    table.resolve(first, Outcome::Confirmed);
    for expected in ["unknown", "again"] {
        let (third, _) = send(&table, 0).await;
        table.denied("a", &Reason::NotAuthorized.into());
        assert_eq!(ended(third).await, (expected, Some(Reason::NotAuthorized)));
    }
    assert_eq!(ended(second).await, ("unknown", Some(Reason::NotAuthorized)));
    table.resolve(send(&table, 0).await.1, Outcome::Confirmed);
    table.connected(2);
    let (outcome, token) = (table.submit(message("a")).unwrap(), table.next().await.token);
    table.sent(token, 2);
    table.denied("a", &Reason::NotAuthorized.into());
    assert_eq!(ended(outcome).await, ("again", Some(Reason::NotAuthorized)), "another connection");
}

/// The server does not say which message was too large.
#[tokio::test]
async fn only_a_message_that_surely_exceeds_the_limit_is_never() {
    let table = connected(LONG);
    let ((small, _), (large, _)) = (send(&table, 1).await, send(&table, 3).await);
    let queued = table.submit(sized("a", 5)).unwrap();
    table.too_large(&Reason::TooLarge.into(), 4);
    assert_eq!(table.len(), 3, "it may have been a request to the API");
    table.too_large(&Reason::TooLarge.into(), 2);
    assert_eq!(ended(large).await, ("never", Some(Reason::TooLarge)));
    table.disconnected(Reason::Unreachable.into());
    assert_eq!(ended(small).await, ("unknown", Some(Reason::ConnectionLost)));
    assert_eq!(ended(queued).await, ("again", Some(Reason::Unreachable)));

    // The client may send a message of the last connection again, and that may be the one that is too large.
    table.connected(1);
    drop(send(&table, 9).await);
    table.disconnected(Reason::Unreachable.into());
    table.connected(1);
    let (smaller, _) = send(&table, 8).await;
    table.too_large(&Reason::TooLarge.into(), 0);
    table.disconnected(Reason::Unreachable.into());
    assert_eq!(ended(smaller).await, ("unknown", Some(Reason::ConnectionLost)));
    table.sender_stopped(&Outcome::Again(Reason::Unreachable.into()));
    table.connected(1);
    let (smaller, _) = send(&table, 8).await;
    table.too_large(&Reason::TooLarge.into(), 0);
    assert_eq!(ended(smaller).await, ("never", Some(Reason::TooLarge)));
}

#[tokio::test]
async fn closed_table_refuses_publishes_and_finishes_the_others() {
    let table = connected(LONG);
    let outcome = table.submit(message("a")).unwrap();
    table.close(Reason::Closing.into());
    table.close(Reason::Failed.into());
    assert_eq!(table.submit(message("a")).unwrap_err().reason, Reason::Closing, "the first call counts");
    let token = table.next().await.token;
    let (_, ()) = tokio::join!(table.idle(), async {
        table.sent(token, 1);
        table.resolve(token, Outcome::Confirmed);
    });
    assert_eq!(ended(outcome).await, ("confirmed", None));
}

#[tokio::test]
async fn unfit_stream_refuses_what_is_queued_and_what_follows() {
    let table = connected(LONG);
    let (sent, token) = send(&table, 0).await;
    let queued = table.submit(message("a")).unwrap();
    table.checked(Some(Reason::Topology.into()));
    assert_eq!(ended(queued).await, ("again", Some(Reason::Topology)));
    assert_eq!(table.submit(message("a")).unwrap_err().reason, Reason::Topology);
    table.resolve(token, Outcome::Confirmed);
    assert_eq!(ended(sent).await, ("confirmed", None));
    table.checked(None);
    assert!(table.submit(message("a")).is_ok());
}
