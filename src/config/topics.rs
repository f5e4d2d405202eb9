//! Which topics the routes can yield. Destinations create topology for them.

use std::collections::HashSet;
use std::sync::Arc;

use super::Settings;
use crate::route::{Routes, Rule, Unrouted};
use crate::source::Source;

impl Settings {
    /// Every topic that the routes can yield for a destination, with `*` in place of `{subject}`; sorted, without
    /// duplicates. Includes the topic for unrouted events if an event can go there.
    pub fn topics(&self, destination: &str) -> Vec<String> {
        possible_topics(&self.routes, &self.sources, destination, "*")
    }

    /// The same for the events of one source.
    pub fn topics_of(&self, source: &Source, destination: &str) -> Vec<String> {
        possible_topics(&self.routes, std::slice::from_ref(source), destination, "*")
    }

    /// The destinations' names.
    pub fn destination_names(&self) -> Vec<&str> {
        self.destinations.iter().map(|destination| &*destination.name).collect()
    }

    /// The destinations that no delivery needs: only optional targets are there, and neither unrouted events nor dead letters.
    pub fn optional_destinations(&self) -> HashSet<Arc<str>> {
        let all = |required: bool| {
            let to = self.routes.rules.iter().flat_map(|rule| &rule.to);
            to.filter(move |to| to.required == required).map(|to| &to.destination)
        };
        let required: HashSet<&Arc<str>> =
            all(true).chain([&self.routes.fallback.0]).chain(&self.dead_letters_to).collect();
        all(false).filter(|name| !required.contains(name)).cloned().collect()
    }
}

/// See [`Settings::topics`]; `any` is in place of `{subject}`.
pub(super) fn possible_topics(routes: &Routes, sources: &[Source], destination: &str, any: &str) -> Vec<String> {
    let mut topics = Vec::new();
    for source in sources {
        for (index, rule) in routes.rules.iter().enumerate().filter(|(_, rule)| rule.is_for(&source.name)) {
            let before = &routes.rules[..index];
            if before.iter().any(|rule| rule.takes_everything_of(&source.name)) {
                break;
            }
            let reaches = |event: &&String| reaches(&source.name, event, rule, before);
            let events: Vec<String> = source.events.iter().filter(reaches).cloned().collect();
            for to in rule.to.iter().filter(|to| &*to.destination == destination) {
                topics.extend(to.topic.names(&source.name, &source.type_prefix, &events, any));
            }
        }
    }
    topics.extend(unrouted_topic(routes, sources, destination).map(str::to_owned));
    topics.sort_unstable();
    topics.dedup();
    topics
}

/// Whether an event can reach a rule: the first rule that matches takes the event, unless its condition does not hold.
fn reaches(source: &str, event: &str, rule: &Rule, before: &[Rule]) -> bool {
    let taken = |rule: &Rule| rule.when.is_none() && rule.matches(source, event);
    rule.matches(source, event) && !before.iter().any(taken)
}

/// The topic for unrouted events, if a destination can need it. Events that no rule takes go to the fallback destination.
/// Events with unknown names go to this topic at each destination whose topics contain the event's name, or, with
/// `only_fallback`, at the fallback destination.
pub(super) fn unrouted_topic<'a>(routes: &'a Routes, sources: &[Source], destination: &str) -> Option<&'a str> {
    let Unrouted::Topic(topic) = &routes.unrouted else { return None };
    let fallback = *routes.fallback.0 == *destination;
    let takes_all = |source: &Source| routes.rules.iter().any(|rule| rule.takes_everything_of(&source.name));
    let takes_unmatched = fallback && !sources.iter().all(takes_all);
    let takes_unknown = || {
        let mut to = routes.rules.iter().flat_map(|rule| &rule.to).filter(|to| to.topic.names_event());
        if routes.only_fallback {
            fallback && to.next().is_some()
        } else {
            to.any(|to| &*to.destination == destination)
        }
    };
    (takes_unmatched || takes_unknown()).then_some(&**topic)
}

/// Whether any event can go to a destination.
pub(super) fn is_used(routes: &Routes, sources: &[Source], destination: &str) -> bool {
    let to = routes.rules.iter().flat_map(|rule| &rule.to);
    unrouted_topic(routes, sources, destination).is_some() || to.into_iter().any(|to| &*to.destination == destination)
}
