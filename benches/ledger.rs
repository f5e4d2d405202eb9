//! What the embedded ledger costs with many ids: disk per id, claim and record, start; and, with `--forget`, how long a
//! record takes while all of them are being forgotten.
//!
//! ```text
//! cargo bench --bench ledger -- --ids 10000000 --directory /var/tmp/ledger [--forget]
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
        let ledger = embedded::open(&directory, WINDOW).expect("opens");
        let had = ledger.ids();
        let started = Instant::now();
        deliver(&ledger, had..ids.max(had), 1024).await;
        let seconds = started.elapsed().as_secs_f64();
        println!("filled to {ids} ids at {:.0}/s (1024 at once)", (ids.saturating_sub(had)) as f64 / seconds);
        ledger.close().await;
        drop(ledger);
        let bytes: u64 = std::fs::read_dir(&directory)
            .expect("the directory")
            .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
            .sum();
        println!("disk: {:.1} MiB, {:.1} bytes an id", bytes as f64 / 1048576.0, bytes as f64 / ids as f64);
        let started = Instant::now();
        let ledger = embedded::open(&directory, WINDOW).expect("opens");
        println!("start: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
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
            println!("claim of {name} ids, one at a time: p50 {:.1} µs, p99 {:.1} µs", at(0.5), at(0.99));
        }
        let started = Instant::now();
        deliver(&ledger, ids..ids + 100_000, 64).await;
        println!("claim and record, 64 at once: {:.0}/s", 100_000.0 / started.elapsed().as_secs_f64());
        ledger.close().await;
        drop(ledger);
        if std::env::args().any(|argument| argument == "--forget") {
            for (window, name) in [(WINDOW, "nothing is"), (Duration::from_secs(1), "old ids are")] {
                record_while_forgetting(&directory, window, name).await;
            }
        }
    });
}

/// One claim and record after the other for ten seconds.
async fn record_while_forgetting(directory: &std::path::Path, window: Duration, name: &str) {
    let ledger = embedded::open(directory, window).expect("opens");
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
    let forgotten = (before + times.len() as u64).saturating_sub(ledger.ids());
    println!(
        "claim and record while {name} forgotten ({forgotten} ids in 10 s): p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    ledger.close().await;
}

async fn deliver(ledger: &Arc<dyn Ledger>, range: std::ops::Range<u64>, at_once: u64) {
    let workers = (0..at_once).map(|worker| {
        let (ledger, range) = (Arc::clone(ledger), range.clone());
        tokio::spawn(async move {
            let target = Target::new("stream", "file.playback_ready");
            for id in range.skip(worker as usize).step_by(at_once as usize) {
                let key = key(id);
                if let Claim::Mine(ticket, _) = ledger.claim(&key, 0).await.expect("claimed") {
                    let facts = vec![Fact::Confirmed(target.clone())];
                    let record = Record { targets: vec![target.clone()], facts, dead: None, body_hash: 0 };
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
