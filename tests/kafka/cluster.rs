//! Two brokers: missing replicas, killed leaders.

use std::time::Duration;

use futures_util::future::join_all;
use hookbridge::message::Outcome;

use crate::suite::Ending;
use crate::suite::bench::{all, outcome, publish_all, publish_until_confirmed, up};
use crate::suite::kafka::{configure, read};
use crate::suite::tally::Tally;
use crate::support::brokers::{Broker, Kind, With};
use crate::support::event::{event, message, scope};
use crate::support::wait::{SOON, until};
use crate::{assert_order, keyed, open, opening};

/// Two brokers, the first also the controller. New topics have two replicas.
fn two_brokers() -> (Broker, Broker) {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let controller = free().port().to_string();
    let conf = "default.replication.factor=2\n";
    let first = With { conf, env: &[("KAFKA_CONTROLLER_PORT", &controller)] };
    let first = Broker::start_with(Kind::Kafka, first);
    let second = With { conf, env: &[("KAFKA_JOIN", &controller)] };
    (first, Broker::start_with(Kind::Kafka, second))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_confirmed_below_min_insync_replicas() {
    let ((first, second), scope) = (two_brokers(), scope());
    let mut opening = opening(&scope, &format!("{},{}", first.url(), second.url()), &["a"]);
    opening.publish_timeout = Duration::from_secs(5);
    let (handle, topic) = (open(opening), format!("{scope}.a"));
    up(&handle).await;
    configure(first.url(), &topic, &[("min.insync.replicas", "2")]).await;
    let tally = Tally::default();
    let note = |ids: &[String], outcomes: &[Outcome]| {
        ids.iter().zip(outcomes).for_each(|(id, outcome)| tally.note(id, outcome))
    };
    let publish = async |ids: &[String]| publish_all(&handle, ids.iter().map(|id| message(&topic, event(id)))).await;

    let ids: Vec<_> = (0..20).map(|number| format!("before_{number}")).collect();
    let outcomes = publish(&ids).await;
    all(&outcomes, Ending::Confirmed);
    note(&ids, &outcomes);

    second.kill();
    let ids: Vec<_> = (0..20).map(|number| format!("during_{number}")).collect();
    let outcomes = publish(&ids).await;
    assert!(!outcomes.contains(&Outcome::Confirmed), "confirmed by one replica of two: {outcomes:?}");
    note(&ids, &outcomes);

    second.start_again();
    let last = message(&topic, event("after"));
    for outcome in publish_until_confirmed(&handle, &last).await {
        tally.note("after", &outcome);
    }
    tally.note("after", &Outcome::Confirmed);
    handle.close(SOON).await;
    tally.check(&read(first.url(), &topic), false);
}

#[tokio::test(flavor = "multi_thread")]
async fn order_of_each_key_survives_a_killed_leader_under_load() {
    const EACH: usize = 300;
    let ((first, second), scope) = (two_brokers(), scope());
    let mut opening = opening(&scope, &format!("{},{}", first.url(), second.url()), &["a"]);
    (opening.settings.partitions, opening.publish_timeout) = (4, 3 * SOON);
    let (handle, topic) = (open(opening), format!("{scope}.a"));
    up(&handle).await;
    let tally = Tally::default();
    let publishers = (0..8).map(async |key| {
        // Many of each key are in flight at once, so the producer keeps their order.
        let messages: Vec<_> = (0..EACH).map(|number| keyed(&topic, &format!("key{key}"), number)).collect();
        for some in messages.chunks(30) {
            let outcomes = publish_all(&handle, some.iter().cloned()).await;
            some.iter().zip(&outcomes).for_each(|(message, outcome)| tally.note(&message.event.id, outcome));
        }
    });
    let killer = async {
        until("under way", SOON, async || (tally.count(Ending::Confirmed) > 8 * 60).then_some(())).await;
        second.kill();
        until("confirmed by one broker", 3 * SOON, async || (tally.count(Ending::Confirmed) > 8 * 200).then_some(()))
            .await;
        second.start_again();
    };
    futures_util::join!(join_all(publishers), killer);
    assert_eq!(tally.count(Ending::Confirmed), 8 * EACH, "each is confirmed at the first attempt");
    handle.close(SOON).await;
    let stored = read(&format!("{},{}", first.url(), second.url()), &topic);
    tally.check(&stored, false);
    assert_order(&stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_bootstrap_addresses_is_enough() {
    let (broker, scope) = (Broker::shared(Kind::Kafka), scope());
    let handle = open(opening(&scope, &format!("127.0.0.1:1,{}", broker.url()), &["a"]));
    up(&handle).await;
    let outcome = outcome(handle.publish(message(&format!("{scope}.a"), event("msg_1")))).await;
    assert_eq!(outcome, Outcome::Confirmed);
}
