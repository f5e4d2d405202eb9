//! What a look at a broker's topology found.

use crate::reason::Failure;

/// Problems that a failure lists.
const MOST: usize = 5;

/// What exists on a broker, against what a destination needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// What keeps some or all topics from being published to.
    pub(super) problems: Vec<Failure>,
    /// What exists, but is less safe or smaller than it would be made.
    pub(super) warnings: Vec<String>,
    /// What there is, a line for each thing.
    pub(super) lines: Vec<String>,
}

impl Found {
    /// Whether every topic can be published to.
    ///
    /// # Errors
    /// All problems, with the reason of the first.
    pub(super) fn fits(&self) -> Result<(), Failure> {
        let Some((first, others)) = self.problems.split_first() else { return Ok(()) };
        if others.is_empty() {
            return Err(first.clone());
        }
        let shown = self.problems.iter().take(MOST).map(|problem| &*problem.detail).collect::<Vec<_>>().join("; ");
        let left = self.problems.len().saturating_sub(MOST);
        let more = if left > 0 { format!("; and {left} more") } else { String::new() };
        Err(Failure::new(first.reason, shown + &more))
    }

    /// What `check --connect` prints: what there is, then each warning once, in the order of the topics.
    ///
    /// # Errors
    /// As [`fits`](Found::fits).
    pub(super) fn report(self) -> Result<Vec<String>, Failure> {
        self.fits()?;
        let mut lines = self.lines;
        for warning in self.warnings.into_iter().map(|warning| format!("warning: {warning}")) {
            if !lines.contains(&warning) {
                lines.push(warning);
            }
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    #[test]
    fn failure_lists_the_problems() {
        let problem = |number| Failure::new(Reason::Topology, format!("problem {number}"));
        let fits = |problems: Vec<Failure>| Found { problems, ..Found::default() }.fits();
        assert_eq!(fits(Vec::new()), Ok(()));
        assert_eq!(fits(vec![problem(1)]), Err(problem(1)));
        let refused = Failure::new(Reason::NotAuthorized, "refused");
        let both = Failure::new(Reason::NotAuthorized, "refused; problem 1");
        assert_eq!(fits(vec![refused, problem(1)]), Err(both));
        let many = fits((1..=7).map(problem).collect()).unwrap_err();
        assert_eq!(many.detail, "problem 1; problem 2; problem 3; problem 4; problem 5; and 2 more");
    }

    #[test]
    fn report_has_each_warning_once() {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let found = Found { lines: texts(&["b"]), warnings: texts(&["z", "a", "z"]), ..Found::default() };
        assert_eq!(found.report().unwrap(), ["b", "warning: z", "warning: a"]);
    }
}
