//! Which dead letters a list contains.

use super::kept::LetterSummary;
use crate::reason::Reason;
use crate::route::Pattern;

/// Each condition that is given must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LetterFilter {
    /// The source's name.
    pub source: Option<String>,
    /// Matches the event's name.
    pub event: Option<Pattern>,
    /// Why it is dead.
    pub reason: Option<Reason>,
    /// The destination of its target.
    pub destination: Option<String>,
    /// Kept at this unix second or later.
    pub since: Option<i64>,
    /// Kept before this unix second.
    pub until: Option<i64>,
}

impl LetterFilter {
    /// Whether a dead letter is wanted.
    pub fn matches(&self, letter: &LetterSummary) -> bool {
        let event = |pattern: &Pattern| letter.event.as_deref().is_some_and(|event| pattern.matches(event));
        self.source.as_ref().is_none_or(|source| *source == letter.source)
            && self.event.as_ref().is_none_or(event)
            && self.reason.is_none_or(|reason| reason == letter.reason)
            && self.destination.as_deref().is_none_or(|name| letter.target.destination.as_deref() == Some(name))
            && self.since.is_none_or(|since| letter.time >= since)
            && self.until.is_none_or(|until| letter.time < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Target;

    #[test]
    fn every_condition_must_hold() {
        let letter = LetterSummary {
            number: 7,
            target: Target::new("stream", "a.b"),
            source: "videogen".into(),
            webhook_id: "msg_1".into(),
            event: Some("file.upload.failed".into()),
            reason: Reason::TooLarge,
            detail: String::new(),
            time: 100,
            bytes: 5,
        };
        let filter = |event: &str, destination: &str, since, until| LetterFilter {
            source: Some("videogen".into()),
            event: Some(Pattern::parse(event).expect("a pattern")),
            reason: Some(Reason::TooLarge),
            destination: Some(destination.into()),
            since: Some(since),
            until: Some(until),
        };
        assert!(LetterFilter::default().matches(&letter));
        assert!(filter("file.**", "stream", 100, 101).matches(&letter));
        assert!(!filter("file.*", "stream", 100, 101).matches(&letter));
        assert!(!filter("file.**", "other", 100, 101).matches(&letter));
        assert!(!filter("file.**", "stream", 101, 102).matches(&letter));
        assert!(!filter("file.**", "stream", 99, 100).matches(&letter), "the end is not included");
        let whole = LetterSummary { target: Target::whole(), event: None, ..letter };
        assert!(!filter("**", "stream", 0, 101).matches(&whole));
    }
}
