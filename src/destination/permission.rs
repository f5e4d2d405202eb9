//! Whether the user may publish to a topic: which name a broker is asked about, and the problem if it refuses. Pure.

use std::fmt::Display;

use crate::reason::{Failure, Reason};

/// Stands for a part that varies, which no permission is expected to list value by value.
const SAMPLE: &str = "sample";

/// The name to ask about: the topic, with a sample where a part varies (`*`).
pub(super) fn sample(topic: &str) -> String {
    topic.replace('*', SAMPLE)
}

/// The problem of a topic that the user may not publish to. `why` is the broker's text.
pub(super) fn denied(topic: &str, why: &dyn Display) -> Failure {
    Failure::new(Reason::NotAuthorized, format!("the user may not publish to `{topic}`: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_name_the_topic_and_not_the_sample() {
        assert_eq!((sample("a.b"), sample("a.*.p-*")), ("a.b".to_owned(), "a.sample.p-sample".to_owned()));
        let failure = denied("a.*", &"access refused");
        assert_eq!(failure.to_string(), "not_authorized: the user may not publish to `a.*`: access refused");
    }
}
