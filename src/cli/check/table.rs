//! The table that shows for every known event of a source where it goes.

use serde_json::{Value, json};

use crate::cli::output::line;
use crate::config::Settings;
use crate::overview::{Row, rows};
use crate::reason::Failure;
use crate::route::{Plan, Planned};
use crate::source::Source;

/// Prints the table of every source.
pub(super) fn print(settings: &Settings) -> anyhow::Result<()> {
    for source in &settings.sources {
        line(format_args!("\nsource {}: event → targets", source.name))?;
        let rows = rows(&settings.routes, source);
        let width = rows.iter().map(|row| row.event.chars().count()).max().unwrap_or_default();
        for row in rows {
            let Row { event, when, otherwise, plan } = row;
            let goes = describe(&plan);
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
            let mut event = json!({"event": row.event, "goes": describe(&row.plan)});
            if let Some(when) = row.when {
                event["when"] = when.to_string().into();
            }
            event
        };
        json!({"name": &*source.name, "path": source.path, "events": rows.iter().map(event).collect::<Vec<_>>()})
    };
    settings.sources.iter().map(source).collect()
}

fn describe(plan: &Result<Plan, Failure>) -> String {
    match plan {
        Err(failure) => format!("dead letter: {failure}"),
        Ok(Plan::Ignore) => "ignored".into(),
        Ok(Plan::DeadLetter(reason)) => format!("dead letter: {reason}"),
        Ok(Plan::To(all)) => {
            let target = |planned: &Planned| match &planned.message {
                Ok(message) => {
                    let destination = planned.target.destination.as_deref().unwrap_or_default();
                    let optional = if planned.required { "" } else { " (optional)" };
                    format!("{destination}: {}{optional}", message.topic)
                }
                Err(failure) => format!("dead letter: {failure}"),
            };
            all.iter().map(target).collect::<Vec<_>>().join(", ")
        }
    }
}
