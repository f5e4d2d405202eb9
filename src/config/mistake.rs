//! Mistakes in a configuration: where they are, and what to write instead. Never a value that may be secret.

use std::fmt;
use std::sync::Arc;

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the file, both from 1.
    File {
        /// The line.
        line: u64,
        /// The column, in characters.
        column: u64,
    },
    /// By a flag or a variable of the environment, by its name.
    Named(&'static str),
    /// Nowhere: it is missing, or a default.
    Nowhere,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file, the flag or the variable that holds it; `settings` for what is missing altogether.
    pub file: Arc<str>,
    /// Line, from 1; 0 outside a file.
    pub line: u64,
    /// Column in characters, from 1; 0 outside a file.
    pub column: u64,
    /// What is wrong and what was expected.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "{}: {}", self.file, self.message);
        }
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// Every mistake that was found; never empty. One a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

/// Collects mistakes and warnings about one file.
#[derive(Debug)]
pub(super) struct Report {
    file: Arc<str>,
    mistakes: Vec<Mistake>,
    warnings: Vec<Mistake>,
}

impl Report {
    pub(super) fn new(file: impl Into<Arc<str>>) -> Self {
        Report { file: file.into(), mistakes: Vec::new(), warnings: Vec::new() }
    }

    fn at(&self, place: &Place, message: String) -> Mistake {
        let (file, line, column) = match place {
            Place::File { line, column } => (self.file.clone(), *line, *column),
            Place::Named(name) => ((*name).into(), 0, 0),
            Place::Nowhere => (self.file.clone(), 0, 0),
        };
        Mistake { file, line, column, message }
    }

    pub(super) fn mistake(&mut self, place: &Place, message: impl Into<String>) {
        let mistake = self.at(place, message.into());
        if !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
    }

    pub(super) fn warning(&mut self, place: &Place, message: impl Into<String>) {
        let warning = self.at(place, message.into());
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// The value, or `None` and its mistake.
    pub(super) fn ok<T>(&mut self, place: &Place, result: Result<T, impl Into<String>>) -> Option<T> {
        result.map_err(|message| self.mistake(place, message)).ok()
    }

    pub(super) fn is_clean(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// The warnings, or the mistakes in the order of the file.
    pub(super) fn finish(mut self) -> Result<Vec<Mistake>, Mistakes> {
        if self.is_clean() {
            return Ok(self.warnings);
        }
        self.mistakes.sort_by_key(|mistake| (mistake.line == 0, mistake.line, mistake.column));
        Err(Mistakes(self.mistakes))
    }
}

/// The nearest of some names, as `; did you mean `x`?`, or nothing.
pub(super) fn hint<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(given, names).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// The nearest of some names, if one is near enough to be a slip of the finger.
pub(super) fn nearest<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = |name: &&str| {
        let distance = strsim::damerau_levenshtein(&given.to_lowercase(), name);
        (distance <= 1 + name.len() / 4 && distance < name.len()).then_some(distance)
    };
    names.into_iter().filter_map(|name| near(&name).map(|distance| (distance, name))).min().map(|(_, name)| name)
}

/// A text of the configuration as a message may show it: nothing that looks like a key, and nothing long.
pub(super) fn shown(text: &str) -> String {
    if text.is_empty() {
        return "an empty text".into();
    }
    let hidden = ["whsec_", "whpk_", "whsk_", "@"].iter().any(|mark| text.contains(mark));
    if hidden || text.chars().count() > 80 { "what is given".into() } else { format!("`{}`", text.escape_debug()) }
}

/// A name as a message may show it: only what is plainly a word, as a key in the wrong place is not.
pub(super) fn shown_name(name: &str) -> Option<String> {
    let plain = name.len() <= 40 && name.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '-' | '.'));
    let key = ["whsec_", "whpk_", "whsk_"].iter().any(|mark| name.starts_with(mark));
    (plain && !key && !name.is_empty()).then(|| format!("`{name}`"))
}
