//! The time of each step of a delivery that needs no network, for the smallest and the largest sample event.
//!
//! ```text
//! cargo bench --bench hot_path
//! ```

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use hookbridge::destination::settings::Mode;
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

criterion_group!(benches, steps);
criterion_main!(benches);
