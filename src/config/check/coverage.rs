//! Warns of known events that no route takes, of routes that nothing can reach, and of patterns that `**` would widen.

use super::checker::Checker;
use crate::config::mistake::{Place, quoted};
use crate::route::{Routes, Rule, Unrouted};
use crate::source::Source;

impl Checker<'_, '_> {
    /// `places` has the place of each rule's pattern; it is empty if there are no routes in the file.
    pub(super) fn coverage(&mut self, routes: &Routes, places: &[Place], sources: &[Source]) {
        let rules = &routes.rules;
        for (index, (rule, place)) in rules.iter().zip(places).enumerate() {
            let before = &rules[..index];
            let from = sources.iter().filter(|source| rule.is_for(&source.name));
            let first_that_precludes = |source: &Source| before.iter().find(|one| one.precludes(rule, &source.name));
            let earlier: Option<Vec<&Rule>> = from.map(first_that_precludes).collect();
            if let Some(earlier) = earlier.as_ref().and_then(|earlier| earlier.first()) {
                let pattern = self.quoted_topic(&earlier.pattern.to_string());
                let message =
                    format!("nothing can reach this route: the earlier route {pattern} takes all of its events");
                self.report.warning(place, message);
            } else {
                self.narrow(index, place, rules, sources);
            }
        }
        let Some(last) = places.last() else { return };
        let outcome = match &routes.unrouted {
            Unrouted::Topic(topic) => format!("it goes to {}", self.quoted_topic(topic)),
            Unrouted::Ignore => "it is ignored".into(),
            Unrouted::DeadLetter => "it becomes a dead letter".into(),
        };
        for source in sources {
            for event in &source.events {
                if !rules.iter().any(|rule| rule.matches(&source.name, event)) {
                    let message = format!(
                        "no route takes the event {} of the source `{}`, so {outcome}",
                        quoted(event),
                        source.name
                    );
                    self.report.warning(last, message);
                }
            }
        }
    }

    /// Warns if a pattern would take more known events with `**` in the place of `*`, and no other route names them.
    fn narrow(&mut self, index: usize, place: &Place, rules: &[Rule], sources: &[Source]) {
        let rule = &rules[index];
        let wide = rule.pattern.widened();
        let named = |source: &str, event: &str| {
            rules.iter().any(|other| other.matches(source, event) && !other.pattern.is_everything())
        };
        let mut missed: Vec<String> = Vec::new();
        for source in sources.iter().filter(|source| rule.is_for(&source.name)) {
            let of_source = source
                .events
                .iter()
                .filter(|event| wide.matches(event) && !rule.pattern.matches(event) && !named(&source.name, event));
            missed.extend(of_source.map(|event| format!("`{event}`")));
        }
        missed.dedup();
        if !missed.is_empty() {
            let (pattern, wide) = (self.quoted_topic(&rule.pattern.to_string()), self.quoted_topic(&wide.to_string()));
            let message =
                format!("{pattern} does not match {}: `*` is one part; {wide} takes them too", missed.join(", "));
            self.report.warning(place, message);
        }
    }
}
