use proptest::prelude::*;

use super::*;
use crate::delivered::Delivered;
use crate::delivery::fixture::delivery;
use crate::event::fixture::event;

fn accepted() -> Arc<Accepted> {
    Arc::new(Accepted::new(Delivered { delivery: delivery(), event: None }, Arc::new(event()), []))
}

fn row(number: u64, key: Option<&str>) -> LaneRow {
    LaneRow { number, key: key.map(Into::into), bytes: 1000, at: 7 }
}

/// The numbers of all events that may be published now.
fn all_next(queue: &mut LaneQueue, now: Instant) -> Vec<u64> {
    std::iter::from_fn(|| queue.next(now)).map(|next| next.number).collect()
}

#[test]
fn one_event_of_a_key_is_open_and_keys_do_not_wait_for_each_other() {
    let (mut queue, now, accepted) = (LaneQueue::default(), Instant::now(), accepted());
    for (number, key) in [(1, Some("a")), (2, Some("a")), (3, Some("b")), (4, None), (5, None)] {
        queue.offer(row(number, key), &accepted);
    }
    assert_eq!(all_next(&mut queue, now), [1, 3, 4, 5]);
    queue.failed(1, now);
    queue.settled(3);
    assert_eq!(all_next(&mut queue, now), [0; 0], "2 waits for 1, which rests");
    let later = queue.wakes_at(now).expect("1 is tried again");
    assert_eq!(all_next(&mut queue, later), [1]);
    queue.settled(1);
    assert_eq!(all_next(&mut queue, now), [2]);
    for number in [2, 4, 5] {
        assert!(!queue.is_empty());
        queue.settled(number);
    }
    assert!(queue.is_empty());
}

#[test]
fn a_lane_that_fails_is_tried_with_one_event_at_a_time() {
    let (mut queue, mut now, accepted) = (LaneQueue::default(), Instant::now(), accepted());
    for number in 1..=100 {
        queue.offer(row(number, Some(&number.to_string())), &accepted);
    }
    for number in all_next(&mut queue, now) {
        queue.failed(number, now);
    }
    for _ in 0..20 {
        let trial = queue.wakes_at(now).expect("it is tried again");
        assert!(trial > now && trial <= now + Duration::from_secs(5), "{:?}", trial - now);
        now = trial;
        let tried = all_next(&mut queue, now);
        assert_eq!(tried.len(), 1);
        queue.failed(tried[0], now);
    }
    now = queue.wakes_at(now).expect("it is tried again");
    let tried = all_next(&mut queue, now);
    queue.settled(tried[0]);
    assert_eq!(all_next(&mut queue, now).len(), 99, "it works again: all are tried at once");
}

#[test]
fn open_events_are_bounded_in_bytes() {
    let (mut queue, now, accepted) = (LaneQueue::default(), Instant::now(), accepted());
    for number in 1..=3 {
        queue.offer(LaneRow { bytes: OPEN_BYTES, ..row(number, None) }, &accepted);
    }
    for number in 1..=3 {
        assert_eq!(all_next(&mut queue, now), [number]);
        queue.settled(number);
    }
}

/// A row whose rest is over may find no room. The lane waits for an open event then, and does not spin.
#[test]
fn a_lane_without_room_does_not_wake_for_a_rested_row() {
    let (mut queue, now, accepted) = (LaneQueue::default(), Instant::now(), accepted());
    queue.offer(row(1, None), &accepted);
    assert_eq!(all_next(&mut queue, now), [1]);
    queue.failed(1, now);
    queue.offer(LaneRow { bytes: OPEN_BYTES, ..row(2, None) }, &accepted);
    assert_eq!(all_next(&mut queue, now), [2]);
    let rested = queue.wakes_at(now).expect("1 is tried again");
    assert_eq!(all_next(&mut queue, rested), [0; 0], "there is no room");
    assert_eq!(queue.wakes_at(rested), None);
    queue.settled(2);
    assert_eq!(all_next(&mut queue, rested), [1]);
}

/// What may happen to a lane.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// A row is committed; it is offered later, or never.
    Commit {
        key: u8,
        offered: bool,
    },
    /// One of the rows that were not offered yet is.
    Offer(usize),
    /// A look-up begins, sees the store, is answered.
    Begin,
    Look,
    End,
    /// The next event is opened; one of the open ones is settled or fails.
    Open,
    Settle(usize),
    Fail(usize),
    /// Time passes.
    Wait,
    /// The lane is empty and leaves; another one comes.
    Leave,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..4_u8, prop::bool::weighted(0.9)).prop_map(|(key, offered)| Op::Commit { key, offered }),
        6 => (0..8_usize).prop_map(Op::Offer),
        3 => Just(Op::Begin),
        3 => Just(Op::Look),
        3 => Just(Op::End),
        8 => Just(Op::Open),
        6 => (0..8_usize).prop_map(Op::Settle),
        1 => (0..8_usize).prop_map(Op::Fail),
        1 => Just(Op::Wait),
        1 => Just(Op::Leave),
    ]
}

/// Rows, and whether there are no more.
type LookedUp = (Vec<LaneRow>, bool);

/// A lane, its store, and the tasks that offer rows.
struct Model {
    queue: LaneQueue,
    accepted: Arc<Accepted>,
    now: Instant,
    /// In the store, with their keys.
    stored: BTreeMap<u64, u8>,
    committed: u64,
    to_offer: Vec<u64>,
    keys: HashMap<u64, u8>,
    /// Offered: the sender has its 200.
    answered: BTreeSet<u64>,
    /// What was answered before each row came: only then is there an order.
    before: HashMap<u64, BTreeSet<u64>>,
    look_up: Option<(u64, Option<LookedUp>)>,
    open: Vec<u64>,
    passed: u64,
}

impl Model {
    fn new() -> Self {
        Model {
            queue: small(0),
            accepted: accepted(),
            now: Instant::now(),
            stored: BTreeMap::new(),
            committed: 0,
            to_offer: Vec::new(),
            keys: HashMap::new(),
            answered: BTreeSet::new(),
            before: HashMap::new(),
            look_up: None,
            open: Vec::new(),
            passed: 0,
        }
    }

    fn row(&self, number: u64) -> LaneRow {
        let key = self.keys[&number];
        row(number, (key > 0).then(|| key.to_string()).as_deref())
    }

    fn step(&mut self, op: Op) -> Result<(), TestCaseError> {
        let at = |index: usize, all: &Vec<u64>| (!all.is_empty()).then(|| index % all.len());
        match op {
            Op::Commit { key, offered } => {
                self.committed += 1;
                self.stored.insert(self.committed, key);
                self.keys.insert(self.committed, key);
                self.before.insert(self.committed, self.answered.clone());
                if offered {
                    self.to_offer.push(self.committed);
                } else {
                    self.queue.read_again();
                }
            }
            Op::Offer(index) => {
                let Some(index) = at(index, &self.to_offer) else { return Ok(()) };
                let number = self.to_offer.remove(index);
                self.answered.insert(number);
                self.queue.offer(self.row(number), &Arc::clone(&self.accepted));
            }
            Op::Begin => {
                if let Some(after) = self.queue.begin_read() {
                    prop_assert!(self.look_up.is_none(), "two look-ups at once");
                    self.look_up = Some((after, None));
                }
            }
            Op::Look => {
                let Some((after, None)) = self.look_up else { return Ok(()) };
                let all: Vec<_> = self.stored.range(after + 1..).map(|(number, _)| self.row(*number)).collect();
                let found = (all.iter().take(3).cloned().collect(), all.len() < 3);
                self.look_up = Some((after, Some(found)));
            }
            Op::End => {
                let Some((_, Some(_))) = &self.look_up else { return Ok(()) };
                let Some((_, Some((rows, all)))) = self.look_up.take() else { return Ok(()) };
                self.queue.end_read(rows, all);
            }
            Op::Open => {
                let Some(next) = self.queue.next(self.now) else { return Ok(()) };
                let key = self.stored.get(&next.number).copied();
                prop_assert!(key.is_some(), "{} was settled before", next.number);
                prop_assert!(!self.open.contains(&next.number), "{} is open", next.number);
                let earlier = self.before[&next.number]
                    .iter()
                    .find(|number| key > Some(0) && self.stored.get(number) == key.as_ref());
                prop_assert!(earlier.is_none(), "{} overtook {:?}", next.number, earlier);
                self.open.push(next.number);
            }
            Op::Settle(index) => {
                let Some(index) = at(index, &self.open) else { return Ok(()) };
                let number = self.open.remove(index);
                self.stored.remove(&number);
                self.queue.settled(number);
            }
            Op::Fail(index) => {
                let Some(index) = at(index, &self.open) else { return Ok(()) };
                let number = self.open.remove(index);
                self.queue.failed(number, self.now);
            }
            Op::Wait => self.now += Duration::from_secs(10),
            Op::Leave => {
                if self.queue.is_empty() && self.look_up.is_none() {
                    self.passed = self.passed.max(self.queue.passed());
                    self.queue = small(self.passed);
                }
            }
        }
        Ok(())
    }
}

fn small(doubtful: u64) -> LaneQueue {
    let bounds = Bounds { rows: 6, of_a_key: 3, few_of_a_key: 2 };
    LaneQueue { bounds, ..LaneQueue::after(doubtful) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Every row is settled once, in the order of its key, whatever comes when.
    #[test]
    fn any_history(ops in prop::collection::vec(op(), 0..120)) {
        let mut model = Model::new();
        for op in ops {
            model.step(op)?;
        }
        for _ in 0..400 {
            for op in [Op::Offer(0), Op::Begin, Op::Look, Op::End, Op::Wait, Op::Open, Op::Settle(0), Op::Leave] {
                model.step(op)?;
            }
        }
        prop_assert!(model.stored.is_empty(), "left in the store: {:?}", model.stored);
        prop_assert!(model.queue.is_empty());
    }
}
