//! Memory and threads of the process, in a process without other tests.

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
/// Bytes of a body.
const BODY: usize = 100_000;
/// Most bytes in flight.
const IN_FLIGHT_BYTES: usize = 32 << 20;
/// Publishes of a round: four times what may be in flight.
const PUBLISHES: usize = 4 * IN_FLIGHT_BYTES / BODY;

/// Resident bytes of the process. Rust's allocator does not count librdkafka's memory.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("the process's memory");
    4096 * pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a count of pages")
}

/// Producers of the process: rdkafka starts a polling thread for each.
fn producers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads");
    let name = |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
    tasks.filter_map(name).filter(|name| name.starts_with("producer pollin")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_broker_takes_bounded_memory_which_is_freed_with_the_outcomes() {
    let (broker, scope) = (Broker::start(Kind::Kafka), scope());
    let topic = format!("{scope}.a");
    let metrics = Arc::new(Metrics::default());
    let mut settings = suite::kafka::settings(&scope, broker.url());
    settings.in_flight_bytes = IN_FLIGHT_BYTES;
    let publish_timeout = Duration::from_secs(1);
    let opening = Opening {
        settings: settings.clone(),
        topics: vec![topic.clone()],
        publish_timeout,
        body_limit: 1 << 20,
        metrics: Arc::clone(&metrics),
    };
    let handle = Handle::new(destination::open(opening).expect("settings"), &settings, publish_timeout, metrics);
    let (mut at_start, mut warm) = (0, 0);
    for round in 0..ROUNDS {
        up(&handle).await;
        publish_until_confirmed(&handle, &message(&topic, event(&format!("msg_{round}")))).await;
        match round {
            0 => at_start = resident(),
            2 => warm = resident(),
            _ => {}
        }
        broker.pause();
        // All publishes share one body, so memory grows only by librdkafka's copies and by what the bridge keeps per publish.
        let shared = message(&topic, event_of(&format!("msg_{round}_frozen"), BODY));
        let confirms: Vec<_> = (0..PUBLISHES).map(|_| outcome(handle.publish(shared.clone()))).collect();
        let most = resident();
        let outcomes = join_all(confirms).await;
        let most = most.max(resident());
        let busy = outcomes.iter().filter(|outcome| Ending::from(*outcome) == Ending::Again).count();
        assert!(busy >= PUBLISHES / 2, "{busy} of {PUBLISHES} were refused");
        assert!(busy < PUBLISHES, "all were refused");
        assert!(most < at_start + 2 * IN_FLIGHT_BYTES, "{most} bytes, {at_start} at the start");
        let unique = |message: &Message| message.event.data.is_unique();
        until("the body is freed", SOON, async || unique(&shared).then_some(())).await;
        broker.resume();
    }
    up(&handle).await;
    publish_until_confirmed(&handle, &message(&topic, event("msg_last"))).await;
    // If each of the last rounds had leaked what was in flight, this would be twelve times as much.
    until("memory is freed", SOON, async || (resident() < warm + IN_FLIGHT_BYTES / 4).then_some(())).await;
    assert_eq!(producers(), 1);
    handle.close(SOON).await;
    assert_eq!(producers(), 0, "threads of a closed producer");
}
