//! The whole program while its broker is down, killed under load, or frozen, and with one of two targets down. A new broker
//! is one line at the end.

#[path = "destinations/mod.rs"]
mod suite;
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use futures_util::future::join_all;
use suite::Subject;
use suite::place::Place;
use support::program::{Program, SECRET};
use support::sender::{body, client, deliver, post};
use support::wait::until;

const SOON: Duration = Duration::from_secs(90);

const TOPIC: &str = "file.playback_ready";

async fn starts_while_the_broker_is_down<S: Subject>(place: Place<S>) {
    place.subject.kill().await;
    let program = place.serve();
    let event = body("file.playback_ready", "f1");
    let started = Instant::now();
    let answer = post(&program.url("videogen"), "a", &event).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.retry_after.is_some());
    assert!(started.elapsed() < Duration::from_secs(11), "VideoGen gives up at 15 s");
    // What all replicas share is out of reach: a new one must not be out of service for that.
    program.ready().await;
    let (_, page) = program.get("/readyz").await;
    assert!(page.contains("\"starting\"") && page.contains("\"unreachable\""), "{page}");
    place.subject.start_again().await;
    until("accepted", SOON, async || (post(&program.url("videogen"), "a", &event).await.status == 200).then_some(()))
        .await;
    assert_eq!(place.counts(TOPIC).await, BTreeMap::from([("a".into(), 1)]));
}

/// So that a roll-out of wrong settings stops before it replaces a process that works.
async fn a_broker_that_refuses_us_keeps_a_new_process_unready<S: Subject>(place: Place<S>) {
    let configuration = place.directory().join("hookbridge.yaml");
    let text = |topology: &str| {
        format!("destinations:\n  broker: {{url: '{}', topology: {topology}}}\ndata: '{}'\n", place.url(), place.data())
    };
    let path = configuration.to_str().expect("UTF-8").to_owned();
    std::fs::write(&configuration, text("verify")).expect("written");
    let mut program = Program::serve(&["--config", &path, "--secret", SECRET]);
    let page = until("the refusal", SOON, async || {
        let (status, page) = program.get("/readyz").await;
        assert_eq!(status, 503, "{page}");
        page.contains("\"topology\"").then_some(page)
    })
    .await;
    assert!(page.contains("\"status\":\"starting\""), "{page}");
    assert_eq!(program.get("/livez").await.0, 200);
    program.term();
    std::fs::write(&configuration, text("ensure")).expect("written");
    Program::serve(&["--config", &path, "--secret", SECRET]).ready().await;
}

async fn an_outage_does_not_affect_readiness<S: Subject>(place: Place<S>) {
    let program = place.serve();
    program.ready().await;
    place.subject.kill().await;
    until("down in /readyz", SOON, async || program.get("/readyz").await.1.contains("\"down\"").then_some(())).await;
    assert_eq!(program.get("/readyz").await.0, 200);
    assert_eq!(post(&program.url("videogen"), "a", &body("file.playback_ready", "f1")).await.status, 503);
    place.subject.start_again().await;
    until("up in /readyz", SOON, async || program.get("/readyz").await.1.contains("\"up\"").then_some(())).await;
}

async fn a_broker_restarted_under_load_loses_nothing<S: Subject>(place: Place<S>) {
    let program = Arc::new(place.serve());
    program.ready().await;
    let senders = (0..8).map(|sender| {
        let program = Arc::clone(&program);
        tokio::spawn(async move {
            let (client, url) = (client(), program.url("videogen"));
            for number in 0..150 {
                deliver(&client, &url, &format!("o_{sender}_{number}"), &body("file.playback_ready", "f")).await;
            }
        })
    });
    let senders: Vec<_> = senders.collect();
    let accepted = "hookbridge_deliveries_total{source=\"videogen\",outcome=\"accepted\"}";
    for enough in [100.0, 500.0] {
        until("deliveries accepted", SOON, async || (program.metric(accepted).await >= enough).then_some(())).await;
        place.subject.kill().await;
        place.subject.start_again().await;
    }
    for sender in senders {
        sender.await.expect("no panic");
    }
    let counts = place.counts(TOPIC).await;
    assert_eq!(counts.len(), 1200, "events are lost");
    let doubled: usize = counts.values().map(|count| count - 1).sum();
    let unknown = program.unknown_outcomes().await;
    let allowed = if S::DIFFERENCES.dedups { 0 } else { unknown };
    assert!(doubled <= allowed, "{doubled} published twice, {unknown} outcomes were unknown");
}

async fn a_frozen_broker_times_out_and_recovers<S: Subject>(place: Place<S>) {
    let program = place.serve();
    program.ready().await;
    let (url, event) = (program.url("videogen"), body("file.playback_ready", "f1"));
    assert_eq!(post(&url, "warm", &event).await.word(), "200 accepted");
    place.subject.pause().await;
    let started = Instant::now();
    let answer = post(&url, "a", &event).await;
    assert_eq!(answer.word(), "503 timeout");
    assert!(started.elapsed() < Duration::from_secs(12), "VideoGen gives up at 15 s");
    place.subject.resume().await;
    let word = until("answered 200", SOON, async || {
        let answer = post(&url, "a", &event).await;
        (answer.status == 200).then(|| answer.word())
    })
    .await;
    let unknown = program.unknown_outcomes().await > 0;
    // The late confirm was recorded, unless the client had closed the connection by then.
    assert!(unknown || word == "200 duplicate", "{word}");
    let count = place.counts(TOPIC).await["a"];
    assert!(count == 1 || (unknown && !S::DIFFERENCES.dedups), "published {count} times");
}

/// What is published to a broker that does not answer is in flight for minutes. The source must have places left for its
/// other destination.
async fn a_frozen_broker_does_not_starve_another_destination<S: Subject>(place: Place<S>) {
    let configuration = place.directory().join("hookbridge.yaml");
    let text = format!(
        "sources: {{videogen: {{secrets: '{SECRET}', in_flight: 20}}}}\ndestinations:\n  files: {{url: 'file:{}'}}\n  \
         broker: {{url: '{}'}}\nroutes:\n  - {{match: '{TOPIC}', to: [broker]}}\n  - {{match: '**', to: [files]}}\ndata: '{}'\n",
        place.directory().join("second").display(),
        place.url(),
        place.data()
    );
    std::fs::write(&configuration, text).expect("written");
    let program = Program::serve(&["--config", configuration.to_str().expect("UTF-8")]);
    program.ready().await;
    let (url, stuck, other) = (program.url("videogen"), body(TOPIC, "f1"), body("file.analysis_completed", "f2"));
    assert_eq!(post(&url, "warm", &stuck).await.word(), "200 accepted");
    place.subject.pause().await;
    let ids: Vec<String> = (0..20).map(|number| format!("stuck_{number}")).collect();
    let answers = join_all(ids.iter().map(|id| post(&url, id, &stuck))).await;
    assert!(answers.iter().all(|answer| answer.status == 503), "{answers:?}");
    assert_eq!(post(&url, "other", &other).await.word(), "200 accepted");
    let ids: Vec<String> = ids.into_iter().chain((0..20).map(|number| format!("more_{number}"))).collect();
    let answers = join_all(ids[20..].iter().map(|id| post(&url, id, &stuck))).await;
    assert!(answers.iter().all(|answer| answer.status == 503), "{answers:?}");
    assert_eq!(post(&url, "another", &other).await.word(), "200 accepted");
    place.subject.resume().await;
    for id in &ids {
        until("accepted", SOON, async || (post(&url, id, &stuck).await.status == 200).then_some(())).await;
    }
    assert_eq!(place.counts(TOPIC).await.len(), 41);
}

async fn a_second_signal_while_draining_ends_at_once<S: Subject>(place: Place<S>) {
    let mut program = place.serve();
    program.ready().await;
    let (url, event) = (program.url("videogen"), body("file.playback_ready", "f1"));
    assert_eq!(post(&url, "warm", &event).await.word(), "200 accepted");
    place.subject.pause().await;
    let client = client();
    let sending = tokio::spawn(async move { deliver(&client, &url, "a", &event).await });
    until("in flight", SOON, async || (program.metric("hookbridge_in_flight").await == 1.0).then_some(())).await;
    program.signal("TERM");
    program.logged("draining");
    let started = Instant::now();
    program.signal("INT");
    let status = program.wait();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(status.code(), Some(1), "{}", program.log());
    program.logged("ended by a second signal; deliveries left in flight, for their senders to retry: 1");
    place.subject.resume().await;
    sending.abort();
}

async fn a_retry_reaches_only_the_target_that_was_down<S: Subject>(place: Place<S>) {
    let (events, configuration) = (place.directory().join("second"), place.directory().join("hookbridge.yaml"));
    let text = |routes: &str| {
        format!(
            "destinations:\n  files: {{url: 'file:{}'}}\n  broker: {{url: '{}'}}\n{routes}data: '{}'\n",
            events.display(),
            place.url(),
            place.data()
        )
    };
    let both = text("routes: [{match: '**', to: [files, broker]}]\n");
    let files_only = text("routes: [{match: '**', to: [files]}]\n");
    std::fs::write(&configuration, both).expect("written");
    let path = configuration.to_str().expect("UTF-8").to_owned();
    let mut program = Program::serve(&["--config", &path, "--secret", SECRET]);
    program.ready().await;
    let event = body("file.playback_ready", "f1");
    place.subject.kill().await;
    let lines =
        || std::fs::read_to_string(events.join("file.playback_ready.ndjson")).unwrap_or_default().lines().count();
    for _ in 0..3 {
        assert_eq!(post(&program.url("videogen"), "a", &event).await.status, 503);
        assert_eq!(lines(), 1, "a confirmed target gets no second copy");
    }
    // The first confirm freezes the targets: a changed route does not lose the second one.
    program.term();
    std::fs::write(&configuration, files_only).expect("written");
    let mut program = Program::serve(&["--config", &path, "--secret", SECRET]);
    assert_eq!(post(&program.url("videogen"), "a", &event).await.status, 503);
    place.subject.start_again().await;
    until("accepted", SOON, async || (post(&program.url("videogen"), "a", &event).await.status == 200).then_some(()))
        .await;
    assert_eq!((lines(), place.counts(TOPIC).await["a"]), (1, 1));
    program.term();
}

suite::place::whole_program! {
    {
        starts_while_the_broker_is_down a_broker_that_refuses_us_keeps_a_new_process_unready an_outage_does_not_affect_readiness a_broker_restarted_under_load_loses_nothing
        a_frozen_broker_times_out_and_recovers a_frozen_broker_does_not_starve_another_destination a_second_signal_while_draining_ends_at_once
        a_retry_reaches_only_the_target_that_was_down
    };
    nats: suite::nats::Nats;
    kafka: suite::kafka::Kafka;
    rabbitmq: suite::rabbitmq::Rabbitmq;
}
