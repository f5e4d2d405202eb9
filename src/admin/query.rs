//! The parameters of a request. One that is not known is an error: a filter with a typing error would match too much.

use std::collections::BTreeMap;

use axum::http::Uri;

use super::problem::ApiProblem;
use crate::letters::LetterFilter;
use crate::reason::Reason;
use crate::route::Pattern;

/// Parameters that were not read yet.
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    /// # Errors
    /// A parameter is there twice.
    pub(super) fn new(uri: &Uri) -> Result<Query, ApiProblem> {
        let mut all = BTreeMap::new();
        // Only the query of this URL is of interest.
        let url = reqwest::Url::parse(&format!("http://h/?{}", uri.query().unwrap_or_default()));
        let url = url.map_err(|_| ApiProblem::parameter("the query is malformed"))?;
        for (name, value) in url.query_pairs() {
            if all.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                return Err(ApiProblem::parameter(format!("`{name}` is given twice")));
            }
        }
        Ok(Query(all))
    }

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// A parameter that has a form.
    pub(super) fn parsed<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ApiProblem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        parse(&text).map(Some).map_err(|why| ApiProblem::parameter(format!("{name}: {why}")))
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, ApiProblem> {
        self.parsed(name, |text| text.parse().map_err(|_| "expected a number".to_owned()))
    }

    /// # Errors
    /// A parameter was not read: it has no meaning here.
    pub(super) fn end(self) -> Result<(), ApiProblem> {
        match self.0.keys().next() {
            Some(name) => Err(ApiProblem::parameter(format!("`{name}` is not known here"))),
            None => Ok(()),
        }
    }

    pub(super) fn filter(&mut self) -> Result<LetterFilter, ApiProblem> {
        let time = |text: &str| {
            let time = text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_second);
            time.map_err(|_| "expected a time such as 2026-11-26T12:00:00Z".to_owned())
        };
        Ok(LetterFilter {
            source: self.text("source"),
            event: self.parsed("event", Pattern::parse)?,
            reason: self.parsed("reason", |word| {
                Reason::from_word(word).ok_or_else(|| "expected a reason such as too_large".to_owned())
            })?,
            destination: self.text("destination"),
            since: self.parsed("since", time)?,
            until: self.parsed("until", time)?,
        })
    }
}
