use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use futures_util::future::{BoxFuture, pending, ready};
use parking_lot::Mutex;

use super::*;
use crate::delivery::DeliveryKey;
use crate::delivery::fixture::delivery;
use crate::destination::settings::{BrokerUrl, DestinationSettings};
use crate::destination::{Confirm, Destination, Health};
use crate::event::fixture::event;
use crate::ledger::{Claim, Forgotten, Remembered};
use crate::letters::LetterCount;
use crate::message::Message;
use crate::naming::Kind;
use crate::protocol::Entry;
use crate::route::{Pattern, Rule, To, Unrouted};
use crate::telemetry::metrics::DestinationLabel;
use crate::template::Template;

mod optional;

/// A destination that gives these outcomes, each after a time, and then never answers.
struct Answers(Mutex<VecDeque<(Duration, Outcome)>>);

impl Destination for Answers {
    fn publish(&self, _: Message) -> Confirm {
        match self.0.lock().pop_front() {
            Some((after, outcome)) => sleep(after).map(|()| outcome).boxed(),
            None => pending().boxed(),
        }
    }
    fn ensure(&self) -> BoxFuture<'_, Result<(), Failure>> {
        pending().boxed()
    }
    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        pending().boxed()
    }
    fn health(&self) -> Health {
        Health::Up
    }
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    fn ended(&self) -> BoxFuture<'_, ()> {
        pending().boxed()
    }
    fn close(&self, _: Duration) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

/// A ledger of one delivery, and what was recorded in it.
#[derive(Default)]
struct Recorded {
    facts: Mutex<Vec<Fact>>,
    entry: Mutex<Entry>,
    /// The targets with a dead letter.
    letters: Mutex<BTreeSet<Target>>,
    keeps_dead_letters: bool,
}

impl Ledger for Recorded {
    fn claim<'a>(&'a self, _: &'a DeliveryKey, _: u32) -> BoxFuture<'a, Result<Claim, Failure>> {
        pending().boxed()
    }
    fn record<'a>(
        &'a self,
        _: &'a DeliveryKey,
        ticket: Ticket,
        record: Record,
    ) -> BoxFuture<'a, Result<Option<End>, Failure>> {
        let mut entry = self.entry.lock();
        let end = entry.record(ticket, &record.targets, &record.facts);
        for fact in &record.facts {
            match fact {
                Fact::Confirmed(target) => drop(self.letters.lock().remove(target)),
                Fact::Dead(target, _) if record.dead.is_some() && entry.known.dead.contains_key(target) => {
                    self.letters.lock().insert(target.clone());
                }
                Fact::Dead(..) | Fact::Accepted => {}
            }
        }
        self.facts.lock().extend(record.facts);
        ready(Ok(end)).boxed()
    }
    fn release(&self, _: &DeliveryKey, _: Ticket, _: Reason) {}
    fn look_up<'a>(&'a self, _: &'a DeliveryKey) -> BoxFuture<'a, Result<Option<Remembered>, Failure>> {
        ready(Ok(None)).boxed()
    }
    fn forget<'a>(&'a self, _: &'a DeliveryKey) -> BoxFuture<'a, Result<Forgotten, Failure>> {
        ready(Ok(Forgotten::Unknown)).boxed()
    }
    fn keeps_dead_letters(&self) -> bool {
        self.keeps_dead_letters
    }
    fn dead_letters(&self) -> Vec<LetterCount> {
        Vec::new()
    }
    fn ids(&self) -> u64 {
        0
    }
    fn forgotten(&self) -> u64 {
        0
    }
    fn health(&self) -> Result<(), Failure> {
        Ok(())
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

fn handle(name: &str, outcomes: impl IntoIterator<Item = (Duration, Outcome)>) -> Handle {
    let settings = DestinationSettings::new(name, BrokerUrl::File("nowhere".into()));
    let answers = Answers(Mutex::new(outcomes.into_iter().collect()));
    Handle::new(Arc::new(answers), &settings, Duration::from_secs(120), Arc::default())
}

/// What is confirmed must be known after a crash, whatever becomes of the dead letter of another target.
#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_hangs_does_not_delay_the_record_of_a_confirm() {
    let ledger = Arc::new(Recorded::default());
    let destinations = [handle("good", [(Duration::ZERO, Outcome::Confirmed)]), handle("letters", [])];
    let spied: Arc<dyn Ledger> = Arc::clone(&ledger) as _;
    let courier = Arc::new(Courier::new(destinations, spied, None, Some("letters".into()), Arc::default()));
    let (good, event) = (Target::new("good", "a"), Arc::new(event()));
    let planned = vec![
        Planned::never(Target::unnamed("bad"), Reason::IllegalName.into()),
        Planned::new(&"good".into(), "a".into(), None, &event),
    ];
    let ticket = Ticket { process: 1, number: 1 };
    let job = Job { delivery: delivery(), event: Some(event), planned, known: Known::default(), ticket, body_hash: 0 };
    assert!(
        timeout(Duration::from_secs(60), courier.deliver(job, Duration::from_secs(2))).await.is_err(),
        "the letter hangs"
    );
    assert_eq!(*ledger.facts.lock(), [Fact::Confirmed(good)]);
}

/// The sender waits for its answer, and the store has room.
#[tokio::test(start_paused = true)]
async fn a_dead_letter_whose_publish_hangs_is_kept_in_the_store() {
    let ledger = Arc::new(Recorded { keeps_dead_letters: true, ..Recorded::default() });
    let spied: Arc<dyn Ledger> = Arc::clone(&ledger) as _;
    let courier = Courier::new([handle("letters", [])], spied, None, Some("letters".into()), Arc::default());
    let ticket = Ticket { process: 1, number: 1 };
    assert_eq!(ledger.entry.lock().claim(ticket), crate::protocol::Permission::Mine(Known::default()));
    let planned = vec![Planned::never(Target::whole(), Reason::NotJson.into())];
    let job = Job { delivery: delivery(), event: None, planned, known: Known::default(), ticket, body_hash: 0 };
    let ended = timeout(Duration::from_secs(5), Arc::new(courier).deliver(job, Duration::from_secs(2))).await;
    assert_eq!(ended, Ok(Ok(End::DeadLettered)));
    assert_eq!(*ledger.letters.lock(), BTreeSet::from([Target::whole()]));
}

/// The destination holds the message of a publish that has no outcome, whether or not somebody waits for it.
#[tokio::test(start_paused = true)]
async fn dead_letters_whose_publishes_hang_are_bounded() {
    let ledger = Arc::new(Recorded { keeps_dead_letters: true, ..Recorded::default() });
    let metrics = Arc::<Metrics>::default();
    let settings =
        DestinationSettings { in_flight: 2, ..DestinationSettings::new("letters", BrokerUrl::File("nowhere".into())) };
    let silent = Arc::new(Answers(Mutex::default()));
    let handle = Handle::new(silent, &settings, Duration::from_secs(120), Arc::clone(&metrics));
    let courier = Courier::new([handle], ledger, None, Some("letters".into()), Arc::clone(&metrics));
    let planned = dead_letter::planned(
        &"letters".into(),
        &Delivered { delivery: delivery(), event: None }.letter(Reason::NotJson.into()),
        &Target::whole(),
    );
    let label = DestinationLabel { destination: "letters".into() };
    for (expected, in_flight) in [(Reason::Timeout, 1), (Reason::Timeout, 2), (Reason::Busy, 2)] {
        let outcome = courier.publish_letter(planned.clone()).await;
        assert_eq!(outcome.failure().map(|failure| failure.reason), Some(expected));
        assert_eq!(metrics.publishing.get_or_create(&label).get(), in_flight);
    }
}

#[test]
fn a_frozen_target_keeps_its_record_key_when_its_rule_matches_no_more() {
    let to = To {
        destination: "kafka".into(),
        kind: Kind::Kafka,
        topic: Template::parse("videogen.{event}").unwrap(),
        key: Some(Template::parse("{event}").unwrap()),
        required: true,
    };
    let pattern = Pattern::parse("other").unwrap();
    let rule = Rule { pattern, sources: None, when: None, to: vec![to] };
    let (unrouted, fallback) = (Unrouted::Ignore, ("kafka".into(), Kind::Kafka));
    let routes = Routes { rules: vec![rule], unrouted, fallback, only_fallback: false };
    let event = Arc::new(event());
    let topic = format!("videogen.{}", event.name);
    let frozen = vec![Target::new("kafka", &*topic), Target::new("kafka", "elsewhere")];
    let known = Known { frozen: Some(frozen), ..Known::default() };
    let planned = reconcile(Vec::new(), &known, &event, &routes);
    let keys: Vec<_> = planned.iter().map(|planned| planned.message.as_ref().unwrap().key.clone()).collect();
    assert_eq!(keys, [Some(event.name.clone()), None]);
}
