//! The cost of remembered ids: disk, the start, claims, records while old ids are deleted, and deliveries.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hookbridge::delivery::DeliveryKey;
use hookbridge::ledger::{Claim, Ledger, Record, embedded};
use hookbridge::protocol::{Fact, Target};
use hookbridge::reason::Reason;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::case::{Mode, To};
use crate::http;
use crate::load::{Load, Sender as _};
use crate::sample::Sample;
use crate::servers;

use super::Bench;
use super::backlog::bytes_in;

const WINDOW: Duration = Duration::from_secs(7 * 86_400);
/// With this window, all ids are old when the ledger opens.
const SHORT_WINDOW: Duration = Duration::from_secs(1);
/// Deliveries in flight while the ledger is filled.
const FILLING: u64 = 1024;
/// Ids after which the filling waits for the ledger: it moves as many recent ids together.
const RECENT: u64 = 1 << 16;
const CLAIMS: u64 = 10_000;

pub fn ids(bench: &Bench<'_>) -> Vec<Sample> {
    let filled = tempfile::tempdir().expect("a directory");
    let data = filled.path().join("data");
    let (mut existing, mut samples) = (0, Vec::new());
    for ids in bench.steps([0, 1000, 10_000, 100_000, 1_000_000, 10_000_000]) {
        bench.runtime.block_on(fill(&data, existing..ids));
        existing = ids;
        let mut figures = Vec::new();
        if ids > 0 {
            figures.push(("disk, bytes an id", bytes_in(&data) as f64 / ids as f64));
        }
        figures.extend(bench.runtime.block_on(claims(&copy(&data).path().join("data"), ids)));
        figures.extend(serve(bench, &copy(&data)));
        let directory = copy(&data);
        figures.push(bench.runtime.block_on(forget(bench, &directory.path().join("data"), ids)));
        samples.push(Sample { curve: "nothing-embedded".into(), x: ids as f64, figures }.reported());
    }
    samples
}

/// Adds ids. Waits for the ledger to move the recent ones: at full speed it falls behind, which it does not at the rate of
/// real senders.
async fn fill(data: &Path, range: Range<u64>) {
    let ledger = open(data, WINDOW);
    let started = Instant::now();
    for from in range.clone().step_by(RECENT as usize) {
        deliver(&ledger, from..range.end.min(from + RECENT), FILLING).await;
        while recent(data) > RECENT {
            sleep(Duration::from_millis(10)).await;
        }
    }
    eprintln!("{} ids in {:?}, {} of all are recent", range.end - range.start, started.elapsed(), recent(data));
    ledger.close().await;
}

/// How many ids are not in the large table yet.
fn recent(data: &Path) -> u64 {
    let file = Connection::open_with_flags(data.join("ledger.sqlite"), OpenFlags::SQLITE_OPEN_READ_ONLY);
    let count = file.and_then(|file| file.query_row("SELECT count(*) FROM recent", [], |row| row.get::<_, i64>(0)));
    count.expect("the store can be read").unsigned_abs()
}

/// The time to the first 200 of a new process, and its cost under full load.
fn serve(bench: &Bench<'_>, directory: &TempDir) -> Vec<(&'static str, f64)> {
    let started = Instant::now();
    let program = servers::bridge(directory.path(), To::Nothing, Mode::Embedded, None, "");
    let mut first = http::Connection::open(&Load { connections: 1, ..bench.load.clone() }, &program.webhooks);
    let first_200 = bench.runtime.block_on(async {
        while first[0].send().await != 200 {}
        started.elapsed()
    });
    let connections = http::Connection::open(&bench.load, &program.webhooks);
    let row = bench.runtime.block_on(bench.load.run("ids", program.pid(), connections));
    vec![
        ("first 200 after, ms", first_200.as_secs_f64() * 1e3),
        ("CPU s / 1,000", row.cpu_s_per_1000),
        ("deliveries/s", row.rate),
        ("p99 ms", row.p99_ms),
        ("peak MiB", row.peak_mib),
    ]
}

/// The median time of a claim of a new id, and of a known one.
async fn claims(data: &Path, ids: u64) -> Vec<(&'static str, f64)> {
    let ledger = open(data, WINDOW);
    // Until the filter is built, every id is looked up. It is built in the background, and nothing shows when that ends.
    let until_built = Duration::from_secs(2 + ids / 1_000_000 * 2);
    sleep(until_built).await;
    let mut figures = Vec::new();
    for (name, range) in [("claim of a new id, µs", ids..ids + CLAIMS), ("claim of a known id, µs", 0..CLAIMS.min(ids))]
    {
        let mut times = Vec::new();
        for number in range {
            let key = key(number);
            let started = Instant::now();
            let claim = ledger.claim(&key, body_hash(number)).await.expect("claimed");
            times.push(started.elapsed());
            if let Claim::Mine(ticket, _) = claim {
                ledger.release(&key, ticket, Reason::Failed);
            }
        }
        times.sort_unstable();
        figures.extend(times.get(times.len() / 2).map(|median| (name, median.as_secs_f64() * 1e6)));
    }
    ledger.close().await;
    figures
}

/// The p99 of records, one after the other, while all old ids are deleted.
async fn forget(bench: &Bench<'_>, data: &Path, ids: u64) -> (&'static str, f64) {
    let ledger = open(data, SHORT_WINDOW);
    let (started, mut times) = (Instant::now(), Vec::new());
    let mut number = ids + CLAIMS;
    while started.elapsed().as_secs_f64() < bench.load.seconds {
        let from = Instant::now();
        deliver(&ledger, number..number + 1, 1).await;
        times.push(from.elapsed());
        number += 1;
    }
    ledger.close().await;
    times.sort_unstable();
    ("record p99 while old ids are deleted, ms", times[(times.len() - 1) * 99 / 100].as_secs_f64() * 1e3)
}

fn open(data: &Path, window: Duration) -> Arc<dyn Ledger> {
    embedded::open(data, window).expect("opens").ledger
}

/// Claims and records ids, with this many in flight.
async fn deliver(ledger: &Arc<dyn Ledger>, range: Range<u64>, concurrency: u64) {
    let workers = (0..concurrency).map(|worker| {
        let (ledger, range) = (Arc::clone(ledger), range.clone());
        tokio::spawn(async move {
            let target = Target::new("stream", "file.playback_ready");
            for number in range.skip(worker as usize).step_by(concurrency as usize) {
                let key = key(number);
                if let Claim::Mine(ticket, _) = ledger.claim(&key, body_hash(number)).await.expect("claimed") {
                    let facts = vec![Fact::Confirmed(target.clone())];
                    let body_hash = body_hash(number);
                    let record = Record { targets: vec![target.clone()], facts, body_hash, ..Record::default() };
                    ledger.record(&key, ticket, record).await.expect("recorded");
                }
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("no panic");
    }
}

fn key(number: u64) -> DeliveryKey {
    DeliveryKey { source: "videogen".into(), id: format!("msg_{number:020}").into() }
}

/// As large as most hashes: SQLite stores small numbers in fewer bytes.
fn body_hash(number: u64) -> u32 {
    u32::MAX - number as u32
}

/// A copy of a closed store, in `data`.
fn copy(data: &Path) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let to = directory.path().join("data");
    std::fs::create_dir(&to).expect("created");
    for entry in std::fs::read_dir(data).expect("the directory") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
    directory
}
