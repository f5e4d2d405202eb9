//! Where every known event of a source goes. `check` prints it as a table, and `schema asyncapi` as channels; both use the
//! router of `serve`.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use crate::delivery::{Delivery, DeliveryKey};
use crate::event::Event;
use crate::normalize::normalize;
use crate::reason::Failure;
use crate::route::{Plan, Routes, When};
use crate::samples::sample_of;
use crate::source::Source;

/// In the place of an event's name: every name that the source does not list.
pub const OTHER_NAMES: &str = "any other name";

/// Where one event goes. A later one of the same event counts if no condition of an earlier one holds.
pub struct Row<'a> {
    /// The event's name, or [`OTHER_NAMES`].
    pub event: &'a str,
    /// The condition on the data.
    pub when: Option<&'a When>,
    /// Whether an earlier row of the event has a condition.
    pub otherwise: bool,
    /// Where it goes, with `{subject}` and `{partition:N}` left in the names of topics. A failure: a dead letter.
    pub plan: Result<Plan, Failure>,
}

/// The rows of a source: each of its events in order, then [`OTHER_NAMES`].
pub fn rows<'a>(routes: &'a Routes, source: &'a Source) -> Vec<Row<'a>> {
    let now = jiff::Timestamp::now().as_second();
    let mut rows = Vec::new();
    for name in source.events.iter().map(String::as_str).chain([OTHER_NAMES]) {
        let event = match event_of(source, sample_of(source, name, 1, now).body) {
            Ok(event) => event,
            Err(failure) => {
                rows.push(Row { event: name, when: None, otherwise: false, plan: Err(failure) });
                continue;
            }
        };
        let mut otherwise = false;
        let mut row = |rule: Option<usize>, when| {
            rows.push(Row { event: name, when, otherwise, plan: Ok(routes.outline(rule, &event)) });
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

/// The event that a source's delivery with this body would become now.
///
/// # Errors
/// It would become a dead letter.
pub fn event_of(source: &Source, body: impl Into<Bytes>) -> Result<Arc<Event>, Failure> {
    let delivery = Delivery {
        key: DeliveryKey { source: Arc::clone(&source.name), id: "msg_dry_run".into() },
        timestamp: jiff::Timestamp::now().as_second(),
        signature: String::new(),
        traceparent: None,
        tracestate: None,
        headers: HeaderMap::new(),
        body: body.into(),
    };
    normalize(source, &delivery).map(Arc::new)
}
