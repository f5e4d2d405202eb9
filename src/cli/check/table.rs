//! The table that shows for every known event of a source where it goes.

use serde_json::{Value, json};

use super::inspected::event_of;
use crate::cli::output::line;
use crate::config::Settings;
use crate::route::{Plan, Planned, Routes, When};
use crate::samples::sample_of;
use crate::source::Source;

/// In the place of an event's name: every name that the source does not list.
const OTHER_NAMES: &str = "any other name";

/// Where one event goes. A later one of the same event counts if no condition of an earlier one holds.
struct Row<'a> {
    event: &'a str,
    when: Option<&'a When>,
    /// Whether an earlier row of the event has a condition.
    otherwise: bool,
    goes: String,
}

/// Prints the table of every source.
pub(super) fn print(settings: &Settings) -> anyhow::Result<()> {
    for source in &settings.sources {
        line(format_args!("\nsource {}: event → targets", source.name))?;
        let rows = rows(&settings.routes, source);
        let width = rows.iter().map(|row| row.event.chars().count()).max().unwrap_or_default();
        for row in rows {
            let Row { event, when, otherwise, goes } = row;
            let event = if otherwise { "" } else { event };
            let condition = match when {
                Some(when) => format!("  when {when}"),
                None if otherwise => "  otherwise".into(),
                None => String::new(),
            };
            line(format_args!("  {event:<width$} → {goes}{condition}"))?;
        }
    }
    Ok(())
}

/// The same for machines.
pub(super) fn as_json(settings: &Settings) -> Value {
    let source = |source: &Source| {
        let rows = rows(&settings.routes, source);
        let event = |row: &Row<'_>| {
            let mut event = json!({"event": row.event, "goes": row.goes});
            if let Some(when) = row.when {
                event["when"] = when.to_string().into();
            }
            event
        };
        json!({"name": &*source.name, "path": source.path, "events": rows.iter().map(event).collect::<Vec<_>>()})
    };
    settings.sources.iter().map(source).collect()
}

fn rows<'a>(routes: &'a Routes, source: &'a Source) -> Vec<Row<'a>> {
    let now = jiff::Timestamp::now().as_second();
    let mut rows = Vec::new();
    for name in source.events.iter().map(String::as_str).chain([OTHER_NAMES]) {
        let event = match event_of(source, sample_of(source, name, 1, now).body) {
            Ok(event) => event,
            Err(failure) => {
                rows.push(Row { event: name, when: None, otherwise: false, goes: format!("dead letter: {failure}") });
                continue;
            }
        };
        let mut otherwise = false;
        let mut row = |rule: Option<usize>, when| {
            let goes = describe(&routes.outline(rule, &event));
            rows.push(Row { event: name, when, otherwise, goes });
            otherwise = true;
        };
        let mut candidates = routes.candidates(&event);
        let unconditional = candidates.by_ref().find(|(index, rule)| match &rule.when {
            Some(when) => {
                row(Some(*index), Some(when));
                false
            }
            None => true,
        });
        row(unconditional.map(|(index, _)| index), None);
    }
    rows
}

fn describe(plan: &Plan) -> String {
    match plan {
        Plan::Ignore => "ignored".into(),
        Plan::DeadLetter(reason) => format!("dead letter: {reason}"),
        Plan::To(all) => {
            let target = |planned: &Planned| match &planned.message {
                Ok(message) => {
                    let destination = planned.target.destination.as_deref().unwrap_or_default();
                    format!("{destination}: {}", message.topic)
                }
                Err(failure) => format!("dead letter: {failure}"),
            };
            all.iter().map(target).collect::<Vec<_>>().join(", ")
        }
    }
}
