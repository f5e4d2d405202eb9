//! Each publish gets its own outcome, whatever the outcomes of the others on its channel are.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use hookbridge::destination::Destination;
use hookbridge::event::Event;
use hookbridge::message::{Message, Outcome};
use lapin::types::AMQPValue;
use rand::Rng as _;

use crate::rig::{Admin, confirmed, counts, open, opening, publish_all, shared, shown, text, up};
use crate::support::event::{event, message, scope};
use crate::support::wait::{SOON, until};

const PUBLISHERS: usize = 8;
const EACH: usize = 5_000;
/// Publishes that one publisher has in flight at a time.
const PIPELINE: usize = 250;

const FULL: &str = "unknown refused";
const UNROUTABLE: &str = "again unroutable";

/// An exchange with the classic queues `good` and `full`.
async fn destination(scope: &str) -> (Arc<dyn Destination>, Admin) {
    let admin = Admin::of(shared()).await;
    admin.queue(&format!("{scope}.good"), &[]).await;
    let full = [("x-max-length", AMQPValue::LongInt(0)), ("x-overflow", text("reject-publish"))];
    admin.queue(&format!("{scope}.full"), &full).await;
    let destination = open(opening(&[shared().url()], scope, &["good", "full"]));
    up(&*destination).await;
    (destination, admin)
}

fn small(id: &str) -> Event {
    Event { data: Bytes::from_static(b"{}"), ..event(id) }
}

/// Publishes from several tasks at once. `topic` gives the topic of a number, and with it the expected outcome. Returns a
/// line for each wrong outcome, and how many messages were expected to be confirmed.
async fn wrong(
    destination: &Arc<dyn Destination>,
    scope: &str,
    topic: impl Fn(usize) -> &'static str + Copy + Send + Sync + 'static,
) -> (Vec<String>, usize) {
    let publishers = (0..PUBLISHERS).map(|publisher| {
        let (destination, scope) = (Arc::clone(destination), scope.to_owned());
        tokio::spawn(async move {
            let (mut wrong, mut good) = (Vec::new(), 0);
            let numbers: Vec<_> = (0..EACH).collect();
            for numbers in numbers.chunks(PIPELINE) {
                let create = |number: &usize| Message {
                    key: Some(format!("key {}", number % 16)),
                    ..message(&format!("{scope}.{}", topic(*number)), small(&format!("msg_{publisher}_{number}")))
                };
                let outcomes = publish_all(&*destination, numbers.iter().map(create)).await;
                for (number, outcome) in numbers.iter().zip(&outcomes) {
                    let expected = match topic(*number) {
                        "good" => "confirmed",
                        "full" => FULL,
                        _ => UNROUTABLE,
                    };
                    good += usize::from(expected == "confirmed");
                    if shown(outcome) != expected {
                        wrong.push(format!("{publisher} {number}: {outcome:?}, expected {expected}"));
                    }
                }
            }
            (wrong, good)
        })
    });
    let all = join_all(publishers.collect::<Vec<_>>()).await;
    all.into_iter().map(|ended| ended.expect("a publisher ends")).fold((Vec::new(), 0), |mut sum, (wrong, good)| {
        sum.0.extend(wrong);
        (sum.0, sum.1 + good)
    })
}

async fn check(topic: impl Fn(usize) -> &'static str + Copy + Send + Sync + 'static) {
    let scope = scope();
    let (destination, admin) = destination(&scope).await;
    let (wrong, good) = wrong(&destination, &scope, topic).await;
    assert!(
        wrong.is_empty(),
        "{} of {} outcomes are wrong, such as {:?}",
        wrong.len(),
        PUBLISHERS * EACH,
        &wrong[..wrong.len().min(5)]
    );
    assert_eq!(admin.depth(&format!("{scope}.good")).await as usize, good);
    assert_eq!(admin.depth(&format!("{scope}.full")).await, 0);
}

/// lapin would give tasks that share a channel each other's outcomes.
#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_exact_with_half_to_a_full_queue() {
    check(|number| if number % 2 == 0 { "good" } else { "full" }).await;
}

/// lapin would attach a returned message to another publish.
#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_exact_with_every_third_unroutable() {
    check(|number| if number % 3 == 0 { "nowhere" } else { "good" }).await;
}

/// Confirmed, refused and returned messages in a random order.
#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_exact_with_all_kinds_at_random() {
    check(|number| {
        // A hash of the number, so that the expected outcome can be computed again.
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) % 7;
        ["good", "nowhere", "full", "good", "good", "nowhere", "nowhere"][mixed]
    })
    .await;
}

/// The same event goes to two topics at once, and only one topic has a queue: the topic distinguishes the publishes.
/// Copies of one publish are never in flight together.
#[tokio::test(flavor = "multi_thread")]
async fn copies_of_an_event_get_their_own_outcomes() {
    let scope = scope();
    let (destination, admin) = destination(&scope).await;
    let mut expected = Vec::new();
    let mut messages = Vec::new();
    let mut rng = rand::rng();
    for number in 0..2_000 {
        for topic in [["good", "nowhere"], ["nowhere", "good"], ["good", "good"]][rng.random_range(0..3)] {
            messages.push(message(&format!("{scope}.{topic}"), small(&format!("msg_{}", number % 100))));
            expected.push(if topic == "good" { "confirmed" } else { UNROUTABLE });
        }
    }
    let outcomes = publish_all(&*destination, messages).await;
    assert_eq!(outcomes.iter().map(shown).collect::<Vec<_>>(), expected);
    let good = expected.iter().filter(|expected| **expected == "confirmed").count();
    assert_eq!(admin.depth(&format!("{scope}.good")).await as usize, good);
}

/// Rule P14 of the protocol: one of two queues refuses the message and the other takes it. The outcome is unknown.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_refused_by_one_of_two_queues_is_unknown() {
    let scope = scope();
    let (destination, admin) = destination(&scope).await;
    admin.bind(&format!("{scope}.full"), &scope, &format!("{scope}.good")).await;
    let messages = (0..100).map(|number| message(&format!("{scope}.good"), event(&format!("msg_{number}"))));
    let outcomes = publish_all(&*destination, messages).await;
    assert_eq!(counts(&outcomes), [(FULL.to_owned(), 100)].into());
    // The broker does not wait for the other queue before it answers.
    let all = async || (admin.depth(&format!("{scope}.good")).await == 100).then_some(());
    until("the other queue has all messages", SOON, all).await;
}

/// Names and attributes of any length are carried if AMQP can carry them. If not, only that publish is refused.
#[tokio::test(flavor = "multi_thread")]
async fn names_too_long_for_amqp_refuse_only_their_publish() {
    let scope = scope();
    let opening = opening(&[shared().url()], &scope, &["a"]);
    let metrics = Arc::clone(&opening.metrics);
    let destination = open(opening);
    up(&*destination).await;
    let topic = format!("{scope}.a");
    let admin = Admin::of(shared()).await;
    for length in [255, 256, 1000, 100_000] {
        let id = "i".repeat(length);
        let sent = Event { kind: id.clone(), subject: None, ..event(&id) };
        let outcome = crate::rig::publish(&*destination, message(&topic, sent)).await;
        // A frame has 131,072 bytes. It holds this text twice: as the id and as the type.
        assert_eq!(shown(&outcome), if length < 60_000 { "confirmed" } else { "never too_large" }, "{length}");
        if outcome == Outcome::Confirmed {
            let got = admin.get(&topic).await.expect("a message");
            assert_eq!(got.properties.message_id().is_some(), length <= 255);
            let header = got.properties.headers().as_ref().expect("headers").inner()["cloudEvents_id"].clone();
            assert_eq!(header, text(&id));
        }
    }
    let sent = Event { subject: Some("s".repeat(8 << 20)), ..event("msg_subject") };
    assert_eq!(shown(&crate::rig::publish(&*destination, message(&topic, sent)).await), "never too_large");
    // Several ids that are too long for the property, pipelined.
    let long = (0..50).map(|number| message(&topic, event(&format!("{}{number}", "x".repeat(300)))));
    assert_eq!(counts(&publish_all(&*destination, long).await), [("confirmed".to_owned(), 50)].into());
    let nowhere = format!("{scope}.{}", "n".repeat(300));
    assert_eq!(
        shown(&crate::rig::publish(&*destination, message(&nowhere, event("msg_1"))).await),
        "never illegal_name"
    );
    assert_eq!(crate::rig::connects(&metrics), 1, "the connection never ended");
    confirmed(&*destination, &message(&topic, event("msg_after"))).await;
}
