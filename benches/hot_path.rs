//! The time of each step of a delivery that needs no network, for the smallest and the largest sample event; and of a claim
//! and a record in each ledger, by the number in flight, as the embedded ledger commits them in batches.
//!
//! ```text
//! cargo bench --bench hot_path
//! ```

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use hookbridge::delivery::DeliveryKey;
use hookbridge::destination::settings::Mode;
use hookbridge::ledger::{Claim, Ledger, Record, embedded, memory};
use hookbridge::protocol::{Fact, Target};
use support::hot_path::{HotPath, Request};

fn steps(criterion: &mut Criterion) {
    let path = HotPath::new();
    for event in ["project_export.succeeded", "file.analysis_completed"] {
        let request = Request::new(event, 1);
        let delivery = path.verify(&request);
        let bytes = delivery.body.len();
        let mut group = criterion.benchmark_group(format!("{event}, {bytes} bytes"));
        group.bench_function("verify", |bencher| bencher.iter(|| path.verify(black_box(&request))));
        group.bench_function("normalize", |bencher| bencher.iter(|| path.normalize(black_box(&delivery))));
        let event = path.normalize(&delivery);
        group.bench_function("route", |bencher| bencher.iter(|| path.route(black_box(&event))));
        let planned = path.route(&event).remove(0);
        let message = planned.message.expect("a legal name");
        for settings in path.destinations() {
            let kind = settings.url.kind().word();
            let name = format!("encode for {kind}");
            group.bench_function(name, |bencher| bencher.iter(|| path.encode(settings, black_box(&message))));
        }
        let structured = hookbridge::destination::settings::DestinationSettings {
            mode: Mode::Structured,
            ..path.destinations()[0].clone()
        };
        group.bench_function("encode for nats, structured", |bencher| {
            bencher.iter(|| path.encode(&structured, black_box(&message)));
        });
        group.finish();
    }
}

fn ledgers(criterion: &mut Criterion) {
    const WINDOW: Duration = Duration::from_secs(86_400);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    let embedded = runtime.block_on(async { embedded::open(directory.path(), WINDOW).expect("opens").ledger });
    let mut number = 0;
    for (name, ledger) in [("memory", memory::open(WINDOW)), ("embedded", embedded)] {
        let mut group = criterion.benchmark_group(format!("claim and record, {name}"));
        for at_once in [1, 8, 64, 512] {
            group.throughput(Throughput::Elements(at_once));
            group.bench_function(format!("{at_once} at once"), |bencher| {
                bencher.iter(|| {
                    let deliveries = (number..number + at_once).map(|number| deliver(&*ledger, number));
                    number += at_once;
                    runtime.block_on(join_all(deliveries))
                });
            });
        }
        group.finish();
        runtime.block_on(ledger.close());
    }
}

async fn deliver(ledger: &dyn Ledger, number: u64) {
    let key = DeliveryKey { source: "videogen".into(), id: format!("msg_{number:024}").into() };
    let Claim::Mine(ticket, _) = ledger.claim(&key, 0).await.expect("claimed") else { panic!("{key} is not new") };
    let target = Target::new("nats", "file.playback_ready");
    let record = Record { facts: vec![Fact::Confirmed(target.clone())], targets: vec![target], ..Record::default() };
    ledger.record(&key, ticket, record).await.expect("recorded");
}

criterion_group!(benches, steps, ledgers);
criterion_main!(benches);
