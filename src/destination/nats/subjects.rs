//! Subjects and their wildcards: `*` is one part, `>` at the end is one or more.

/// Whether every subject that `topic` stands for is also one of `pattern`.
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

/// The topics that no pattern covers, without those that another of them covers: a stream must not name a subject twice.
pub(super) fn missing(patterns: &[String], topics: &[String]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for topic in topics {
        if patterns.iter().chain(&found).any(|pattern| covers(pattern, topic)) {
            continue;
        }
        found.retain(|other| !covers(topic, other));
        found.push(topic.clone());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
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
    fn only_what_is_missing() {
        let list = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(missing(&list(&["a.>"]), &list(&["a.b", "c", "a.c.d"])), ["c"]);
        assert_eq!(missing(&[], &list(&["a.b", "a.*", "a.c", "d", "d"])), ["a.*", "d"]);
    }
}
