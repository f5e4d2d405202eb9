//! The load: senders that each wait for their answer, or that keep a rate whatever the answers take.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::process;
use super::row::Row;

/// How much is sent.
#[derive(Args, Clone, Debug)]
pub struct Load {
    /// Deliveries in flight
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Deliveries a second, whatever the answers take (open loop); without it, each connection sends when it is answered
    #[arg(long)]
    pub rate: Option<f64>,
    /// Seconds before each case is measured
    #[arg(long, default_value_t = 2.0)]
    pub warmup: f64,
    /// Seconds for which each case is measured
    #[arg(long, default_value_t = 8.0)]
    pub seconds: f64,
    /// The size of the bodies; without it, they are samples of 680 bytes on average
    #[arg(long)]
    pub body_bytes: Option<usize>,
}

/// One connection, or one publisher.
pub trait Sender: Send + 'static {
    /// Sends a delivery and returns the status of its answer; 0: there is none.
    fn send(&mut self) -> impl Future<Output = u16> + Send;
}

/// When a sender sends.
struct Schedule {
    next: Instant,
    interval: Option<Duration>,
    from: Instant,
    until: Instant,
}

#[derive(Default)]
struct Seen {
    answers: BTreeMap<u16, u64>,
    /// Of good answers, in microseconds.
    times: Vec<u32>,
}

impl Load {
    /// As arguments of a process.
    pub fn arguments(&self) -> Vec<String> {
        let given = [
            ("--connections", Some(self.connections.to_string())),
            ("--rate", self.rate.map(|rate| rate.to_string())),
            ("--warmup", Some(self.warmup.to_string())),
            ("--seconds", Some(self.seconds.to_string())),
            ("--body-bytes", self.body_bytes.map(|bytes| bytes.to_string())),
        ];
        given.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?])).flatten().collect()
    }

    /// Runs the senders against the process `pid`, and returns the figures between warm-up and end.
    pub async fn run<S: Sender>(&self, name: &str, pid: u32, senders: Vec<S>) -> Row {
        let start = Instant::now();
        let from = start + Duration::from_secs_f64(self.warmup);
        let until = from + Duration::from_secs_f64(self.seconds);
        let interval = self.rate.map(|rate| Duration::from_secs_f64(senders.len() as f64 / rate.max(0.001)));
        let count = senders.len() as u32;
        let mut tasks = JoinSet::new();
        for (number, sender) in (0_u32..).zip(senders) {
            // At a rate, the senders are evenly apart.
            let offset = interval.map_or(Duration::ZERO, |interval| interval * number / count);
            tasks.spawn(send(sender, Schedule { next: start + offset, interval, from, until }));
        }
        sleep_until(from).await;
        let cpu = process::cpu_seconds(pid);
        sleep_until(until).await;
        let cpu = process::cpu_seconds(pid) - cpu;
        let peak_mib = process::peak_mib(pid);
        let mut all = Seen::default();
        while let Some(seen) = tasks.join_next().await {
            let seen = seen.expect("no panic");
            all.times.extend(seen.times);
            for (status, count) in seen.answers {
                *all.answers.entry(status).or_default() += count;
            }
        }
        all.times.sort_unstable();
        let answered: u64 = all.answers.values().sum();
        let at = |share: f64| {
            let index = (all.times.len() as f64 * share) as usize;
            all.times.get(index.min(all.times.len().saturating_sub(1))).map_or(f64::NAN, |time| f64::from(*time) / 1e3)
        };
        Row {
            name: name.to_owned(),
            repeat: 0,
            rate: all.times.len() as f64 / self.seconds,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            cpu_s_per_1000: cpu / answered as f64 * 1e3,
            peak_mib,
            answers: all.answers,
        }
    }
}

async fn send(mut sender: impl Sender, mut schedule: Schedule) -> Seen {
    let mut seen = Seen::default();
    loop {
        let due = schedule.interval.map_or_else(Instant::now, |_| schedule.next);
        if due >= schedule.until {
            return seen;
        }
        if let Some(interval) = schedule.interval {
            // A late answer delays the next delivery, which counts from the time at which it was due.
            sleep_until(due).await;
            schedule.next += interval;
        }
        let status = sender.send().await;
        let end = Instant::now();
        // At a rate, a late answer counts although it comes after the end: otherwise the slowest would be missing.
        let at = if schedule.interval.is_some() { due } else { end };
        if at >= schedule.from && at < schedule.until {
            *seen.answers.entry(status).or_default() += 1;
            if (200..300).contains(&status) {
                seen.times.push(u32::try_from((end - due).as_micros()).unwrap_or(u32::MAX));
            }
        }
    }
}
