//! A delivery on its way to its targets: what log lines and dead letters say of it.

use std::time::Duration;

use crate::dead_letter::DeadLetter;
use crate::delivery::Delivery;
use crate::protocol::{End, Target};
use crate::reason::Failure;

/// A delivery and its event's name.
pub struct Delivered {
    /// The delivery.
    pub delivery: Delivery,
    /// The event's name; `None` if the delivery cannot be normalized.
    pub event: Option<String>,
}

impl Delivered {
    /// Its dead letter.
    pub fn letter(&self, failure: Failure) -> DeadLetter {
        DeadLetter { delivery: self.delivery.clone(), event: self.event.clone(), failure }
    }

    /// Logs how it ended at a target, with the time since its publish began.
    pub fn log_end(&self, end: End, target: &Target, took: Duration) {
        tracing::debug!(
            webhook_id = %self.delivery.key.id, request_id = self.delivery.request_id(),
            source = %self.delivery.key.source, event = self.event, destination = target.destination.as_deref(),
            topic = target.topic.as_deref(), milliseconds = took.as_secs_f64() * 1e3, end = end.word(), "ended"
        );
    }

    /// Logs that a target can never take it.
    pub fn log_dead(&self, target: &Target, failure: &Failure, suppressed: u64) {
        tracing::warn!(
            webhook_id = %self.delivery.key.id, request_id = self.delivery.request_id(),
            source = %self.delivery.key.source, event = self.event, destination = target.destination.as_deref(),
            topic = target.topic.as_deref(), reason = %failure.reason, detail = %failure.detail, suppressed,
            "dead letter"
        );
    }

    /// Logs that a target did not confirm.
    pub fn log_unconfirmed(&self, target: &Target, outcome: &str, failure: &Failure, suppressed: u64) {
        tracing::warn!(
            webhook_id = %self.delivery.key.id, request_id = self.delivery.request_id(),
            source = %self.delivery.key.source, event = self.event, destination = target.destination.as_deref(),
            topic = target.topic.as_deref(), outcome, reason = %failure.reason, detail = %failure.detail, suppressed,
            "not confirmed"
        );
    }
}
