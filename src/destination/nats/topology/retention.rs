//! Whether a stream keeps what it confirms.

use serde_json::Value;

use crate::reason::{Failure, Reason};

/// What a stream does with a message that it confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::destination::nats) enum Retention {
    /// It keeps the message, within its limits or until the message is consumed.
    Keeps,
    /// It keeps the message only for the consumers that exist, and there are some. The server does not report when the
    /// last one is deleted.
    KeepsForConsumers,
    /// It throws every message away.
    Discards(Failure),
}

impl Retention {
    /// The retention of a stream, from its description.
    pub(super) fn of(name: &str, stream: &Value) -> Retention {
        if stream["config"]["retention"] != "interest" {
            return Retention::Keeps;
        }
        if stream["state"]["consumer_count"].as_u64().unwrap_or(0) > 0 {
            return Retention::KeepsForConsumers;
        }
        let why = format!(
            "stream {name} has retention interest and no consumer: it confirms events and throws them away. Add a \
             consumer, or set retention limits"
        );
        Retention::Discards(Failure::new(Reason::Topology, why))
    }

    /// Why nothing may be published to the stream.
    pub(in crate::destination::nats) fn discards(&self) -> Option<Failure> {
        match self {
            Retention::Discards(failure) => Some(failure.clone()),
            Retention::Keeps | Retention::KeepsForConsumers => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn interest_without_a_consumer_discards() {
        let of = |retention, consumers: Option<u64>| {
            let state = consumers.map_or(json!({}), |count| json!({ "consumer_count": count }));
            Retention::of("E", &json!({ "config": { "retention": retention }, "state": state }))
        };
        for consumers in [None, Some(0), Some(1)] {
            assert_eq!(of("limits", consumers), Retention::Keeps);
            assert_eq!(of("workqueue", consumers), Retention::Keeps);
        }
        assert_eq!(of("interest", Some(1)), Retention::KeepsForConsumers);
        for consumers in [None, Some(0)] {
            assert!(matches!(of("interest", consumers), Retention::Discards(_)));
        }
    }
}
