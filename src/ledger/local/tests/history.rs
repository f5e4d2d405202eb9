//! Any history of one delivery.

use proptest::prelude::*;

use super::*;

/// What may happen to one delivery.
#[derive(Clone, Debug)]
enum Op {
    Claim,
    Record { ticket: usize, confirmed: Vec<&'static str> },
    Release { ticket: usize },
    Break(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let confirmed = prop::sample::subsequence(vec!["a", "b"], 0..=2);
    prop_oneof![
        3 => Just(Op::Claim),
        4 => (0..4_usize, confirmed).prop_map(|(ticket, confirmed)| Op::Record { ticket, confirmed }),
        3 => (0..4_usize).prop_map(|ticket| Op::Release { ticket }),
        1 => any::<bool>().prop_map(Op::Break),
    ]
}

proptest! {
    /// One publisher at a time, no fact forgotten, no closed id given out, nobody left waiting, nothing left behind.
    #[test]
    fn any_history(ops in prop::collection::vec(op(), 1..40)) {
        let ledger = Local::new(Fake::default());
        let (mut tickets, mut holder, mut closed) = (Vec::<Ticket>::new(), None, false);
        let (mut facts, mut waiting) = (BTreeSet::new(), Vec::new());
        for op in ops {
            match op {
                Op::Claim => match now(ledger.claim(&key("x"), 7)) {
                    Ok(Claim::Mine(ticket, known)) => {
                        prop_assert!(holder.is_none() && !closed, "given out although held or closed");
                        prop_assert_eq!(&known.confirmed, &facts, "facts were forgotten");
                        holder = Some(ticket);
                        tickets.push(ticket);
                    }
                    Ok(Claim::Closed { .. }) => {
                        prop_assert_eq!(facts.len(), 2);
                        closed = true;
                    }
                    Ok(Claim::Busy(other)) => {
                        prop_assert!(holder.is_some(), "busy with nobody");
                        waiting.push(other);
                    }
                    Err(_) => prop_assert!(ledger.health().is_err()),
                },
                Op::Record { ticket, confirmed } => {
                    let Some(ticket) = tickets.get(ticket) else { continue };
                    let recorded = now(ledger.record(&key("x"), *ticket, record(&confirmed)));
                    facts.extend(confirmed.iter().map(|name| target(name)));
                    if facts.len() == 2 {
                        holder = None;
                    }
                    match recorded {
                        Ok(Some(_)) => {
                            prop_assert_eq!(facts.len(), 2);
                            closed = true;
                        }
                        Ok(None) => prop_assert!(!closed && facts.len() < 2),
                        Err(_) => prop_assert!(ledger.health().is_err()),
                    }
                }
                Op::Release { ticket } => {
                    let Some(ticket) = tickets.get(ticket) else { continue };
                    ledger.release(&key("x"), *ticket, Reason::Timeout);
                    holder = holder.filter(|holder| holder != ticket);
                }
                Op::Break(broken) => ledger.store.set_broken(broken),
            }
            if holder.is_none() {
                for other in waiting.drain(..) {
                    prop_assert!(other.now_or_never().is_some(), "left waiting for nobody");
                }
            }
        }
        ledger.store.set_broken(false);
        if let Some(holder) = holder {
            ledger.release(&key("x"), holder, Reason::Timeout);
        }
        pass(&ledger);
        prop_assert!(ledger.slots.lock().is_empty(), "left behind");
    }
}
