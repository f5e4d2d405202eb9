//! The other side of the wire: signs deliveries as VideoGen does and posts them. For `send` and `demo`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::signature::{Key, sign};

/// What is sent.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The webhook-id.
    pub id: String,
    /// The body.
    pub body: String,
}

/// How it is sent.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to.
    pub url: String,
    /// Most requests at once.
    pub connections: usize,
    /// Deliveries a second; `None`: as fast as they are answered.
    pub rate: Option<f64>,
}

/// What came back: how often each status and answer, and how long they took.
#[derive(Debug, Default)]
pub struct Answers {
    /// `200 accepted`, `503 unreachable`, `no answer: …` and how often.
    pub counts: BTreeMap<String, u64>,
    /// Answers with 200.
    pub good: u64,
    /// All answers and failures.
    pub all: u64,
    /// Times to answer, in the order of the answers.
    pub times: Vec<Duration>,
}

/// Signs and posts deliveries, and counts what comes back.
///
/// # Errors
/// The key cannot sign, or no client can be made.
pub async fn send(plan: &Plan, key: &Key, deliveries: impl Iterator<Item = Delivery>) -> anyhow::Result<Answers> {
    anyhow::ensure!(matches!(key, Key::Shared(_)), "a public key (whpk_…) cannot sign: give the whsec_ secret");
    let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().context("no HTTP client")?;
    let room = Arc::new(Semaphore::new(plan.connections.max(1)));
    let mut clock = plan.rate.map(|rate| {
        let mut clock = interval_at(Instant::now(), Duration::from_secs_f64(1.0 / rate.clamp(0.001, 1e6)));
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst); // an open loop: late ones are not left out
        clock
    });
    let mut posts = JoinSet::new();
    let mut answers = Answers::default();
    for delivery in deliveries {
        if let Some(clock) = &mut clock {
            clock.tick().await;
        }
        let permit = Arc::clone(&room).acquire_owned().await.context("the sender has ended")?;
        let request = request(&client, &plan.url, key, delivery)?;
        posts.spawn(async move {
            let started = Instant::now();
            let answer = post(request).await;
            drop(permit);
            (answer, started.elapsed())
        });
        while let Some(Ok((answer, time))) = posts.try_join_next() {
            answers.count(answer, time);
        }
    }
    while let Some(Ok((answer, time))) = posts.join_next().await {
        answers.count(answer, time);
    }
    Ok(answers)
}

fn request(client: &reqwest::Client, url: &str, key: &Key, it: Delivery) -> anyhow::Result<reqwest::RequestBuilder> {
    let now = Timestamp::now().as_second();
    let signature = sign(key, &it.id, now, it.body.as_bytes()).context("a public key cannot sign")?;
    let request = client.post(url).header("content-type", "application/json").header("webhook-id", it.id);
    Ok(request.header("webhook-timestamp", now).header("webhook-signature", signature).body(it.body))
}

async fn post(request: reqwest::RequestBuilder) -> (bool, String) {
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_connect() => return (false, "no answer: not connected".into()),
        Err(error) if error.is_timeout() => return (false, "no answer: 30 s are over".into()),
        Err(_) => return (false, "no answer: the connection ended".into()),
    };
    let status = response.status();
    let body: serde_json::Value = response.json().await.unwrap_or_default();
    let word = |name: &str| body.get(name).and_then(|word| word.as_str()).map(str::to_owned);
    let problem = || word("type").and_then(|kind| kind.rsplit(':').next().map(str::to_owned));
    let said = word("status").or_else(problem).unwrap_or_default();
    (status.as_u16() == 200, format!("{} {said}", status.as_u16()).trim_end().to_owned())
}

impl Answers {
    fn count(&mut self, (good, said): (bool, String), time: Duration) {
        *self.counts.entry(said).or_default() += 1;
        self.good += u64::from(good);
        self.all += 1;
        self.times.push(time);
    }

    /// A quantile of the times to answer, from 0 to 1.
    pub fn quantile(&self, at: f64) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        let index = (times.len() as f64 * at) as usize;
        times.get(index.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}
