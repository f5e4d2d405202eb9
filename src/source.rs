//! A source of webhooks: its path, its keys, and where in a body the event's name, time and subject are.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::signature::Key;

/// A sender of webhooks.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name in the configuration.
    pub name: Arc<str>,
    /// The path that it posts to. Default `/webhooks/{name}`.
    pub path: String,
    /// The CloudEvents `source`.
    pub uri: Arc<str>,
    /// The prefix of the CloudEvents `type`, including the dot.
    pub type_prefix: String,
    /// The keys that deliveries may be signed with; at least one.
    pub keys: Vec<Key>,
    /// How far the timestamp may be from this machine's clock, both ways. Default 300 s.
    pub tolerance: Duration,
    /// Whether `svix-*` headers are accepted where there are no `webhook-*` headers.
    pub legacy_headers: bool,
    /// The names of events that topology is created for.
    pub events: Vec<String>,
    /// Where in the body the event's name, time and subject are.
    pub fields: Fields,
    /// Static attributes that are added to each event.
    pub attributes: Arc<[(String, String)]>,
    /// Most verified deliveries of this source that are not answered yet; further ones are answered 429.
    pub in_flight: usize,
    /// Most verified deliveries per second of this source, with bursts of up to one second's worth; further ones are answered 429.
    /// Default: no limit.
    pub rate: Option<NonZeroU32>,
}

/// Where in a body the event's name, time and subject are: names of top-level members, or JSON pointers (RFC 6901), which
/// begin with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The event's name.
    pub event: String,
    /// The time of the event: unix seconds (integer or float) or RFC 3339 text.
    pub time: String,
    /// The id of the resource: the first of these that is present and not empty.
    pub subject: Vec<String>,
}

impl Fields {
    /// The fields of VideoGen's payloads.
    pub fn videogen() -> Self {
        let subject = ["toolExecutionId", "workflowRunId", "exportId", "messageId", "fileId"];
        Fields { event: "event".into(), time: "occurredAt".into(), subject: subject.map(str::to_owned).into() }
    }

    /// The fields of the payload that Standard Webhooks recommends (`type`, `timestamp`, `data`).
    pub fn standard() -> Self {
        Fields { event: "type".into(), time: "timestamp".into(), subject: vec!["/data/id".into()] }
    }

    /// Every name and pointer, in the order event, time, subjects.
    pub fn all(&self) -> Vec<&str> {
        let mut all = vec![self.event.as_str(), self.time.as_str()];
        all.extend(self.subject.iter().map(String::as_str));
        all
    }
}

/// The name of the source that exists by default, and that `--secret` belongs to.
pub const VIDEOGEN: &str = "videogen";

/// The names of VideoGen's events, as of October 2026. VideoGen adds events; names outside this list go to `unrouted`.
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
