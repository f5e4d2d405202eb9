//! Normalizing: a verified delivery becomes a CloudEvent whose data is the bytes that were signed.
//!
//! One pass over the body, without building a tree, finds the event's name, its time, the resource it is about and the
//! earliest expiry of a signed URL. Everything else is ignored.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::delivery::Delivery;
use crate::event::{Event, Signed};
use crate::reason::{Failure, Reason};
use crate::source::{Fields, Source};
use scan::{Scalar, Scanned};

mod repair;
mod scan;

/// Longest event name in bytes, so that the prefixed type fits AMQP's short string (255 bytes).
const LONGEST_NAME: usize = 160;
/// Longest subject and partition key in bytes.
const LONGEST_SUBJECT: usize = 1024;

/// Turns a verified delivery into an event.
///
/// # Errors
/// The body can never be used: the delivery becomes a dead letter.
pub fn normalize(source: &Source, delivery: &Delivery) -> Result<Event, Failure> {
    let text = std::str::from_utf8(&delivery.body).map_err(|_| Failure::from(Reason::NotUtf8))?;
    let wanted = source.fields.all();
    let Scanned { mut values, expiry } = scan::scan(text, &wanted)?;
    let mut take = |index: usize| values.get_mut(index).and_then(Option::take);
    let name = match take(0) {
        Some(Scalar::Text(name)) if is_name(&name) => name,
        _ => return Err(no_event_name(source, text)),
    };
    let received = || instant(SignedDuration::from_secs(delivery.timestamp)).unwrap_or(Timestamp::UNIX_EPOCH);
    let time = take(1).and_then(|time| time_of(&time)).unwrap_or_else(received);
    let subject = (2..wanted.len()).find_map(|index| match take(index) {
        Some(Scalar::Text(text)) if is_attribute(&text) => Some(text),
        Some(Scalar::Integer(number)) => Some(number.to_string()),
        _ => None,
    });
    Ok(Event {
        id: delivery.key.id.clone(),
        source_name: source.name.clone(),
        source: source.uri.clone(),
        known: source.events.contains(&name),
        kind: format!("{}{name}", source.type_prefix),
        name,
        partitionkey: subject.clone(),
        subject,
        time: time.to_string(),
        traceparent: delivery.traceparent.clone(),
        tracestate: delivery.tracestate.clone(),
        urlexpiry: expiry
            .and_then(SignedDuration::try_from_secs_f64_checked)
            .and_then(instant)
            .map(|time| time.to_string()),
        attributes: Arc::clone(&source.attributes),
        signed: Signed { timestamp: delivery.timestamp.to_string(), signature: delivery.signature.clone() },
        data: delivery.body.clone(),
    })
}

/// Says where the name was expected, and which setting fits if it is where another payload has it.
fn no_event_name(source: &Source, text: &str) -> Failure {
    let payloads = [("videogen", Fields::videogen().event), ("standard", Fields::standard().event)];
    let others = payloads.iter().filter(|(_, field)| *field != source.fields.event);
    let is_there = |field: &str| {
        let values = scan::scan(text, &[field]).map(|scanned| scanned.values).unwrap_or_default();
        matches!(values.first(), Some(Some(Scalar::Text(name))) if is_name(name))
    };
    let fitting = others.into_iter().find(|(_, field)| is_there(field));
    let advice = match fitting {
        Some((payload, field)) => format!("it has one at `{field}`: set `payload: {payload}`"),
        None => "set `payload` (videogen or standard) or `fields: {event: …}`".to_owned(),
    };
    let (about, expected, name) = (Reason::NoEventName.about(), &source.fields.event, &source.name);
    Failure::new(Reason::NoEventName, format!("{about} at `{expected}`; {advice} for the source `{name}`"))
}

/// The scalars at JSON pointers (RFC 6901) in an event's data, for conditions. They are read as leniently as [`normalize`]
/// reads the body. `None`: no value, or an array or object.
pub fn look_up(event: &Event, pointers: &[&str]) -> Vec<Option<Value>> {
    let scanned = std::str::from_utf8(&event.data).ok().and_then(|text| scan::scan(text, pointers).ok());
    let values = scanned.map_or_else(|| vec![None; pointers.len()], |scanned| scanned.values);
    values.into_iter().map(|value| value.map(Value::from)).collect()
}

impl From<Scalar> for Value {
    fn from(scalar: Scalar) -> Value {
        match scalar {
            Scalar::Text(text) => text.into(),
            Scalar::Integer(number) => number.into(),
            Scalar::Float(number) => number.into(),
            Scalar::Bool(value) => value.into(),
            Scalar::Null => Value::Null,
        }
    }
}

/// Whether a name can be an attribute value. It need not be one that topology exists for.
fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= LONGEST_NAME && !name.chars().any(char::is_control)
}

/// CloudEvents strings hold no control characters (specification 1.0, type system).
fn is_attribute(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_SUBJECT && !text.chars().any(char::is_control)
}

fn time_of(value: &Scalar) -> Option<Timestamp> {
    match value {
        Scalar::Text(text) => text.parse().ok().filter(is_rfc3339),
        Scalar::Integer(seconds) => instant(SignedDuration::from_secs(*seconds)),
        Scalar::Float(seconds) => SignedDuration::try_from_secs_f64_checked(*seconds).and_then(instant),
        Scalar::Bool(_) | Scalar::Null => None,
    }
}

fn instant(since_epoch: SignedDuration) -> Option<Timestamp> {
    Timestamp::from_duration(since_epoch).ok().filter(is_rfc3339)
}

/// RFC 3339 writes years with four digits and no sign.
fn is_rfc3339(time: &Timestamp) -> bool {
    const YEAR_0: i64 = -62_167_219_200;
    time.as_second() >= YEAR_0
}

trait TrySeconds: Sized {
    fn try_from_secs_f64_checked(seconds: f64) -> Option<Self>;
}

impl TrySeconds for SignedDuration {
    /// Rounds to milliseconds: a float of today's seconds is not exact below that.
    fn try_from_secs_f64_checked(seconds: f64) -> Option<Self> {
        let within = seconds.is_finite() && seconds.abs() < 1e12;
        within.then(|| SignedDuration::from_millis((seconds * 1000.0).round() as i64))
    }
}

#[cfg(test)]
mod tests;
