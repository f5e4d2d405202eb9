//! The queue of a lane: which event may be published next. It does no I/O.
//!
//! Per ordering key, one event is open at a time (G6); keys do not wait for each other. Memory holds a bounded number of
//! rows, and the rest stays in the store: rows come by [`offer`](LaneQueue::offer) as they are accepted, as long as memory
//! has all of them, otherwise by reading the lane from its start. So every row comes once:
//!
//! - Numbers grow in the order of the commits, so a look-up that shows a number shows all lower ones. What is offered with a
//!   number that reading has passed has come by reading.
//! - Reading passes over what is in memory, and over what was settled since the look-up began.
//! - Of a key with very many rows, only the first are in memory. It is marked, its later rows are passed over, and the lane is
//!   read again from the first of them when few are left.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::spool::{Accepted, LaneRow};

/// How many rows are in memory.
const BOUNDS: Bounds = Bounds { rows: 4096, of_a_key: 512, few_of_a_key: 16 };
/// Bytes of events that wait in memory with their bodies; others are loaded when it is their turn.
const BODIES: usize = 1 << 20;
/// Most publishes that are open.
const MOST_OPEN: usize = 512;
/// Bytes of events that are open. One event may be larger.
const OPEN_BYTES: usize = 2 << 20;
/// After so many failures in a row, the lane is tried with one event at a time.
const STREAK: u32 = 8;
/// The pause before an event, or the lane, is tried again.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));

#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Most rows.
    rows: usize,
    /// Most of them with the same key …
    of_a_key: usize,
    /// … and if more than half of the room is taken.
    few_of_a_key: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        BOUNDS
    }
}

/// An event to publish.
pub(super) struct Next {
    pub(super) number: u64,
    /// With its body, if it is in memory.
    pub(super) accepted: Option<Arc<Accepted>>,
}

/// A row in memory.
struct Row {
    key: Option<Arc<str>>,
    bytes: usize,
    at: i64,
    accepted: Option<Arc<Accepted>>,
    failures: u32,
}

/// The rows of a key in memory, in their order. The first may be open.
#[derive(Default)]
struct KeyRows {
    numbers: VecDeque<u64>,
    /// Later rows are only in the store.
    more: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct LaneQueue {
    rows: BTreeMap<u64, Row>,
    keys: HashMap<Arc<str>, KeyRows>,
    /// Rows that may be published: the first of their key, not open, not resting.
    ready: BTreeSet<u64>,
    /// Rows that failed, and when they may be tried again.
    resting: BTreeSet<(Instant, u64)>,
    open: usize,
    open_bytes: usize,
    bodies: usize,
    /// Failures since the last success.
    streak: u32,
    /// Times that the lane was tried since it fails.
    trials: u32,
    /// When the lane is tried again, while it fails.
    trial: Option<Instant>,
    /// See [`after`](LaneQueue::after).
    doubtful: u64,
    reading: Reading,
    bounds: Bounds,
}

/// What is known of the rows in the store.
#[derive(Default)]
struct Reading {
    /// The store may have rows that are not in memory.
    behind: bool,
    /// A look-up is in progress.
    busy: bool,
    /// A row was offered in vain since it began.
    more: bool,
    /// The next look-up begins after this number.
    cursor: u64,
    /// Or after this one: what the look-up in progress finds does not count.
    restart: Option<u64>,
    /// Look-ups have shown every row up to this number.
    passed: u64,
    /// Rows that were settled since the look-up began.
    settled: HashSet<u64>,
    /// The first row that was passed over because of its key.
    passed_over: Option<u64>,
}

impl Reading {
    fn restart_after(&mut self, number: u64) {
        let from = if self.busy { self.restart.get_or_insert(number) } else { &mut self.cursor };
        *from = number.min(*from);
        self.behind = true;
    }
}

impl LaneQueue {
    /// An empty lane. Rows up to the number may have come by look-ups of an earlier lane for the same target.
    pub(super) fn after(doubtful: u64) -> Self {
        LaneQueue { doubtful, ..LaneQueue::default() }
    }

    /// The number up to which look-ups have shown every row.
    pub(super) fn passed(&self) -> u64 {
        self.reading.passed
    }

    /// A row that was just stored.
    pub(super) fn offer(&mut self, row: LaneRow, accepted: &Arc<Accepted>) {
        if row.number <= self.reading.passed {
            return; // it came by reading
        }
        if row.number <= self.doubtful {
            return self.read_again(); // only the store can tell
        }
        if self.reading.behind {
            self.reading.more = true;
        } else if self.rows.len() < self.bounds.rows {
            let accepted = (self.bodies + row.bytes <= BODIES).then(|| Arc::clone(accepted));
            self.take(row, accepted);
        } else {
            self.read_again();
        }
    }

    /// The store may have rows that were not offered.
    pub(super) fn read_again(&mut self) {
        self.reading.restart_after(0);
    }

    /// Takes a row into memory, unless its key has too many there.
    fn take(&mut self, row: LaneRow, accepted: Option<Arc<Accepted>>) {
        let LaneRow { number, key, bytes, at } = row;
        let (key, bounds): (Option<Arc<str>>, _) = (key.map(Into::into), self.bounds);
        let most = if self.rows.len() < bounds.rows / 2 { bounds.of_a_key } else { bounds.few_of_a_key };
        let first = match &key {
            None => true,
            Some(key) => {
                let of_key = self.keys.entry(Arc::clone(key)).or_default();
                if of_key.more || of_key.numbers.len() >= most {
                    of_key.more = true;
                    let passed_over = &mut self.reading.passed_over;
                    *passed_over = Some(passed_over.map_or(number, |first| first.min(number)));
                    return;
                }
                of_key.numbers.push_back(number);
                of_key.numbers.len() == 1
            }
        };
        if first {
            self.ready.insert(number);
        }
        self.bodies += accepted.as_ref().map_or(0, |_| bytes);
        self.rows.insert(number, Row { key, bytes, at, accepted, failures: 0 });
    }

    /// After which number to look rows up, if it is time for that.
    pub(super) fn begin_read(&mut self) -> Option<u64> {
        let room = self.rows.len() <= self.bounds.rows / 2;
        let reading = &mut self.reading;
        if !reading.behind || reading.busy || !room {
            return None;
        }
        (reading.busy, reading.more) = (true, false);
        reading.settled.clear();
        Some(reading.cursor)
    }

    /// The rows that a look-up found. `all`: there are no more.
    pub(super) fn end_read(&mut self, rows: Vec<LaneRow>, mut all: bool) {
        self.reading.busy = false;
        if let Some(restart) = self.reading.restart.take() {
            // Rows before these are looked up first, so that none of the same key is overtaken. These come again.
            self.reading.cursor = restart.min(self.reading.cursor);
            return;
        }
        for row in rows {
            if self.rows.len() >= self.bounds.rows {
                all = false; // the next look-up goes on from here
                break;
            }
            let number = row.number;
            if !self.rows.contains_key(&number) && !self.reading.settled.contains(&number) {
                self.take(row, None);
            }
            self.reading.cursor = self.reading.cursor.max(number);
            self.reading.passed = self.reading.passed.max(number);
        }
        if all && !self.reading.more {
            self.reading.behind = false;
        }
    }

    /// The next event to publish. It is open then.
    pub(super) fn next(&mut self, now: Instant) -> Option<Next> {
        let fails = self.streak >= STREAK;
        if fails && (self.open > 0 || self.trial.is_some_and(|trial| now < trial)) {
            return None;
        }
        let rested = self.resting.first().copied().filter(|(until, _)| fails || *until <= now);
        let (number, from_rest) = match self.ready.first() {
            Some(number) => (*number, None),
            None => (rested?.1, rested),
        };
        let bytes = self.rows.get(&number).map_or(0, |row| row.bytes);
        if self.open >= MOST_OPEN || (self.open > 0 && self.open_bytes + bytes > OPEN_BYTES) {
            return None;
        }
        match from_rest {
            Some(rested) => self.resting.remove(&rested),
            None => self.ready.remove(&number),
        };
        (self.open, self.open_bytes) = (self.open + 1, self.open_bytes + bytes);
        self.trials += u32::from(fails);
        let row = self.rows.get_mut(&number)?;
        let accepted = row.accepted.take();
        self.bodies -= accepted.as_ref().map_or(0, |_| bytes);
        Some(Next { number, accepted })
    }

    /// An open event is settled, and the store knows it.
    pub(super) fn settled(&mut self, number: u64) {
        let Some(row) = self.rows.remove(&number) else { return };
        self.closed(row.bytes);
        if self.reading.busy {
            self.reading.settled.insert(number);
        }
        if let Some(key) = &row.key {
            self.next_of(key);
        }
        if self.streak >= STREAK {
            // The lane works again.
            self.ready.extend(std::mem::take(&mut self.resting).into_iter().map(|(_, number)| number));
        }
        (self.streak, self.trials, self.trial) = (0, 0, None);
    }

    /// The first row of a key has left.
    fn next_of(&mut self, key: &Arc<str>) {
        let Some(of_key) = self.keys.get_mut(key) else { return };
        of_key.numbers.pop_front();
        self.ready.extend(of_key.numbers.front());
        let read_again = of_key.more && of_key.numbers.len() <= self.bounds.few_of_a_key / 2;
        if of_key.numbers.is_empty() {
            self.keys.remove(key);
        }
        if read_again && let Some(first) = self.reading.passed_over.take() {
            for of_key in self.keys.values_mut() {
                of_key.more = false;
            }
            self.reading.restart_after(first - 1);
        }
    }

    /// An open event was not settled: it rests.
    pub(super) fn failed(&mut self, number: u64, now: Instant) {
        let Some(row) = self.rows.get_mut(&number) else { return };
        row.failures += 1;
        let (bytes, rest) = (row.bytes, BACKOFF.after(row.failures));
        self.closed(bytes);
        self.resting.insert((now + rest, number));
        self.streak = self.streak.saturating_add(1);
        if self.streak >= STREAK {
            self.trial = Some(now + BACKOFF.after(self.trials + 1));
        }
    }

    fn closed(&mut self, bytes: usize) {
        (self.open, self.open_bytes) = (self.open.saturating_sub(1), self.open_bytes.saturating_sub(bytes));
    }

    /// When [`next`](LaneQueue::next), which had none left at `now`, may have an event although nothing happens before. What
    /// has rested by then waits for room, not for time.
    pub(super) fn wakes_at(&self, now: Instant) -> Option<Instant> {
        let until = match self.trial {
            Some(_) if self.open > 0 => None,
            Some(trial) => Some(trial),
            None => self.resting.range((now, u64::MAX)..).next().map(|(until, _)| *until),
        };
        until.filter(|until| *until > now)
    }

    /// Whether nothing is left, in memory or in the store.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && !self.reading.behind && self.reading.passed_over.is_none()
    }

    /// Whether an event of this key may be in the lane.
    pub(super) fn may_hold(&self, key: Option<&str>) -> bool {
        let unknown = self.reading.behind || self.reading.passed_over.is_some();
        key.is_some_and(|key| unknown || self.keys.contains_key(key))
    }

    /// When the oldest event was accepted, in unix seconds.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.rows.first_key_value().map(|(_, row)| row.at)
    }
}

#[cfg(test)]
mod tests;
