//! Histories of a delivery to required and optional targets.

use proptest::prelude::*;

use super::*;
use crate::protocol::Permission;

/// Longer than the time for optional targets.
const LATE: Duration = Duration::from_secs(7);
const PATIENCE: Duration = Duration::from_secs(2);

const NAMES: [&str; 4] = ["required", "needed", "optional", "spare"];

fn is_required(name: &str) -> bool {
    matches!(name, "required" | "needed")
}

/// What a destination does at one publish.
fn outcome(times: Vec<Duration>) -> impl Strategy<Value = (Duration, Outcome)> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Confirmed),
        2 => Just(Outcome::Again(Reason::Unreachable.into())),
        2 => Just(Outcome::Unknown(Reason::ConnectionLost.into())),
        1 => Just(Outcome::Never(Reason::TooLarge.into())),
    ];
    (prop::sample::select(times), outcome)
}

/// More than the tries of a history: a publish without an outcome would wait for the backstop.
fn script(late: bool) -> impl Strategy<Value = Vec<(Duration, Outcome)>> {
    let mut times = vec![Duration::ZERO, Duration::ZERO, Duration::from_secs(1)];
    times.extend(late.then_some(LATE));
    prop::collection::vec(outcome(times), 8)
}

struct Rig {
    ledger: Arc<Recorded>,
    courier: Arc<Courier>,
    tickets: u64,
}

impl Rig {
    /// With these outcomes of each destination in [`NAMES`].
    fn new(outcomes: Vec<Vec<(Duration, Outcome)>>, keeps_dead_letters: bool) -> Rig {
        let ledger = Arc::new(Recorded { keeps_dead_letters, ..Recorded::default() });
        let destinations = NAMES.into_iter().zip(outcomes).map(|(name, outcomes)| handle(name, outcomes));
        let courier = Courier::new(destinations, Arc::clone(&ledger) as _, None, None, Arc::default());
        Rig { ledger, courier: Arc::new(courier), tickets: 0 }
    }

    fn target(name: &str) -> Target {
        Target::new(name, "a")
    }

    /// The sender sends it; `None` if it has ended before.
    async fn send(&mut self, names: &[&str]) -> Option<Result<End, Reason>> {
        self.tickets += 1;
        let ticket = Ticket { process: 1, number: self.tickets };
        let Permission::Mine(known) = self.ledger.entry.lock().claim(ticket) else { return None };
        let event = Arc::new(event());
        let planned = |name: &&str| {
            let planned = Planned::new(&(*name).into(), "a".into(), None, &event);
            Planned { required: is_required(name), ..planned }
        };
        let planned = names.iter().map(planned).collect();
        let job = Job { delivery: delivery(), event: Some(Arc::clone(&event)), planned, known, ticket, body_hash: 0 };
        let ended = self.courier.deliver(job, PATIENCE).await;
        self.ledger.entry.lock().release(ticket);
        Some(ended)
    }

    fn has_letter(&self, name: &str) -> bool {
        self.ledger.letters.lock().contains(&Rig::target(name))
    }

    fn has_confirmed(&self, name: &str) -> bool {
        self.ledger.entry.lock().known.confirmed.contains(&Rig::target(name))
    }
}

fn paused<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

async fn history(outcomes: Vec<Vec<(Duration, Outcome)>>, keeps_dead_letters: bool) -> Result<(), TestCaseError> {
    let scripted = outcomes.clone();
    let mut rig = Rig::new(outcomes, keeps_dead_letters);
    let is_never = |name: &str| {
        let index = NAMES.iter().position(|other| *other == name).unwrap_or_default();
        scripted[index].iter().any(|(_, outcome)| matches!(outcome, Outcome::Never(_)))
    };
    let required = NAMES.into_iter().zip(&scripted).filter(|(name, _)| is_required(name));
    let slow = required.flat_map(|(_, outcomes)| outcomes).any(|(after, _)| *after == LATE);
    for _ in 0..6 {
        let started = Instant::now();
        let Some(ended) = rig.send(&NAMES).await else { break };
        match ended {
            Ok(end) => {
                for name in NAMES {
                    prop_assert!(rig.has_confirmed(name) || rig.has_letter(name), "{name} is lost");
                    let may_be_dead = !is_required(name) || is_never(name);
                    prop_assert!(rig.has_confirmed(name) || may_be_dead, "{name} is required");
                }
                let all = NAMES.into_iter().all(|name| rig.has_confirmed(name));
                prop_assert_eq!(end, if all { End::Delivered } else { End::DeadLettered });
            }
            // Nothing is given up while the sender repeats the delivery.
            Err(_) => {
                for name in NAMES {
                    prop_assert!(!rig.has_letter(name) || is_never(name), "{name} is dead already");
                }
            }
        }
        // Only a required target delays the answer for longer than the time for optional ones.
        let longest = if slow { LATE } else { PATIENCE };
        prop_assert!(started.elapsed() <= longest, "{:?}", started.elapsed());
    }
    rig.courier.settled().await;
    for name in NAMES {
        prop_assert!(!(rig.has_confirmed(name) && rig.has_letter(name)), "{name} has both");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn any_history(
        required in prop::collection::vec(prop_oneof![script(false), script(true)], 2),
        optional in prop::collection::vec(script(true), 2),
        keeps in prop::bool::weighted(0.9)
    ) {
        paused(history([required, optional].concat(), keeps))?;
    }
}

fn confirmed(after: Duration) -> (Duration, Outcome) {
    (after, Outcome::Confirmed)
}

#[test]
fn a_silent_optional_target_delays_the_answer_by_its_time_only() {
    paused(async {
        let mut rig = Rig::new(vec![vec![confirmed(Duration::ZERO)], vec![], vec![confirmed(LATE)], vec![]], true);
        let started = Instant::now();
        assert_eq!(rig.send(&["required", "optional"]).await, Some(Ok(End::DeadLettered)));
        assert_eq!(started.elapsed(), PATIENCE);
        assert!(rig.has_letter("optional") && rig.courier.is_late(&delivery().key, &Rig::target("optional")));
        rig.courier.settled().await;
        assert!(rig.has_confirmed("optional") && !rig.has_letter("optional"), "its confirm came late");
        assert!(!rig.courier.is_late(&delivery().key, &Rig::target("optional")));
        assert_eq!(rig.send(&["required", "optional"]).await, None, "it has ended");
    });
}

/// Its first publish may still be confirmed.
#[test]
fn a_retry_does_not_publish_again_to_an_optional_target_that_is_silent() {
    paused(async {
        let again = (Duration::ZERO, Outcome::Again(Reason::Unreachable.into()));
        let outcomes = vec![
            vec![again, confirmed(Duration::ZERO)],
            vec![],
            vec![confirmed(LATE), confirmed(Duration::ZERO)],
            vec![],
        ];
        let mut rig = Rig::new(outcomes, true);
        let started = Instant::now();
        assert_eq!(rig.send(&["required", "optional"]).await, Some(Err(Reason::Unreachable)));
        assert!(started.elapsed() <= PATIENCE && !rig.has_letter("optional"));
        assert_eq!(rig.send(&["required", "optional"]).await, Some(Ok(End::DeadLettered)));
        rig.courier.settled().await;
        assert!(rig.has_confirmed("optional") && !rig.has_letter("optional"));
        assert_eq!(rig.ledger.facts.lock().iter().filter(|fact| matches!(fact, Fact::Confirmed(_))).count(), 2);
    });
}
