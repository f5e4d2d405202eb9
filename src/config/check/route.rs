//! Routes: every name that they can make is checked against the rules of its broker.

use std::sync::Arc;

use super::{Checker, Known};
use crate::config::mistake::{Place, hint, shown};
use crate::config::raw::{self, Leaf, Or};
use crate::config::topics;
use crate::destination::settings::DestinationSettings;
use crate::naming;
use crate::naming::Kind;
use crate::route::{Pattern, Routes, Rule, To, Unrouted, When};
use crate::source::Source;
use crate::template::Template;

/// More names than any broker would be asked to hold topics for.
const MOST_NAMES: u64 = 10_000;
const UNROUTED: &str = "unrouted";

impl Checker<'_, '_> {
    pub(super) fn routes(
        &mut self,
        raw: Option<Vec<raw::Route>>,
        unrouted: Option<Or<raw::Unrouted>>,
        sources: &[Source],
        all: &[Known],
    ) -> Option<Routes> {
        let Some(first) = all.first() else {
            let message = "there is no destination: give --to, HOOKBRIDGE_TO, or `destinations` in the file (--config)";
            self.report.mistake(&Place::Nowhere, message);
            return None;
        };
        let raw = raw.unwrap_or_default();
        if raw.is_empty() && all.len() > 1 {
            let names: Vec<_> = all.iter().map(|known| format!("`{}`", known.name)).collect();
            let message = format!(
                "there are several destinations ({}) and no `routes`: say which event goes where",
                names.join(", ")
            );
            self.report.mistake(&all[1].place, message);
        }
        let mut rules = Vec::new();
        let mut places = Vec::new();
        if raw.is_empty() {
            rules.extend(first.settings.as_ref().and_then(everything));
            places.push(first.place.clone());
        }
        for route in raw {
            let place = route.pattern.place.clone();
            if let Some(rule) = self.rule(route, sources, all) {
                if rules.iter().any(takes_everything) {
                    self.report.warning(&place, "this route can never match: one before it takes every event");
                }
                rules.push(rule);
                places.push(place);
            }
        }
        let only_fallback = matches!(unrouted, Some(Or::More(..)));
        let (unrouted, fallback, place) = self.unrouted(unrouted, first, all);
        let kind = fallback.settings.as_ref().map(|destination| destination.url.kind());
        let routes = Routes { rules, unrouted, fallback: (fallback.name.clone(), kind?), only_fallback };
        self.all_names(&routes, sources, all, &place);
        Some(routes)
    }

    fn rule(&mut self, raw: raw::Route, sources: &[Source], all: &[Known]) -> Option<Rule> {
        let pattern = self.parsed(&raw.pattern, Pattern::parse);
        if let Some(pattern) = &pattern {
            let known: Vec<&str> = sources.iter().flat_map(|source| &source.events).map(String::as_str).collect();
            if !known.is_empty() && !known.iter().any(|event| pattern.matches(event)) && !pattern.is_everything() {
                let heads = known.iter().filter_map(|event| event.split('.').next());
                let head = raw.pattern.text.split('.').next().unwrap_or_default();
                let near = if known.iter().any(|event| event.split('.').next() == Some(head)) {
                    hint(&raw.pattern.text, known.iter().copied())
                } else {
                    hint(head, heads)
                };
                let message = format!("{} matches no event that a source knows{near}", shown(&raw.pattern.text));
                self.report.warning(&raw.pattern.place, message);
            }
        }
        let when = raw.when.map(|when| self.when(when));
        let mut to: Vec<(To, Place)> = Vec::new();
        for raw in raw.to {
            let Some((target, place)) = self.target(raw, pattern.as_ref(), sources, all) else { continue };
            let twin =
                to.iter().find(|(other, _)| other.destination == target.destination && other.topic == target.topic);
            match twin {
                Some((other, _)) if other.key != target.key => {
                    self.report
                        .mistake(&place, "the same destination and topic twice in one route, with different keys");
                }
                Some(_) => self.report.warning(&place, "the same destination and topic twice in one route"),
                None => {}
            }
            to.push((target, place));
        }
        let to = to.into_iter().map(|(target, _)| target).collect();
        Some(Rule { pattern: pattern?, when: when.flatten_missing()?, to })
    }

    fn when(&mut self, raw: raw::When) -> Option<When> {
        let pointer = self.read(&raw.pointer, pointer);
        if raw.values.is_empty() {
            self.mistake(Some(&raw.pointer), "`in` is empty: the route could never match");
        }
        let mut values = Vec::new();
        for scalar in raw.values {
            values.push(match scalar.value {
                serde_json::Value::String(text) => {
                    serde_json::Value::String(self.text(&Leaf { text, place: scalar.place })?)
                }
                serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
                    self.report.mistake(&scalar.place, "expected a text, a number, true, false or null");
                    continue;
                }
                other => other,
            });
        }
        Some(When { pointer: pointer?, values })
    }

    fn target(
        &mut self,
        raw: Or<raw::To>,
        pattern: Option<&Pattern>,
        sources: &[Source],
        all: &[Known],
    ) -> Option<(To, Place)> {
        let (name, topic, key, place) = match raw {
            Or::Name(name) => (name.clone(), None, None, name.place),
            Or::More(to, place) => (to.destination, to.topic, to.key, place),
        };
        let key = key.map(|key| self.parsed(&key, Template::parse)).flatten_missing();
        let template = match &topic {
            Some(topic) => self.parsed(topic, Template::parse),
            None => Template::parse("{event}").ok(),
        };
        let known = self.known(&name, all)?;
        let kind = known.settings.as_ref()?.url.kind();
        let (template, key) = (template?, key?);
        let at = topic.as_ref().map_or(&place, |topic| &topic.place).clone();
        self.names(&template, kind, &at, pattern, sources)?;
        Some((To { destination: known.name, kind, topic: template, key }, place))
    }

    /// Every name that a template can make for the events that its route can match.
    fn names(
        &mut self,
        template: &Template,
        kind: Kind,
        at: &Place,
        pattern: Option<&Pattern>,
        sources: &[Source],
    ) -> Option<()> {
        if template.varies() && matches!(kind, Kind::Kafka | Kind::File) {
            let what = if kind == Kind::Kafka { "topics of Kafka" } else { "files" };
            let message = format!(
                "{{subject}} and {{partition:N}} would make {what} without end: use them in keys, NATS subjects and routing keys"
            );
            self.report.mistake(at, message);
            return None;
        }
        let events: u64 = sources.iter().map(|source| source.events.len() as u64).sum();
        if template.width().saturating_mul(events.max(1)) > MOST_NAMES {
            self.report.mistake(at, format!("it makes more than {MOST_NAMES} names"));
            return None;
        }
        for source in sources {
            let matching: Vec<String> = source
                .events
                .iter()
                .filter(|event| pattern.is_none_or(|pattern| pattern.matches(event)))
                .cloned()
                .collect();
            let names = template.names(&source.name, &source.type_prefix, &matching, "x");
            let wrong = names.iter().find_map(|name| naming::check(kind, name).err().map(|rule| (name, rule)));
            if let Some((name, rule)) = wrong {
                let message = format!("the name {} is not legal on {}: {rule}", self.topic_shown(name), kind.word());
                self.report.mistake(at, message);
                return None;
            }
        }
        Some(())
    }

    fn unrouted(&mut self, raw: Option<Or<raw::Unrouted>>, first: &Known, all: &[Known]) -> (Unrouted, Known, Place) {
        let topic = |topic: String| Unrouted::Topic(topic.into());
        let usual = || topic(UNROUTED.into());
        match raw {
            None => (usual(), first.clone(), Place::Nowhere),
            Some(Or::Name(leaf)) => {
                let unrouted = match self.parsed(&leaf, plain_topic) {
                    Some(text) if text == "ignore" => Unrouted::Ignore,
                    Some(text) if text == "dead-letter" => Unrouted::DeadLetter,
                    Some(text) => {
                        let near = hint(&text, ["ignore", "dead-letter"]);
                        if !near.is_empty() {
                            self.report.warning(&leaf.place, format!("{} is a topic{near}", shown(&leaf.text)));
                        }
                        topic(text)
                    }
                    None => usual(),
                };
                (unrouted, first.clone(), leaf.place)
            }
            Some(Or::More(more, place)) => {
                let known = self.known(&more.destination, all).unwrap_or_else(|| first.clone());
                let text = more.topic.as_ref().and_then(|leaf| self.parsed(leaf, plain_topic));
                let place = more.topic.map_or(place, |leaf| leaf.place);
                (text.map_or_else(usual, topic), known, place)
            }
        }
    }

    /// The unrouted topic wherever it can be needed, and names that cannot exist side by side.
    fn all_names(&mut self, routes: &Routes, sources: &[Source], all: &[Known], unrouted: &Place) {
        for known in all {
            let Some(destination) = &known.settings else { continue };
            let kind = destination.url.kind();
            if let Some(topic) = topics::unrouted(routes, &destination.name) {
                let topic_shown = self.topic_shown(topic);
                let wrong = naming::check(kind, topic).map_err(|rule| {
                    format!("the name {topic_shown} is not legal on `{}` ({}): {rule}", known.name, kind.word())
                });
                self.report.ok(unrouted, wrong);
            }
            let names = topics::of(routes, sources, &destination.name, "x");
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            for (one, other) in naming::collisions(kind, &names) {
                let (one, other) = (self.topic_shown(one), self.topic_shown(other));
                let message = format!("the topics {one} and {other} cannot exist side by side on {}", kind.word());
                self.report.mistake(&known.place, message);
            }
            let used = topics::uses(routes, &destination.name);
            if !used {
                self.report.warning(&known.place, format!("no route leads to the destination `{}`", known.name));
            }
        }
    }
}

/// What stands for `routes` with a single destination.
fn everything(destination: &DestinationSettings) -> Option<Rule> {
    let to = To {
        destination: Arc::clone(&destination.name),
        kind: destination.url.kind(),
        topic: Template::parse("{event}").ok()?,
        key: None,
    };
    Some(Rule { pattern: Pattern::parse("**").ok()?, when: None, to: vec![to] })
}

pub(in super::super) fn takes_everything(rule: &Rule) -> bool {
    rule.when.is_none() && rule.pattern.is_everything()
}

fn plain_topic(text: &str) -> Result<String, String> {
    match text {
        "" => Err("expected a topic, `ignore` or `dead-letter`".into()),
        _ if text.contains(['{', '}']) => Err("the topic for unrouted events is a plain name, without {…}".into()),
        _ => Ok(text.into()),
    }
}

/// The form of a JSON pointer (RFC 6901).
pub(super) fn pointer(text: &str) -> Result<String, String> {
    let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if text.starts_with('/') && escapes {
        return Ok(text.into());
    }
    Err("expected a JSON pointer: it begins with `/`, and `~` is written ~0, `/` inside a name ~1".into())
}

/// A setting that may be absent, but must be right where it is given.
trait FlattenMissing<T> {
    fn flatten_missing(self) -> Option<Option<T>>;
}

impl<T> FlattenMissing<T> for Option<Option<T>> {
    fn flatten_missing(self) -> Option<Option<T>> {
        match self {
            None => Some(None),
            Some(None) => None,
            Some(given) => Some(given),
        }
    }
}
