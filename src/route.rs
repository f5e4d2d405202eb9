//! Routing: which targets an event goes to. Rules are an ordered list; the first match wins.

use std::cell::LazyCell;
use std::sync::Arc;

use crate::event::Event;
use crate::message::Message;
use crate::naming::Kind;
use crate::normalize;
use crate::protocol::Target;
use crate::reason::{Failure, Reason};
use crate::template::Template;

pub use pattern::Pattern;
pub use when::When;

mod pattern;
mod when;

/// The rules, and what happens to events that no rule matches.
#[derive(Clone, Debug)]
pub struct Routes {
    /// In order.
    pub rules: Vec<Rule>,
    /// What happens to events that no rule matches, and to names without topology.
    pub unrouted: Unrouted,
    /// The destination of [`Unrouted::Topic`] for events that no rule matches, and its kind.
    pub fallback: (Arc<str>, Kind),
    /// Whether names without topology go to the fallback too; otherwise they go to that topic of each target's destination.
    pub only_fallback: bool,
}

/// What happens to events that no rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unrouted {
    /// They are published to this topic.
    Topic(Arc<str>),
    /// They are acknowledged and counted.
    Ignore,
    /// They become dead letters.
    DeadLetter,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The sources whose events it takes; `None`: every source.
    pub sources: Option<Vec<Arc<str>>>,
    /// Matches the event's name.
    pub pattern: Pattern,
    /// Matches the data.
    pub when: Option<When>,
    /// The targets; empty: the event is acknowledged and ignored.
    pub to: Vec<To>,
}

impl Rule {
    /// Whether it is about events of a source.
    pub fn is_for(&self, source: &str) -> bool {
        self.sources.as_ref().is_none_or(|sources| sources.iter().any(|name| &**name == source))
    }

    /// Whether an event's source and name match.
    pub fn matches(&self, source: &str, event: &str) -> bool {
        self.is_for(source) && self.pattern.matches(event)
    }

    /// Whether it takes every event of a source, so that none reaches a later rule.
    pub fn takes_everything_of(&self, source: &str) -> bool {
        self.when.is_none() && self.pattern.is_everything() && self.is_for(source)
    }

    /// Whether it takes every event of a source that a later rule matches. `false` if in doubt.
    pub fn precludes(&self, later: &Rule, source: &str) -> bool {
        let condition = match (&self.when, &later.when) {
            (None, _) => true,
            (Some(when), Some(later)) => {
                when.pointer == later.pointer && later.values.iter().all(|value| when.holds(Some(value)))
            }
            (Some(_), None) => false,
        };
        condition && self.is_for(source) && self.pattern.covers(&later.pattern)
    }
}

/// One target of a rule.
#[derive(Clone, Debug)]
pub struct To {
    /// The destination's name.
    pub destination: Arc<str>,
    /// Its kind, for the naming rules.
    pub kind: Kind,
    /// The topic's name.
    pub topic: Template,
    /// The record key, if not the `partitionkey`.
    pub key: Option<Template>,
    /// Whether a delivery needs its confirm. Otherwise its outage does not turn into 503.
    pub required: bool,
}

/// Where an event goes.
#[derive(Debug)]
pub enum Plan {
    /// It is published to these targets.
    To(Vec<Planned>),
    /// It is acknowledged and published nowhere.
    Ignore,
    /// It becomes a dead letter.
    DeadLetter(Reason),
}

/// A target, and what is published to it; or why it can never be published.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What facts are about.
    pub target: Target,
    /// The message, or why there can be none.
    pub message: Result<Message, Failure>,
    /// Whether the delivery needs its confirm. What an optional target misses becomes a dead letter.
    pub required: bool,
}

impl Planned {
    /// An event for a topic of a destination; required.
    pub fn new(destination: &Arc<str>, topic: Arc<str>, key: Option<String>, event: &Arc<Event>) -> Self {
        let target = Target::new(Arc::clone(destination), Arc::clone(&topic));
        Planned { target, message: Ok(Message { event: Arc::clone(event), topic, key, gzip: None }), required: true }
    }

    /// A target that can never take the event.
    pub fn never(target: Target, failure: Failure) -> Self {
        Planned { target, message: Err(failure), required: true }
    }
}

impl Routes {
    /// Whether a rule publishes events of this name. Conditions are taken as met and as not met.
    pub fn publishes(&self, source: &str, event: &str) -> bool {
        for rule in self.rules.iter().filter(|rule| rule.matches(source, event)) {
            if !rule.to.is_empty() || rule.when.is_none() {
                return !rule.to.is_empty();
            }
        }
        false
    }

    /// Where an event goes.
    pub fn plan(&self, event: &Arc<Event>) -> Plan {
        self.plan_by(self.rule_for(event), event)
    }

    /// The rules whose sources and pattern match, in order, whatever their conditions.
    pub fn candidates<'a>(&'a self, event: &Event) -> impl Iterator<Item = (usize, &'a Rule)> {
        self.rules.iter().enumerate().filter(|(_, rule)| rule.matches(&event.source_name, &event.name))
    }

    /// The index of the first rule that matches, including its condition.
    pub fn rule_for(&self, event: &Event) -> Option<usize> {
        // Read once for all conditions, and only if there is one.
        let values = LazyCell::new(|| {
            let pointers: Vec<&str> =
                self.candidates(event).filter_map(|(_, rule)| Some(&*rule.when.as_ref()?.pointer)).collect();
            normalize::look_up(event, &pointers)
        });
        let mut conditions = 0_usize..;
        let mut candidates = self.candidates(event);
        let found = candidates.find(|(_, rule)| match &rule.when {
            None => true,
            Some(when) => when.holds(conditions.next().and_then(|index| values.get(index)?.as_ref())),
        });
        found.map(|(index, _)| index)
    }

    /// Where an event goes by the rule of this index, or without a rule.
    pub fn plan_by(&self, rule: Option<usize>, event: &Arc<Event>) -> Plan {
        self.plan_with(rule, event, |to| to.topic.topic(event, to.kind))
    }

    /// The same with `{subject}` and `{partition:N}` left in the names of topics: for a table of all events.
    pub fn outline(&self, rule: Option<usize>, event: &Arc<Event>) -> Plan {
        self.plan_with(rule, event, |to| Ok(to.topic.outline(event)))
    }

    fn plan_with(&self, rule: Option<usize>, event: &Arc<Event>, name: impl Fn(&To) -> Result<String, String>) -> Plan {
        let Some(rule) = rule.and_then(|index| self.rules.get(index)) else {
            return match &self.unrouted {
                Unrouted::Ignore => Plan::Ignore,
                Unrouted::DeadLetter => Plan::DeadLetter(Reason::Unrouted),
                Unrouted::Topic(topic) => {
                    Plan::To(vec![Planned::new(&self.fallback.0, Arc::clone(topic), None, event)])
                }
            };
        };
        let mut all: Vec<Planned> = Vec::with_capacity(rule.to.len());
        for to in &rule.to {
            let mut destination = &to.destination;
            let unknown = to.topic.names_event() && !event.known;
            let topic = match &self.unrouted {
                Unrouted::Ignore if unknown => continue,
                Unrouted::DeadLetter if unknown => Err(Reason::Unrouted.into()),
                Unrouted::Topic(topic) if unknown => {
                    destination = if self.only_fallback { &self.fallback.0 } else { destination };
                    Ok(Arc::clone(topic))
                }
                _ => match name(to) {
                    Ok(topic) => Ok(topic.into()),
                    Err(why) => Err(Failure::new(Reason::IllegalName, why)),
                },
            };
            let mut planned = match topic {
                Ok(topic) => Planned::new(destination, topic, to.key.as_ref().and_then(|key| key.key(event)), event),
                Err(failure) => Planned::never(Target::unnamed(Arc::clone(destination)), failure),
            };
            // The fallback takes what must not be lost.
            planned.required = to.required || (unknown && self.only_fallback);
            match all.iter_mut().find(|other| other.target == planned.target) {
                Some(same) => same.required |= planned.required,
                None => all.push(planned),
            }
        }
        let unrouted = |it: &Planned| it.message.as_ref().is_err_and(|failure| failure.reason == Reason::Unrouted);
        match all.is_empty() {
            true => Plan::Ignore,
            // One dead letter for the whole delivery, not one for each target.
            false if all.iter().all(unrouted) => Plan::DeadLetter(Reason::Unrouted),
            false => Plan::To(all),
        }
    }

    /// The message for a target that an earlier configuration planned. Record key, and whether it is required, are those of
    /// the first rule that leads to this topic, whatever the rule matches now; without one, it is required.
    pub fn planned_before(&self, event: &Arc<Event>, target: &Target, topic: &Arc<str>) -> Planned {
        let to = self.leading_to(event, target);
        let key = to.and_then(|to| to.key.as_ref()?.key(event));
        let message = Message { event: Arc::clone(event), topic: Arc::clone(topic), key, gzip: None };
        Planned { target: target.clone(), message: Ok(message), required: to.is_none_or(|to| to.required) }
    }

    fn leading_to(&self, event: &Event, target: &Target) -> Option<&To> {
        let leads_there = |to: &&To| {
            let topic = to.topic.topic(event, to.kind).ok();
            target.destination.as_ref() == Some(&to.destination)
                && topic.is_some()
                && topic.as_deref() == target.topic.as_deref()
        };
        self.rules.iter().flat_map(|rule| &rule.to).find(leads_there)
    }
}

#[cfg(test)]
mod tests;
