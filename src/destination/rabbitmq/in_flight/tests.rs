//! A model of lapin and its broker, which may act in any order: each publish must get the outcome of its own message.

use std::collections::HashMap;
use std::future::{pending, ready};

use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::sync::oneshot;

use super::*;
use crate::destination::rabbitmq::load::{LaneLoad, StalledLanes};
use crate::destination::rabbitmq::refusals::Retry;

/// What the broker does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stored,
    Returned,
    Refused,
}

/// The progress of a publish.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Queued,
    Written,
    Returned,
    AnswerLabel,
}

#[derive(Default)]
struct Model {
    fates: Vec<Fate>,
    progress: Vec<Progress>,
    /// Chooses the next publish among those that are not answered.
    shuffle: Vec<usize>,
    turn: usize,
    /// How many steps happen at each poll of a publish, in a cycle: lapin's thread works while the lane polls.
    pace: Vec<usize>,
    polls: usize,
    pending_returns: VecDeque<usize>,
    answers: HashMap<usize, LapinAnswer>,
    wakers: HashMap<usize, Waker>,
}

impl Model {
    fn run(&mut self) {
        let steps = self.pace[self.polls % self.pace.len()];
        self.polls += 1;
        for _ in 0..steps {
            self.step();
        }
    }

    /// One step of lapin's thread: a message is written, returned or confirmed. The return of a message comes before its
    /// confirm; confirms come in any order.
    fn step(&mut self) {
        let open: Vec<usize> =
            (0..self.progress.len()).filter(|number| self.progress[*number] != Progress::AnswerLabel).collect();
        let Some(number) = open.get(self.shuffle[self.turn % self.shuffle.len()] % open.len().max(1)).copied() else {
            return;
        };
        self.turn += 1;
        self.progress[number] = match (self.progress[number], self.fates[number]) {
            (Progress::Queued, _) => {
                self.wake(number);
                Progress::Written
            }
            (Progress::Written, Fate::Returned) => {
                self.pending_returns.push_back(number);
                Progress::Returned
            }
            (_, fate) => {
                let returned = self.pending_returns.pop_front().map(tag);
                let confirm = if fate == Fate::Refused { LapinAnswer::Nacked } else { LapinAnswer::Acked };
                self.answers.insert(number, confirm(returned));
                self.wake(number);
                Progress::AnswerLabel
            }
        };
    }

    /// A waker works once.
    fn wake(&mut self, number: usize) {
        if let Some(waker) = self.wakers.remove(&number) {
            waker.wake();
        }
    }
}

fn tag(number: usize) -> u64 {
    1000 + number as u64
}

fn push(
    in_flight: &mut ChannelPublishes,
    number: usize,
    publish: impl Future<Output = LapinAnswer> + Send + 'static,
) -> (Result<(), ChannelFault>, oneshot::Receiver<Outcome>) {
    push_until(in_flight, number, Instant::now() + Duration::from_secs(60), publish)
}

fn push_until(
    in_flight: &mut ChannelPublishes,
    number: usize,
    deadline: Instant,
    publish: impl Future<Output = LapinAnswer> + Send + 'static,
) -> (Result<(), ChannelFault>, oneshot::Receiver<Outcome>) {
    let load = Arc::new(LaneLoad::new(Arc::new(StalledLanes::new(1, 1))));
    let (reply, outcome) = PublishReply::new(load.place(1).expect("a lane that is not stalled has room"));
    let new = NewPublish { topic: "a.b".into(), tag: tag(number), bytes: 1, deadline, reply };
    (in_flight.push(new, publish.boxed()), outcome)
}

fn settle(in_flight: &mut ChannelPublishes, intact: bool) -> bool {
    in_flight.settle(intact, &TopicRefusals::default())
}

fn modelled(model: &Arc<Mutex<Model>>, number: usize) -> impl Future<Output = LapinAnswer> + use<> {
    let model = Arc::clone(model);
    std::future::poll_fn(move |cx| {
        let mut model = model.lock();
        model.run();
        if let Some(answer) = model.answers.remove(&number) {
            return Poll::Ready(answer);
        }
        model.wakers.insert(number, cx.waker().clone());
        model.run();
        Poll::Pending
    })
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![3 => Just(Fate::Stored), 3 => Just(Fate::Returned), 1 => Just(Fate::Refused)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn each_publish_gets_its_own_outcome(
        fates in prop::collection::vec(fate(), 1..12),
        shuffle in prop::collection::vec(0_usize..64, 1..40),
        mut pace in prop::collection::vec(0_usize..4, 1..12),
        mut pushes in prop::collection::vec(0_usize..3, 1..12),
        expired in 0_usize..12,
    ) {
        // Both the model and the test make progress.
        pace.push(1);
        pushes.push(1);
        let model = Arc::new(Mutex::new(Model { fates: fates.clone(), shuffle, pace, ..Model::default() }));
        let mut in_flight = ChannelPublishes::default();
        let cx = Context::from_waker(Waker::noop());
        let mut outcomes = Vec::new();
        for turn in 0..2000 {
            for _ in 0..pushes[turn % pushes.len()] {
                let number = outcomes.len();
                if number < fates.len() {
                    model.lock().progress.push(Progress::Queued);
                    let deadline = Instant::now() + Duration::from_secs(if number < expired { 0 } else { 60 });
                    let (pushed, outcome) = push_until(&mut in_flight, number, deadline, modelled(&model, number));
                    outcomes.push(outcome);
                    prop_assert!(pushed.is_ok());
                }
            }
            prop_assert!(in_flight.check(&cx).is_ok());
            settle(&mut in_flight, true);
            if turn % 3 == 2 {
                in_flight.expire();
            }
            if in_flight.len() == 0 && outcomes.len() == fates.len() {
                break;
            }
            model.lock().run();
        }
        prop_assert_eq!((in_flight.len(), outcomes.len()), (0, fates.len()), "every publish has an outcome");
        for (number, (fate, mut outcome)) in fates.iter().zip(outcomes).enumerate() {
            let outcome = outcome.try_recv().expect("an outcome");
            let expected = match (fate, &outcome) {
                (Fate::Stored, Outcome::Confirmed) => true,
                (Fate::Returned, Outcome::Again(failure)) => failure.reason == Reason::Unroutable,
                (Fate::Refused, Outcome::Unknown(failure)) if failure.reason == Reason::Refused => true,
                (_, Outcome::Unknown(failure)) => failure.reason == Reason::Timeout && number < expired,
                _ => false,
            };
            prop_assert!(expected, "{:?} got {:?}", fate, outcome);
        }
    }
}

/// A publish whose confirm carried another's return does not wait for a publish that takes long.
#[test]
fn a_later_confirm_without_a_return_settles_uncertain_publishes() {
    let mut in_flight = ChannelPublishes::default();
    let cx = Context::from_waker(Waker::noop());
    let (_, mut slow) = push(&mut in_flight, 0, pending());
    let (_, mut returned) = push(&mut in_flight, 1, ready(LapinAnswer::Acked(None)));
    // The confirm of the second carries the return of the first, whose own confirm carried none.
    let (_, mut stored) = push(&mut in_flight, 2, ready(LapinAnswer::Acked(Some(tag(1)))));
    in_flight.check(&cx).unwrap();
    assert!(settle(&mut in_flight, true), "the first had no queue");
    assert!(matches!(returned.try_recv(), Ok(Outcome::Again(_))));
    assert!(stored.try_recv().is_err(), "the second is uncertain");
    assert!(!in_flight.must_drain(), "other publishes are sent meanwhile");
    let (_, mut refused) = push(&mut in_flight, 3, ready(LapinAnswer::Nacked(None)));
    in_flight.check(&cx).unwrap();
    settle(&mut in_flight, true);
    assert!(matches!(refused.try_recv(), Ok(Outcome::Unknown(_))));
    assert_eq!(stored.try_recv(), Ok(Outcome::Confirmed));
    assert!(slow.try_recv().is_err());
    assert_eq!(in_flight.len(), 1);
}

/// A publish whose time is over has its outcome; its late answer shows that the topic works.
#[tokio::test(start_paused = true)]
async fn a_late_answer_ends_the_refusal_of_its_topic() {
    let (mut in_flight, refusals) = (ChannelPublishes::default(), TopicRefusals::default());
    let (answer, late) = oneshot::channel();
    let now = Instant::now();
    let (_, mut expired) = push_until(&mut in_flight, 1, now, late.map(|answer| answer.unwrap()));
    let (_, mut waiting) = push(&mut in_flight, 2, pending());
    assert_eq!(in_flight.expire(), ["a.b".into()].into());
    assert_eq!(expired.try_recv(), Ok(Outcome::Unknown(Reason::Timeout.into())));
    assert!(waiting.try_recv().is_err() && in_flight.deadline() > Some(now));
    assert_eq!((in_flight.len(), in_flight.waiting(), in_flight.overdue()), (2, 1, Some(now)));
    refusals.refuse(&"a.b".into(), Reason::Timeout.into(), Retry::WithAnswer);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(answer.send(LapinAnswer::Acked(None)).is_ok());
    in_flight.check(&Context::from_waker(Waker::noop())).unwrap();
    in_flight.settle(true, &refusals);
    assert_eq!((in_flight.len(), in_flight.waiting(), in_flight.overdue()), (1, 1, None));
    assert_eq!(refusals.failure("a.b"), None);
}

/// After the return of a message that was never sent, no answer can be trusted, including those of the same check.
#[test]
fn nothing_is_certain_after_a_stray_return() {
    let mut in_flight = ChannelPublishes::default();
    let (_, mut acked) = push(&mut in_flight, 1, ready(LapinAnswer::Acked(None)));
    let (pushed, mut stray) = push(&mut in_flight, 2, ready(LapinAnswer::Acked(Some(tag(7)))));
    assert_eq!(pushed, Err(fault("a returned message matches no publish")));
    in_flight.check(&Context::from_waker(Waker::noop())).unwrap();
    settle(&mut in_flight, false);
    assert!(acked.try_recv().is_err());
    in_flight.fail_all(&fault("stray"), None);
    for outcome in [&mut acked, &mut stray] {
        assert!(matches!(outcome.try_recv(), Ok(Outcome::Unknown(_))));
    }
}
