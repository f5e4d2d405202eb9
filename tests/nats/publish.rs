//! The outcomes of publishes.

use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use futures_util::StreamExt as _;
use futures_util::future::{FutureExt as _, join_all};
use hookbridge::destination::settings::Topology;
use hookbridge::message::Outcome;
use hookbridge::reason::Reason;
use serde_json::json;

use crate::rig::{
    AT_ONCE, STREAM, again, config, count, counted, create_stream, down, jetstream, open, opening, publish, ready,
    unconfirmed, up,
};
use crate::support::brokers::{Broker, Kind, With};
use crate::support::event::{event, event_of, message};
use crate::support::program::{Program, SECRET};
use crate::support::sender::{body, post};
use crate::support::wait::{SOON, until};

/// The library would queue 2,048 of them and send them after the reconnect.
#[tokio::test(flavor = "multi_thread")]
async fn publishes_refused_while_down_are_never_stored() {
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
    assert!(started.elapsed() < AT_ONCE, "it waited for a timeout");
    nats.start_again();
    up(&*destination).await;
    assert_eq!(publish(&*destination, "a", "after").await, Outcome::Confirmed);
    assert_eq!(count(&jetstream(nats.url()).await).await, 1);
    assert_eq!(counted(&metrics), (1, 2));
}

/// A publish without an answer does not wait for its timeout.
#[tokio::test(flavor = "multi_thread")]
async fn end_of_the_connection_ends_its_publishes() {
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
        let expected = [("unknown", Reason::ConnectionLost), ("again", Reason::Unreachable)];
        assert!(expected.contains(&unconfirmed(outcome.clone())), "{outcome:?}");
    }
}

/// A frozen server keeps its connections open: only pings detect it.
#[tokio::test(flavor = "multi_thread")]
async fn frozen_server_is_detected() {
    let nats = Broker::start(Kind::Nats);
    let mut opening = opening(&[nats.url()], &["a"]);
    opening.publish_timeout = 4 * SOON;
    let destination = open(opening);
    up(&*destination).await;
    nats.pause();
    let waiting = destination.publish(message("a", event("msg_1")));
    down(&*destination).await;
    let outcome = tokio::time::timeout(AT_ONCE, waiting).await.expect("before the publish times out");
    assert_eq!(unconfirmed(outcome), ("unknown", Reason::ConnectionLost));
    assert_eq!(again(publish(&*destination, "a", "msg_2").await), Reason::Unreachable);
    nats.resume();
    up(&*destination).await;
    assert_eq!(publish(&*destination, "a", "msg_1").await, Outcome::Confirmed);
    assert_eq!(count(&jetstream(nats.url()).await).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn message_over_the_server_limit_is_never() {
    let nats = Broker::start_with(Kind::Nats, With { conf: "max_payload: 20000\n", ..With::default() });
    let destination = ready(nats.url(), &["a"]).await;
    let sent = |bytes| destination.publish(message("a", event_of("msg", bytes)));
    // The limit counts headers, too.
    assert_eq!(sent(15_000).await, Outcome::Confirmed);
    for bytes in [20_000, 30_000] {
        assert_eq!(unconfirmed(sent(bytes).await), ("never", Reason::TooLarge));
    }
    let report = destination.probe().await.expect("a report").join("\n");
    assert!(report.contains("max_payload is 20000"), "{report}");
}

/// The server reports the limit of an account only by closing the connection, and other publishes lose their answers.
#[tokio::test(flavor = "multi_thread")]
async fn message_over_the_account_limit_is_never() {
    let user = "users [ { user: bridge, password: pw } ]";
    let conf = format!(
        "accounts {{ A {{ jetstream: enabled, limits {{ max_payload: 20000 }}, {user} }} }}\nno_auth_user: bridge\n"
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

    // Sent together with smaller messages, only the large one is `Never`.
    let small: Vec<_> = (0..20).map(|number| format!("small_{number}")).collect();
    let mut open: Vec<_> = small.iter().map(|id| event(id)).collect();
    open.insert(10, event_of("large", 30_000));
    until("every small message confirmed", SOON, async || {
        let confirms: Vec<_> = open.iter().map(|event| destination.publish(message("a", event.clone()))).collect();
        for (event, outcome) in std::mem::take(&mut open).into_iter().zip(join_all(confirms).await) {
            match outcome {
                Outcome::Never(_) => assert_eq!(&*event.id, "large"),
                Outcome::Confirmed => assert_ne!(&*event.id, "large"),
                Outcome::Again(_) | Outcome::Unknown(_) => open.push(event),
            }
        }
        open.is_empty().then_some(())
    })
    .await;
    assert_eq!(count(&jetstream(nats.url()).await).await, 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn message_over_the_stream_limit_is_never() {
    let nats = Broker::start(Kind::Nats);
    create_stream(nats.url(), Config { max_message_size: 5000, ..config(&["a"]) }).await;
    let destination = ready(nats.url(), &["a"]).await;
    let outcome = destination.publish(message("a", event_of("msg", 5000))).await;
    assert_eq!(unconfirmed(outcome), ("never", Reason::TooLarge));
    assert_eq!(publish(&*destination, "a", "small").await, Outcome::Confirmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn full_stream_is_again() {
    let nats = Broker::start(Kind::Nats);
    let config = Config { max_messages: 3, discard: DiscardPolicy::New, ..config(&["a"]) };
    let context = create_stream(nats.url(), config).await;
    let destination = ready(nats.url(), &["a"]).await;
    for id in ["1", "2", "3"] {
        assert_eq!(publish(&*destination, "a", id).await, Outcome::Confirmed);
    }
    assert_eq!(again(publish(&*destination, "a", "4").await), Reason::Full);
    // A duplicate needs no room.
    assert_eq!(publish(&*destination, "a", "3").await, Outcome::Confirmed);
    context.get_stream(STREAM).await.expect("the stream").purge().await.expect("purged");
    assert_eq!(publish(&*destination, "a", "4").await, Outcome::Confirmed);
}

/// `/readyz`, the metric and the log have a word for a destination that is up and takes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn full_stream_is_refusing_until_it_confirms() {
    let nats = Broker::start(Kind::Nats);
    let program = Program::serve(&["--to", nats.url(), "--secret", SECRET, "--store", "memory"]);
    program.ready().await;
    let context = jetstream(nats.url()).await;
    let mut stream = context.get_stream(STREAM).await.expect("the stream");
    let created = stream.info().await.expect("its configuration").config.clone();
    context.update_stream(Config { max_messages: 1, ..created }).await.expect("updated");
    let deliver = async |id: &str| post(&program.url("videogen"), id, &body("file.playback_ready", "f1")).await.status;
    assert_eq!(deliver("msg_0").await, 200);
    for number in 1..=5 {
        assert_eq!(deliver(&format!("msg_{number}")).await, 503);
    }
    let (status, page) = program.get("/readyz").await;
    let shown =
        |page: &str| serde_json::from_str::<serde_json::Value>(page).expect("JSON")["destinations"]["nats"].take();
    assert_eq!(status, 200, "{page}");
    let nats_shown = shown(&page);
    assert_eq!((&nats_shown["state"], &nats_shown["reason"]), (&json!("refusing"), &json!("full")), "{page}");
    assert!(nats_shown["detail"].as_str().is_some_and(|detail| detail.contains("maximum messages")), "{page}");
    // A server's default is less than the largest body of ours.
    assert!(nats_shown["warnings"][0].as_str().is_some_and(|warning| warning.contains("max_payload")), "{page}");
    let gauges = async |name: &str, value: u8| {
        let (_, page) = program.get("/metrics").await;
        let line = |line: &str| line.starts_with(name) && line.ends_with(&format!("}} {value}"));
        assert!(page.lines().any(line), "{name} is not {value}: {page}");
    };
    gauges("hookbridge_destination_refusing{", 1).await;
    gauges("hookbridge_destination_up{", 1).await;
    program.logged("confirms nothing");
    assert_eq!(program.log().matches("confirms nothing").count(), 1);

    stream.purge().await.expect("purged");
    assert_eq!(deliver("msg_1").await, 200);
    gauges("hookbridge_destination_refusing{", 0).await;
    let (_, page) = program.get("/readyz").await;
    assert_eq!((&shown(&page)["state"], &shown(&page)["reason"]), (&json!("up"), &json!(null)), "{page}");
    program.logged("confirms again");
}

/// The second publish of an id, on another connection, stores nothing.
#[tokio::test(flavor = "multi_thread")]
async fn duplicate_is_confirmed() {
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

/// Another stream takes the subject now.
#[tokio::test(flavor = "multi_thread")]
async fn publish_to_another_stream_is_again() {
    let nats = Broker::start(Kind::Nats);
    let context = create_stream(nats.url(), config(&["a"])).await;
    let mut opening = opening(&[nats.url()], &["a"]);
    opening.settings.topology = Topology::Verify;
    let destination = open(opening);
    up(&*destination).await;
    context.delete_stream(STREAM).await.expect("deleted");
    assert_eq!(again(publish(&*destination, "a", "msg_1").await), Reason::Unroutable);
    let other = Config { name: "OTHER".into(), ..config(&["a"]) };
    let mut other = context.create_stream(other).await.expect("a stream");
    assert_eq!(again(publish(&*destination, "a", "msg_1").await), Reason::Topology);
    assert_eq!(other.info().await.expect("its state").state.messages, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_stream_is_created_again() {
    let nats = Broker::start(Kind::Nats);
    let destination = ready(nats.url(), &["a"]).await;
    for id in ["msg_1", "msg_2"] {
        jetstream(nats.url()).await.delete_stream(STREAM).await.expect("deleted");
        let confirmed = async || (publish(&*destination, "a", id).await == Outcome::Confirmed).then_some(());
        until("confirmed", SOON, confirmed).await;
    }
}

/// With a subscriber on the subject, the server does not answer "no responders".
#[tokio::test(flavor = "multi_thread")]
async fn deleted_stream_is_created_again_despite_another_subscriber() {
    let nats = Broker::start(Kind::Nats);
    let destination = ready(nats.url(), &["a"]).await;
    let subscriber = async_nats::connect(nats.url()).await.expect("a connection");
    let _messages = subscriber.subscribe(">").await.expect("a subscription");
    subscriber.flush().await.expect("the subscription is active");
    let context = jetstream(nats.url()).await;
    context.delete_stream(STREAM).await.expect("deleted");
    // It has not timed out when the stream exists again.
    let unanswered = destination.publish(message("a", event("msg_1")));
    until("created again", SOON / 2, async || context.get_stream(STREAM).await.ok().map(drop)).await;
    assert!(unanswered.now_or_never().is_none());
    assert_eq!(publish(&*destination, "a", "msg_1").await, Outcome::Confirmed);
}

/// Another client that subscribes to the subject and replies does not store the event.
#[tokio::test(flavor = "multi_thread")]
async fn reply_of_another_client_is_no_confirm() {
    let nats = Broker::start(Kind::Nats);
    let mut opening = opening(&[nats.url()], &["a"]);
    opening.publish_timeout = Duration::from_secs(1);
    let destination = open(opening);
    up(&*destination).await;
    jetstream(nats.url()).await.delete_stream(STREAM).await.expect("deleted");
    let other = async_nats::connect(nats.url()).await.expect("a connection");
    let mut messages = other.subscribe("a").await.expect("a subscription");
    other.publish("a", "first".into()).await.expect("published");
    messages.next().await.expect("the subscription is active");
    let confirm = destination.publish(message("a", event("msg_1")));
    let request = tokio::time::timeout(SOON, messages.next()).await.expect("in time").expect("the message");
    other.publish(request.reply.expect("an inbox"), "fine".into()).await.expect("a reply");
    assert_eq!(unconfirmed(confirm.await), ("unknown", Reason::Timeout));
}

/// `close` ends the publishes that have no outcome at its time limit.
#[tokio::test(flavor = "multi_thread")]
async fn close_respects_its_time_limit() {
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
    until("its connection is closed", SOON, async || is_disconnected(&nats).await.then_some(())).await;
    drop(context);
}

/// Whether the server has no connection of the destination.
async fn is_disconnected(nats: &Broker) -> bool {
    let page = nats.export("NATS_MONITOR").trim_start_matches("http://").to_owned();
    tokio::task::spawn_blocking(move || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(page).expect("the monitor");
        stream.write_all(b"GET /connz HTTP/1.0\r\n\r\n").expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        !text.contains("\"hookbridge\"")
    })
    .await
    .expect("an answer")
}
