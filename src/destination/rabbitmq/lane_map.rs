//! Which lane a publish takes. Pure. A lane has a channel, and one topic's trouble is its channel's trouble: so each topic
//! has lanes of its own, as far as the broker allows so many channels. A key always takes the same lane of its topic.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

/// Most lanes. Each costs the broker a process.
const MOST: usize = 256;
/// Most lanes for one topic: several let the broker work on more messages at a time.
const MOST_EACH: usize = 4;
/// Most lanes for topics that are not known in advance, because they contain a part of the event.
const MOST_SHARED: usize = 8;
/// Channels for the supervisor's checks, and one that is being replaced.
const RESERVED: usize = 3;

/// The lanes of one connection.
pub(super) struct LaneMap {
    /// The topics that have lanes of their own, numbered.
    own: HashMap<String, usize>,
    /// How many lanes each of them has.
    each: usize,
    /// How many lanes the other topics share.
    shared: usize,
    /// How many known topics have no lane of their own.
    crowded: usize,
    hasher: RandomState,
}

impl LaneMap {
    /// Lanes for topics, in which `*` stands for a part that varies. `channels`: how many the broker allows.
    pub(super) fn new(topics: &[String], channels: usize) -> LaneMap {
        let lanes = channels.saturating_sub(RESERVED).clamp(1, MOST);
        let known: Vec<_> = topics.iter().filter(|topic| !topic.contains(['*', '{'])).collect();
        let shared = match (topics.len() - known.len(), known.len()) {
            (0, known) if known <= lanes => 0,
            _ => (lanes / 4).clamp(1, MOST_SHARED),
        };
        let own = known.iter().take(lanes - shared).enumerate().map(|(number, topic)| ((*topic).clone(), number));
        let own: HashMap<_, _> = own.collect();
        let (crowded, each) = (known.len() - own.len(), (lanes - shared) / own.len().max(1));
        LaneMap { own, each: each.clamp(1, MOST_EACH), shared, crowded, hasher: RandomState::new() }
    }

    /// How many lanes there are.
    pub(super) fn len(&self) -> usize {
        (self.own.len() * self.each + self.shared).max(1)
    }

    /// The lane of a key of a topic, always the same one.
    pub(super) fn lane(&self, topic: &str, key: &str) -> usize {
        let first_shared = self.own.len() * self.each;
        let (hash, first, lanes) = match self.own.get(topic) {
            Some(number) => (self.hasher.hash_one(key), number * self.each, self.each),
            None if self.shared > 0 => (self.hasher.hash_one(topic), first_shared, self.shared),
            None => (self.hasher.hash_one(topic), 0, self.len()),
        };
        first + (hash % lanes as u64) as usize
    }

    /// The warning about topics that have no lane of their own.
    pub(super) fn warning(&self) -> Option<String> {
        (self.crowded > 0).then(|| {
            format!(
                "{} topics share {} channels, so one that does not confirm, or is refused, holds up others: raise the \
                 limit of channels of this connection or user",
                self.crowded, self.shared
            )
        })
    }
}

/// How many channels there may be after the broker has refused one with this text: "number of channels opened for user 'u'
/// has reached the maximum allowed user limit of (4)". Other clients of the user count too, so a limit that was known
/// already, and the `lanes` that there were, are reduced.
pub(super) fn refused_channels(text: &str, lanes: usize) -> Option<usize> {
    let (_, rest) = text.split_once("number of channels")?;
    let limit = rest.rsplit_once('(').and_then(|(_, rest)| rest.split(')').next()).and_then(|limit| limit.parse().ok());
    Some(limit.unwrap_or(usize::MAX).min((lanes / 4 * 3).saturating_add(RESERVED)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn topics(known: usize, varying: usize) -> Vec<String> {
        let known = (0..known).map(|number| format!("t.{number}"));
        known.chain((0..varying).map(|number| format!("v{number}.*"))).collect()
    }

    #[test]
    fn each_known_topic_has_lanes_of_its_own_while_there_are_channels() {
        for (known, varying, channels, own, each, shared, warns) in [
            (0, 0, 2047, 0, 4, 0, false),
            (1, 0, 2047, 1, 4, 0, false),
            (40, 0, 2047, 40, 4, 0, false),
            (40, 1, 2047, 40, 4, 8, false),
            (100, 0, 2047, 100, 2, 0, false),
            (300, 0, 2047, 248, 1, 8, true),
            (1, 0, 1, 1, 1, 0, false),
            (2, 0, 4, 0, 1, 1, true),
            (5, 0, 8, 5, 1, 0, false),
            (6, 0, 8, 4, 1, 1, true),
            (4, 1, 8, 4, 1, 1, false),
        ] {
            let (topics, case) = (topics(known, varying), (known, varying, channels));
            let map = LaneMap::new(&topics, channels);
            assert_eq!((map.own.len(), map.each, map.shared), (own, each, shared), "{case:?}");
            assert_eq!(map.warning().is_some(), warns, "{case:?}");
            assert!(map.len() <= channels.max(1), "{case:?}");
            let mut lanes = vec![0; map.len()];
            for topic in topics.iter().take(own) {
                let of_topic: BTreeSet<_> = (0..100).map(|key| map.lane(topic, &key.to_string())).collect();
                assert_eq!(of_topic.len(), each, "{case:?}");
                of_topic.into_iter().for_each(|lane| lanes[lane] += 1);
            }
            let (of_topics, others) = lanes.split_at(own * each);
            assert!(of_topics.iter().all(|topics| *topics == 1), "{case:?}");
            assert!(others.iter().all(|topics| *topics == 0), "{case:?}");
            for topic in ["other", "another"] {
                let lane = map.lane(topic, "a");
                assert!(lane < map.len() && lane == map.lane(topic, "b"), "{case:?}");
                assert!(shared == 0 || lane >= own * each, "{case:?}");
            }
        }
    }

    #[test]
    fn a_refused_channel_lowers_the_number_of_channels() {
        let text = "NOT_ALLOWED - number of channels opened for user 'u (9)' has reached the maximum allowed user limit of (8)";
        assert_eq!(refused_channels(text, 100), Some(8));
        assert_eq!(refused_channels(text, 5), Some(6), "other clients use some of them");
        assert_eq!(refused_channels(text, 1), Some(3), "one lane is left");
        assert_eq!(refused_channels("number of channels", 8), Some(9));
        assert_eq!(refused_channels("NOT_ALLOWED - vhost", 8), None);
    }
}
