//! What is in flight on one channel, and which of lapin's answers is whose.
//!
//! lapin adds a returned message to whichever acknowledgement it completes next. What makes the answers exact nevertheless:
//!
//! - The broker sends a message's return before its acknowledgement, and lapin handles both in that order, in one thread.
//! - lapin takes a waiting return with every acknowledgement. One that comes without a return says that none is waiting, so
//!   every message returned before it came along with an *earlier* acknowledgement.
//! - So a publish that was acknowledged without a return is confirmed, once all earlier acknowledgements have been looked at
//!   and none brought this publish's message. [`Window::look`] looks at all of them again until none is new.
//! - A publish that was acknowledged with another's return waits until nothing on the channel is open: as every return has
//!   its own acknowledgement after it, none can be waiting then. Meanwhile nothing new is sent.
//!
//! Returned messages are told apart by their tag, of which there is only one at a time on a channel.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::verdict::{End, Fault, Seen};
use crate::destination::Outcome;
use crate::reason::Reason;

/// A publish that was handed to lapin.
pub(super) struct Sent {
    pub(super) tag: u64,
    pub(super) bytes: usize,
    pub(super) deadline: Instant,
    /// Until it ended.
    publish: Option<BoxFuture<'static, End>>,
    /// How, once it ended.
    seen: Option<Seen>,
    returned: bool,
    /// Until it is answered.
    answer: Option<oneshot::Sender<Outcome>>,
}

impl Sent {
    pub(super) fn new(
        tag: u64,
        bytes: usize,
        deadline: Instant,
        publish: BoxFuture<'static, End>,
        answer: oneshot::Sender<Outcome>,
    ) -> Self {
        Sent { tag, bytes, deadline, publish: Some(publish), seen: None, returned: false, answer: Some(answer) }
    }

    fn answer(&mut self, outcome: Outcome) {
        if let Some(answer) = self.answer.take() {
            // Nobody listens any more: then the outcome is nobody's concern.
            let _ = answer.send(outcome);
        }
    }
}

/// Why a channel is of no use any more.
#[derive(Debug)]
pub(super) enum Trouble {
    /// What lapin says.
    Error(lapin::Error),
    /// It is not in confirm mode.
    NoConfirms,
    /// It gave back a message that was not sent.
    Stray,
}

/// The publishes on a channel that have no outcome yet, in the order in which they were handed over.
#[derive(Default)]
pub(super) struct Window {
    sent: VecDeque<Sent>,
    uncertain: bool,
}

impl Window {
    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    /// When the first of them must have an outcome.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sent.front().map(|sent| sent.deadline)
    }

    /// Whether one with this tag is in flight.
    pub(super) fn holds(&self, tag: u64) -> bool {
        self.sent.iter().any(|sent| sent.tag == tag)
    }

    /// Whether a publish has ended whose outcome is not certain yet.
    pub(super) fn is_uncertain(&self) -> bool {
        self.uncertain
    }

    /// Whether any publish has not ended.
    pub(super) fn is_open(&self) -> bool {
        self.sent.iter().any(|sent| sent.publish.is_some())
    }

    /// Adds a publish. Its first poll, here, is what hands it to lapin: the order of the calls is the order on the wire.
    pub(super) fn push(&mut self, sent: Sent, cx: &mut Context<'_>) -> Result<(), Trouble> {
        self.sent.push_back(sent);
        self.look_at(self.sent.len() - 1, cx).map(drop)
    }

    /// Looks at every open publish, again and again until none is found to have ended.
    pub(super) fn look(&mut self, cx: &mut Context<'_>) -> Result<(), Trouble> {
        let (mut first, mut again) = (Ok(()), true);
        while std::mem::take(&mut again) {
            for index in 0..self.sent.len() {
                match self.look_at(index, cx) {
                    Ok(ended) => again |= ended,
                    Err(trouble) => {
                        again = true;
                        first = first.and(Err(trouble));
                    }
                }
            }
        }
        first
    }

    /// Whether it was found to have ended.
    fn look_at(&mut self, index: usize, cx: &mut Context<'_>) -> Result<bool, Trouble> {
        let open = self.sent[index].publish.as_mut();
        let Some(Poll::Ready(end)) = open.map(|publish| publish.poll_unpin(cx)) else { return Ok(false) };
        self.sent[index].publish = None;
        let (seen, result) = match end {
            End::NotSent(error) => (Seen::NotSent, Err(Trouble::Error(error))),
            End::Lost(error) => (Seen::Lost, Err(Trouble::Error(error))),
            End::Acked(returned) => (Seen::Acked { alone: returned.is_none() }, self.returned(returned)),
            End::Nacked(returned) => (Seen::Nacked, self.returned(returned)),
            End::Unasked => (Seen::Unasked, Err(Trouble::NoConfirms)),
        };
        self.sent[index].seen = Some(seen);
        result.map(|()| true)
    }

    fn returned(&mut self, tag: Option<u64>) -> Result<(), Trouble> {
        let Some(tag) = tag else { return Ok(()) };
        let sent = self.sent.iter_mut().find(|sent| sent.tag == tag).ok_or(Trouble::Stray)?;
        sent.returned = true;
        Ok(())
    }

    /// Answers whatever is certain after a [`look`](Window::look); says whether any message had no queue. `whole`: the
    /// channel is well, so what is still to come will come.
    pub(super) fn settle(&mut self, whole: bool) -> bool {
        let settled = whole && !self.is_open();
        let mut unroutable = false;
        self.uncertain = false;
        for sent in &mut self.sent {
            let Some(seen) = sent.seen else { continue };
            match seen.outcome(sent.returned, settled) {
                Some(outcome) => {
                    unroutable |= matches!(&outcome, Outcome::Again(failure) if failure.reason == Reason::Unroutable);
                    sent.answer(outcome);
                }
                None => self.uncertain = true,
            }
        }
        self.sent.retain(|sent| sent.answer.is_some());
        unroutable
    }

    /// Answers all that is left when the channel is over.
    pub(super) fn give_up(&mut self, fault: &Fault, last: Option<u64>) {
        let now = Instant::now();
        for sent in &mut self.sent {
            let outcome = fault.outcome(last == Some(sent.tag), sent.bytes);
            let late = sent.deadline <= now && matches!(outcome, Outcome::Unknown(_));
            sent.answer(if late { Outcome::Unknown(Reason::Timeout.into()) } else { outcome });
        }
        self.sent.clear();
    }
}

#[cfg(test)]
mod tests {
    //! A model of lapin and its broker: what they may do in any order, and whether each publish is told what happened to it.

    use std::collections::{HashMap, HashSet};
    use std::sync::Arc;
    use std::time::Duration;

    use parking_lot::Mutex;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fate {
        Stored,
        Returned,
        Refused,
    }

    /// One thing that lapin's thread does.
    #[derive(Clone, Debug)]
    enum Step {
        Return(usize),
        /// Acknowledges some of one kind, in this order: lapin goes through a hash map.
        Answer(Vec<usize>),
    }

    #[derive(Default)]
    struct Model {
        steps: VecDeque<Step>,
        /// How many steps happen at each look at a publish, over and over: the thread runs on while we look.
        pace: Vec<usize>,
        looks: usize,
        waiting: VecDeque<usize>,
        ended: HashMap<usize, End>,
        fates: Vec<Fate>,
    }

    impl Model {
        fn run(&mut self) {
            let steps = self.pace[self.looks % self.pace.len()];
            self.looks += 1;
            for _ in 0..steps {
                self.step();
            }
        }

        fn step(&mut self) {
            match self.steps.pop_front() {
                Some(Step::Return(number)) => self.waiting.push_back(number),
                Some(Step::Answer(numbers)) => {
                    for number in numbers {
                        let returned = self.waiting.pop_front().map(tag);
                        let refused = self.fates[number] == Fate::Refused;
                        let make = if refused { End::Nacked } else { End::Acked };
                        self.ended.insert(number, make(returned));
                    }
                }
                None => {}
            }
        }
    }

    fn tag(number: usize) -> u64 {
        number as u64
    }

    /// Steps in an order that the broker may choose: a return comes before its own answer, answers in any order, several of
    /// one kind at once or not.
    fn order(fates: &[Fate], shuffle: &[usize], together: &[bool]) -> VecDeque<Step> {
        let mut left: Vec<Step> = Vec::new();
        for (number, fate) in fates.iter().enumerate() {
            if *fate == Fate::Returned {
                left.push(Step::Return(number));
            }
            left.push(Step::Answer(vec![number]));
        }
        let mut steps: VecDeque<Step> = VecDeque::new();
        let mut returned = HashSet::new();
        for turn in 0.. {
            let ready = |step: &Step| match step {
                Step::Return(_) => true,
                Step::Answer(numbers) => fates[numbers[0]] != Fate::Returned || returned.contains(&numbers[0]),
            };
            let choices: Vec<usize> = (0..left.len()).filter(|index| ready(&left[*index])).collect();
            let Some(choice) = choices.get(shuffle[turn % shuffle.len()] % choices.len().max(1)) else { break };
            let step = left.remove(*choice);
            if let Step::Return(number) = step {
                returned.insert(number);
            }
            let refused = |number: usize| fates[number] == Fate::Refused;
            match (steps.back_mut(), &step) {
                (Some(Step::Answer(before)), Step::Answer(numbers))
                    if together[turn % together.len()] && refused(before[0]) == refused(numbers[0]) =>
                {
                    before.push(numbers[0]);
                }
                _ => steps.push_back(step),
            }
        }
        steps
    }

    fn fate() -> impl Strategy<Value = Fate> {
        prop_oneof![3 => Just(Fate::Stored), 3 => Just(Fate::Returned), 1 => Just(Fate::Refused)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn each_is_told_its_own(
            fates in prop::collection::vec(fate(), 1..9),
            shuffle in prop::collection::vec(0_usize..32, 1..20),
            together in prop::collection::vec(any::<bool>(), 1..8),
            pace in prop::collection::vec(0_usize..3, 1..12),
        ) {
            prop_assume!(pace.iter().any(|steps| *steps > 0));
            let steps = order(&fates, &shuffle, &together);
            let model = Arc::new(Mutex::new(Model { steps, pace, fates: fates.clone(), ..Model::default() }));
            let mut window = Window::default();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let deadline = Instant::now() + Duration::from_secs(60);
            let mut outcomes = Vec::new();
            for number in 0..fates.len() {
                let (answer, outcome) = oneshot::channel();
                outcomes.push(outcome);
                let model = Arc::clone(&model);
                let publish = std::future::poll_fn(move |_| {
                    let mut model = model.lock();
                    model.run();
                    model.ended.remove(&number).map_or(Poll::Pending, Poll::Ready)
                });
                // All are there before the model starts: what was not sent is not answered.
                window.sent.push_back(Sent::new(tag(number), 1, deadline, publish.boxed(), answer));
            }
            for _ in 0..1000 {
                if window.len() == 0 {
                    break;
                }
                prop_assert!(window.look(&mut cx).is_ok());
                window.settle(true);
            }
            prop_assert_eq!(window.len(), 0, "all are answered");
            for (fate, mut outcome) in fates.iter().zip(outcomes) {
                let told = outcome.try_recv().expect("an answer");
                let expected = match (fate, &told) {
                    (Fate::Stored, Outcome::Confirmed) => true,
                    (Fate::Returned, Outcome::Again(failure)) => failure.reason == Reason::Unroutable,
                    (Fate::Refused, Outcome::Unknown(failure)) => failure.reason == Reason::Refused,
                    _ => false,
                };
                prop_assert!(expected, "{:?} was told {:?}", fate, told);
            }
        }
    }
}
