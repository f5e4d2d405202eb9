//! Whether a topic stalls: what is published to it is neither confirmed nor refused. Pure.
//!
//! A publish may be in flight for minutes. If all of them waited that long, one dead broker or queue would take every place
//! of the process and of each source, and topics that work would get none.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use crate::reason::{Failure, Reason};

/// How long a topic may have publishes in flight and no answer to any of them.
const STALLED: Duration = Duration::from_secs(10);
/// How often one more publish is tried while a topic stalls: perhaps only the answers so far were lost.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// The publishes in flight, by topic.
#[derive(Debug, Default)]
pub(super) struct TopicsInFlight {
    topics: HashMap<Arc<str>, TopicInFlight>,
    next: u64,
}

#[derive(Debug)]
struct TopicInFlight {
    /// When each was published, in this order.
    publishes: BTreeMap<u64, Instant>,
    /// The number of the first publish after the last answer.
    unanswered: u64,
    /// The last publish.
    begun: Instant,
}

impl TopicInFlight {
    /// How long it has stalled, if it has: since the first publish after the last answer. The answer to an earlier one may be
    /// lost, which says nothing of the topic.
    fn stalled(&self, now: Instant) -> Option<Duration> {
        let first = *self.publishes.range(self.unanswered..).next()?.1;
        let waited = now.saturating_duration_since(first);
        (waited >= STALLED).then_some(waited)
    }
}

impl TopicsInFlight {
    /// A publish begins; returns its number.
    ///
    /// # Errors
    /// The topic stalls: the publish would only wait like the others.
    pub(super) fn begin(&mut self, topic: &Arc<str>, now: Instant) -> Result<u64, Failure> {
        let number = self.next;
        self.next += 1;
        let new = || TopicInFlight { publishes: BTreeMap::new(), unanswered: number, begun: now };
        let topic = self.topics.entry(Arc::clone(topic)).or_insert_with(new);
        let recent = now.saturating_duration_since(topic.begun) < TRY_AGAIN;
        if let Some(waited) = topic.stalled(now).filter(|_| recent) {
            let detail = format!("no answer to {} publishes for {} s", topic.publishes.len(), waited.as_secs());
            return Err(Failure::new(Reason::Timeout, detail));
        }
        topic.publishes.insert(number, now);
        topic.begun = now;
        Ok(number)
    }

    /// A publish has ended; `answered`: the broker answered it.
    pub(super) fn end(&mut self, topic: &str, number: u64, answered: bool) {
        let Some(in_flight) = self.topics.get_mut(topic) else { return };
        in_flight.publishes.remove(&number);
        if answered {
            in_flight.unanswered = self.next;
        }
        if in_flight.publishes.is_empty() {
            self.topics.remove(topic);
        }
    }

    /// A line for each topic that stalls.
    pub(super) fn warnings(&self, now: Instant) -> Vec<String> {
        let stalled = self.topics.iter().filter_map(|(topic, in_flight)| {
            let (waited, count) = (in_flight.stalled(now)?.as_secs(), in_flight.publishes.len());
            Some(format!("topic {topic}: no answer to {count} publishes for {waited} s; others are refused until then"))
        });
        let mut warnings: Vec<_> = stalled.collect();
        warnings.sort_unstable();
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_without_answers_is_refused_until_one_comes() {
        let mut topics = TopicsInFlight::default();
        let (start, a, b): (_, Arc<str>, Arc<str>) = (Instant::now(), "a".into(), "b".into());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let first = topics.begin(&a, at(0)).unwrap();
        let second = topics.begin(&a, at(9)).unwrap();
        assert_eq!(topics.warnings(at(9)), Vec::<String>::new());
        let refused = topics.begin(&a, at(10)).unwrap_err();
        assert_eq!((refused.reason, &*refused.detail), (Reason::Timeout, "no answer to 2 publishes for 10 s"));
        assert!(topics.warnings(at(10))[0].starts_with("topic a: no answer to 2 publishes"));
        topics.begin(&b, at(10)).expect("another topic");
        topics.end("a", first, false);
        topics.begin(&a, at(11)).expect("the other one has not waited so long");
        topics.begin(&a, at(15)).expect("the same");
        assert!(topics.begin(&a, at(19)).is_err());
        topics.begin(&a, at(20)).expect("one more is tried");
        assert!(topics.begin(&a, at(20)).is_err(), "only one");
        topics.end("a", second, true);
        topics.begin(&a, at(22)).expect("there was an answer");
        topics.begin(&a, at(31)).expect("less than ten seconds ago");
        assert!(topics.begin(&a, at(32)).is_err(), "the one of second 22 waits");
    }

    #[test]
    fn an_answer_that_was_lost_refuses_nothing_after_a_quiet_time() {
        let mut topics = TopicsInFlight::default();
        let (start, topic): (_, Arc<str>) = (Instant::now(), "a".into());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        topics.begin(&topic, at(0)).expect("its answer is lost");
        let second = topics.begin(&topic, at(1)).unwrap();
        topics.end("a", second, true);
        for _ in 0..3 {
            topics.begin(&topic, at(30)).expect("nothing was published for 28 s");
        }
        topics.begin(&topic, at(39)).expect("the others wait for less than ten seconds");
        assert!(topics.begin(&topic, at(40)).is_err());
    }

    #[test]
    fn nothing_is_kept_of_topics_without_publishes_in_flight() {
        let mut topics = TopicsInFlight::default();
        let (now, topic): (_, Arc<str>) = (Instant::now(), "a".into());
        let number = topics.begin(&topic, now).unwrap();
        topics.end("a", number, true);
        topics.end("a", number, true);
        assert!(topics.topics.is_empty());
    }
}
