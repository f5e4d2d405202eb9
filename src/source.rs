//! A source: who sends webhooks, what they are signed with, and where in their bodies an event's name, time and subject are.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::signature::Key;

/// Where webhooks come from.
#[derive(Debug)]
pub struct Source {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Where it posts. Default `/webhooks/{name}`.
    pub path: String,
    /// CloudEvents `source`.
    pub uri: Arc<str>,
    /// Prefix of CloudEvents `type`, with its dot.
    pub type_prefix: String,
    /// Keys that deliveries may be signed with; at least one.
    pub keys: Vec<Key>,
    /// How far the timestamp may be from our clock, both ways. Default 300 s.
    pub tolerance: Duration,
    /// Whether `svix-*` headers may stand in for `webhook-*`.
    pub legacy_headers: bool,
    /// Names of events that topology is made for.
    pub events: Vec<String>,
    /// Where in the body the event's name, time and subject are.
    pub fields: Fields,
    /// Static attributes of its events.
    pub attributes: Arc<[(String, String)]>,
    /// Most requests in flight for this source alone; beyond it 429.
    pub in_flight: usize,
    /// Most requests a second for this source, in bursts of a second's worth; beyond it 429. Default: no limit.
    pub rate: Option<NonZeroU32>,
}

/// Where in a body the event's name, time and subject are: names of top-level members, or JSON pointers that begin
/// with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The event's name.
    pub event: String,
    /// When it happened: unix seconds (integer or float) or RFC 3339 text.
    pub time: String,
    /// The resource: the first that is present and not empty.
    pub subject: Vec<String>,
}

impl Fields {
    /// VideoGen's payloads.
    pub fn videogen() -> Self {
        let subject = ["toolExecutionId", "workflowRunId", "exportId", "messageId", "fileId"];
        Fields { event: "event".into(), time: "occurredAt".into(), subject: subject.map(str::to_owned).into() }
    }

    /// The payload that Standard Webhooks recommends (`type`, `timestamp`, `data`).
    pub fn standard() -> Self {
        Fields { event: "type".into(), time: "timestamp".into(), subject: vec!["/data/id".into()] }
    }

    /// Every name and pointer, in the order event, time, subject.
    pub fn all(&self) -> Vec<&str> {
        let mut all = vec![self.event.as_str(), self.time.as_str()];
        all.extend(self.subject.iter().map(String::as_str));
        all
    }
}

/// VideoGen's events, as of October 2026. The list has grown from 9; names outside it go to `unrouted`.
pub const VIDEOGEN_EVENTS: [&str; 18] = [
    "tool_execution.succeeded",
    "tool_execution.failed",
    "tool_execution.cancelled",
    "workflow_run.succeeded",
    "workflow_run.failed",
    "workflow_run.cancelled",
    "project_export.succeeded",
    "project_export.failed",
    "project_export.cancelled",
    "assistant_message.succeeded",
    "assistant_message.failed",
    "assistant_message.cancelled",
    "file.upload.completed",
    "file.upload.failed",
    "file.playback_ready",
    "file.download_ready",
    "file.analysis_completed",
    "file.analysis_failed",
];
