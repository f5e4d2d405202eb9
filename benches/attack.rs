//! What senders without a secret cost those that have one: the answers to good deliveries, 50 a second for twenty seconds,
//! alone and under an attack over 60 connections. Half of these are HTTP/2 with 240 streams each; every request is a head,
//! one in three outside the tolerance, followed by a body that never ends.
//!
//! ```text
//! cargo bench --bench attack
//! ```

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use futures_util::stream;
use support::bridge::Bridge;
use support::sender::{answer, body, client, now, request};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

const DELIVERIES: u32 = 1000;
const STREAMS: usize = 240;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let bridge = Bridge::serve("store: memory\n");
        bridge.program.ready().await;
        println!("alone:        {}", good(&bridge, "alone").await);
        let stop = CancellationToken::new();
        let mut attackers = JoinSet::new();
        for connection in 0..60 {
            let builder = reqwest::Client::builder().pool_max_idle_per_host(1);
            let (builder, streams) =
                if connection % 2 == 0 { (builder.http2_prior_knowledge(), STREAMS) } else { (builder, 1) };
            let client = builder.build().expect("a client");
            for stream in 0..streams {
                let attack = attack(client.clone(), bridge.url("videogen"), connection + stream);
                attackers.spawn(stop.clone().run_until_cancelled_owned(attack));
            }
        }
        sleep(Duration::from_secs(3)).await;
        println!("under attack: {}", good(&bridge, "attacked").await);
        stop.cancel();
        while attackers.join_next().await.is_some() {}
    });
}

/// Sends the head of a delivery and a byte of its body every second, and again as soon as it is answered.
async fn attack(client: reqwest::Client, url: String, number: usize) {
    loop {
        let timestamp = if number.is_multiple_of(3) { 0 } else { now() };
        let slow = stream::unfold((), |()| async {
            sleep(Duration::from_secs(1)).await;
            Some((io::Result::Ok(vec![b' ']), ()))
        });
        let head = client.post(&url).header("webhook-id", "junk").header("webhook-timestamp", timestamp);
        let sent = head.header("webhook-signature", "v1,AAAA").body(reqwest::Body::wrap_stream(slow)).send();
        if sent.await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Answers and latencies of good deliveries.
async fn good(bridge: &Bridge, prefix: &str) -> String {
    let (client, mut pace, mut sent) = (client(), interval(Duration::from_millis(20)), JoinSet::new());
    for number in 0..DELIVERIES {
        pace.tick().await;
        let event = body("file.playback_ready", "f");
        let request = request(&client, &bridge.url("videogen"), &format!("{prefix}_{number}"), event.as_bytes());
        sent.spawn(async move {
            let started = Instant::now();
            let word = answer(request).await.map_or_else(|error| error.to_string(), |answer| answer.word());
            (word, started.elapsed())
        });
    }
    let (mut words, mut times) = (BTreeMap::<String, u32>::new(), Vec::new());
    while let Some(ended) = sent.join_next().await {
        let (word, time) = ended.expect("no panic");
        *words.entry(word).or_default() += 1;
        times.push(time);
    }
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 1000];
    format!("{words:?}, p50 {:?}, p99 {:?}, longest {:?}", at(500), at(990), at(1000))
}
