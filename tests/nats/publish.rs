//! How publishes end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use futures_util::StreamExt as _;
use futures_util::future::{FutureExt as _, join_all};
use hookbridge::destination::settings::Topology;
use hookbridge::message::Outcome;
use hookbridge::reason::Reason;

use crate::rig::{AT_ONCE, STREAM, again, count, counted, down, jetstream, open, opening, publish, ready, up};
use crate::support::brokers::{Broker, Kind, With};
use crate::support::event::{event, event_of, message};
use crate::support::wait::{SOON, until};

/// The library would keep 2,048 of them and send them after the reconnect.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_while_down_never_appears() {
    let nats = Broker::start(Kind::Nats);
    let opening = opening(&[nats.url()], &["a"]);
    let metrics = Arc::clone(&opening.metrics);
    let destination = open(opening);
    up(&*destination).await;
    assert_eq!(counted(&metrics), (1, 1));
    nats.stop();
    assert_eq!(down(&*destination).await.reason, Reason::Unreachable);
    assert_eq!(counted(&metrics), (0, 1));
    let started = Instant::now();
    let confirms = (0..5000).map(|number| destination.publish(message("a", event(&format!("late_{number}")))));
    for outcome in join_all(confirms.collect::<Vec<_>>()).await {
        assert_eq!(again(outcome), Reason::Unreachable);
    }
    assert!(started.elapsed() < AT_ONCE, "at once, not after a timeout");
    nats.start_again();
    up(&*destination).await;
    assert_eq!(publish(&*destination, "a", "after").await, Outcome::Confirmed);
    assert_eq!(count(&jetstream(nats.url()).await).await, 1);
    assert_eq!(counted(&metrics), (1, 2));
}

/// A publish without its answer ends with its connection, not with its timeout.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_ends_what_it_carried() {
    let nats = Broker::start(Kind::Nats);
    let destination = ready(nats.url(), &["a"]).await;
    nats.pause();
    let confirms = (0..100).map(|number| destination.publish(message("a", event(&format!("msg_{number}")))));
    let confirms: Vec<_> = confirms.collect();
    let started = Instant::now();
    nats.kill();
    let outcomes = tokio::time::timeout(AT_ONCE, join_all(confirms)).await.expect("promptly");
    assert!(started.elapsed() < AT_ONCE);
    for outcome in outcomes {
        match outcome {
            Outcome::Unknown(failure) => assert_eq!(failure.reason, Reason::ConnectionLost),
            other => assert_eq!(again(other), Reason::Unreachable),
        }
    }
}

/// A frozen server keeps its connections: only pings tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_noticed() {
    let nats = Broker::start(Kind::Nats);
    let mut opening = opening(&[nats.url()], &["a"]);
    opening.publish_timeout = 4 * SOON;
    let destination = open(opening);
    up(&*destination).await;
    nats.pause();
    let waiting = destination.publish(message("a", event("msg_1")));
    down(&*destination).await;
    match tokio::time::timeout(AT_ONCE, waiting).await.expect("before its life is over") {
        Outcome::Unknown(failure) => assert_eq!(failure.reason, Reason::ConnectionLost),
        other => panic!("{other:?}"),
    }
    assert_eq!(again(publish(&*destination, "a", "msg_2").await), Reason::Unreachable);
    nats.resume();
    up(&*destination).await;
    assert_eq!(publish(&*destination, "a", "msg_1").await, Outcome::Confirmed);
    assert_eq!(count(&jetstream(nats.url()).await).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn larger_than_the_server_takes_is_never() {
    let nats = Broker::start_with(Kind::Nats, With { conf: "max_payload: 20000\n", ..With::default() });
    let destination = ready(nats.url(), &["a"]).await;
    let sent = |bytes| destination.publish(message("a", event_of("msg", bytes)));
    // The limit counts headers, too.
    for (bytes, fits) in [(15_000, true), (20_000, false), (30_000, false)] {
        let outcome = sent(bytes).await;
        match outcome {
            Outcome::Confirmed => assert!(fits),
            Outcome::Never(failure) => assert!(!fits && failure.reason == Reason::TooLarge),
            other => panic!("{other:?}"),
        }
    }
    let told = destination.probe().await.expect("it is well").join("\n");
    assert!(told.contains("max_payload is 20000"), "{told}");
}

/// The limit of an account is told by the end of the connection, not before, and with it go others' answers.
#[tokio::test(flavor = "multi_thread")]
async fn larger_than_the_account_takes_is_never() {
    let user = "users [ { user: us, password: pw } ]";
    let conf = format!(
        "accounts {{ A {{ jetstream: enabled, limits {{ max_payload: 20000 }}, {user} }} }}\nno_auth_user: us\n"
    );
    let nats = Broker::start_with(Kind::Nats, With { conf: &conf, ..With::default() });
    let destination = ready(nats.url(), &["a"]).await;
    for bytes in [30_000, 900_000] {
        let ended = async || match destination.publish(message("a", event_of("large", bytes))).await {
            Outcome::Never(failure) => Some(failure.reason),
            Outcome::Again(_) | Outcome::Unknown(_) => None,
            Outcome::Confirmed => panic!("it is larger than the limit"),
        };
        assert_eq!(until("never", SOON, ended).await, Reason::TooLarge);
    }
    let confirmed = async || (publish(&*destination, "a", "small").await == Outcome::Confirmed).then_some(());
    until("confirmed afterwards", SOON, confirmed).await;

    // Together with others: it alone is never.
    let small: Vec<_> = (0..20).map(|number| format!("small_{number}")).collect();
    let mut left: Vec<_> = small.iter().map(|id| event(id)).collect();
    left.insert(10, event_of("large", 30_000));
    until("no more than the small ones", SOON, async || {
        let confirms: Vec<_> = left.iter().map(|event| destination.publish(message("a", event.clone()))).collect();
        for (event, outcome) in std::mem::take(&mut left).into_iter().zip(join_all(confirms).await) {
            match outcome {
                Outcome::Never(_) => assert_eq!(&*event.id, "large"),
                Outcome::Confirmed => assert_ne!(&*event.id, "large"),
                Outcome::Again(_) | Outcome::Unknown(_) => left.push(event),
            }
        }
        left.is_empty().then_some(())
    })
    .await;
    assert_eq!(count(&jetstream(nats.url()).await).await, 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn larger_than_the_stream_takes_is_never() {
    let nats = Broker::start(Kind::Nats);
    let context = jetstream(nats.url()).await;
    let config =
        Config { name: STREAM.into(), subjects: vec!["a".into()], max_message_size: 5000, ..Config::default() };
    context.create_stream(config).await.expect("a stream");
    let destination = ready(nats.url(), &["a"]).await;
    match destination.publish(message("a", event_of("msg", 5000))).await {
        Outcome::Never(failure) => assert_eq!(failure.reason, Reason::TooLarge),
        other => panic!("{other:?}"),
    }
    assert_eq!(publish(&*destination, "a", "small").await, Outcome::Confirmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_is_again() {
    let nats = Broker::start(Kind::Nats);
    let context = jetstream(nats.url()).await;
    let config = Config {
        name: STREAM.into(),
        subjects: vec!["a".into()],
        max_messages: 3,
        discard: DiscardPolicy::New,
        ..Config::default()
    };
    context.create_stream(config).await.expect("a stream");
    let destination = ready(nats.url(), &["a"]).await;
    for id in ["1", "2", "3"] {
        assert_eq!(publish(&*destination, "a", id).await, Outcome::Confirmed);
    }
    assert_eq!(again(publish(&*destination, "a", "4").await), Reason::Full);
    // A duplicate of what is stored needs no room.
    assert_eq!(publish(&*destination, "a", "3").await, Outcome::Confirmed);
    context.get_stream(STREAM).await.expect("the stream").purge().await.expect("room");
    assert_eq!(publish(&*destination, "a", "4").await, Outcome::Confirmed);
}

/// The same id again, by another connection: one message, and every publish of it confirmed.
#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_is_a_confirm() {
    let nats = Broker::start(Kind::Nats);
    for _ in 0..2 {
        let destination = ready(nats.url(), &["a", "b"]).await;
        for topic in ["a", "b"] {
            assert_eq!(publish(&*destination, topic, "msg_1").await, Outcome::Confirmed);
        }
        destination.close(SOON).await;
    }
    assert_eq!(count(&jetstream(nats.url()).await).await, 2);
}

/// Another stream has the subject by now.
#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_stream_is_again() {
    let nats = Broker::start(Kind::Nats);
    let context = jetstream(nats.url()).await;
    let config = Config { name: STREAM.into(), subjects: vec!["a".into()], ..Config::default() };
    context.create_stream(config).await.expect("a stream");
    let mut opening = opening(&[nats.url()], &["a"]);
    opening.settings.topology = Topology::Verify;
    let destination = open(opening);
    up(&*destination).await;
    context.delete_stream(STREAM).await.expect("deleted");
    assert_eq!(again(publish(&*destination, "a", "msg_1").await), Reason::Unroutable);
    let other = Config { name: "OTHER".into(), subjects: vec!["a".into()], ..Config::default() };
    let mut other = context.create_stream(other).await.expect("a stream");
    assert_eq!(again(publish(&*destination, "a", "msg_1").await), Reason::Topology);
    assert_eq!(other.info().await.expect("its state").state.messages, 0);
}

/// A stream that was deleted while we run is made again.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_comes_back() {
    let nats = Broker::start(Kind::Nats);
    let destination = ready(nats.url(), &["a"]).await;
    for id in ["msg_1", "msg_2"] {
        jetstream(nats.url()).await.delete_stream(STREAM).await.expect("deleted");
        let confirmed = async || (publish(&*destination, "a", id).await == Outcome::Confirmed).then_some(());
        until("confirmed", SOON, confirmed).await;
    }
}

/// Where somebody else listens on the subject, the server does not say that no stream does.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_comes_back_with_a_listener() {
    let nats = Broker::start(Kind::Nats);
    let destination = ready(nats.url(), &["a"]).await;
    let listener = async_nats::connect(nats.url()).await.expect("a connection");
    let _heard = listener.subscribe(">").await.expect("a subscription");
    listener.flush().await.expect("it listens");
    let context = jetstream(nats.url()).await;
    context.delete_stream(STREAM).await.expect("deleted");
    // Its life is not over when the stream is there again.
    let unanswered = destination.publish(message("a", event("msg_1")));
    until("made again", SOON / 2, async || context.get_stream(STREAM).await.ok().map(drop)).await;
    assert!(unanswered.now_or_never().is_none());
    assert_eq!(publish(&*destination, "a", "msg_1").await, Outcome::Confirmed);
}

/// Somebody who answers on the subject does not make an event safe.
#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_reply_is_no_confirm() {
    let nats = Broker::start(Kind::Nats);
    let mut opening = opening(&[nats.url()], &["a"]);
    opening.publish_timeout = Duration::from_secs(1);
    let destination = open(opening);
    up(&*destination).await;
    jetstream(nats.url()).await.delete_stream(STREAM).await.expect("deleted");
    let stranger = async_nats::connect(nats.url()).await.expect("a connection");
    let mut heard = stranger.subscribe("a").await.expect("a subscription");
    stranger.publish("a", "is the server listening for us?".into()).await.expect("published");
    heard.next().await.expect("it is");
    let confirm = destination.publish(message("a", event("msg_1")));
    let request = tokio::time::timeout(SOON, heard.next()).await.expect("in time").expect("the message");
    stranger.publish(request.reply.expect("an inbox"), "fine".into()).await.expect("a reply");
    match confirm.await {
        Outcome::Unknown(failure) => assert_eq!(failure.reason, Reason::Timeout),
        other => panic!("{other:?}"),
    }
}

/// With a limit of its own, `close` answers for what never came.
#[tokio::test(flavor = "multi_thread")]
async fn close_keeps_its_limit() {
    let nats = Broker::start(Kind::Nats);
    let destination = ready(nats.url(), &["a"]).await;
    nats.pause();
    let waiting = destination.publish(message("a", event("msg_1")));
    let started = Instant::now();
    destination.close(Duration::from_millis(200)).await;
    assert!(started.elapsed() < AT_ONCE);
    assert!(matches!(waiting.await, Outcome::Unknown(_) | Outcome::Again(_)));
    assert_eq!(again(publish(&*destination, "a", "msg_2").await), Reason::Closing);
    nats.resume();
    let context = jetstream(nats.url()).await;
    until("its connection is closed", SOON, async || connections(&nats).await.then_some(())).await;
    drop(context);
}

/// Whether the server has no connection of ours.
async fn connections(nats: &Broker) -> bool {
    let page = nats.export("NATS_MONITOR").trim_start_matches("http://").to_owned();
    tokio::task::spawn_blocking(move || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(page).expect("the monitor");
        stream.write_all(b"GET /connz HTTP/1.0\r\n\r\n").expect("asked");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answered");
        !text.contains("\"hookbridge\"")
    })
    .await
    .expect("answered")
}
