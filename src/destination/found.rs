//! What a look at a broker's topology found.

use crate::reason::Failure;

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
    /// The first problem.
    pub(super) fn fits(&self) -> Result<(), Failure> {
        self.problems.first().cloned().map_or(Ok(()), Err)
    }

    /// What `check --connect` prints: what there is, then the warnings.
    ///
    /// # Errors
    /// The first problem.
    pub(super) fn report(self) -> Result<Vec<String>, Failure> {
        self.fits()?;
        let warnings = self.warnings.into_iter().map(|warning| format!("warning: {warning}"));
        Ok(self.lines.into_iter().chain(warnings).collect())
    }
}
