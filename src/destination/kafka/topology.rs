//! Topics: what the destination needs, compared to what exists. Pure; the requests to the cluster are in [`admin`].

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::cluster::TopicLimits;
use super::connection::largest_message;
use crate::destination::Opening;
use crate::destination::found::Found;
use crate::destination::settings::{OversizePolicy, Topology};
use crate::reason::{Failure, Reason};

pub(super) mod admin;

/// A topic that keeps events for less gets a warning: workers that are down for an hour lose events.
const SHORTEST_RETENTION: Duration = Duration::from_secs(2 * 3600);
/// A topic whose partitions keep fewer bytes gets a warning.
const SMALLEST_RETENTION: u64 = 1 << 30;

/// Topics that a failure names, at most.
const MOST_NAMES: usize = 5;

/// The topics that the destination needs.
pub(super) struct Wanted {
    pub(super) topics: Vec<String>,
    topology: Topology,
    partitions: i32,
    /// Bytes of the largest message that each topic must take.
    largest: usize,
    /// What becomes of events that are too large.
    oversize: OversizePolicy,
}

/// The topics of a cluster.
struct ExistingTopics {
    brokers: usize,
    /// Names of all topics.
    names: HashSet<String>,
    /// Those that are wanted.
    wanted: BTreeMap<String, ExistingTopic>,
    /// A failure for each of their leaders that does not answer.
    unreached: Vec<Failure>,
}

/// A topic. What the broker does not let us read is `None`.
#[derive(Default)]
struct ExistingTopic {
    partitions: usize,
    /// Of the partition with the fewest.
    replicas: usize,
    /// `max.message.bytes`.
    limit: Option<usize>,
    min_insync: Option<usize>,
    unclean_election: Option<bool>,
    /// `cleanup.policy` contains `compact`.
    compacted: Option<bool>,
    /// `retention.ms`, if the topic deletes by age.
    retention: Option<Duration>,
    /// `retention.bytes` of a partition, if the topic deletes by size.
    retention_bytes: Option<u64>,
}

/// Result of a check.
pub(super) struct CheckedTopics {
    pub(super) found: Found,
    pub(super) limits: TopicLimits,
}

impl Wanted {
    pub(super) fn new(opening: &Opening) -> Wanted {
        let mut topics = opening.topics.clone();
        topics.sort_unstable();
        topics.dedup();
        Wanted {
            topics,
            topology: opening.settings.topology,
            partitions: opening.settings.partitions,
            largest: largest_message(opening.body_limit),
            oversize: opening.settings.oversize,
        }
    }

    /// Topics that do not exist.
    fn missing<'a>(&'a self, existing: &ExistingTopics) -> Vec<&'a str> {
        self.topics.iter().map(String::as_str).filter(|name| !existing.wanted.contains_key(*name)).collect()
    }

    /// Topics that can be created: those that are missing and collide with no other.
    fn creatable<'a>(&'a self, existing: &ExistingTopics) -> Vec<&'a str> {
        if self.topology == Topology::Verify {
            return Vec::new();
        }
        let mut missing = self.missing(existing);
        missing.retain(|name| collision(name, &existing.names).is_none());
        missing
    }

    /// Compares what exists to what is wanted. A topic that can still be created is no problem.
    fn compare(&self, existing: &ExistingTopics) -> CheckedTopics {
        let mut found = Found { lines: vec![format!("{} broker(s)", existing.brokers)], ..Found::default() };
        let missing = self.missing(existing);
        for (name, other) in missing.iter().filter_map(|name| Some((name, collision(name, &existing.names)?))) {
            let text = format!(
                "topic {name} cannot be created while topic {other} exists: Kafka's metrics do not distinguish `.` and \
                 `_`. Use another name"
            );
            found.problems.push(Failure::new(Reason::Topology, text));
        }
        if self.topology == Topology::Verify && !missing.is_empty() {
            let text = format!("missing topics: {}. Create them, or set `topology: ensure`", list(&missing));
            found.problems.push(Failure::new(Reason::Topology, text));
        }
        found.problems.extend(existing.unreached.iter().cloned());
        for name in &self.topics {
            let Some(topic) = existing.wanted.get(name) else {
                found.lines.push(format!("topic {name}: does not exist"));
                continue;
            };
            found.lines.push(format!("topic {name}: {}", topic.line()));
            found.warnings.extend(topic.warnings(self).into_iter().map(|text| format!("topic {name}: {text}")));
        }
        let limits = existing.wanted.iter().map(|(name, topic)| (name.clone(), topic.limit)).collect();
        CheckedTopics { found, limits }
    }
}

impl ExistingTopic {
    /// Takes the topic's settings from what `value` returns for their names.
    fn read_settings<'a>(&mut self, value: impl Fn(&str) -> Option<&'a str>) {
        fn number<T: std::str::FromStr>(text: Option<&str>) -> Option<T> {
            text.and_then(|text| text.parse().ok())
        }
        self.limit = number(value("max.message.bytes"));
        self.min_insync = number(value("min.insync.replicas"));
        self.unclean_election = number(value("unclean.leader.election.enable"));
        let policy = value("cleanup.policy");
        let has = |word: &str| policy.map(|policy| policy.split(',').any(|one| one.trim() == word));
        self.compacted = has("compact");
        // -1 stands for no limit.
        let deletes = has("delete") == Some(true);
        self.retention = number(value("retention.ms")).filter(|_| deletes).map(Duration::from_millis);
        self.retention_bytes = number(value("retention.bytes")).filter(|_| deletes);
    }

    fn line(&self) -> String {
        let min_insync = self.min_insync.map_or("unknown".to_owned(), |count| count.to_string());
        let (partitions, replicas) = (self.partitions, self.replicas);
        format!("{partitions} partition(s), {replicas} replica(s), min.insync.replicas {min_insync}")
    }

    /// What makes the topic less safe, or smaller, than wanted.
    fn warnings(&self, wanted: &Wanted) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.replicas == 1 {
            warnings.push("one replica: confirmed events are lost with the disk of one broker".to_owned());
        } else if self.min_insync == Some(1) {
            let replicas = self.replicas;
            warnings.push(format!(
                "min.insync.replicas is 1 with {replicas} replicas: a confirmed event may be on one broker only"
            ));
        }
        if let Some(limit) = self.limit.filter(|limit| *limit < wanted.largest) {
            let (largest, consequence) = (wanted.largest, wanted.oversize.consequence());
            warnings.push(format!(
                "max.message.bytes is {limit}, less than limits.body and headers ({largest}): {consequence}"
            ));
        }
        if self.unclean_election == Some(true) {
            warnings
                .push("unclean.leader.election.enable is set: confirmed events may be lost with a leader".to_owned());
        }
        if self.compacted == Some(true) {
            warnings.push(
                "cleanup.policy is compact: only the last event of each key is kept, earlier ones are thrown away"
                    .to_owned(),
            );
        }
        if let Some(kept) = self.retention.filter(|kept| *kept < SHORTEST_RETENTION) {
            let milliseconds = kept.as_millis();
            warnings.push(format!(
                "retention.ms is {milliseconds}: events that were not consumed {} s after they arrived are thrown away",
                kept.as_secs()
            ));
        }
        if let Some(bytes) = self.retention_bytes.filter(|bytes| *bytes < SMALLEST_RETENTION) {
            warnings.push(format!(
                "retention.bytes is {bytes}: a partition throws away its oldest events beyond that, consumed or not"
            ));
        }
        if self.partitions > 0 && usize::try_from(wanted.partitions) != Ok(self.partitions) {
            let (exist, set) = (self.partitions, wanted.partitions);
            warnings.push(format!(
                "it has {exist} partition(s), and the setting is {set}; existing topics are not changed"
            ));
        }
        warnings
    }
}

/// An existing topic that prevents the creation of this one.
fn collision<'a>(name: &str, names: &'a HashSet<String>) -> Option<&'a str> {
    let in_metrics = name.replace('.', "_");
    names.iter().find(|other| other.replace('.', "_") == in_metrics).map(String::as_str)
}

fn list(names: &[&str]) -> String {
    let shown = names.iter().take(MOST_NAMES).copied().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(MOST_NAMES);
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(topology: Topology, topics: &[&str]) -> Wanted {
        let topics = topics.iter().map(ToString::to_string).collect();
        Wanted { topics, topology, partitions: 12, largest: 1000, oversize: OversizePolicy::DeadLetter }
    }

    fn existing(topics: impl IntoIterator<Item = (&'static str, ExistingTopic)>) -> ExistingTopics {
        let wanted: BTreeMap<_, _> = topics.into_iter().map(|(name, topic)| (name.to_owned(), topic)).collect();
        ExistingTopics { brokers: 3, names: wanted.keys().cloned().collect(), wanted, unreached: Vec::new() }
    }

    fn safe() -> ExistingTopic {
        ExistingTopic {
            partitions: 12,
            replicas: 3,
            limit: Some(1000),
            min_insync: Some(2),
            unclean_election: Some(false),
            compacted: Some(false),
            retention: None,
            retention_bytes: None,
        }
    }

    #[test]
    fn lines_and_limits_describe_each_topic() {
        let limited = ExistingTopic { limit: None, min_insync: None, ..safe() };
        let existing = existing([("a", safe()), ("b", limited)]);
        let CheckedTopics { found, limits } = wanted(Topology::Ensure, &["a", "b", "c"]).compare(&existing);
        assert_eq!(
            found.lines,
            [
                "3 broker(s)",
                "topic a: 12 partition(s), 3 replica(s), min.insync.replicas 2",
                "topic b: 12 partition(s), 3 replica(s), min.insync.replicas unknown",
                "topic c: does not exist",
            ]
        );
        assert_eq!((found.problems, found.warnings), (vec![], vec![]), "a missing topic is about to be created");
        assert_eq!(limits, [("a".to_owned(), Some(1000)), ("b".to_owned(), None)].into());
    }

    #[test]
    fn each_weakness_has_a_warning() {
        for (topic, expected) in [
            (safe(), None),
            (ExistingTopic { replicas: 1, min_insync: Some(1), ..safe() }, Some("one replica")),
            (ExistingTopic { min_insync: Some(1), ..safe() }, Some("min.insync.replicas is 1 with 3")),
            (ExistingTopic { limit: Some(999), ..safe() }, Some("max.message.bytes is 999")),
            (ExistingTopic { unclean_election: Some(true), ..safe() }, Some("unclean.leader.election.enable")),
            (ExistingTopic { compacted: Some(true), ..safe() }, Some("cleanup.policy is compact: only the last event")),
            (ExistingTopic { retention: Some(SHORTEST_RETENTION), ..safe() }, None),
            (
                ExistingTopic { retention: Some(Duration::from_secs(60)), ..safe() },
                Some("retention.ms is 60000: events that were not consumed 60 s"),
            ),
            (ExistingTopic { retention_bytes: Some(SMALLEST_RETENTION), ..safe() }, None),
            (ExistingTopic { retention_bytes: Some(4096), ..safe() }, Some("retention.bytes is 4096: a partition")),
            (ExistingTopic { partitions: 3, ..safe() }, Some("it has 3 partition(s), and the setting is 12")),
            (ExistingTopic { limit: Some(1000), ..ExistingTopic::default() }, None), // created a moment ago
        ] {
            let warnings = wanted(Topology::Ensure, &["a"]).compare(&existing([("a", topic)])).found.warnings;
            let expected = expected.map(|text| format!("topic a: {text}"));
            assert_eq!(warnings.len(), usize::from(expected.is_some()), "{warnings:?}");
            assert!(expected.is_none_or(|expected| warnings[0].starts_with(&expected)), "{warnings:?}");
        }
    }

    #[test]
    fn settings_are_read_from_the_brokers_words() {
        let read = |policy, milliseconds, bytes| {
            let mut topic = ExistingTopic::default();
            topic.read_settings(|name| match name {
                "cleanup.policy" => Some(policy),
                "retention.ms" => Some(milliseconds),
                "retention.bytes" => Some(bytes),
                _ => None,
            });
            (topic.compacted, topic.retention.map(|kept| kept.as_secs()), topic.retention_bytes)
        };
        assert_eq!(read("delete", "60000", "5"), (Some(false), Some(60), Some(5)));
        assert_eq!(read("delete", "-1", "-1"), (Some(false), None, None));
        assert_eq!(read("compact", "60000", "5"), (Some(true), None, None), "it deletes nothing by age or size");
        assert_eq!(read("compact,delete", "60000", "5"), (Some(true), Some(60), Some(5)));
    }

    #[test]
    fn missing_and_colliding_topics_are_problems() {
        let problems = |topology, topics: &[&str]| {
            let existing = existing([("a.b", safe())]);
            let problems = wanted(topology, topics).compare(&existing).found.problems;
            problems.into_iter().map(|failure| failure.detail.into_owned()).collect::<Vec<_>>()
        };
        assert!(problems(Topology::Ensure, &["a.b", "c"]).is_empty());
        assert!(problems(Topology::Verify, &["a.b"]).is_empty());
        let many = ["a.b", "c", "d", "e", "f", "g", "h"];
        assert!(problems(Topology::Verify, &many)[0].starts_with("missing topics: c, d, e, f, g and 1 more."));
        for topology in [Topology::Ensure, Topology::Verify] {
            let problems = problems(topology, &["a_b"]);
            assert!(problems[0].starts_with("topic a_b cannot be created while topic a.b exists"), "{problems:?}");
        }
    }

    #[test]
    fn topics_without_a_collision_can_be_created() {
        let existing = existing([("a.b", safe())]);
        let names = ["a.b", "a_b", "c"];
        assert_eq!(wanted(Topology::Ensure, &names).creatable(&existing), ["c"]);
        assert_eq!(wanted(Topology::Verify, &names).creatable(&existing), Vec::<&str>::new());
    }
}
