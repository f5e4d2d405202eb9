//! Patterns on the names of events.

use std::fmt;

/// A pattern on an event's name: `*` matches one part, `**` any number of parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<String>);

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// A part is empty, or mixes text and `*`.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let parts: Vec<String> = text.split('.').map(str::to_owned).collect();
        for part in &parts {
            if part.is_empty() {
                return Err("a part between dots is empty".into());
            }
            if part.contains('*') && part != "*" && part != "**" {
                return Err(format!(
                    "{part:?} mixes text and '*': '*' matches one whole part, '**' any number of parts"
                ));
            }
        }
        Ok(Pattern(parts))
    }

    /// Whether it matches every name.
    pub fn is_everything(&self) -> bool {
        self.0.iter().any(|part| part == "**") && self.0.iter().all(|part| part == "**")
    }

    /// Whether a name matches. Takes time in proportion to the parts of the pattern times those of the name.
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<&str> = name.split('.').collect();
        self.matches_parts(&name, |wanted, part| wanted == "*" || wanted == part)
    }

    /// Whether it matches every name that another pattern matches. `false` if in doubt.
    pub fn covers(&self, other: &Pattern) -> bool {
        let parts: Vec<&str> = other.0.iter().map(String::as_str).collect();
        self.matches_parts(&parts, |wanted, part| wanted == part || (wanted == "*" && part != "**"))
    }

    /// The same pattern with `**` in the place of each `*`.
    pub fn widened(&self) -> Pattern {
        let mut parts: Vec<String> = Vec::with_capacity(self.0.len());
        for part in &self.0 {
            let part = if part == "*" { "**" } else { part.as_str() };
            if part != "**" || parts.last().is_none_or(|last| last != "**") {
                parts.push(part.to_owned());
            }
        }
        Pattern(parts)
    }

    /// `fits` compares one part of the pattern, other than `**`, with one part of the name.
    ///
    /// After a mismatch, only the last `**` takes one more part: if some earlier `**` could take more, so could the last.
    fn matches_parts(&self, name: &[&str], mut fits: impl FnMut(&str, &str) -> bool) -> bool {
        let (mut at, mut next) = (0, 0);
        // The part of the pattern after the last `**`, and how far that `**` reaches into the name.
        let mut last: Option<(usize, usize)> = None;
        while let Some(part) = name.get(next) {
            match self.0.get(at) {
                Some(wanted) if wanted == "**" => {
                    at += 1;
                    last = Some((at, next));
                }
                Some(wanted) if fits(wanted, part) => {
                    at += 1;
                    next += 1;
                }
                _ => {
                    let Some((after, reach)) = last else { return false };
                    (at, next) = (after, reach + 1);
                    last = Some((at, next));
                }
            }
        }
        self.0[at..].iter().all(|wanted| wanted == "**")
    }
}

/// As written in the configuration.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the stars mean, by definition: `**` takes any number of parts.
    fn matches_by_definition(pattern: &[String], name: &[&str]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((part, rest)) if part == "**" => {
                (0..=name.len()).any(|taken| matches_by_definition(rest, &name[taken..]))
            }
            Some((part, rest)) => name
                .split_first()
                .is_some_and(|(first, others)| (part == "*" || part == first) && matches_by_definition(rest, others)),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        /// `covers` is never true in error, and `widened` takes at least as much.
        #[test]
        fn covering_is_as_defined(
            one in proptest::collection::vec(prop::sample::select(vec!["a", "b", "*", "**"]), 1..5),
            other in proptest::collection::vec(prop::sample::select(vec!["a", "b", "*", "**"]), 1..5),
            name in proptest::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..6),
        ) {
            let (one, other) = (Pattern::parse(&one.join(".")).unwrap(), Pattern::parse(&other.join(".")).unwrap());
            let name = name.join(".");
            if one.covers(&other) && other.matches(&name) {
                prop_assert!(one.matches(&name));
            }
            prop_assert!(one.widened().covers(&one));
            prop_assert!(!one.matches(&name) || one.widened().matches(&name));
        }

        #[test]
        fn matching_is_as_defined(
            pattern in proptest::collection::vec(prop::sample::select(vec!["a", "b", "*", "**"]), 1..8),
            name in proptest::collection::vec(prop::sample::select(vec!["a", "b", ""]), 1..9),
        ) {
            let pattern = Pattern::parse(&pattern.join(".")).unwrap();
            prop_assert_eq!(pattern.matches(&name.join(".")), matches_by_definition(&pattern.0, &name));
        }
    }

    /// Six `**` and a name of 80 parts took two seconds when every `**` was tried at every length.
    #[test]
    fn matching_takes_few_steps() {
        let pattern = Pattern::parse("**.a.**.a.**.a.**.a.**.a.**.b").unwrap();
        let name = ["a"; 80];
        let mut steps = 0;
        let matched = pattern.matches_parts(&name, |wanted, part| {
            steps += 1;
            wanted == part
        });
        assert!(!matched && steps <= pattern.0.len() * name.len(), "{steps} steps");
    }
}
