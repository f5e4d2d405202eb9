//! Alone in its process: it measures the process's memory and threads.

#[path = "support/counting.rs"]
mod counting;
mod support;

#[path = "rabbitmq/rig.rs"]
#[allow(dead_code, reason = "shared with tests/rabbitmq.rs")]
mod rig;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hookbridge::message::Message;

use counting::LIVE;
use rig::{confirmed, connects, counts, open, opening, publish_all, up};
use support::brokers::{Broker, Kind};
use support::event::{event, event_of, message, scope};
use support::wait::{SOON, until};

const ROUNDS: usize = 6;
const EACH: usize = 300;
const BODY: usize = 30_000;
/// How long an attempt to connect takes at most.
const ATTEMPT: Duration = Duration::from_secs(1);
/// What was abandoned in one round, if it stayed, would be 9 MB.
const MOST_GROWTH: usize = 4 << 20;

/// Each connection of lapin's has a thread.
fn connections() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads");
    let name = |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
    tasks.filter_map(name).filter(|name| name.starts_with("lapin-io-loop")).count()
}

/// A frozen broker: each publish ends in time, its connection is given up, and neither its thread, nor its frames, nor
/// the bodies stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_leaves_nothing_behind() {
    let broker = Broker::start(Kind::Rabbitmq);
    let scope = scope();
    let url = format!("{}?connection_timeout={}", broker.url(), ATTEMPT.as_millis());
    let mut opening = opening(&[&url], &scope, &["a"]);
    opening.publish_timeout = Duration::from_millis(500);
    let metrics = Arc::clone(&opening.metrics);
    let destination = open(opening);
    let topic = format!("{scope}.a");
    let mut warm = 0;
    for round in 0..ROUNDS {
        up(&*destination).await;
        confirmed(&*destination, &message(&topic, event(&format!("msg_{round}")))).await;
        until("one connection", SOON, async || (connections() == 1).then_some(())).await;
        if round == 1 {
            warm = LIVE.load(Ordering::Relaxed);
        }
        broker.pause();
        let connected = connects(&metrics);
        let messages: Vec<Message> =
            (0..EACH).map(|number| message(&topic, event_of(&format!("msg_{round}_{number}"), BODY))).collect();
        let told = counts(&publish_all(&*destination, messages.clone()).await);
        assert!(told.keys().all(|kind| kind.starts_with("unknown ") || kind == "again unreachable"), "{told:?}");
        assert!(told.keys().any(|kind| kind == "unknown timeout"), "{told:?}");
        let mine = |message: &Message| message.event.data.is_unique();
        until("bodies let go", SOON, async || messages.iter().all(mine).then_some(())).await;
        if round == 0 {
            // While it is frozen, an attempt to connect and one that is just being given up.
            let end = Instant::now() + 4 * ATTEMPT;
            until("attempts", SOON, async || {
                assert!(connections() <= 2, "{} connections", connections());
                (Instant::now() > end).then_some(())
            })
            .await;
        }
        broker.resume();
        until("connected again", SOON, async || (connects(&metrics) > connected).then_some(())).await;
    }
    up(&*destination).await;
    until("memory let go", SOON, async || (LIVE.load(Ordering::Relaxed) < warm + MOST_GROWTH).then_some(())).await;
    destination.close(SOON).await;
    until("no connection", SOON, async || (connections() == 0).then_some(())).await;
}
