//! As much of PromQL as the alerts and the dashboard need: which series an expression reads, and which labels it lists.

use std::collections::{BTreeMap, BTreeSet};

/// `metric{label="value"}`.
#[derive(Debug)]
pub struct Selector {
    /// The name of the metric, or the pattern of `__name__`.
    pub metric: String,
    /// Labels and values, or patterns of values.
    pub matchers: Vec<(String, String)>,
}

impl Selector {
    /// Whether hookbridge exports it.
    pub fn is_ours(&self) -> bool {
        self.metric.starts_with("hookbridge_") || self.metric.starts_with("process_")
    }
}

fn is_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// The selectors of an expression. A metric's name has an underscore, as no function without `(` and no keyword has.
pub fn selectors(expression: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_alphabetic() || letter == '{' || letter == '(') {
        rest = &rest[start..];
        let name: String = rest.chars().take_while(|letter| is_name(*letter)).collect();
        rest = &rest[name.len()..];
        if ["by", "on", "without", "ignoring"].contains(&name.as_str()) {
            rest = rest.split_once(')').map_or("", |(_, rest)| rest);
        } else if let Some(inner) = rest.strip_prefix('{') {
            let (matchers, after) = inner.split_once('}').expect("a closing brace");
            let mut matchers: Vec<_> = matchers.split(", ").map(matcher).collect();
            let of_name = matchers.iter().position(|(label, _)| label == "__name__");
            let metric = of_name.map_or(name, |at| matchers.remove(at).1);
            found.push(Selector { metric, matchers });
            rest = after;
        } else if name.contains('_') && !rest.starts_with('(') {
            found.push(Selector { metric: name, matchers: Vec::new() });
        } else if name.is_empty() {
            rest = &rest[1..];
        }
    }
    found
}

fn matcher(text: &str) -> (String, String) {
    let (label, value) = text.split_once(['=', '!']).expect("a matcher");
    let value = value.trim_start_matches(['=', '~']).trim_matches('"');
    (label.trim().to_owned(), value.to_owned())
}

/// The labels in `by (…)` and `on (…)`.
pub fn labels_listed(expression: &str) -> BTreeSet<String> {
    let lists = [" by (", " on ("].into_iter().flat_map(|word| expression.split(word).skip(1));
    let names = lists.flat_map(|rest| rest.split(')').next().unwrap_or_default().split(','));
    names.map(|name| name.trim().to_owned()).collect()
}

/// Metrics with their labels and the values of these.
#[derive(Default)]
pub struct Known(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Known {
    /// The series of a page of metrics.
    pub fn from_page(page: &str) -> Known {
        let mut known = Known::default();
        for line in page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let series = line.rsplit_once(' ').expect("a value").0;
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let metric = known.0.entry(name.to_owned()).or_default();
            for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty()) {
                let (label, value) = label.split_once("=\"").expect("a label");
                metric.entry(label.to_owned()).or_default().insert(value.trim_end_matches('"').to_owned());
            }
        }
        known
    }

    /// Adds the rows of README's table that begin so.
    pub fn add_readme(&mut self, readme: &str, prefix: &str) {
        let prefix = format!("| `{prefix}");
        let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with(&prefix)).collect();
        assert!(!rows.is_empty(), "README has no {prefix}");
        for row in rows {
            let mut cells = row.split(" | ");
            let name = cells.next().expect("a name").trim_start_matches("| ").trim_matches('`');
            let labels = cells.next().expect("labels").split(", ").map(|label| (label.to_owned(), BTreeSet::new()));
            self.0.insert(name.to_owned(), labels.collect());
        }
    }

    /// The labels of a metric.
    pub fn labels(&self, metric: &str) -> Option<Vec<String>> {
        Some(self.0.get(metric)?.keys().cloned().collect())
    }

    /// Whether the label can have the value. In a pattern, only `.`, `.*` and `|` are known here.
    pub fn has_value(&self, metric: &str, label: &str, pattern: &str) -> bool {
        let values = &self.0[metric][label];
        let fits = |value: &str, pattern: &str| {
            value.len() == pattern.len() && value.chars().zip(pattern.chars()).all(|(a, b)| b == '.' || a == b)
        };
        pattern == ".*" || pattern.split('|').all(|pattern| values.iter().any(|value| fits(value, pattern)))
    }

    /// The names, a histogram's without `_bucket`, `_sum` and `_count`.
    pub fn families(&self) -> impl Iterator<Item = String> {
        let names: BTreeSet<String> = self.0.keys().map(|name| self.family(name)).collect();
        names.into_iter()
    }

    fn family(&self, name: &str) -> String {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        base.filter(|base| self.0.contains_key(&format!("{base}_bucket"))).unwrap_or(name).to_owned()
    }
}
