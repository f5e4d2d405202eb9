//! What a queue that differs from the wanted one throws away, from the broker's text about the difference:
//! `inequivalent arg 'x-overflow' for queue 'q' in vhost '/': received … but current is the value 'drop-head' of …`.
//!
//! AMQP cannot show the arguments of a queue, and the broker names only the first difference.

/// What the queue throws away, as far as the text says.
pub(super) fn consequence(text: &str) -> &'static str {
    let argument = text.split_once("inequivalent arg '").and_then(|(_, rest)| rest.split('\'').next());
    let current = text.rsplit_once("current is ").map_or("", |(_, current)| current);
    match argument {
        Some("x-overflow") if current.contains("reject-publish") => "",
        Some("x-overflow") => "a full queue throws away its oldest events, which were confirmed",
        Some("x-max-length" | "x-max-length-bytes") if current.starts_with("none") => {
            "it has no such limit, and the disk may fill up"
        }
        Some("x-max-length" | "x-max-length-bytes") => {
            "beyond that, it throws away its oldest events, which were confirmed, unless its x-overflow is reject-publish"
        }
        Some("x-message-ttl") => "events that are older are thrown away, consumed or not",
        Some("x-queue-type") if current.contains("stream") => "a stream throws away its oldest events by size or age",
        Some("x-queue-type") => {
            "events are on one broker only, and a length limit throws away the oldest, unless x-overflow is \
             reject-publish"
        }
        _ => {
            "the broker names only the first difference; if the queue has a length limit without x-overflow \
             reject-publish, it throws away its oldest events"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_argument_has_its_consequence() {
        for (argument, current, expected) in [
            ("x-overflow", "the value 'drop-head' of type 'longstr'", "a full queue throws away"),
            ("x-overflow", "none", "a full queue throws away"),
            ("x-overflow", "the value 'reject-publish-dlx' of type 'longstr'", ""),
            ("x-max-length", "the value '5' of type 'signedint'", "beyond that, it throws away"),
            ("x-max-length-bytes", "the value '5' of type 'signedint'", "beyond that, it throws away"),
            ("x-max-length-bytes", "none", "it has no such limit"),
            ("x-message-ttl", "the value '5' of type 'signedint'", "events that are older"),
            ("x-queue-type", "'classic'", "events are on one broker"),
            ("x-queue-type", "'stream'", "a stream throws away"),
            ("x-dead-letter-exchange", "none", "the broker names only the first difference"),
        ] {
            let text = format!(
                "queue q: PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'q' in vhost '/': received the \
                 value 'x' of type 'longstr' but current is {current}"
            );
            let found = consequence(&text);
            assert!(found.starts_with(expected) && found.is_empty() == expected.is_empty(), "{text}: {found}");
        }
        assert!(consequence("inequivalent arg 'durable'").starts_with("the broker names only the first"));
    }
}
