//! Unit tests of the queue and the table, without a server.

use super::message::Outgoing;
use super::*;
use crate::destination::settings::BrokerUrl;
use crate::secret::Secret;

pub(super) fn settings(url: &str) -> DestinationSettings {
    DestinationSettings::new("stream", BrokerUrl::Nats(vec![Secret::new(url)]))
}

fn shared() -> Arc<Shared> {
    let opening = Opening {
        settings: settings("nats://127.0.0.1:1"),
        topics: vec!["a".into()],
        publish_timeout: Duration::from_secs(60),
        body_limit: 1,
        metrics: Arc::default(),
    };
    Arc::new(Shared::new(opening).unwrap())
}

fn outgoing(subject: &str) -> Outgoing {
    sized(subject, 0)
}

fn sized(subject: &str, bytes: usize) -> Outgoing {
    Outgoing { subject: subject.into(), headers: async_nats::HeaderMap::new(), body: vec![0; bytes].into() }
}

fn reason(outcome: &Outcome) -> (&'static str, Option<Reason>) {
    match outcome {
        Outcome::Confirmed => ("confirmed", None),
        Outcome::Again(failure) => ("again", Some(failure.reason)),
        Outcome::Unknown(failure) => ("unknown", Some(failure.reason)),
        Outcome::Never(failure) => ("never", Some(failure.reason)),
    }
}

#[tokio::test]
async fn the_end_of_a_connection_tells_queued_from_sent() {
    let pending = Pending::new(Duration::from_secs(60));
    assert_eq!(pending.submit(outgoing("a")).unwrap_err().reason, Reason::Unreachable);
    pending.connected(1);
    let mut answers: Vec<_> = (0..4).map(|_| pending.submit(outgoing("a")).unwrap()).collect();
    let first = pending.work().await;
    pending.sent(first.token, 1);
    let second = pending.work().await;
    pending.sent(second.token, 1);
    let third = pending.work().await;
    assert!(first.token < second.token && second.token < third.token);
    pending.resolve(second.token, Outcome::Confirmed);
    pending.disconnected(Reason::Unreachable.into());
    // Handed over after its connection ended: the library may send it by the next one.
    pending.sent(third.token, 1);
    let mut ended = Vec::new();
    for answer in answers.drain(..) {
        ended.push(reason(&answer.await.unwrap()));
    }
    assert_eq!(
        ended,
        [
            ("unknown", Some(Reason::ConnectionLost)),
            ("confirmed", None),
            ("unknown", Some(Reason::ConnectionLost)),
            ("again", Some(Reason::Unreachable)),
        ]
    );
    assert_eq!(pending.len(), 0);
    pending.connected(2);
    assert!(pending.work().now_or_never().is_none(), "what was answered is not sent later");
}

#[tokio::test]
async fn unanswered_publishes_leave_the_table() {
    let pending = Pending::new(Duration::ZERO);
    pending.connected(1);
    for _ in 0..10_000 {
        let sent = pending.submit(outgoing("a")).unwrap();
        let work = pending.work().await;
        pending.sent(work.token, 1);
        let queued = pending.submit(outgoing("a")).unwrap();
        assert!(!pending.stalled(Duration::from_secs(5)));
        pending.expire();
        assert!(pending.stalled(Duration::from_secs(5)));
        assert_eq!(pending.len(), 0);
        assert_eq!(reason(&sent.await.unwrap()), ("unknown", Some(Reason::Timeout)));
        assert_eq!(reason(&queued.await.unwrap()), ("again", Some(Reason::Timeout)));
        assert!(pending.work().now_or_never().is_none());
    }
}

#[tokio::test]
async fn a_denied_subject_ends_its_own_only() {
    let pending = Pending::new(Duration::from_secs(60));
    pending.connected(1);
    let answers = ["a", "b", "a"].map(|subject| pending.submit(outgoing(subject)).unwrap());
    for _ in 0..2 {
        let work = pending.work().await;
        pending.sent(work.token, 1);
    }
    pending.denied("a", &Reason::NotAuthorized.into());
    let [first, second, third] = answers;
    assert_eq!(reason(&first.await.unwrap()), ("again", Some(Reason::NotAuthorized)));
    assert!(second.now_or_never().is_none(), "another subject");
    assert!(third.now_or_never().is_none(), "not sent yet");
}

/// It was allowed before: confirms may be on their way. What is sent after the first refusal is refused, too.
#[tokio::test]
async fn a_permission_withdrawn_leaves_some_unknown() {
    let pending = Pending::new(Duration::from_secs(60));
    pending.connected(1);
    let send = async || {
        let answer = pending.submit(outgoing("a")).unwrap();
        let token = pending.work().await.token;
        pending.sent(token, 1);
        (answer, token)
    };
    let ((_, first), (second, _)) = (send().await, send().await);
    pending.resolve(first, Outcome::Confirmed);
    for expected in ["unknown", "again"] {
        let (third, _) = send().await;
        pending.denied("a", &Reason::NotAuthorized.into());
        assert_eq!(reason(&third.await.unwrap()), (expected, Some(Reason::NotAuthorized)));
    }
    assert_eq!(reason(&second.await.unwrap()), ("unknown", Some(Reason::NotAuthorized)));
    pending.resolve(send().await.1, Outcome::Confirmed);
    pending.connected(2);
    let (answer, token) = (pending.submit(outgoing("a")).unwrap(), pending.work().await.token);
    pending.sent(token, 2);
    pending.denied("a", &Reason::NotAuthorized.into());
    assert_eq!(reason(&answer.await.unwrap()), ("again", Some(Reason::NotAuthorized)), "another connection");
}

/// The server does not say which message was too large.
#[tokio::test]
async fn only_what_surely_exceeds_the_limit_is_never() {
    let pending = Pending::new(Duration::from_secs(60));
    pending.connected(1);
    let send = async |bytes| {
        let answer = pending.submit(sized("a", bytes)).unwrap();
        let token = pending.work().await.token;
        pending.sent(token, 1);
        (answer, token)
    };
    let ((small, _), (large, _), queued) = (send(1).await, send(3).await, pending.submit(sized("a", 5)).unwrap());
    pending.too_large(&Reason::TooLarge.into(), 4);
    assert_eq!(pending.len(), 3, "it may have been a request to the API");
    pending.too_large(&Reason::TooLarge.into(), 2);
    assert_eq!(reason(&large.await.unwrap()), ("never", Some(Reason::TooLarge)));
    pending.disconnected(Reason::Unreachable.into());
    assert_eq!(reason(&small.await.unwrap()), ("unknown", Some(Reason::ConnectionLost)));
    assert_eq!(reason(&queued.await.unwrap()), ("again", Some(Reason::Unreachable)));

    // The client may send what the last connection was given: then that is the one.
    pending.connected(1);
    let (lost, _) = send(9).await;
    pending.disconnected(Reason::Unreachable.into());
    drop(lost);
    pending.connected(1);
    let (smaller, _) = send(8).await;
    pending.too_large(&Reason::TooLarge.into(), 0);
    pending.disconnected(Reason::Unreachable.into());
    assert_eq!(reason(&smaller.await.unwrap()), ("unknown", Some(Reason::ConnectionLost)));
    pending.abandoned(&Outcome::Again(Reason::Unreachable.into()));
    pending.connected(1);
    let (smaller, _) = send(8).await;
    pending.too_large(&Reason::TooLarge.into(), 0);
    assert_eq!(reason(&smaller.await.unwrap()), ("never", Some(Reason::TooLarge)));
}

#[tokio::test]
async fn closing_takes_nothing_new_and_waits() {
    let pending = Pending::new(Duration::from_secs(60));
    pending.connected(1);
    let answer = pending.submit(outgoing("a")).unwrap();
    pending.close();
    assert_eq!(pending.submit(outgoing("a")).unwrap_err().reason, Reason::Closing);
    let token = pending.work().await.token;
    let (_, ()) = tokio::join!(pending.idle(), async {
        pending.sent(token, 1);
        pending.resolve(token, Outcome::Confirmed);
    });
    assert_eq!(answer.await.unwrap(), Outcome::Confirmed);
}

/// Another thread may be about to hand it over.
#[tokio::test]
async fn what_is_being_handed_over_at_the_end_is_unknown() {
    let shared = shared();
    shared.pending.connected(1);
    let leaving = shared.pending.submit(outgoing("a")).unwrap();
    let _token = shared.pending.work().await.token;
    drop(Nats { shared, stop: CancellationToken::new() });
    assert_eq!(reason(&leaving.await.unwrap()), ("unknown", Some(Reason::ConnectionLost)));
}

#[tokio::test]
async fn a_panic_closes_the_destination() {
    let (shared, stop) = (shared(), CancellationToken::new());
    shared.pending.connected(1);
    shared.set_health(Health::Up);
    let queued = shared.pending.submit(outgoing("a")).unwrap();
    let task = async { panic!("on purpose") }.boxed();
    tokio::spawn(watched(Arc::clone(&shared), stop.clone(), task)).await.unwrap();
    assert_eq!(*shared.health.lock(), Health::Down(Reason::Failed.into()));
    assert_eq!(reason(&queued.await.unwrap()), ("again", Some(Reason::Failed)));
    assert_eq!(shared.pending.submit(outgoing("a")).unwrap_err().reason, Reason::Closing);
    assert!(stop.is_cancelled());
}
