//! `--ack stored`: no outage of a broker reaches the sender, and nothing that was answered 200 is lost, doubled or reordered,
//! whatever the broker does (`kills.rs` kills the process). A new broker is one line at the end.

#[path = "destinations/mod.rs"]
mod suite;
mod support;

use std::time::Duration;

use suite::Subject;
use suite::place::Place;
use support::program::Program;
use support::sender::{answer, body, client, post, request};
use support::wait::until;
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(90);
const TOPIC: &str = "file.playback_ready";
/// How long a sender waits at most. VideoGen gives up after 15 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends `count` deliveries of each of these keys, one after the other, and expects each to be accepted at once.
async fn send(program: &Program, tag: &str, keys: usize, count: usize) {
    let senders = (0..keys).map(|key| {
        let (url, tag) = (program.url("videogen"), tag.to_owned());
        tokio::spawn(async move {
            let client = client();
            for number in 0..count {
                let (id, started) = (format!("{tag}_{key}_{number}"), Instant::now());
                let body = body(TOPIC, &format!("f{key}"));
                let answer = answer(request(&client, &url, &id, body.as_bytes())).await.expect("an answer");
                assert_eq!(answer.word(), "200 accepted", "{id}");
                assert!(started.elapsed() < PATIENCE, "{id}: {:?}", started.elapsed());
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.expect("every delivery was accepted");
    }
}

async fn waiting(program: &Program) -> f64 {
    program.sum("hookbridge_spool_events").await
}

async fn drained(program: &Program) {
    until("the spool is empty", SOON, async || (waiting(program).await == 0.0).then_some(())).await;
}

/// Every event is there, those of a key in the order in which they were answered; returns how many copies are too many.
async fn check<S: Subject>(place: &Place<S>, tag: &str, keys: usize, count: usize) -> usize {
    let stored: Vec<String> = place.stored(TOPIC).await.iter().map(suite::Stored::id).collect();
    let mut doubled = 0;
    for key in 0..keys {
        let prefix = format!("{tag}_{key}_");
        let numbers = stored.iter().filter_map(|id| id.strip_prefix(&prefix)?.parse::<usize>().ok());
        let mut first = Vec::new();
        for number in numbers {
            if first.contains(&number) {
                doubled += 1;
            } else {
                first.push(number);
            }
        }
        assert_eq!(first, (0..count).collect::<Vec<_>>(), "key {key}");
    }
    doubled
}

fn allowed<S: Subject>(doubtful: usize) -> usize {
    if S::DIFFERENCES.dedups { 0 } else { doubtful }
}

async fn an_outage_reaches_no_sender<S: Subject>(place: Place<S>) {
    let mut program = place.serve_stored();
    program.ready().await;
    send(&program, "before", 2, 5).await;
    drained(&program).await;
    place.subject.kill().await;
    send(&program, "during", 8, 40).await;
    assert_eq!(post(&program.url("videogen"), "during_0_0", &body(TOPIC, "f0")).await.word(), "200 duplicate");
    assert_eq!(waiting(&program).await, 320.0);
    // What waits survives the process, too.
    program.kill();
    let program = place.serve_stored();
    assert_eq!(post(&program.url("videogen"), "during_0_0", &body(TOPIC, "f0")).await.word(), "200 duplicate");
    assert_eq!(waiting(&program).await, 320.0);
    send(&program, "restarted", 2, 5).await;
    place.subject.start_again().await;
    drained(&program).await;
    let doubtful = program.unknown_outcomes().await;
    let mut doubled = 0;
    for (tag, keys, count) in [("before", 2, 5), ("during", 8, 40), ("restarted", 2, 5)] {
        doubled += check(&place, tag, keys, count).await;
    }
    // Those that were open when the broker was killed are doubtful in the first process.
    assert!(doubled <= allowed::<S>(doubtful + 8), "{doubled} copies, {doubtful} outcomes were unknown");
}

async fn a_frozen_broker_reaches_no_sender<S: Subject>(place: Place<S>) {
    let program = place.serve_stored();
    program.ready().await;
    send(&program, "before", 1, 1).await;
    drained(&program).await;
    place.subject.pause().await;
    send(&program, "during", 8, 40).await;
    place.subject.resume().await;
    drained(&program).await;
    let doubtful = program.unknown_outcomes().await;
    let doubled = check(&place, "during", 8, 40).await;
    assert!(doubled <= allowed::<S>(doubtful), "{doubled} copies, {doubtful} outcomes were unknown");
}

async fn after_a_change_of_the_mode_what_waits_comes_first<S: Subject>(place: Place<S>) {
    let mut program = place.serve_stored();
    program.ready().await;
    send(&program, "warm", 1, 1).await;
    drained(&program).await;
    place.subject.kill().await;
    send(&program, "old", 2, 10).await;
    assert!(program.term().success());
    let program = place.serve();
    let url = program.url("videogen");
    assert_eq!(post(&url, "new_0_0", &body(TOPIC, "f0")).await.word(), "503 behind");
    assert_eq!(waiting(&program).await, 20.0);
    place.subject.start_again().await;
    until("accepted", SOON, async || (post(&url, "new_0_0", &body(TOPIC, "f0")).await.status == 200).then_some(()))
        .await;
    drained(&program).await;
    let ids: Vec<String> = place.stored(TOPIC).await.iter().map(suite::Stored::id).collect();
    let position =
        |id: &str| ids.iter().position(|other| other == id).unwrap_or_else(|| panic!("{id} is lost: {ids:?}"));
    assert!(position("new_0_0") > position("old_0_9"), "{ids:?}");
    check(&place, "old", 2, 10).await;
}

suite::place::whole_program! {
    {
        an_outage_reaches_no_sender a_frozen_broker_reaches_no_sender
        after_a_change_of_the_mode_what_waits_comes_first
    };
    nats: suite::nats::Nats;
    kafka: suite::kafka::Kafka;
    rabbitmq: suite::rabbitmq::Rabbitmq;
}
