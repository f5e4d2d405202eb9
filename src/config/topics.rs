//! Which topics the routes can make: what destinations make topology for.

use super::Settings;
use super::check::takes_everything;
use crate::route::{Routes, Rule, Unrouted};
use crate::source::Source;

impl Settings {
    /// Every topic that the routes can make for a destination, `*` standing for `{subject}`: sorted, each once. The
    /// topic for unrouted events is among them where an event can come to need it.
    pub fn topics(&self, destination: &str) -> Vec<String> {
        of(&self.routes, &self.sources, destination, "*")
    }
}

/// See [`Settings::topics`].
pub(super) fn of(routes: &Routes, sources: &[Source], destination: &str, any: &str) -> Vec<String> {
    let mut topics = Vec::new();
    for (index, rule) in routes.rules.iter().enumerate() {
        let before = &routes.rules[..index];
        if before.iter().any(takes_everything) {
            break;
        }
        for to in rule.to.iter().filter(|to| &*to.destination == destination) {
            for source in sources {
                let events: Vec<String> =
                    source.events.iter().filter(|event| reaches(event, rule, before)).cloned().collect();
                topics.extend(to.topic.names(&source.name, &source.type_prefix, &events, any));
            }
        }
    }
    topics.extend(unrouted(routes, destination).map(str::to_owned));
    topics.sort_unstable();
    topics.dedup();
    topics
}

/// Whether an event can come to a rule: the first that matches takes it, unless its condition refuses.
fn reaches(event: &str, rule: &Rule, before: &[Rule]) -> bool {
    let taken = |rule: &Rule| rule.when.is_none() && rule.pattern.matches(event);
    rule.pattern.matches(event) && !before.iter().any(taken)
}

/// The topic for unrouted events, where a destination can come to need it: events that no rule takes go to the fallback,
/// and names outside the list go there at each destination whose topics are named after events, or to the fallback too.
pub(super) fn unrouted<'a>(routes: &'a Routes, destination: &str) -> Option<&'a str> {
    let Unrouted::Topic(topic) = &routes.unrouted else { return None };
    let fallback = *routes.fallback.0 == *destination;
    let falls = fallback && !routes.rules.iter().any(takes_everything);
    let named = || {
        let mut to = routes.rules.iter().flat_map(|rule| &rule.to).filter(|to| to.topic.names_event());
        if routes.only_fallback {
            fallback && to.next().is_some()
        } else {
            to.any(|to| &*to.destination == destination)
        }
    };
    (falls || named()).then_some(&**topic)
}

/// Whether any event can go to a destination.
pub(super) fn uses(routes: &Routes, destination: &str) -> bool {
    let to = routes.rules.iter().flat_map(|rule| &rule.to);
    unrouted(routes, destination).is_some() || to.into_iter().any(|to| &*to.destination == destination)
}
