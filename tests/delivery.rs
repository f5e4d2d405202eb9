//! The whole program as a process, from a signed POST to what a worker reads: over every destination, with duplicates,
//! crashes, clients that hang up, and shutdown. A new destination is one line at the end.

#[path = "destinations/mod.rs"]
mod suite;
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use hookbridge::samples::samples;
use suite::Subject;
use suite::place::Place;
use support::program::{Program, SECRET};
use support::sender::{answer, body, client, deliver, post, request};
use support::wait::until;

const SOON: Duration = Duration::from_secs(60);

const TOPIC: &str = "file.playback_ready";

async fn every_event_is_published_with_its_attributes<S: Subject>(place: Place<S>) {
    let mut program = place.serve_with(&[("HOOKBRIDGE_LOG", "trace")]);
    program.ready().await;
    let at = 1_745_409_600;
    let all = samples(7, at);
    assert_eq!(all.len(), 18);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (number, sample) in all.iter().enumerate() {
        let request = request(&client(), &program.url("videogen"), &format!("msg_{number}"), sample.body.as_bytes());
        let request = request.header("traceparent", trace).header("tracestate", "a=1");
        assert_eq!(answer(request).await.expect("an answer").word(), "200 accepted", "{}", sample.name);
    }
    for (number, sample) in all.iter().enumerate() {
        let id = format!("msg_{number}");
        let stored = place.stored(&sample.name).await;
        assert_eq!(stored.len(), 1, "{}", sample.name);
        let (attributes, data) = stored[0].event();
        let kind = format!("io.videogen.{}", sample.name);
        let mut expected: BTreeMap<&str, &str> = BTreeMap::from([
            ("specversion", "1.0"),
            ("id", &id),
            ("source", "https://api.videogen.io"),
            ("type", &kind),
            ("subject", &sample.subject),
            ("partitionkey", &sample.subject),
            ("time", "2025-04-23T12:00:00Z"),
            ("traceparent", trace),
            ("tracestate", "a=1"),
        ]);
        if sample.body.contains("xpiresAt\":17") {
            expected.insert("urlexpiry", "2025-04-23T13:00:00Z");
        }
        let attributes: BTreeMap<&str, &str> = attributes.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(attributes, expected, "{}", sample.name);
        assert_eq!(data, sample.body, "the body is the exact bytes that were signed");
        if S::DIFFERENCES.keeps_key {
            assert_eq!(stored[0].key.as_ref(), Some(&sample.subject));
        }
    }
    assert!(program.term().success());
    program.logged("(end)");
    let log = program.log();
    let in_numbers = "34, 102, 105, 108, 101, 73, 100, 34"; // "fileId"
    for secret in [SECRET, SECRET.trim_start_matches("whsec_"), "https://", "\"fileId\"", "fileId\\", in_numbers] {
        assert!(!log.contains(secret), "the log contains {secret}");
    }
}

async fn unknown_events_are_unrouted_and_unusable_ones_dead_lettered<S: Subject>(place: Place<S>) {
    let program = place.serve();
    program.ready().await;
    let url = program.url("videogen");
    assert_eq!(post(&url, "new", &body("file.invented_tomorrow", "f1")).await.word(), "200 accepted");
    assert_eq!(post(&url, "wild", &body("file.*", "f1")).await.word(), "200 accepted");
    for (id, bad) in [("array", "[1]"), ("text", "hello"), ("nameless", "{}"), ("number", r#"{"event":5}"#)] {
        assert_eq!(post(&url, id, bad).await.word(), "200 dead-lettered");
        assert_eq!(post(&url, id, bad).await.word(), "200 duplicate");
    }
    assert_eq!(place.counts("unrouted").await, BTreeMap::from([("new".into(), 1), ("wild".into(), 1)]));
    let refusals = "hookbridge_deliveries_total{source=\"videogen\",outcome=\"dead-lettered\"}";
    assert_eq!(program.metric(refusals).await, 4.0);
}

async fn copies_are_published_once<S: Subject>(place: Place<S>) {
    let mut program = place.serve();
    program.ready().await;
    let url = program.url("videogen");
    let event = body("file.playback_ready", "f1");
    assert_eq!(post(&url, "a", &event).await.word(), "200 accepted");
    assert_eq!(post(&url, "a", &event).await.word(), "200 duplicate");
    // Only the id decides. A different body raises a metric.
    assert_eq!(post(&url, "a", &body("file.playback_ready", "f2")).await.word(), "200 duplicate");
    assert_eq!(program.metric("hookbridge_body_differs_total{source=\"videogen\"}").await, 1.0);
    let client = client();
    let at_once = (0..50).map(|_| answer(request(&client, &url, "b", event.as_bytes())));
    let mut words: Vec<String> = join_all(at_once).await.into_iter().map(|it| it.expect("an answer").word()).collect();
    words.sort();
    assert_eq!(words[0], "200 accepted");
    assert!(words[1..].iter().all(|word| word == "200 duplicate"), "{words:?}");
    assert!(program.term().success());
    let program = place.serve();
    program.ready().await;
    for id in ["a", "b"] {
        assert_eq!(post(&program.url("videogen"), id, &event).await.word(), "200 duplicate");
    }
    assert_eq!(place.counts(TOPIC).await, BTreeMap::from([("a".into(), 1), ("b".into(), 1)]));
}

/// Sends numbered deliveries until `stop` is set. Returns the ids of all, and of those that were answered 200.
async fn load(url: String, stop: Arc<AtomicBool>, tag: &str) -> (Vec<String>, Vec<String>) {
    let client = client();
    let workers = (0..16).map(|worker| {
        let (client, url, stop) = (client.clone(), url.clone(), Arc::clone(&stop));
        let tag = tag.to_owned();
        tokio::spawn(async move {
            let (mut sent, mut good) = (Vec::new(), Vec::new());
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let id = format!("{tag}_{worker}_{number}");
                let body = body("file.playback_ready", &format!("f{worker}"));
                let answer = answer(request(&client, &url, &id, body.as_bytes())).await;
                let disconnected = answer.is_err();
                if answer.is_ok_and(|answer| answer.status == 200) {
                    good.push(id.clone());
                }
                sent.push(id);
                if disconnected {
                    break; // the program has ended
                }
            }
            (sent, good)
        })
    });
    let (mut sent, mut good) = (Vec::new(), Vec::new());
    for worker in workers.collect::<Vec<_>>() {
        let (s, g) = worker.await.expect("no panic");
        sent.extend(s);
        good.extend(g);
    }
    (sent, good)
}

async fn until_under_load(program: &Program) {
    let accepted = "hookbridge_deliveries_total{source=\"videogen\",outcome=\"accepted\"}";
    until("200 deliveries accepted", SOON, async || (program.metric(accepted).await >= 200.0).then_some(())).await;
}

async fn a_crash_under_load_loses_nothing<S: Subject>(place: Place<S>) {
    let mut program = place.serve();
    program.ready().await;
    let loading = tokio::spawn(load(program.url("videogen"), Arc::default(), "k"));
    until_under_load(&program).await;
    program.kill();
    let (sent, good) = loading.await.expect("no panic");
    let before = place.counts(TOPIC).await;
    for id in &good {
        assert!(before.contains_key(id), "{id} was answered 200 but is lost");
    }
    // The sender retries every delivery: those without a 200, as it would, and also those that got one.
    let program = place.serve();
    program.ready().await;
    let (client, url) = (client(), program.url("videogen"));
    for id in &sent {
        let worker = id.split('_').nth(1).expect("a number");
        deliver(&client, &url, id, &body("file.playback_ready", &format!("f{worker}"))).await;
    }
    let after = place.counts(TOPIC).await;
    let doubled: usize = after.values().map(|count| count - 1).sum();
    assert_eq!(after.len(), sent.len());
    let open = sent.len() - good.len();
    let allowed = if S::DIFFERENCES.dedups { 0 } else { open };
    assert!(doubled <= allowed, "{doubled} published twice, {open} were open at the kill");
    for id in &good {
        assert_eq!(after[id], 1, "{id} was answered 200 but published again");
    }
}

async fn sigterm_under_load_loses_nothing<S: Subject>(place: Place<S>) {
    let mut program = place.serve();
    program.ready().await;
    let stop = Arc::new(AtomicBool::new(false));
    let loading = tokio::spawn(load(program.url("videogen"), Arc::clone(&stop), "t"));
    until_under_load(&program).await;
    assert!(program.term().success());
    stop.store(true, Ordering::Relaxed);
    let (_, good) = loading.await.expect("no panic");
    let counts = place.counts(TOPIC).await;
    let not_once: Vec<_> =
        good.iter().filter(|id| counts.get(*id) != Some(&1)).map(|id| (id, counts.get(id))).collect();
    assert!(
        not_once.is_empty(),
        "{} answered 200, {} published; not exactly once: {not_once:?}",
        good.len(),
        counts.len()
    );
    // Every publish was recorded, so every retry is a duplicate.
    let program = place.serve();
    program.ready().await;
    for id in counts.keys() {
        let worker = id.split('_').nth(1).expect("a number");
        let again = post(&program.url("videogen"), id, &body("file.playback_ready", &format!("f{worker}"))).await;
        assert_eq!(again.word(), "200 duplicate", "{id}");
    }
}

async fn clients_that_hang_up_lose_nothing<S: Subject>(place: Place<S>) {
    use tokio::io::AsyncWriteExt as _;
    let program = place.serve();
    program.ready().await;
    let event = body("file.playback_ready", "f1");
    let hang_up = |number: usize| {
        let (address, event) = (program.webhooks.clone(), event.clone());
        async move {
            let (id, now) = (format!("h{number}"), support::sender::now());
            let signature = support::sender::signature(&id, now, event.as_bytes());
            let head = format!(
                "POST /webhooks/videogen HTTP/1.1\r\nhost: x\r\nwebhook-id: {id}\r\nwebhook-timestamp: {now}\r\n\
                 webhook-signature: {signature}\r\ncontent-length: {}\r\n\r\n",
                event.len()
            );
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
            stream.write_all(head.as_bytes()).await.expect("sent");
            // Every second client hangs up after half of its body.
            let part = if number.is_multiple_of(2) { event.len() } else { event.len() / 2 };
            stream.write_all(&event.as_bytes()[..part]).await.expect("sent");
        }
    };
    for chunk in (0..1000).collect::<Vec<_>>().chunks(100) {
        join_all(chunk.iter().map(|number| hang_up(*number))).await;
    }
    // Both at once: while the program still takes connections of clients that have gone, each may be above zero again.
    until("nothing in flight", SOON, async || {
        let (_, page) = program.get("/metrics").await;
        let nothing = |name: &str| page.lines().any(|line| line == format!("{name} 0"));
        (nothing("hookbridge_in_flight") && nothing("hookbridge_in_flight_bytes")).then_some(())
    })
    .await;
    let client = client();
    for number in 0..1000 {
        deliver(&client, &program.url("videogen"), &format!("h{number}"), &event).await;
    }
    let counts = place.counts(TOPIC).await;
    assert_eq!(counts.len(), 1000);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}

suite::place::whole_program! {
    {
        every_event_is_published_with_its_attributes unknown_events_are_unrouted_and_unusable_ones_dead_lettered
        copies_are_published_once a_crash_under_load_loses_nothing sigterm_under_load_loses_nothing
        clients_that_hang_up_lose_nothing
    };
    files: suite::file::Files;
    nats: suite::nats::Nats;
    kafka: suite::kafka::Kafka;
    rabbitmq: suite::rabbitmq::Rabbitmq;
}
