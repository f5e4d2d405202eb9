//! What every destination does while its broker works.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use hookbridge::destination::Health;
use hookbridge::destination::settings::{Mode, Topology};
use hookbridge::event::{DATA_CONTENT_TYPE, Event, STRUCTURED_CONTENT_TYPE};
use hookbridge::message::Outcome;
use hookbridge::reason::Reason;

use super::bench::{BODY_LIMIT, Bench, all, outcome, publish_all, publish_until_confirmed};
use super::{Ending, Stored, Subject};
use crate::support::event::{event, event_of};
use crate::support::wait::{SOON, until};

fn attributes(event: &Event) -> BTreeMap<String, String> {
    event.attributes().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn same_json(one: &[u8], other: &[u8]) -> bool {
    let parse = |json| serde_json::from_slice::<serde_json::Value>(json).expect("JSON");
    parse(one) == parse(other)
}

fn ids(stored: &[Stored]) -> Vec<String> {
    stored.iter().map(Stored::id).collect()
}

/// A confirmed event can be read at once, with all attributes and exactly the signed bytes.
pub async fn confirmed_event_is_stored<S: Subject>() {
    let bench = Bench::<S>::shared().await;
    let handle = bench.ready(&["a"]).await;
    let sent = event("msg_1");
    let mut keyed = bench.message("a", event("msg_2"));
    keyed.key = Some("key of the route".into());
    // One after the other, because events with different keys have no order.
    for message in [bench.message("a", sent.clone()), keyed] {
        all(&publish_all(&handle, [message]).await, Ending::Confirmed);
    }
    let stored = bench.stored("a").await;
    assert_eq!(ids(&stored), ["msg_1", "msg_2"]);
    let (found, data) = stored[0].event();
    assert_eq!(found, attributes(&sent));
    if S::DIFFERENCES.always_structured {
        assert!(same_json(&data, &sent.data));
    } else {
        assert_eq!(stored[0].content_type, DATA_CONTENT_TYPE);
        assert_eq!(data, sent.data);
    }
    if S::DIFFERENCES.keeps_key {
        assert_eq!(stored[0].key, sent.partitionkey);
        assert_eq!(stored[1].key.as_deref(), Some("key of the route"));
    }
}

/// Structured mode stores one JSON object without insignificant whitespace.
pub async fn structured_event_is_stored<S: Subject>() {
    let bench = Bench::<S>::shared().await;
    let handle = bench.ready_with(&["a"], |opening| opening.settings.mode = Mode::Structured).await;
    let sent = event("msg_1");
    all(&publish_all(&handle, [bench.message("a", sent.clone())]).await, Ending::Confirmed);
    let stored = bench.stored("a").await;
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].content_type, STRUCTURED_CONTENT_TYPE);
    let (found, data) = stored[0].event();
    assert_eq!(found, attributes(&sent));
    assert!(same_json(&data, &sent.data));
    assert!(data.len() < sent.data.len() && !stored[0].body.contains(&b'\n'));
}

/// `forward_signature` adds the headers that a worker needs to verify the delivery again; without it there are none.
pub async fn signature_is_forwarded<S: Subject>() {
    let bench = Bench::<S>::shared().await;
    for forward in [false, true] {
        let topic = if forward { "with" } else { "without" };
        let handle = bench.ready_with(&[topic], |opening| opening.settings.forward_signature = forward).await;
        let sent = event("msg_1");
        all(&publish_all(&handle, [bench.message(topic, sent.clone())]).await, Ending::Confirmed);
        let stored = bench.stored(topic).await;
        assert_eq!(stored.len(), 1);
        let expected = forward && !S::DIFFERENCES.always_structured;
        for (name, value) in
            [("webhook-timestamp", &sent.signed.timestamp), ("webhook-signature", &sent.signed.signature)]
        {
            assert_eq!(stored[0].headers.get(name), expected.then_some(value), "{name}, forward: {forward}");
        }
        handle.close(SOON).await;
    }
}

/// Publishes with one key are stored in the order of the calls, although none waits for another.
pub async fn order_is_kept_under_load<S: Subject>() {
    let bench = Bench::<S>::shared().await;
    let handle = bench.ready(&["a"]).await;
    let sent: Vec<_> = (0..2000).map(|number| format!("msg_{number}")).collect();
    all(&publish_all(&handle, sent.iter().map(|id| bench.message("a", event(id)))).await, Ending::Confirmed);
    assert_eq!(ids(&bench.stored("a").await), sent);
}

/// A second copy of an event is confirmed, and is stored only if the broker does not deduplicate.
pub async fn same_id_twice<S: Subject>() {
    let bench = Bench::<S>::shared().await;
    let handle = bench.ready(&["a"]).await;
    let message = bench.message("a", event("msg_1"));
    all(&publish_all(&handle, [message.clone(), message]).await, Ending::Confirmed);
    assert_eq!(bench.stored("a").await.len(), if S::DIFFERENCES.dedups { 1 } else { 2 });
}

/// An event for two topics of one destination is stored in both: deduplication is per target.
pub async fn two_topics_each_get_a_copy<S: Subject>() {
    let bench = Bench::<S>::shared().await;
    let handle = bench.ready(&["a", "b"]).await;
    let messages = ["a", "b"].map(|topic| bench.message(topic, event("msg_1")));
    all(&publish_all(&handle, messages).await, Ending::Confirmed);
    for topic in ["a", "b"] {
        assert_eq!(ids(&bench.stored(topic).await), ["msg_1"], "{topic}");
    }
}

/// A publish to a topic without topology has the declared outcome, and does not affect other publishes.
pub async fn unknown_topic<S: Subject>() {
    let bench = Bench::<S>::own().await;
    let handle = bench.ready(&["a"]).await;
    let messages = (0..30)
        .map(|number| bench.message(if number % 3 == 0 { "nowhere" } else { "a" }, event(&format!("msg_{number}"))));
    let outcomes = publish_all(&handle, messages).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        let expected = if number % 3 == 0 { S::DIFFERENCES.unknown_topic } else { Ending::Confirmed };
        assert_eq!(Ending::from(outcome), expected, "{number}: {outcome:?}");
    }
    assert_eq!(bench.stored("a").await.len(), 20);
}

/// While a topic refuses publishes, none is confirmed; afterwards they are. No event that ended in `Again` is stored.
pub async fn refused_then_accepted<S: Subject>() {
    let bench = Bench::<S>::own().await;
    let handle = bench.ready(&["a", "b"]).await;
    let message = |topic: &str, id: &str| bench.message(topic, event(id));
    all(&publish_all(&handle, [message("a", "msg_before")]).await, Ending::Confirmed);
    bench.subject.refuse(&bench.scope, &bench.topic("a")).await;
    let refused = publish_all(&handle, (0..20).map(|number| message("a", &format!("refused_{number}")))).await;
    all(&refused, S::DIFFERENCES.refused);
    all(&publish_all(&handle, [message("b", "msg_beside")]).await, Ending::Confirmed);
    bench.subject.accept(&bench.scope, &bench.topic("a")).await;
    publish_until_confirmed(&handle, &message("a", "msg_after")).await;
    let stored = ids(&bench.stored("a").await);
    assert!(stored.contains(&"msg_after".to_owned()));
    if S::DIFFERENCES.refused == Ending::Again {
        assert!(!stored.iter().any(|id| id.starts_with("refused_")), "{stored:?}");
    }
}

/// An event that is too large for the broker ends in `Never`, and does not affect the others.
pub async fn too_large_is_never<S: Subject>() {
    let bench = Bench::<S>::shared().await;
    let handle = bench.ready(&["a"]).await;
    let largest = S::DIFFERENCES.largest.unwrap_or(BODY_LIMIT);
    let events = [event("msg_1"), event_of("msg_2", largest), event_of("msg_3", largest + 1), event("msg_4")];
    let outcomes = publish_all(&handle, events.map(|event| bench.message("a", event))).await;
    let third = if S::DIFFERENCES.largest.is_some() { Ending::Never } else { Ending::Confirmed };
    let expected = [Ending::Confirmed, Ending::Confirmed, third, Ending::Confirmed];
    assert_eq!(outcomes.iter().map(Ending::from).collect::<Vec<_>>(), expected, "{outcomes:?}");
    if let Outcome::Never(failure) = &outcomes[2] {
        assert_eq!(failure.reason, Reason::TooLarge);
    }
    let stored = bench.stored("a").await;
    assert_eq!(stored.len(), expected.iter().filter(|ending| **ending == Ending::Confirmed).count());
    assert!(same_json(&stored[1].event().1, &event_of("msg_2", largest).data));
}

/// A publish continues when its future is dropped.
pub async fn dropped_publish_is_still_stored<S: Subject>() {
    let bench = Bench::<S>::shared().await;
    let handle = bench.ready(&["a"]).await;
    drop(handle.publish(bench.message("a", event("msg_1"))));
    until("stored", SOON, async || (bench.stored("a").await.len() == 1).then_some(())).await;
}

/// When `close` returns, every earlier publish has its outcome; later ones are refused.
pub async fn close_flushes<S: Subject>() {
    let bench = Bench::<S>::shared().await;
    let handle = bench.ready(&["a"]).await;
    let confirms: Vec<_> =
        (0..500).map(|number| handle.publish(bench.message("a", event(&format!("msg_{number}"))))).collect();
    handle.close(SOON).await;
    assert_eq!(bench.stored("a").await.len(), 500, "stored when close returns");
    let outcomes = tokio::time::timeout(Duration::from_secs(1), join_all(confirms)).await.expect("outcomes at once");
    all(&outcomes, Ending::Confirmed);
    match outcome(handle.publish(bench.message("a", event("msg_late")))).await {
        Outcome::Again(failure) => assert_eq!(failure.reason, Reason::Closing),
        other => panic!("{other:?}"),
    }
    handle.close(SOON).await; // a second close has no effect
}

/// `topology: verify` creates nothing: while topology is missing the destination is not up, and publishes end in `Again`.
pub async fn verify_creates_nothing<S: Subject>() {
    if !S::DIFFERENCES.has_topology {
        return;
    }
    let bench = Bench::<S>::shared().await;
    let handle = bench.open_with(&["a"], |opening| opening.settings.topology = Topology::Verify);
    let failure = handle.ensure().await.expect_err("the topology is missing");
    assert!(matches!(failure.reason, Reason::Topology | Reason::Unroutable), "{failure}");
    assert_eq!(Ending::from(&outcome(handle.publish(bench.message("a", event("msg_1")))).await), Ending::Again);
    assert_ne!(handle.health(), Health::Up);
    let creating = bench.ready(&["a"]).await;
    creating.close(SOON).await;
    assert_eq!(bench.stored("a").await, []);
    publish_until_confirmed(&handle, &bench.message("a", event("msg_1"))).await;
    assert_eq!(handle.ensure().await, Ok(()));
}

/// `probe` describes the destination, and `ensure` can be repeated.
pub async fn probe_describes<S: Subject>() {
    let bench = Bench::<S>::shared().await;
    let handle = bench.ready(&["a"]).await;
    assert!(!handle.probe().await.expect("it works").is_empty());
    for _ in 0..2 {
        assert_eq!(handle.ensure().await, Ok(()));
    }
}
