//! Subjects and their wildcards: `*` stands for one part, `>` at the end for one or more.

/// Whether `pattern` matches every subject that `topic` matches.
pub(super) fn covers(pattern: &str, topic: &str) -> bool {
    let (mut pattern, mut topic) = (pattern.split('.'), topic.split('.'));
    loop {
        match (pattern.next(), topic.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) => return true,
            (Some("*"), Some(part)) if part != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// The topics that no pattern covers, without those that another of them covers: a stream must not name a subject
/// twice.
pub(super) fn missing(patterns: &[String], topics: &[String]) -> Vec<String> {
    let mut missing: Vec<String> = Vec::new();
    for topic in topics {
        if patterns.iter().chain(&missing).any(|pattern| covers(pattern, topic)) {
            continue;
        }
        missing.retain(|other| !covers(topic, other));
        missing.push(topic.clone());
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_subjects() {
        for (pattern, topic, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a.*", true),
            ("a.b", "a.*", false),
            ("a.*", "a.b.c", false),
            ("a.*", "a", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*.b", "a.b", true),
            ("*", ">", false),
            ("a.*", "a.>", false),
            ("a.>", "a.>", true),
        ] {
            assert_eq!(covers(pattern, topic), expected, "{pattern} {topic}");
        }
    }

    #[test]
    fn covered_topics_are_not_missing() {
        let list = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(missing(&list(&["a.>"]), &list(&["a.b", "c", "a.c.d"])), ["c"]);
        assert_eq!(missing(&[], &list(&["a.b", "a.*", "a.c", "d", "d"])), ["a.*", "d"]);
    }
}
