//! The only test in its process, because it measures the process's memory.

#[path = "support/counting.rs"]
mod counting;
mod support;

#[path = "nats/rig.rs"]
#[allow(dead_code, reason = "shared with tests/nats.rs")]
mod rig;

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use hookbridge::destination::settings::Topology;
use hookbridge::reason::Reason;

use counting::LIVE;
use rig::{STREAM, config, create_stream, open, opening, unconfirmed, up};
use support::brokers::{Broker, Kind};
use support::event::{event, message};
use support::wait::{SOON, until};

const ROUNDS: usize = 30;
const EACH: usize = 2000;
/// The library's own table would keep about 300 bytes for each publish of the later rounds: 12 MB.
const MAX_GROWTH: usize = 1 << 20;

/// There is no stream, but there is a subscriber, so that the server does not answer "no responders".
#[tokio::test(flavor = "multi_thread")]
async fn unanswered_publishes_free_their_memory() {
    let nats = Broker::start(Kind::Nats);
    let mut opening = opening(&[nats.url()], &["a"]);
    opening.publish_timeout = Duration::from_millis(200);
    // Otherwise it would create the stream again.
    opening.settings.topology = Topology::Verify;
    let context = create_stream(nats.url(), config(&["a"])).await;
    let destination = open(opening);
    up(&*destination).await;
    context.delete_stream(STREAM).await.expect("deleted");
    let subscriber = async_nats::connect(nats.url()).await.expect("a connection");
    let mut messages = subscriber.subscribe("a").await.expect("a subscription");
    subscriber.publish("a", "first".into()).await.expect("published");
    messages.next().await.expect("the subscription is active");
    tokio::spawn(async move { while messages.next().await.is_some() {} });

    let one = message("a", event("msg_1"));
    let mut warm = 0;
    for round in 0..ROUNDS {
        let confirms = (0..EACH).map(|_| destination.publish(one.clone()));
        let outcomes = tokio::time::timeout(SOON, join_all(confirms.collect::<Vec<_>>())).await.expect("in time");
        for outcome in outcomes {
            let expected = [("unknown", Reason::Timeout), ("again", Reason::Timeout)];
            assert!(expected.contains(&unconfirmed(outcome.clone())), "{outcome:?}");
        }
        if round == ROUNDS / 3 {
            warm = LIVE.load(Ordering::Relaxed);
        }
    }
    // Sockets and tasks still hold some messages for a moment.
    until("memory freed", SOON, async || (LIVE.load(Ordering::Relaxed) < warm + MAX_GROWTH).then_some(())).await;
    until("bodies freed", SOON, async || one.event.data.is_unique().then_some(())).await;
}
