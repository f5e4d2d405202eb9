//! Checks routes, and every name that they can yield against the rules of its broker.

use std::sync::Arc;

use super::checker::{Checker, json_pointer};
use super::destination::NamedDestination;
use crate::config::mistake::{Place, hint, quoted, quoted_name};
use crate::config::raw::{Leaf, NameOr, OneOrMany, RawRoute, RawTo, RawUnrouted, RawWhen};
use crate::config::topics;
use crate::destination::settings::DestinationSettings;
use crate::naming::{self, Kind};
use crate::route::{Pattern, Routes, Rule, To, Unrouted, When};
use crate::source::Source;
use crate::template::Template;

/// Most names that one template may yield. Topology is created for each of them.
const MOST_NAMES: u64 = 10_000;
/// The default topic for unrouted events.
const UNROUTED: &str = "unrouted";

impl Checker<'_, '_> {
    pub(super) fn routes(
        &mut self,
        raw: Option<Vec<RawRoute>>,
        unrouted: Option<NameOr<RawUnrouted>>,
        sources: &[Source],
        all: &[NamedDestination],
    ) -> Option<Routes> {
        let Some(first) = all.first() else {
            let message =
                "no destination is configured: give --to, HOOKBRIDGE_TO, or `destinations` in the file (--config)";
            self.report.mistake(&Place::Nowhere, message);
            return None;
        };
        let raw = raw.unwrap_or_default();
        if raw.is_empty() && all.len() > 1 {
            let names: Vec<_> = all.iter().map(|named| format!("`{}`", named.name)).collect();
            let message =
                format!("several destinations ({}) need `routes`, which say which event goes where", names.join(", "));
            self.report.mistake(&all[1].place, message);
        }
        let mut rules = Vec::new();
        if raw.is_empty() {
            rules.extend(first.settings.as_ref().and_then(everything));
        }
        let mut places = Vec::new();
        for route in raw {
            let place = route.pattern.place.clone();
            if let Some(rule) = self.rule(route, sources, all) {
                rules.push(rule);
                places.push(place);
            }
        }
        let only_fallback = matches!(unrouted, Some(NameOr::Mapping(..)));
        let (unrouted, fallback, place) = self.unrouted(unrouted, first, all);
        let kind = fallback.settings.as_ref().map(|destination| destination.url.kind());
        let routes = Routes { rules, unrouted, fallback: (fallback.name.clone(), kind?), only_fallback };
        self.coverage(&routes, &places, sources);
        self.all_names(&routes, sources, all, &place);
        Some(routes)
    }

    fn rule(&mut self, raw: RawRoute, sources: &[Source], all: &[NamedDestination]) -> Option<Rule> {
        let pattern = self.pattern(&raw.pattern, Pattern::parse);
        let from = raw.source.map(|names| self.find_sources(&names, sources).ok_or(())).transpose();
        let only = from.as_ref().ok().and_then(Option::as_ref);
        let sources: Vec<&Source> =
            sources.iter().filter(|source| only.is_none_or(|only| only.contains(&source.name))).collect();
        if let Some(pattern) = &pattern {
            let known: Vec<&str> = sources.iter().flat_map(|source| &source.events).map(String::as_str).collect();
            if !known.is_empty() && !known.iter().any(|event| pattern.matches(event)) && !pattern.is_everything() {
                let heads = known.iter().filter_map(|event| event.split('.').next());
                let head = raw.pattern.text.split('.').next().unwrap_or_default();
                let nearest = if known.iter().any(|event| event.split('.').next() == Some(head)) {
                    hint(&raw.pattern.text, known.iter().copied())
                } else {
                    hint(head, heads)
                };
                let message = format!("{} matches no known event{nearest}", quoted(&raw.pattern.text));
                self.report.warning(&raw.pattern.place, message);
            }
        }
        let when = raw.when.map(|when| self.when(when).ok_or(())).transpose();
        let mut to: Vec<(To, Place)> = Vec::new();
        for raw in raw.to.0 {
            let Some((target, place)) = self.target(raw, pattern.as_ref(), &sources, all) else { continue };
            let same =
                to.iter().find(|(other, _)| other.destination == target.destination && other.topic == target.topic);
            match same {
                Some((other, _)) if other.key != target.key => {
                    self.report
                        .mistake(&place, "the route has the same destination and topic twice, with different keys");
                }
                Some((other, _)) if other.required != target.required => {
                    self.report
                        .mistake(&place, "the route has the same destination and topic twice, required and optional");
                }
                Some(_) => self.report.warning(&place, "the route has the same destination and topic twice"),
                None => {}
            }
            to.push((target, place));
        }
        let to: Vec<To> = to.into_iter().map(|(target, _)| target).collect();
        if !to.is_empty() && to.iter().all(|to| !to.required) {
            let message = "every target of this route is optional: in an outage of all of them, its events are answered 200 \
                           and are only in the dead letters";
            self.report.warning(&raw.pattern.place, message);
        }
        Some(Rule { sources: from.ok()?, pattern: pattern?, when: when.ok()?, to })
    }

    /// The sources that a route names.
    fn find_sources(&mut self, raw: &OneOrMany, sources: &[Source]) -> Option<Vec<Arc<str>>> {
        if raw.all.is_empty() {
            self.report.mistake(&raw.place, "`source` is empty, so the route never matches");
        }
        let mut found = Vec::new();
        for leaf in &raw.all {
            let name = self.text(leaf)?;
            match sources.iter().find(|source| *source.name == *name) {
                Some(source) => found.push(Arc::clone(&source.name)),
                None => {
                    let unknown = quoted_name(&leaf.text).map_or_else(String::new, |name| format!(" {name}"));
                    let names: Vec<_> = sources.iter().map(|source| format!("`{}`", source.name)).collect();
                    let nearest = hint(&name, sources.iter().map(|source| &*source.name));
                    let message = format!("unknown source{unknown}: expected {}{nearest}", names.join(" or "));
                    self.mistake(Some(leaf), message);
                }
            }
        }
        (!found.is_empty() && found.len() == raw.all.len()).then_some(found)
    }

    fn when(&mut self, raw: RawWhen) -> Option<When> {
        let pointer = self.read(&raw.pointer, json_pointer);
        if raw.values.is_empty() {
            self.mistake(Some(&raw.pointer), "`in` is empty, so the route never matches");
        }
        let mut values = Vec::new();
        for scalar in raw.values {
            values.push(match scalar.value {
                serde_json::Value::String(text) => {
                    serde_json::Value::String(self.text(&Leaf { text, place: scalar.place })?)
                }
                serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
                    self.report.mistake(&scalar.place, "expected a string, a number, true, false or null");
                    continue;
                }
                other => other,
            });
        }
        Some(When { pointer: pointer?, values })
    }

    fn target(
        &mut self,
        raw: NameOr<RawTo>,
        pattern: Option<&Pattern>,
        sources: &[&Source],
        all: &[NamedDestination],
    ) -> Option<(To, Place)> {
        let (name, topic, key, required, place) = match raw {
            NameOr::Name(name) => (name.clone(), None, None, None, name.place),
            NameOr::Mapping(to, place) => (to.destination, to.topic, to.key, to.required, place),
        };
        let required = self.choice(&required, &[("true", true), ("false", false)], true);
        let key = key.map(|key| self.pattern(&key, Template::parse).ok_or(())).transpose();
        let template = match &topic {
            Some(topic) => self.pattern(topic, Template::parse),
            None => Template::parse("{event}").ok(),
        };
        let named = self.find_destination(&name, all)?;
        let kind = named.settings.as_ref()?.url.kind();
        let (template, key) = (template?, key.ok()?);
        let at = topic.as_ref().map_or(&place, |topic| &topic.place).clone();
        self.names(&template, kind, &at, pattern, sources)?;
        Some((To { destination: named.name, kind, topic: template, key, required }, place))
    }

    /// Checks every name that a template can yield for the events that its route can match.
    fn names(
        &mut self,
        template: &Template,
        kind: Kind,
        at: &Place,
        pattern: Option<&Pattern>,
        sources: &[&Source],
    ) -> Option<()> {
        if template.varies() && matches!(kind, Kind::Kafka | Kind::File) {
            let what = if kind == Kind::Kafka { "Kafka topics" } else { "files" };
            let message = format!(
                "{{subject}} and {{partition:N}} are for keys, NATS subjects and routing keys: the number of {what} would be unbounded"
            );
            self.report.mistake(at, message);
            return None;
        }
        let events: u64 = sources.iter().map(|source| source.events.len() as u64).sum();
        if template.width().saturating_mul(events.max(1)) > MOST_NAMES {
            self.report.mistake(at, format!("it yields more than {MOST_NAMES} names"));
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
                let message = format!("the name {} is not legal on {}: {rule}", self.quoted_topic(name), kind.word());
                self.report.mistake(at, message);
                return None;
            }
        }
        Some(())
    }

    fn unrouted(
        &mut self,
        raw: Option<NameOr<RawUnrouted>>,
        first: &NamedDestination,
        all: &[NamedDestination],
    ) -> (Unrouted, NamedDestination, Place) {
        let topic = |topic: String| Unrouted::Topic(topic.into());
        let default = || topic(UNROUTED.into());
        match raw {
            None => (default(), first.clone(), Place::Nowhere),
            Some(NameOr::Name(leaf)) => {
                let unrouted = match self.pattern(&leaf, plain_topic) {
                    Some(text) if text == "ignore" => Unrouted::Ignore,
                    Some(text) if text == "dead-letter" => Unrouted::DeadLetter,
                    Some(text) => {
                        let nearest = hint(&text, ["ignore", "dead-letter"]);
                        if !nearest.is_empty() {
                            self.report.warning(&leaf.place, format!("{} is a topic{nearest}", quoted(&leaf.text)));
                        }
                        topic(text)
                    }
                    None => default(),
                };
                (unrouted, first.clone(), leaf.place)
            }
            Some(NameOr::Mapping(more, place)) => {
                let named = self.find_destination(&more.destination, all).unwrap_or_else(|| first.clone());
                let text = more.topic.as_ref().and_then(|leaf| self.pattern(leaf, plain_topic));
                let place = more.topic.map_or(place, |leaf| leaf.place);
                (text.map_or_else(default, topic), named, place)
            }
        }
    }

    /// Checks the topic for unrouted events at each destination that can need it, collisions of names, and whether any
    /// event can go to each destination.
    fn all_names(&mut self, routes: &Routes, sources: &[Source], all: &[NamedDestination], unrouted: &Place) {
        for named in all {
            let Some(destination) = &named.settings else { continue };
            let kind = destination.url.kind();
            if let Some(topic) = topics::unrouted_topic(routes, sources, &destination.name) {
                let quoted_topic = self.quoted_topic(topic);
                let wrong = naming::check(kind, topic).map_err(|rule| {
                    format!("the name {quoted_topic} is not legal on `{}` ({}): {rule}", named.name, kind.word())
                });
                self.report.ok(unrouted, wrong);
            }
            let names = topics::possible_topics(routes, sources, &destination.name, "x");
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            for (one, other) in naming::collisions(kind, &names) {
                let (one, other) = (self.quoted_topic(one), self.quoted_topic(other));
                let message = format!(
                    "the topics {one} and {other} collide on {}, which treats `.` and `_` as equal",
                    kind.word()
                );
                self.report.mistake(&named.place, message);
            }
            if !topics::is_used(routes, sources, &destination.name) {
                self.report.warning(&named.place, format!("no route leads to the destination `{}`", named.name));
            }
        }
    }
}

/// The rule for a single destination without `routes`.
fn everything(destination: &DestinationSettings) -> Option<Rule> {
    let to = To {
        destination: Arc::clone(&destination.name),
        kind: destination.url.kind(),
        topic: Template::parse("{event}").ok()?,
        key: None,
        required: true,
    };
    Some(Rule { sources: None, pattern: Pattern::parse("**").ok()?, when: None, to: vec![to] })
}

fn plain_topic(text: &str) -> Result<String, String> {
    match text {
        "" => Err("expected a topic, `ignore` or `dead-letter`".into()),
        _ if text.contains(['{', '}']) => Err("the topic for unrouted events is a plain name without {…}".into()),
        _ => Ok(text.into()),
    }
}
