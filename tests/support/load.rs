//! Senders like the real one, which repeat what was not answered 200 with the same id; and what became of their events.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::sender::{answer, body, client, request};

/// The topic of the events.
pub const TOPIC: &str = "file.playback_ready";
/// One of so many deliveries has a body that nothing can be published from.
const UNUSABLE: usize = 10;
/// How long a sender may try its last delivery.
const LAST_ANSWER: Duration = Duration::from_secs(120);

/// Senders at work, one for each key. Each sends its next delivery when the last one is answered 200.
pub struct Load {
    tag: &'static str,
    senders: Vec<JoinHandle<usize>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    accepted: AtomicUsize,
    refused: AtomicUsize,
    slowest: AtomicU64,
}

/// What was sent. All of it was answered 200.
pub struct Sent {
    tag: &'static str,
    /// Deliveries of each key.
    counts: Vec<usize>,
    /// Answers other than 200.
    pub refused: usize,
    /// The slowest answer, whatever it was.
    pub slowest: Duration,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Fate {
    /// Deliveries that were answered 200.
    pub accepted: usize,
    /// Events that are not stored.
    pub lost: usize,
    /// Copies beyond the first.
    pub doubled: usize,
    /// First copies that come after the first copy of a later event of their key.
    pub reordered: usize,
}

impl Load {
    /// Starts senders for this many keys. Their ids are `{tag}_{key}_{number}`.
    pub fn start(tag: &'static str, url: &str, keys: usize) -> Load {
        let shared = Arc::new(Shared::default());
        let sender = |key| tokio::spawn(send(tag, url.to_owned(), key, Arc::clone(&shared)));
        Load { tag, senders: (0..keys).map(sender).collect(), shared }
    }

    /// Deliveries that were answered 200 so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Answers other than 200 so far.
    pub fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// The slowest answer so far.
    pub fn slowest(&self) -> Duration {
        Duration::from_millis(self.shared.slowest.load(Ordering::Relaxed))
    }

    /// Waits until every sender has its last answer, and panics when one gets none.
    pub async fn stop(self) -> Sent {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut counts = Vec::new();
        for sender in self.senders {
            let ended = timeout(LAST_ANSWER, sender).await;
            counts.push(ended.expect("the last delivery of a key is still refused").expect("no panic"));
        }
        let refused = self.shared.refused.load(Ordering::Relaxed);
        Sent {
            tag: self.tag,
            counts,
            refused,
            slowest: Duration::from_millis(self.shared.slowest.load(Ordering::Relaxed)),
        }
    }
}

async fn send(tag: &str, url: String, key: usize, shared: Arc<Shared>) -> usize {
    let client = client();
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let body = if number % UNUSABLE == UNUSABLE - 1 { "[1]".into() } else { body(TOPIC, &format!("f{key}")) };
        loop {
            let started = Instant::now();
            let answer = answer(request(&client, &url, &format!("{tag}_{key}_{number}"), body.as_bytes())).await;
            // Without a process there is no answer.
            if let Ok(answer) = answer {
                let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                shared.slowest.fetch_max(took, Ordering::Relaxed);
                if answer.status == 200 {
                    break;
                }
                shared.refused.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(20)).await; // only paces the attempts
        }
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        number += 1;
    }
    number
}

impl Sent {
    /// Deliveries that are dead letters.
    pub fn dead(&self) -> usize {
        self.counts.iter().map(|count| count / UNUSABLE).sum()
    }

    /// Compares with the ids that are stored, oldest first. Those of other senders are left out.
    pub fn fate(&self, stored: impl IntoIterator<Item = String>) -> Fate {
        let mut firsts: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        let mut fate = Fate { accepted: self.counts.iter().sum(), lost: 0, doubled: 0, reordered: 0 };
        for id in stored {
            let Some(rest) = id.strip_prefix(self.tag).and_then(|rest| rest.strip_prefix('_')) else { continue };
            let numbers =
                rest.split_once('_').and_then(|(key, number)| Some((key.parse().ok()?, number.parse().ok()?)));
            let (key, number) = numbers.unwrap_or_else(|| panic!("{id}"));
            let seen = firsts.entry(key).or_default();
            let later = seen.last().is_some_and(|last| *last > number);
            match seen.insert(number) {
                false => fate.doubled += 1,
                true => fate.reordered += usize::from(later),
            }
        }
        for (key, count) in self.counts.iter().enumerate() {
            let seen = firsts.remove(&key).unwrap_or_default();
            let expected: BTreeSet<_> = (0..*count).filter(|number| number % UNUSABLE != UNUSABLE - 1).collect();
            fate.lost += expected.difference(&seen).count();
            let more: Vec<_> = seen.difference(&expected).collect();
            assert!(more.is_empty(), "key {key}: {more:?} are stored, but were not sent, or are dead letters");
        }
        assert!(firsts.is_empty(), "unknown keys: {firsts:?}");
        fate
    }
}

/// Whether the longer tests run, too.
pub fn is_long() -> bool {
    std::env::var_os("HOOKBRIDGE_LONG").is_some()
}

/// Whether a table is asked for: it has a row for each fault.
pub fn is_for_the_table() -> bool {
    std::env::var_os("HOOKBRIDGE_TABLE").is_some()
}

/// A row of the table in `tests/README.md`: printed, and appended to the file that `HOOKBRIDGE_TABLE` names.
pub fn row<S>(fault: &str, mode: &str, fate: &Fate, slowest: Duration) {
    let destination = std::any::type_name::<S>().rsplit(':').next().unwrap_or_default();
    let Fate { accepted, lost, doubled, reordered } = fate;
    let line = format!(
        "| {fault} | {destination} | {mode} | {accepted} | {lost} | {doubled} | {reordered} | {:.1} s |\n",
        slowest.as_secs_f64()
    );
    print!("{line}");
    if let Some(path) = std::env::var_os("HOOKBRIDGE_TABLE") {
        let table = std::fs::File::options().create(true).append(true).open(path);
        table.expect("HOOKBRIDGE_TABLE").write_all(line.as_bytes()).expect("written");
    }
}
