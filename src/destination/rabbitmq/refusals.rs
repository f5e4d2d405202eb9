//! Topics that take nothing at the moment: the broker refuses this user, or a queue does not confirm. Publishes to them
//! are refused at once, so that one topic's trouble costs the others nothing. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::reason::{Failure, Reason};

/// How long a topic is refused before one publish tries it again.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(30));
/// The shortest time for which a topic without answers is refused: an overloaded queue that answers late all the time must
/// not be refused and tried many times a second.
const SHORTEST: Duration = Duration::from_secs(2);
/// Bounds the memory: topics can contain a part of the event.
const MOST: usize = 1024;

/// The refused topics of one destination.
#[derive(Default)]
pub(super) struct TopicRefusals {
    topics: Mutex<BTreeMap<Arc<str>, TopicRefusal>>,
    /// The number of topics: without any, no publish takes the lock.
    number: AtomicUsize,
    /// Notified when [`lines`](TopicRefusals::lines) change.
    pub(super) changed: Notify,
}

struct TopicRefusal {
    failure: Failure,
    /// How often the topic failed in a row.
    failures: u32,
    since: Instant,
    /// When one publish may try the topic; `None` while an answer to an earlier publish is still expected.
    retry: Option<Instant>,
    /// The topic was answered meanwhile: it is not refused any more from this moment on.
    end: Option<Instant>,
}

impl TopicRefusal {
    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| end <= Instant::now())
    }
}

/// When a refused topic is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// One publish tries it after a pause, which grows.
    AfterPause,
    /// The channel still expects answers: any of them shows that the topic works again.
    WithAnswer,
}

impl TopicRefusals {
    /// Asks to publish to a topic. Returns whether this publish tries a topic that failed: until it has an outcome, at
    /// most for `trial`, others are refused.
    ///
    /// # Errors
    /// Why the topic is refused.
    pub(super) fn enter(&self, topic: &str, trial: Duration) -> Result<bool, Failure> {
        if self.number.load(Ordering::Relaxed) == 0 {
            return Ok(false);
        }
        let mut topics = self.topics.lock();
        let Some(refusal) = topics.get_mut(topic).filter(|refusal| !refusal.is_over()) else { return Ok(false) };
        let now = Instant::now();
        if refusal.retry.is_none_or(|retry| retry > now) {
            return Err(refusal.failure.clone());
        }
        refusal.retry = Some(now + trial);
        Ok(true)
    }

    /// The publish that was to try a topic was not sent: the next one tries it.
    pub(super) fn not_tried(&self, topic: &str) {
        if let Some(refusal) = self.topics.lock().get_mut(topic) {
            refusal.retry = Some(Instant::now());
        }
    }

    /// Why a topic is refused.
    pub(super) fn failure(&self, topic: &str) -> Option<Failure> {
        if self.number.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.topics.lock().get(topic).filter(|refusal| !refusal.is_over()).map(|refusal| refusal.failure.clone())
    }

    /// Refuses a topic from now on.
    pub(super) fn refuse(&self, topic: &Arc<str>, failure: Failure, retry: Retry) {
        let mut topics = self.topics.lock();
        let known = topics.get(topic);
        let (failures, changed) = match known {
            Some(refusal) => (refusal.failures.saturating_add(1), refusal.failure != failure),
            None => (1, true),
        };
        if known.is_none() && topics.len() >= MOST {
            topics.pop_first();
        }
        let since = Instant::now();
        let retry = (retry == Retry::AfterPause).then(|| since + BACKOFF.after(failures));
        topics.insert(Arc::clone(topic), TopicRefusal { failure, failures, since, retry, end: None });
        self.number.store(topics.len(), Ordering::Relaxed);
        if changed {
            self.changed.notify_one();
        }
    }

    /// The broker has answered a publish to a topic, so the topic works.
    pub(super) fn answered(&self, topic: &str) {
        if self.number.load(Ordering::Relaxed) > 0 {
            self.retain(|name, refusal| {
                if &**name == topic {
                    let least = if refusal.retry.is_none() { SHORTEST } else { Duration::ZERO };
                    refusal.end.get_or_insert(refusal.since + least);
                }
                !refusal.is_over()
            });
        }
    }

    /// The topics that the broker refuses this user.
    pub(super) fn denied(&self) -> Vec<Arc<str>> {
        if self.number.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let topics = self.topics.lock();
        let denied = topics.iter().filter(|(_, refusal)| refusal.failure.reason == Reason::NotAuthorized);
        denied.map(|(topic, _)| Arc::clone(topic)).collect()
    }

    /// The broker permits this user to publish to a topic.
    pub(super) fn permitted(&self, topic: &str) {
        if self.number.load(Ordering::Relaxed) > 0 {
            self.retain(|name, refusal| &**name != topic || refusal.failure.reason != Reason::NotAuthorized);
        }
    }

    /// A topic's channel, or the whole connection, has ended: no answer is expected any more. A topic that did not answer
    /// is not refused any more with `forgive`, and one publish may try each of the others.
    pub(super) fn answers_lost(&self, concerns: impl Fn(&str) -> bool, forgive: bool) {
        self.retain(|name, refusal| {
            if !concerns(name) {
                return true;
            }
            refusal.retry = Some(Instant::now());
            !forgive || refusal.failure.reason == Reason::NotAuthorized
        });
    }

    fn retain(&self, keep: impl FnMut(&Arc<str>, &mut TopicRefusal) -> bool) {
        let mut topics = self.topics.lock();
        let before = topics.len();
        topics.retain(keep);
        self.number.store(topics.len(), Ordering::Relaxed);
        if topics.len() < before {
            self.changed.notify_one();
        }
    }

    /// A line for each refused topic.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut topics = self.topics.lock();
        topics.retain(|_, refusal| !refusal.is_over());
        self.number.store(topics.len(), Ordering::Relaxed);
        let line =
            |(topic, refusal): (&Arc<str>, &TopicRefusal)| format!("topic \"{topic}\" is refused: {}", refusal.failure);
        topics.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIAL: Duration = Duration::from_secs(10);

    fn denied() -> Failure {
        Failure::new(Reason::NotAuthorized, "access to topic 'a' refused")
    }

    #[tokio::test(start_paused = true)]
    async fn one_publish_tries_a_refused_topic_after_a_growing_pause() {
        let refusals = TopicRefusals::default();
        let (a, enter) = (Arc::from("a"), |topic| refusals.enter(topic, TRIAL));
        assert_eq!(enter("a"), Ok(false));
        let mut longest = Duration::ZERO;
        for _ in 0..10 {
            refusals.refuse(&a, denied(), Retry::AfterPause);
            let refused = Instant::now();
            assert_eq!(enter("b"), Ok(false), "other topics are not affected");
            while enter("a") == Err(denied()) {
                tokio::time::advance(Duration::from_millis(100)).await;
            }
            longest = longest.max(refused.elapsed());
            assert_eq!(enter("a"), Err(denied()), "one at a time");
        }
        assert!((Duration::from_secs(15)..=Duration::from_secs(31)).contains(&longest), "{longest:?}");
        refusals.not_tried("a");
        assert_eq!(enter("a"), Ok(true), "the first trial was not sent");
        assert_eq!(enter("a"), Err(denied()));
        tokio::time::advance(TRIAL).await;
        assert_eq!(enter("a"), Ok(true), "a trial without an outcome does not refuse the topic forever");
        refusals.answered("a");
        assert_eq!(enter("a"), Ok(false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_that_does_not_answer_waits_for_an_answer() {
        let (refusals, a, b) = (TopicRefusals::default(), Arc::from("a"), Arc::from("b"));
        let late = Failure::from(Reason::Timeout);
        for topic in [&a, &b] {
            refusals.refuse(topic, late.clone(), Retry::WithAnswer);
        }
        refusals.answered("b");
        assert_eq!((refusals.enter("b", TRIAL), refusals.lines().len()), (Err(late.clone()), 2), "not at once");
        tokio::time::advance(SHORTEST).await;
        assert_eq!((refusals.enter("b", TRIAL), refusals.failure("b"), refusals.lines().len()), (Ok(false), None, 1));
        refusals.refuse(&b, late.clone(), Retry::WithAnswer);
        tokio::time::advance(100 * TRIAL).await;
        assert_eq!(refusals.enter("a", TRIAL), Err(late.clone()));
        refusals.answers_lost(|topic| topic == "a", false);
        assert_eq!((refusals.enter("a", TRIAL), refusals.enter("b", TRIAL)), (Ok(true), Err(late)));
        refusals.refuse(&a, denied(), Retry::AfterPause);
        refusals.answers_lost(|_| true, true);
        assert_eq!((refusals.enter("a", TRIAL), refusals.enter("b", TRIAL)), (Ok(true), Ok(false)));
        assert_eq!(refusals.lines(), ["topic \"a\" is refused: not_authorized: access to topic 'a' refused"]);
        refusals.refuse(&b, Reason::Timeout.into(), Retry::WithAnswer);
        assert_eq!(refusals.denied(), [Arc::from("a")]);
        for topic in ["a", "b"] {
            refusals.permitted(topic);
        }
        assert!(refusals.denied().is_empty() && refusals.lines().len() == 1, "b is refused for another reason");
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let refusals = TopicRefusals::default();
        for number in 0..2 * MOST {
            refusals.refuse(&number.to_string().into(), denied(), Retry::AfterPause);
        }
        assert_eq!(refusals.lines().len(), MOST);
    }
}
