//! `check --event` and `check --body`: what would become of one delivery, and why. Normalizer and router are those of
//! `serve`.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::cli::output::line;
use crate::config::Settings;
use crate::destination::cloudevents::structured;
use crate::event::Event;
use crate::overview::event_of;
use crate::route::{Plan, Planned, Routes, Rule, Unrouted};
use crate::source::Source;
use crate::urls::shortened;

/// Prints what would become of a delivery with this body. Returns whether nothing of it would be a dead letter.
pub(super) fn print(settings: &Settings, source: &Source, body: Vec<u8>, as_json: bool) -> anyhow::Result<bool> {
    let event = match event_of(source, body) {
        Ok(event) => event,
        Err(failure) => {
            match as_json {
                true => line(json!({"outcome": "dead-lettered", "targets": [], "why": [failure.to_string()]}))?,
                false => line(format_args!("dead letter: {failure}"))?,
            }
            return Ok(false);
        }
    };
    let routes = &settings.routes;
    let rule = routes.rule_for(&event);
    let plan = routes.plan_by(rule, &event);
    let targets: &[Planned] = if let Plan::To(targets) = &plan { targets } else { &[] };
    let outcome = match &plan {
        Plan::Ignore => "ignored",
        Plan::DeadLetter(_) => "dead-lettered",
        Plan::To(_) if targets.iter().any(|target| target.message.is_err()) => "dead-lettered",
        Plan::To(_) => "accepted",
    };
    let why = reasons(routes, rule, &event);
    let cloud_event = shortened(&String::from_utf8_lossy(&structured(&event)));
    if as_json {
        let event: Value = serde_json::from_str(&cloud_event).unwrap_or(Value::String(cloud_event));
        let targets: Vec<Value> = targets.iter().map(target_as_json).collect();
        line(json!({"event": event, "outcome": outcome, "targets": targets, "why": why}))?;
    } else {
        line(cloud_event)?;
        line(format_args!("\noutcome: {outcome}"))?;
        targets.iter().try_for_each(|target| line(format_args!("  → {}", describe(target))))?;
        why.iter().try_for_each(|why| line(format_args!("  {why}")))?;
    }
    Ok(outcome != "dead-lettered")
}

/// Why the event goes there, in order.
fn reasons(routes: &Routes, chosen: Option<usize>, event: &Arc<Event>) -> Vec<String> {
    let mut why = Vec::new();
    for (index, rule) in routes.candidates(event) {
        let name = name(index, rule);
        if Some(index) != chosen {
            why.push(format!("{name} does not hold"));
            continue;
        }
        why.push(format!("{name} is the first that matches"));
        let unknown = rule.to.iter().any(|to| to.topic.names_event()) && !event.known;
        if unknown {
            let outcome = unrouted(routes);
            why.push(format!(
                "{} is none of the source's `events`, for which topics exist, so {outcome}",
                shown(&event.name)
            ));
        }
        break;
    }
    if chosen.is_none() {
        why.push(format!("no route takes {}, so {}", shown(&event.name), unrouted(routes)));
    }
    why
}

fn name(index: usize, rule: &Rule) -> String {
    let when = rule.when.as_ref().map_or_else(String::new, |when| format!(" when {when}"));
    format!("route {} (`{}`{when})", index + 1, rule.pattern)
}

/// A text of the body, on one line.
fn shown(text: &str) -> String {
    format!("`{}`", text.escape_debug())
}

fn unrouted(routes: &Routes) -> String {
    match &routes.unrouted {
        Unrouted::Topic(topic) => format!("it goes to `{topic}` (`unrouted`)"),
        Unrouted::Ignore => "it is ignored (`unrouted`)".into(),
        Unrouted::DeadLetter => "it becomes a dead letter (`unrouted`)".into(),
    }
}

fn describe(planned: &Planned) -> String {
    let destination = planned.target.destination.as_deref().unwrap_or_default();
    match &planned.message {
        Ok(message) => {
            let key = message.key().map_or_else(String::new, |key| format!(", key {}", shown(key)));
            let optional = if planned.required { "" } else { ", optional" };
            format!("{destination}: {}{key}{optional}", message.topic)
        }
        Err(failure) => format!("{destination}: dead letter: {failure}"),
    }
}

fn target_as_json(planned: &Planned) -> Value {
    let destination = planned.target.destination.as_deref();
    match &planned.message {
        Ok(message) => {
            let mut target = json!({"destination": destination, "topic": &*message.topic, "key": message.key()});
            if !planned.required {
                target["required"] = false.into();
            }
            target
        }
        Err(failure) => json!({"destination": destination, "dead": failure.to_string()}),
    }
}
