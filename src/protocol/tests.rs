use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn ticket(number: u64) -> Ticket {
    Ticket { process: 1, number }
}

fn target(name: &str) -> Target {
    Target::new("stream", name)
}

fn spool(name: &str) -> SpoolId {
    SpoolId(name.into())
}

fn accepted(name: &str, number: u64) -> Fact {
    Fact::Accepted { spool: spool(name), ticket: ticket(number) }
}

fn confirmed(name: &str) -> Fact {
    Fact::Confirmed(target(name))
}

fn dead(name: &str) -> Fact {
    Fact::Dead(target(name), Reason::TooLarge)
}

fn record(number: u64, targets: &[&str], facts: &[Fact]) -> Input {
    Input::Record {
        ticket: ticket(number),
        targets: targets.iter().map(|name| target(name)).collect(),
        facts: facts.into(),
    }
}

/// All that must hold of one step, whatever came before.
fn check(before: &Entry, input: &Input, after: &Entry, answer: &Answer) -> Result<(), TestCaseError> {
    let (known, then) = (&before.known, &after.known);
    // Facts only grow.
    prop_assert!(known.confirmed.is_subset(&then.confirmed), "a confirm was forgotten");
    prop_assert!(
        known.dead.keys().all(|it| then.dead.contains_key(it) || then.confirmed.contains(it)),
        "a death was forgotten"
    );
    prop_assert!(then.dead.keys().all(|it| !then.confirmed.contains(it)), "confirmed beats dead");
    if known.frozen.is_some() {
        prop_assert_eq!(&known.frozen, &then.frozen, "targets freeze once");
    }
    if before.accepted.is_some() {
        prop_assert_eq!(&before.accepted, &after.accepted, "the first accepted wins");
    }
    prop_assert!(before.end().is_none() || after.end().is_some(), "closed stays closed");
    prop_assert!(after.end().is_none() || after.holder.is_none(), "nobody holds what is closed");
    // The end says what is known.
    if let Some(end) = after.end() {
        let frozen = then.frozen.as_ref().expect("closed has its targets");
        let all_confirmed = frozen.iter().all(|it| then.confirmed.contains(it));
        let all_settled = frozen.iter().all(|it| then.skips(it));
        match end {
            End::Delivered => prop_assert!(all_confirmed && !frozen.is_empty()),
            End::DeadLettered => prop_assert!(all_settled && !all_confirmed),
            End::Ignored => prop_assert!(frozen.is_empty()),
            End::Stored => prop_assert!(after.accepted.is_some() && !all_settled),
        }
    }
    match answer {
        Answer::Closed(end) => prop_assert_eq!(Some(*end), after.end()),
        Answer::Open => prop_assert_eq!(after.end(), None),
        _ => {}
    }
    // A right to publish ends only by its own release or with the delivery.
    if let (Some(holder), None) = (before.holder, after.holder) {
        let released = matches!(input, Input::Release(by) if *by == holder);
        prop_assert!(released || after.end().is_some(), "a ticket was taken away");
    }
    match input {
        Input::Claim(by) => {
            prop_assert_eq!(known, then);
            let expected = match (before.end(), before.holder) {
                (Some(end), _) => Answer::Closed(end),
                (None, Some(_)) => Answer::Busy,
                (None, None) => Answer::Mine(known.clone()),
            };
            prop_assert_eq!(answer, &expected);
            let mine = matches!(answer, Answer::Mine(_));
            prop_assert_eq!(after.holder, if mine { Some(*by) } else { before.holder });
        }
        Input::Release(by) => {
            prop_assert_eq!(known, then);
            prop_assert_eq!(after.holder, before.holder.filter(|holder| holder != by));
        }
        Input::Record { ticket: by, targets, facts } => {
            let brought = |fact: &Fact| facts.contains(fact);
            let current = before.holder == Some(*by) || after.accepted.as_ref().is_some_and(|(_, it)| it == by);
            for (it, reason) in then.dead.iter().filter(|(it, _)| !known.dead.contains_key(*it)) {
                prop_assert!(current, "a death without the right to say so");
                prop_assert!(brought(&Fact::Dead(it.clone(), *reason)));
            }
            for it in then.confirmed.difference(&known.confirmed) {
                prop_assert!(brought(&Fact::Confirmed(it.clone())));
            }
            for fact in facts {
                match fact {
                    Fact::Confirmed(it) => prop_assert!(then.confirmed.contains(it), "a confirm was dropped"),
                    Fact::Dead(it, _) if current => prop_assert!(then.skips(it), "a death was dropped"),
                    Fact::Dead(..) => {}
                    Fact::Accepted { spool, ticket } => match &after.accepted {
                        Some((owner, first)) if (owner, first) == (spool, ticket) => {}
                        Some((owner, first)) => {
                            let told = matches!(answer, Answer::Owned(it, by) if it == owner && by == first);
                            prop_assert!(told, "who is refused is told the owner");
                        }
                        None => prop_assert!(false, "an accepted was dropped"),
                    },
                }
            }
            if known.frozen.is_none() && then.frozen.is_some() {
                prop_assert_eq!(then.frozen.as_ref(), Some(targets));
                let grew = then.confirmed.len() > known.confirmed.len() || after.accepted != before.accepted;
                let settled = before.holder == Some(*by) && targets.iter().all(|it| then.skips(it));
                prop_assert!(grew || settled, "targets froze without a reason");
            }
            prop_assert!(!matches!(answer, Answer::Mine(_) | Answer::Busy));
        }
    }
    Ok(())
}

/// Every state that two tickets, two targets and two spools can reach, and every step from it.
#[test]
fn every_step_from_every_state() {
    let facts = [
        vec![],
        vec![confirmed("a")],
        vec![confirmed("b")],
        vec![dead("a")],
        vec![dead("b")],
        vec![confirmed("a"), dead("b")],
        vec![confirmed("a"), confirmed("b")],
        vec![accepted("here", 1)],
        vec![accepted("there", 2)],
        vec![accepted("here", 1), dead("a")],
    ];
    let mut inputs: Vec<_> =
        [1, 2].into_iter().flat_map(|by| [Input::Claim(ticket(by)), Input::Release(ticket(by))]).collect();
    for by in [1, 2] {
        for targets in [&[][..], &["a"], &["a", "b"]] {
            inputs.extend(facts.iter().map(|facts| record(by, targets, facts)));
        }
    }
    let mut seen = HashMap::new();
    let mut open = vec![Entry::default()];
    while let Some(before) = open.pop() {
        if seen.insert(format!("{before:?}"), ()).is_some() {
            continue;
        }
        for input in &inputs {
            let (after, answer) = step(before.clone(), input.clone());
            check(&before, input, &after, &answer)
                .unwrap_or_else(|fault| panic!("{fault}\n{before:?}\n{input:?}\n{after:?}"));
            let (again, _) = step(after.clone(), input.clone());
            if !matches!(input, Input::Claim(_)) {
                assert_eq!(again, after, "told twice is told once: {before:?} {input:?}");
            }
            open.push(after);
        }
    }
    assert!(seen.len() > 80, "{} states", seen.len());
}

fn any_input() -> impl Strategy<Value = Input> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    let fact = prop_oneof![
        4 => name().prop_map(confirmed),
        2 => name().prop_map(dead),
        1 => (prop::sample::select(vec!["here", "there"]), 0..4_u64).prop_map(|(name, by)| accepted(name, by)),
    ];
    prop_oneof![
        (0..4_u64).prop_map(|by| Input::Claim(ticket(by))),
        (0..4_u64).prop_map(|by| Input::Release(ticket(by))),
        (0..4_u64, prop::sample::subsequence(vec!["a", "b", "c"], 0..=3), prop::collection::vec(fact, 0..4))
            .prop_map(|(by, targets, facts)| record(by, &targets, &facts)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_history(inputs in prop::collection::vec(any_input(), 0..24)) {
        let mut entry = Entry::default();
        let mut told = BTreeSet::new();
        let mut publishers = BTreeSet::new();
        for input in inputs {
            let (after, answer) = step(entry.clone(), input.clone());
            check(&entry, &input, &after, &answer)?;
            match &input {
                Input::Record { facts, .. } => told.extend(facts.iter().filter_map(|fact| match fact {
                    Fact::Confirmed(target) => Some(target.clone()),
                    _ => None,
                })),
                Input::Release(by) => {
                    publishers.remove(by);
                }
                Input::Claim(by) => if matches!(answer, Answer::Mine(_)) {
                    publishers.insert(*by);
                },
            }
            if after.end().is_some() {
                publishers.clear();
            }
            prop_assert!(publishers.len() <= 1, "two may publish: {:?}", publishers);
            entry = after;
        }
        prop_assert_eq!(entry.known.confirmed, told, "confirms merge whoever brings them, and in any order");
    }
}

#[test]
fn a_retry_publishes_only_what_is_missing() {
    let (entry, _) = step(Entry::default(), Input::Claim(ticket(1)));
    let (entry, answer) = step(entry, record(1, &["a", "b"], &[confirmed("a")]));
    assert_eq!(answer, Answer::Open);
    let (entry, _) = step(entry, Input::Release(ticket(1)));
    let (entry, answer) = step(entry, Input::Claim(ticket(2)));
    let Answer::Mine(known) = answer else { panic!("{answer:?}") };
    assert!(known.skips(&target("a")) && !known.skips(&target("b")));
    assert!(known.skips(&target("c")), "outside the frozen set");
    let (_, answer) = step(entry, record(2, &["a", "c"], &[confirmed("b")]));
    assert_eq!(answer, Answer::Closed(End::Delivered));
}

#[test]
fn a_late_confirm_counts() {
    let (entry, _) = step(Entry::default(), Input::Claim(ticket(1)));
    let (entry, _) = step(entry, Input::Release(ticket(1)));
    let (entry, _) = step(entry, Input::Claim(ticket(2)));
    let (entry, answer) = step(entry, record(1, &["a"], &[confirmed("a")]));
    assert_eq!(answer, Answer::Closed(End::Delivered));
    assert_eq!(step(entry, Input::Claim(ticket(3))).1, Answer::Closed(End::Delivered));
}

#[test]
fn nothing_to_do_is_ignored() {
    let (entry, _) = step(Entry::default(), Input::Claim(ticket(1)));
    assert_eq!(step(entry.clone(), record(2, &[], &[])).1, Answer::Open, "only the holder can say so");
    assert_eq!(step(entry, record(1, &[], &[])).1, Answer::Closed(End::Ignored));
}

#[test]
fn stored_ends_as_its_targets_do() {
    let (entry, _) = step(Entry::default(), Input::Claim(ticket(1)));
    let (entry, answer) = step(entry, record(1, &["a"], &[accepted("here", 1)]));
    assert_eq!(answer, Answer::Closed(End::Stored));
    let (entry, answer) = step(entry, record(2, &["a"], &[accepted("there", 2)]));
    assert_eq!(answer, Answer::Owned(spool("here"), ticket(1)));
    assert_eq!(step(entry.clone(), record(2, &["a"], &[dead("a")])).1, Answer::Closed(End::Stored));
    let (entry, answer) = step(entry, record(1, &["a"], &[dead("a")]));
    assert_eq!(answer, Answer::Closed(End::DeadLettered));
    assert_eq!(step(entry, record(9, &["a"], &[confirmed("a")])).1, Answer::Closed(End::Delivered));
}

#[test]
fn tickets_are_drawn_once() {
    let (one, other) = (Tickets::default(), Tickets::default());
    let drawn: BTreeSet<_> = (0..100).flat_map(|_| [one.draw(), other.draw()]).collect();
    assert_eq!(drawn.len(), 200);
}
