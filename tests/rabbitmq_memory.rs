//! One test, alone in its process because it measures the memory and threads of the process.

#[path = "support/counting.rs"]
mod counting;
mod support;

#[path = "rabbitmq/rig.rs"]
#[allow(dead_code, reason = "shared with tests/rabbitmq.rs")]
mod rig;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

use hookbridge::destination::Health;
use hookbridge::message::Message;

use counting::LIVE;
use rig::{confirmed, connects, counts, open, opening, publish_all, up};
use support::brokers::{Broker, Kind};
use support::event::{event, event_of, message, scope};
use support::wait::{SOON, until};

const ROUNDS: usize = 6;
const EACH: usize = 300;
const BODY: usize = 30_000;
/// The longest time of an attempt to connect.
const ATTEMPT: Duration = Duration::from_secs(1);
/// If the publishes of one round stayed in memory, that would be 9 MB.
const MOST_GROWTH: usize = 4 << 20;

/// The number of connections: lapin runs one thread for each.
fn connections() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the list of threads");
    let name = |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
    tasks.filter_map(name).filter(|name| name.starts_with("lapin-io-loop")).count()
}

/// While the broker is frozen, each publish ends in time and the connection is abandoned. Its thread, its frames and the
/// bodies are released.
#[tokio::test(flavor = "multi_thread")]
async fn frozen_broker_leaks_no_memory_or_threads() {
    let broker = Broker::start(Kind::Rabbitmq);
    let scope = scope();
    let url = format!("{}?connection_timeout={}", broker.url(), ATTEMPT.as_millis());
    let mut opening = opening(&[&url], &scope, &["a"]);
    opening.publish_timeout = Duration::from_millis(500);
    let metrics = Arc::clone(&opening.metrics);
    let destination = open(opening);
    let topic = format!("{scope}.a");
    let mut baseline = 0;
    for round in 0..ROUNDS {
        up(&*destination).await;
        confirmed(&*destination, &message(&topic, event(&format!("msg_{round}")))).await;
        until("one connection", SOON, async || (connections() == 1).then_some(())).await;
        if round == 1 {
            baseline = LIVE.load(Ordering::Relaxed);
        }
        broker.pause();
        let connected = connects(&metrics);
        let messages: Vec<Message> =
            (0..EACH).map(|number| message(&topic, event_of(&format!("msg_{round}_{number}"), BODY))).collect();
        let outcomes = counts(&publish_all(&*destination, messages.clone()).await);
        assert!(
            outcomes
                .keys()
                .all(|kind| kind.starts_with("unknown ") || ["again timeout", "again unreachable"].contains(&&**kind)),
            "{outcomes:?}"
        );
        assert!(outcomes.keys().any(|kind| kind == "unknown timeout"), "{outcomes:?}");
        let abandoned = async || (destination.health() != Health::Up).then_some(());
        until("the connection is abandoned", SOON, abandoned).await;
        let released = |message: &Message| message.event.data.is_unique();
        until("bodies are released", SOON, async || messages.iter().all(released).then_some(())).await;
        if round == 0 {
            // While the broker is frozen: one attempt to connect, and one that is just ending.
            let end = Instant::now() + 4 * ATTEMPT;
            until("several attempts to connect", SOON, async || {
                assert!(connections() <= 2, "{} connections", connections());
                (Instant::now() > end).then_some(())
            })
            .await;
        }
        broker.resume();
        until("connected again", SOON, async || (connects(&metrics) > connected).then_some(())).await;
    }
    up(&*destination).await;
    until("memory is released", SOON, async || (LIVE.load(Ordering::Relaxed) < baseline + MOST_GROWTH).then_some(()))
        .await;
    destination.close(SOON).await;
    until("no connection", SOON, async || (connections() == 0).then_some(())).await;
}
