use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn ticket(number: u64) -> Ticket {
    Ticket { process: 1, number }
}

fn target(name: &str) -> Target {
    Target::new("stream", name)
}

fn targets(names: &[&str]) -> Vec<Target> {
    names.iter().map(|name| target(name)).collect()
}

fn confirmed(name: &str) -> Fact {
    Fact::Confirmed(target(name))
}

fn dead(name: &str) -> Fact {
    Fact::Dead(target(name), Reason::TooLarge)
}

/// What can happen to an entry.
#[derive(Clone, Debug)]
enum Input {
    Claim(Ticket),
    Record(Ticket, Vec<Target>, Vec<Fact>),
    Release(Ticket),
}

/// What the entry answered.
#[derive(Debug, PartialEq, Eq)]
enum Output {
    Claimed(Permission),
    Recorded(Option<End>),
    Released,
}

fn record(number: u64, names: &[&str], facts: &[Fact]) -> Input {
    Input::Record(ticket(number), targets(names), facts.into())
}

fn step(before: &Entry, input: &Input) -> (Entry, Output) {
    let mut entry = before.clone();
    let output = match input {
        Input::Claim(by) => Output::Claimed(entry.claim(*by)),
        Input::Record(by, targets, facts) => Output::Recorded(entry.record(*by, targets, facts)),
        Input::Release(by) => {
            entry.release(*by);
            Output::Released
        }
    };
    (entry, output)
}

/// All that must hold of one step, whatever came before.
fn check(before: &Entry, input: &Input, after: &Entry, output: &Output) -> Result<(), TestCaseError> {
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
    prop_assert!(then.accepted || !known.accepted, "an acceptance was forgotten");
    prop_assert!(before.end().is_none() || after.end().is_some(), "closed stays closed");
    prop_assert!(after.end().is_none() || after.holder.is_none(), "a closed delivery has no holder");
    // The end follows from what is known.
    if let Some(end) = after.end() {
        let frozen = then.frozen.as_ref().expect("a closed delivery has its targets");
        let all_confirmed = frozen.iter().all(|it| then.confirmed.contains(it));
        let all_settled = frozen.iter().all(|it| then.skips(it));
        match end {
            End::Delivered => prop_assert!(all_confirmed && !frozen.is_empty()),
            End::DeadLettered => prop_assert!(all_settled && !all_confirmed),
            End::Ignored => prop_assert!(frozen.is_empty()),
            End::Stored => prop_assert!(then.accepted && !all_settled),
        }
    }
    // A right to publish ends only by its own release or with the delivery.
    if let (Some(holder), None) = (before.holder, after.holder) {
        let released = matches!(input, Input::Release(by) if *by == holder);
        prop_assert!(released || after.end().is_some(), "a ticket was taken away");
    }
    match (input, output) {
        (Input::Claim(by), Output::Claimed(permission)) => {
            prop_assert_eq!(known, then);
            let expected = match (before.end(), before.holder) {
                (Some(end), _) => Permission::Closed(end),
                (None, Some(_)) => Permission::Busy,
                (None, None) => Permission::Mine(known.clone()),
            };
            prop_assert_eq!(permission, &expected);
            let granted = matches!(permission, Permission::Mine(_));
            prop_assert_eq!(after.holder, if granted { Some(*by) } else { before.holder });
        }
        (Input::Release(by), Output::Released) => {
            prop_assert_eq!(known, then);
            prop_assert_eq!(after.holder, before.holder.filter(|holder| holder != by));
        }
        (Input::Record(by, targets, facts), Output::Recorded(end)) => {
            prop_assert_eq!(end, &after.end());
            let current = before.holder == Some(*by);
            for (it, reason) in then.dead.iter().filter(|(it, _)| !known.dead.contains_key(*it)) {
                prop_assert!(current, "a death without the right to report it");
                prop_assert!(facts.contains(&Fact::Dead(it.clone(), *reason)));
            }
            if then.accepted && !known.accepted {
                prop_assert!(current && facts.contains(&Fact::Accepted), "accepted without the right to publish");
            }
            for it in then.confirmed.difference(&known.confirmed) {
                prop_assert!(facts.contains(&Fact::Confirmed(it.clone())));
            }
            for fact in facts {
                match fact {
                    Fact::Confirmed(it) => prop_assert!(then.confirmed.contains(it), "a confirm was dropped"),
                    Fact::Dead(it, _) if current => prop_assert!(then.skips(it), "a death was dropped"),
                    Fact::Accepted if current => prop_assert!(after.end().is_some(), "an acceptance was dropped"),
                    Fact::Dead(..) | Fact::Accepted => {}
                }
            }
            if known.frozen.is_none() && then.frozen.is_some() {
                prop_assert_eq!(then.frozen.as_ref(), Some(targets));
                let grew = then.confirmed.len() > known.confirmed.len();
                let settled = current && targets.iter().all(|it| then.skips(it));
                prop_assert!(grew || settled || then.accepted, "targets froze without a reason");
            }
        }
        _ => prop_assert!(false, "the answer to another question"),
    }
    Ok(())
}

/// Every state that two tickets and two targets can reach, and every step from it.
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
        vec![Fact::Accepted],
        vec![confirmed("a"), Fact::Accepted],
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
            let (after, output) = step(&before, input);
            check(&before, input, &after, &output)
                .unwrap_or_else(|fault| panic!("{fault}\n{before:?}\n{input:?}\n{after:?}"));
            let (again, _) = step(&after, input);
            if !matches!(input, Input::Claim(_)) {
                assert_eq!(again, after, "reported twice is reported once: {before:?} {input:?}");
            }
            open.push(after);
        }
    }
    assert!(seen.len() > 30, "{} states", seen.len());
}

fn any_input() -> impl Strategy<Value = Input> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    let fact = prop_oneof![
        2 => name().prop_map(confirmed),
        1 => name().prop_map(dead),
        1 => Just(Fact::Accepted),
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
        let mut reported = BTreeSet::new();
        let mut publishers = BTreeSet::new();
        for input in inputs {
            let (after, output) = step(&entry, &input);
            check(&entry, &input, &after, &output)?;
            match &input {
                Input::Record(_, _, facts) => reported.extend(facts.iter().filter_map(|fact| match fact {
                    Fact::Confirmed(target) => Some(target.clone()),
                    Fact::Dead(..) | Fact::Accepted => None,
                })),
                Input::Release(by) => {
                    publishers.remove(by);
                }
                Input::Claim(by) => if matches!(output, Output::Claimed(Permission::Mine(_))) {
                    publishers.insert(*by);
                },
            }
            if after.end().is_some() {
                publishers.clear();
            }
            prop_assert!(publishers.len() <= 1, "two may publish: {:?}", publishers);
            entry = after;
        }
        prop_assert_eq!(entry.known.confirmed, reported, "confirms merge from any ticket and in any order");
    }
}

#[test]
fn a_retry_publishes_only_what_is_missing() {
    let mut entry = Entry::default();
    entry.claim(ticket(1));
    assert_eq!(entry.record(ticket(1), &targets(&["a", "b"]), &[confirmed("a")]), None);
    entry.release(ticket(1));
    let Permission::Mine(known) = entry.claim(ticket(2)) else { panic!("not granted") };
    assert!(known.skips(&target("a")) && !known.skips(&target("b")));
    assert!(known.skips(&target("c")), "outside the frozen set");
    assert_eq!(entry.record(ticket(2), &targets(&["a", "c"]), &[confirmed("b")]), Some(End::Delivered));
}

/// Only the spool publishes what it has; for senders, the delivery has ended.
#[test]
fn an_accepted_delivery_is_closed_whatever_its_targets() {
    let mut entry = Entry::default();
    entry.claim(ticket(1));
    assert_eq!(entry.record(ticket(1), &targets(&["a", "b"]), &[Fact::Accepted]), Some(End::Stored));
    assert_eq!(entry.claim(ticket(2)), Permission::Closed(End::Stored));
    let mut entry = Entry::default();
    entry.claim(ticket(1));
    entry.release(ticket(1));
    assert_eq!(entry.record(ticket(1), &targets(&["a"]), &[Fact::Accepted]), None, "the ticket was given back");
}

#[test]
fn a_late_confirm_counts() {
    let mut entry = Entry::default();
    entry.claim(ticket(1));
    entry.release(ticket(1));
    entry.claim(ticket(2));
    assert_eq!(entry.record(ticket(1), &targets(&["a"]), &[confirmed("a")]), Some(End::Delivered));
    assert_eq!(entry.claim(ticket(3)), Permission::Closed(End::Delivered));
}

#[test]
fn a_delivery_without_targets_is_ignored() {
    let mut entry = Entry::default();
    entry.claim(ticket(1));
    assert_eq!(entry.record(ticket(2), &[], &[]), None, "only the holder can say so");
    assert_eq!(entry.record(ticket(1), &[], &[]), Some(End::Ignored));
}

#[test]
fn targets_are_read_as_they_are_written() {
    for target in [target("a.b"), target("a/b"), Target::unnamed("stream"), Target::whole()] {
        assert_eq!(Target::parse(&target.to_string()), target);
    }
}
