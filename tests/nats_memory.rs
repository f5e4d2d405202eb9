//! Alone in its process: it measures the process's memory.

#[path = "support/counting.rs"]
mod counting;
mod support;

#[path = "nats/rig.rs"]
#[allow(dead_code, reason = "shared with tests/nats.rs")]
mod rig;

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::stream::Config;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use hookbridge::destination::settings::Topology;
use hookbridge::message::Outcome;
use hookbridge::reason::Reason;

use counting::LIVE;
use rig::{STREAM, jetstream, open, opening, up};
use support::brokers::{Broker, Kind};
use support::event::{event, message};
use support::wait::{SOON, until};

const ROUNDS: usize = 30;
const EACH: usize = 2000;
/// The library's own table would keep some 300 bytes for each of those of the later rounds: 12 MB.
const MOST_GROWTH: usize = 1 << 20;

/// Publishes whose answers are lost leave nothing behind. (Somebody listens on the subject, so that the server does not
/// say that nobody does; and there is no stream.)
#[tokio::test(flavor = "multi_thread")]
async fn unanswered_publishes_leave_no_memory() {
    let nats = Broker::start(Kind::Nats);
    let mut opening = opening(&[nats.url()], &["a"]);
    opening.publish_timeout = Duration::from_millis(200);
    // Else it would make the stream again.
    opening.settings.topology = Topology::Verify;
    let context = jetstream(nats.url()).await;
    let config = Config { name: STREAM.into(), subjects: vec!["a".into()], ..Config::default() };
    context.create_stream(config).await.expect("a stream");
    let destination = open(opening);
    up(&*destination).await;
    context.delete_stream(STREAM).await.expect("deleted");
    let deaf = async_nats::connect(nats.url()).await.expect("a connection");
    let mut heard = deaf.subscribe("a").await.expect("a subscription");
    deaf.publish("a", "is the server listening for us?".into()).await.expect("published");
    heard.next().await.expect("it is");
    tokio::spawn(async move { while heard.next().await.is_some() {} });

    let one = message("a", event("msg_1"));
    let mut warm = 0;
    for round in 0..ROUNDS {
        let confirms = (0..EACH).map(|_| destination.publish(one.clone()));
        let outcomes = tokio::time::timeout(SOON, join_all(confirms.collect::<Vec<_>>())).await.expect("in time");
        for outcome in outcomes {
            match outcome {
                Outcome::Unknown(failure) | Outcome::Again(failure) => assert_eq!(failure.reason, Reason::Timeout),
                other => panic!("{other:?}"),
            }
        }
        if round == ROUNDS / 3 {
            warm = LIVE.load(Ordering::Relaxed);
        }
    }
    // What is on its way through sockets and tasks comes to rest.
    until("memory let go", SOON, async || (LIVE.load(Ordering::Relaxed) < warm + MOST_GROWTH).then_some(())).await;
    until("bodies let go", SOON, async || one.event.data.is_unique().then_some(())).await;
}
