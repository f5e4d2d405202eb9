//! A client for `send` and `demo`: signs deliveries as VideoGen does and posts them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::signature::{Key, sign};

/// A delivery to sign and send.
#[derive(Clone, Debug)]
pub struct UnsignedDelivery {
    /// The webhook-id.
    pub id: String,
    /// The body.
    pub body: String,
}

/// Where and how fast to send.
#[derive(Clone, Debug)]
pub struct SendOptions {
    /// The URL to post to.
    pub url: String,
    /// Most requests at the same time.
    pub connections: usize,
    /// Deliveries per second; `None`: as fast as they are answered.
    pub rate: Option<f64>,
}

/// The answers: how often each one occurred, and how long they took.
#[derive(Debug, Default)]
pub struct Answers {
    /// How often each answer occurred, such as `200 accepted`, `503 unreachable` or `no answer: …`.
    pub counts: BTreeMap<String, u64>,
    /// Number of answers with status 200.
    pub good: u64,
    /// Number of all answers and failures.
    pub all: u64,
    /// Latencies, in the order of the answers.
    pub times: Vec<Duration>,
}

/// Signs and posts deliveries, and counts the answers. `progress` gets the answers so far after each new one.
///
/// # Errors
/// The key cannot sign, or the HTTP client cannot be created.
pub async fn send(
    options: &SendOptions,
    key: &Key,
    deliveries: impl Iterator<Item = UnsignedDelivery>,
    mut progress: impl FnMut(&Answers),
) -> anyhow::Result<Answers> {
    anyhow::ensure!(matches!(key, Key::Shared(_)), "a public key (whpk_…) cannot sign: give the whsec_ secret");
    let client =
        reqwest::Client::builder().timeout(Duration::from_secs(30)).build().context("cannot create an HTTP client")?;
    let connections = Arc::new(Semaphore::new(options.connections.max(1)));
    let mut clock = options.rate.map(|rate| {
        let mut clock = interval_at(Instant::now(), Duration::from_secs_f64(1.0 / rate.clamp(0.001, 1e6)));
        // An open loop: slow answers delay deliveries, but do not reduce their number.
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
        clock
    });
    let mut posts = JoinSet::new();
    let mut answers = Answers::default();
    for delivery in deliveries {
        if let Some(clock) = &mut clock {
            clock.tick().await;
        }
        let permit = Arc::clone(&connections).acquire_owned().await.context("the semaphore is closed")?;
        let request = request(&client, &options.url, key, delivery)?;
        posts.spawn(async move {
            let started = Instant::now();
            let answer = post(request).await;
            drop(permit);
            (answer, started.elapsed())
        });
        while let Some(Ok((answer, time))) = posts.try_join_next() {
            answers.count(answer, time);
            progress(&answers);
        }
    }
    while let Some(Ok((answer, time))) = posts.join_next().await {
        answers.count(answer, time);
        progress(&answers);
    }
    Ok(answers)
}

fn request(
    client: &reqwest::Client,
    url: &str,
    key: &Key,
    delivery: UnsignedDelivery,
) -> anyhow::Result<reqwest::RequestBuilder> {
    let now = Timestamp::now().as_second();
    let signature = sign(key, &delivery.id, now, delivery.body.as_bytes()).context("a public key cannot sign")?;
    let request = client.post(url).header("content-type", "application/json").header("webhook-id", delivery.id);
    Ok(request.header("webhook-timestamp", now).header("webhook-signature", signature).body(delivery.body))
}

async fn post(request: reqwest::RequestBuilder) -> (bool, String) {
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_connect() => return (false, "no answer: not connected".into()),
        Err(error) if error.is_timeout() => return (false, "no answer: timed out after 30 s".into()),
        Err(_) => return (false, "no answer: connection lost".into()),
    };
    let status = response.status();
    let body: serde_json::Value = response.json().await.unwrap_or_default();
    let word = |name: &str| body.get(name).and_then(|word| word.as_str()).map(str::to_owned);
    let problem = || word("type").and_then(|kind| kind.rsplit(':').next().map(str::to_owned));
    let answer = word("status").or_else(problem).unwrap_or_default();
    (status.as_u16() == 200, format!("{} {answer}", status.as_u16()).trim_end().to_owned())
}

impl Answers {
    fn count(&mut self, (good, answer): (bool, String), time: Duration) {
        *self.counts.entry(answer).or_default() += 1;
        self.good += u64::from(good);
        self.all += 1;
        self.times.push(time);
    }

    /// The latency at a quantile from 0 to 1.
    pub fn quantile(&self, at: f64) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        let index = (times.len() as f64 * at) as usize;
        times.get(index.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}
