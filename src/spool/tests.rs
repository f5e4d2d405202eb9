//! Events as they come back from the store.

use std::time::Duration;

use http::HeaderValue;

use super::*;
use crate::delivered::Delivered;
use crate::delivery::Delivery;
use crate::delivery::fixture::delivery;
use crate::event::Event;
use crate::event::fixture::event;
use crate::ledger::{Claim, Record, embedded};
use crate::protocol::Fact;
use crate::route::Planned;

/// What a worker reads must not depend on whether a process died before.
#[tokio::test]
async fn an_event_comes_back_as_it_was_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let opened = embedded::open(directory.path(), Duration::from_secs(3600)).unwrap();
    let mut delivery = Delivery { signature: "v1,c2ln".into(), timestamp: 1_795_435_200, ..delivery() };
    delivery.headers.insert("webhook-id", HeaderValue::from_static("msg_1"));
    delivery.headers.insert("authorization", HeaderValue::from_static("secret"));
    let event = Event {
        known: false,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        tracestate: Some("a=1".into()),
        urlexpiry: Some("2026-11-23T13:00:00Z".into()),
        attributes: Arc::new([("env".into(), "prod".into())]),
        ..event()
    };
    let delivery = Delivery {
        traceparent: event.traceparent.clone(),
        tracestate: event.tracestate.clone(),
        body: event.data.clone(),
        ..delivery
    };
    let Ok(Claim::Mine(ticket, _)) = opened.ledger.claim(&delivery.key, 0).await else { panic!("not granted") };
    let (key, event) = (delivery.key.clone(), Arc::new(event));
    let planned = [
        Planned::new(&"d".into(), "a.b".into(), Some("route's key".into()), &event),
        Planned::new(&"d".into(), "c".into(), None, &event),
        Planned::never(Target::unnamed("e"), Reason::IllegalName.into()),
    ];
    let targets: Vec<Target> = planned.iter().map(|planned| planned.target.clone()).collect();
    let delivered = Delivered { delivery, event: Some(event.name.clone()) };
    let accepted = Arc::new(Accepted::new(delivered, Arc::clone(&event), planned));
    let facts = vec![Fact::Accepted];
    let record = Record { targets: targets.clone(), facts, accepted: Some(Arc::clone(&accepted)), ..Record::default() };
    opened.ledger.record(&key, ticket, record).await.unwrap();
    let (spool, number) = (Spool::new(opened.store, 1 << 30), *accepted.number.get().unwrap());
    let back = spool.load(number).await.unwrap().unwrap();
    let attributes =
        |event: &Event| event.attributes().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>();
    assert_eq!(attributes(&back.event), attributes(&event));
    assert_eq!((&back.event.name, back.event.known), (&event.name, event.known));
    assert_eq!((&back.event.source_name, &back.event.data), (&event.source_name, &event.data));
    assert_eq!(back.event.signed.signature, "v1,c2ln");
    assert_eq!(back.event.signed.timestamp, "1795435200");
    assert_eq!(back.targets, accepted.targets);
    let (kept, was) = (&back.delivered.delivery, &accepted.delivered.delivery);
    assert_eq!((&kept.key, &kept.body, &kept.signature), (&was.key, &was.body, &was.signature));
    assert_eq!(kept.kept_headers(), [("webhook-id".to_owned(), "msg_1".to_owned())]);
    assert_eq!(kept.headers.len(), 1, "credentials are not stored");
    // The event goes with its last target.
    for (index, target) in targets.into_iter().enumerate() {
        assert!(spool.load(number).await.unwrap().is_some(), "{index} targets are settled");
        spool.settle(number, target, Arc::clone(&back), None).await.unwrap();
    }
    assert!(spool.load(number).await.unwrap().is_none());
    assert!(spool.depths().iter().all(|depth| (depth.events, depth.bytes) == (0, 0)), "{:?}", spool.depths());
    opened.ledger.close().await;
}

/// No legal name could be made when it became dead. Since then the topic was changed, and the id forgotten.
#[tokio::test]
async fn an_accepted_event_replaces_its_dead_letters_without_a_topic() {
    let directory = tempfile::tempdir().unwrap();
    let opened = embedded::open(directory.path(), Duration::from_secs(3600)).unwrap();
    let (ledger, key, event) = (opened.ledger, delivery().key, Arc::new(event()));
    let claim = async || match ledger.claim(&key, 0).await {
        Ok(Claim::Mine(ticket, _)) => ticket,
        _ => panic!("not granted"),
    };
    let delivered = || Delivered { delivery: delivery(), event: Some(event.name.clone()) };
    for unnamed in [Target::unnamed("d"), Target::unnamed("e"), Target::whole()] {
        let dead = Some(delivered().letter(Reason::IllegalName.into()));
        let facts = vec![Fact::Dead(unnamed.clone(), Reason::IllegalName)];
        let record = Record { targets: vec![unnamed], facts, dead, ..Record::default() };
        ledger.record(&key, claim().await, record).await.unwrap();
        ledger.forget(&key).await.unwrap();
    }
    let planned = [
        Planned::new(&"d".into(), "a.b".into(), None, &event),
        Planned::never(Target::unnamed("e"), Reason::IllegalName.into()),
    ];
    let targets = planned.iter().map(|planned| planned.target.clone()).collect();
    let accepted = Some(Arc::new(Accepted::new(delivered(), Arc::clone(&event), planned)));
    let record = Record { targets, facts: vec![Fact::Accepted], accepted, ..Record::default() };
    ledger.record(&key, claim().await, record).await.unwrap();
    let letters = ledger.look_up(&key).await.unwrap().unwrap().letters;
    let left: Vec<Target> = letters.into_iter().map(|letter| letter.target).collect();
    assert_eq!(left, [Target::unnamed("e")], "`e` has no name today either");
}

/// `--ack stored` takes over a delivery that has a dead letter: one of its two topics on a destination has no legal name.
#[tokio::test]
async fn an_accepted_event_leaves_the_dead_letter_of_its_own_delivery() {
    let directory = tempfile::tempdir().unwrap();
    let opened = embedded::open(directory.path(), Duration::from_secs(3600)).unwrap();
    let (ledger, key, event) = (opened.ledger, delivery().key, Arc::new(event()));
    let delivered = || Delivered { delivery: delivery(), event: Some(event.name.clone()) };
    let planned = Planned::new(&"d".into(), "a.b".into(), None, &event);
    let targets = vec![Target::unnamed("d"), planned.target.clone()];
    let Ok(Claim::Mine(ticket, _)) = ledger.claim(&key, 0).await else { panic!("not granted") };
    let facts = vec![Fact::Dead(targets[0].clone(), Reason::IllegalName)];
    let dead = Some(delivered().letter(Reason::IllegalName.into()));
    let record = Record { targets: targets.clone(), facts, dead, ..Record::default() };
    assert_eq!(ledger.record(&key, ticket, record).await, Ok(None));
    ledger.release(&key, ticket, Reason::Timeout);
    let Ok(Claim::Mine(ticket, _)) = ledger.claim(&key, 0).await else { panic!("not granted") };
    let accepted = Some(Arc::new(Accepted::new(delivered(), Arc::clone(&event), [planned])));
    let record = Record { targets, facts: vec![Fact::Accepted], accepted, ..Record::default() };
    ledger.record(&key, ticket, record).await.unwrap();
    let letters = ledger.look_up(&key).await.unwrap().unwrap().letters;
    let left: Vec<Target> = letters.into_iter().map(|letter| letter.target).collect();
    assert_eq!(left, [Target::unnamed("d")]);
}
