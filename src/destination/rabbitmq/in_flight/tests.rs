//! A model of lapin and its broker: what they may do in any order, and whether each publish is told what happened to it.

use std::collections::HashMap;

use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stored,
    Returned,
    Refused,
}

/// How far a publish is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Queued,
    Written,
    Returned,
    Answered,
}

#[derive(Default)]
struct Model {
    fates: Vec<Fate>,
    stages: Vec<Stage>,
    /// Which publish is next, among those that are not answered.
    shuffle: Vec<usize>,
    turn: usize,
    /// How many steps happen at each look at a publish, over and over: the thread runs on while we look.
    pace: Vec<usize>,
    looks: usize,
    waiting: VecDeque<usize>,
    ended: HashMap<usize, End>,
    wakers: HashMap<usize, Waker>,
}

impl Model {
    fn run(&mut self) {
        let steps = self.pace[self.looks % self.pace.len()];
        self.looks += 1;
        for _ in 0..steps {
            self.step();
        }
    }

    /// One thing that lapin's thread does: a message is written, comes back, or is acknowledged. A return comes before its
    /// own acknowledgement, and acknowledgements in any order.
    fn step(&mut self) {
        let open: Vec<usize> =
            (0..self.stages.len()).filter(|number| self.stages[*number] != Stage::Answered).collect();
        let Some(number) = open.get(self.shuffle[self.turn % self.shuffle.len()] % open.len().max(1)).copied() else {
            return;
        };
        self.turn += 1;
        self.stages[number] = match (self.stages[number], self.fates[number]) {
            (Stage::Queued, _) => {
                self.wake(number);
                Stage::Written
            }
            (Stage::Written, Fate::Returned) => {
                self.waiting.push_back(number);
                Stage::Returned
            }
            (_, fate) => {
                let returned = self.waiting.pop_front().map(tag);
                let make = if fate == Fate::Refused { End::Nacked } else { End::Acked };
                self.ended.insert(number, make(returned));
                self.wake(number);
                Stage::Answered
            }
        };
    }

    /// Each waker is good for once.
    fn wake(&mut self, number: usize) {
        if let Some(waker) = self.wakers.remove(&number) {
            waker.wake();
        }
    }
}

fn tag(number: usize) -> u64 {
    1000 + number as u64
}

fn sent(number: usize, publish: BoxFuture<'static, End>) -> (Sent, oneshot::Receiver<Outcome>) {
    let (answer, outcome) = oneshot::channel();
    (Sent::new(tag(number), 1, Instant::now() + Duration::from_secs(60), publish, answer), outcome)
}

fn modelled(model: &Arc<Mutex<Model>>, number: usize) -> BoxFuture<'static, End> {
    let model = Arc::clone(model);
    let publish = std::future::poll_fn(move |cx| {
        let mut model = model.lock();
        model.run();
        if let Some(end) = model.ended.remove(&number) {
            return Poll::Ready(end);
        }
        model.wakers.insert(number, cx.waker().clone());
        model.run();
        Poll::Pending
    });
    publish.boxed()
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![3 => Just(Fate::Stored), 3 => Just(Fate::Returned), 1 => Just(Fate::Refused)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn each_is_told_its_own(
        fates in prop::collection::vec(fate(), 1..12),
        shuffle in prop::collection::vec(0_usize..64, 1..40),
        mut pace in prop::collection::vec(0_usize..4, 1..12),
        mut pushes in prop::collection::vec(0_usize..3, 1..12),
    ) {
        // Neither stands still.
        pace.push(1);
        pushes.push(1);
        let model = Arc::new(Mutex::new(Model { fates: fates.clone(), shuffle, pace, ..Model::default() }));
        let mut window = Window::default();
        let cx = Context::from_waker(Waker::noop());
        let mut outcomes = Vec::new();
        for turn in 0..2000 {
            for _ in 0..pushes[turn % pushes.len()] {
                let number = outcomes.len();
                if number < fates.len() {
                    model.lock().stages.push(Stage::Queued);
                    let (sent, outcome) = sent(number, modelled(&model, number));
                    outcomes.push(outcome);
                    prop_assert!(window.push(sent).is_ok());
                }
            }
            prop_assert!(window.look(&cx).is_ok());
            window.settle(true);
            if window.len() == 0 && outcomes.len() == fates.len() {
                break;
            }
            model.lock().run();
        }
        prop_assert_eq!((window.len(), outcomes.len()), (0, fates.len()), "all are answered");
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

fn ended(number: usize, end: End) -> (Sent, oneshot::Receiver<Outcome>) {
    sent(number, std::future::ready(end).boxed())
}

/// A publish that was acknowledged with another's return does not wait for one that takes long.
#[test]
fn an_acknowledgement_alone_settles_older_ones() {
    let mut window = Window::default();
    let cx = Context::from_waker(Waker::noop());
    let (slow, mut waits) = sent(0, std::future::pending().boxed());
    let (first, mut returned) = ended(1, End::Acked(None));
    window.push(slow).unwrap();
    window.push(first).unwrap();
    // It brings the return of one that looks confirmed, and is one itself.
    let (second, mut stored) = ended(2, End::Acked(Some(tag(1))));
    window.push(second).unwrap();
    window.look(&cx).unwrap();
    assert!(window.settle(true), "one had no queue");
    assert!(matches!(returned.try_recv(), Ok(Outcome::Again(_))));
    assert!(stored.try_recv().is_err(), "not certain yet");
    assert!(!window.must_drain(), "and others are sent meanwhile");
    let (third, mut alone) = ended(3, End::Nacked(None));
    window.push(third).unwrap();
    window.look(&cx).unwrap();
    window.settle(true);
    assert!(matches!(alone.try_recv(), Ok(Outcome::Unknown(_))));
    assert_eq!(stored.try_recv(), Ok(Outcome::Confirmed));
    assert!(waits.try_recv().is_err());
    assert_eq!(window.len(), 1);
}

/// With a message that nobody sent, no answer can be trusted, also none of the same look.
#[test]
fn nothing_is_certain_after_a_stray() {
    let mut window = Window::default();
    let (first, mut acked) = ended(1, End::Acked(None));
    let (second, mut strange) = ended(2, End::Acked(Some(tag(7))));
    window.push(first).unwrap();
    assert!(matches!(window.push(second), Err(Trouble::Stray)));
    window.look(&Context::from_waker(Waker::noop())).unwrap();
    window.settle(false);
    assert!(acked.try_recv().is_err());
    window.give_up(&Fault::Ended, None);
    for outcome in [&mut acked, &mut strange] {
        assert!(matches!(outcome.try_recv(), Ok(Outcome::Unknown(_))));
    }
}
