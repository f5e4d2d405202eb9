//! Alone in its process: it measures the process's memory and threads.

mod support;

#[path = "destinations/mod.rs"]
mod suite;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hookbridge::destination::{self, Handle, Opening};
use hookbridge::message::Message;
use hookbridge::telemetry::metrics::Metrics;
use suite::Ending;
use suite::bench::{outcome, publish_until_confirmed, up};
use support::brokers::{Broker, Kind};
use support::event::{event, event_of, message, scope};
use support::wait::{SOON, until};

const ROUNDS: usize = 6;
const BODY: usize = 100_000;
/// Bodies in flight, at most.
const ROOM: usize = 32 << 20;
/// Publishes of a round: four times what there is room for.
const EACH: usize = 4 * ROOM / BODY;

/// librdkafka's memory is not Rust's: what the system gave is all that can be known of it.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("the process's memory");
    4096 * pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a count of pages")
}

/// Each producer of rdkafka's has such a thread.
fn producers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads");
    let name = |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
    tasks.filter_map(name).filter(|name| name.starts_with("producer pollin")).count()
}

/// A frozen broker: what is held is bounded, and let go when the publishes end.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_leaves_nothing_behind() {
    let (broker, scope) = (Broker::start(Kind::Kafka), scope());
    let topic = format!("{scope}.a");
    let metrics = Arc::new(Metrics::default());
    let mut settings = suite::kafka::settings(&scope, broker.url());
    settings.in_flight_bytes = ROOM;
    let publish_timeout = Duration::from_secs(1);
    let opening = Opening {
        settings: settings.clone(),
        topics: vec![topic.clone()],
        publish_timeout,
        body_limit: 1 << 20,
        metrics: Arc::clone(&metrics),
    };
    let handle = Handle::new(destination::open(opening).expect("settings"), &settings, publish_timeout, metrics);
    let (mut before, mut warm) = (0, 0);
    for round in 0..ROUNDS {
        up(&handle).await;
        publish_until_confirmed(&handle, &message(&topic, event(&format!("msg_{round}")))).await;
        match round {
            0 => before = resident(),
            2 => warm = resident(),
            _ => {}
        }
        broker.pause();
        // The bodies that the bridge holds are one: what grows is what is kept of each publish.
        let one = message(&topic, event_of(&format!("msg_{round}_frozen"), BODY));
        let confirms: Vec<_> = (0..EACH).map(|_| outcome(handle.publish(one.clone()))).collect();
        let most = resident();
        let outcomes = join_all(confirms).await;
        let most = most.max(resident());
        let busy = outcomes.iter().filter(|told| Ending::from(*told) == Ending::Again).count();
        assert!(busy >= EACH / 2, "{busy} of {EACH} were refused");
        assert!(busy < EACH, "none was taken");
        assert!(most < before + 2 * ROOM, "{most} from {before}");
        let mine = |message: &Message| message.event.data.is_unique();
        until("the body let go", SOON, async || mine(&one).then_some(())).await;
        broker.resume();
    }
    up(&handle).await;
    publish_until_confirmed(&handle, &message(&topic, event("msg_last"))).await;
    // What stayed of each round, if it did, would by now be twelve times that.
    until("memory let go", SOON, async || (resident() < warm + ROOM / 4).then_some(())).await;
    assert_eq!(producers(), 1);
    handle.close(SOON).await;
    assert_eq!(producers(), 0, "a closed producer has no thread");
}
