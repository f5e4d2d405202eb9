//! The cost of the embedded ledger with many ids: disk space per id, time to open, to claim and to record. With `--forget`,
//! also the time of a record while all old ids are being deleted.
//!
//! ```text
//! cargo bench --bench ledger -- --ids 10000000 --directory /var/tmp/ledger [--forget]
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use hookbridge::delivery::DeliveryKey;
use hookbridge::ledger::{Claim, Ledger, Record, embedded};
use hookbridge::protocol::{Fact, Target};

const WINDOW: Duration = Duration::from_secs(7 * 86_400);

fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
}

fn main() {
    let ids: u64 = argument("--ids").map_or(100_000, |ids| ids.parse().expect("--ids takes a number"));
    let temporary = tempfile::tempdir().expect("a directory");
    let directory = argument("--directory").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let ledger = embedded::open(&directory, WINDOW).expect("opens").ledger;
        let existing = ledger.ids();
        let started = Instant::now();
        deliver(&ledger, existing..ids.max(existing), 1024).await;
        let seconds = started.elapsed().as_secs_f64();
        println!("filled to {ids} ids: {:.0} ids/s, 1024 concurrent", (ids.saturating_sub(existing)) as f64 / seconds);
        ledger.close().await;
        drop(ledger);
        let bytes: u64 = std::fs::read_dir(&directory)
            .expect("the directory")
            .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
            .sum();
        println!("disk: {:.1} MiB, {:.1} bytes per id", bytes as f64 / 1048576.0, bytes as f64 / ids as f64);
        let started = Instant::now();
        let ledger = embedded::open(&directory, WINDOW).expect("opens").ledger;
        println!("open: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
        for (name, range) in [("new", ids..ids + 50_000), ("known", 0..50_000)] {
            let mut times: Vec<Duration> = Vec::new();
            for id in range {
                let key = key(id);
                let started = Instant::now();
                let claim = ledger.claim(&key, 0).await.expect("claimed");
                times.push(started.elapsed());
                if let Claim::Mine(ticket, _) = claim {
                    ledger.release(&key, ticket, hookbridge::reason::Reason::Failed);
                }
            }
            times.sort_unstable();
            let at = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e6;
            println!("claim of {name} ids, sequential: p50 {:.1} µs, p99 {:.1} µs", at(0.5), at(0.99));
        }
        let started = Instant::now();
        deliver(&ledger, ids..ids + 100_000, 64).await;
        println!("claim and record, 64 concurrent: {:.0}/s", 100_000.0 / started.elapsed().as_secs_f64());
        ledger.close().await;
        drop(ledger);
        if std::env::args().any(|argument| argument == "--forget") {
            for (window, name) in [(WINDOW, "nothing expires"), (Duration::from_secs(1), "old ids are deleted")] {
                record_while_forgetting(&directory, window, name).await;
            }
        }
    });
}

/// Claims and records, one after the other, for ten seconds.
async fn record_while_forgetting(directory: &std::path::Path, window: Duration, name: &str) {
    let ledger = embedded::open(directory, window).expect("opens").ledger;
    let (before, started, mut times) = (ledger.ids(), Instant::now(), Vec::new());
    let mut number = u64::MAX / 2;
    while started.elapsed() < Duration::from_secs(10) {
        let from = Instant::now();
        deliver(&ledger, number..number + 1, 1).await;
        times.push(from.elapsed());
        number += 1;
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let deleted = (before + times.len() as u64).saturating_sub(ledger.ids());
    println!(
        "claim and record while {name} ({deleted} ids in 10 s): p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    ledger.close().await;
}

async fn deliver(ledger: &Arc<dyn Ledger>, range: std::ops::Range<u64>, concurrency: u64) {
    let workers = (0..concurrency).map(|worker| {
        let (ledger, range) = (Arc::clone(ledger), range.clone());
        tokio::spawn(async move {
            let target = Target::new("stream", "file.playback_ready");
            for id in range.skip(worker as usize).step_by(concurrency as usize) {
                let key = key(id);
                if let Claim::Mine(ticket, _) = ledger.claim(&key, 0).await.expect("claimed") {
                    let facts = vec![Fact::Confirmed(target.clone())];
                    let record = Record { targets: vec![target.clone()], facts, body_hash: 0, ..Record::default() };
                    ledger.record(&key, ticket, record).await.expect("recorded");
                }
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("no panic");
    }
}

fn key(id: u64) -> DeliveryKey {
    DeliveryKey { source: "videogen".into(), id: format!("msg_{id:020}").into() }
}
