//! Mistakes in a configuration: their places, and what is expected. Messages never quote a value that may be secret.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the file. Line and column count from 1.
    File {
        /// The line.
        line: u64,
        /// The column, in characters.
        column: u64,
    },
    /// By this flag or environment variable.
    Named(&'static str),
    /// Nowhere: the setting is missing, or a default.
    Nowhere,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file, flag or variable that contains it; `settings` for a setting that is missing.
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

/// All mistakes that were found, at least one. `Display` writes one per line.
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
    /// The files that values come from.
    pub(super) files: Vec<PathBuf>,
}

impl Report {
    pub(super) fn new(file: impl Into<Arc<str>>) -> Self {
        Report { file: file.into(), mistakes: Vec::new(), warnings: Vec::new(), files: Vec::new() }
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

    /// How many mistakes there are so far.
    pub(super) fn count(&self) -> usize {
        self.mistakes.len()
    }

    pub(super) fn warning(&mut self, place: &Place, message: impl Into<String>) {
        let warning = self.at(place, message.into());
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Returns the value, or records the mistake.
    pub(super) fn ok<T>(&mut self, place: &Place, result: Result<T, impl Into<String>>) -> Option<T> {
        result.map_err(|message| self.mistake(place, message)).ok()
    }

    /// The warnings, or the mistakes: those in the file in its order, then the others.
    pub(super) fn finish(mut self) -> Result<Vec<Mistake>, Mistakes> {
        let place = |mistake: &Mistake| (mistake.line == 0, mistake.line, mistake.column);
        if self.mistakes.is_empty() {
            self.warnings.sort_by_key(place);
            return Ok(self.warnings);
        }
        self.mistakes.sort_by_key(place);
        Err(Mistakes(self.mistakes))
    }
}

/// A hint to the most similar of some names, ``; did you mean `x`?``, or nothing if none is similar enough for a typing
/// error.
pub(super) fn hint<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(given, names).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// The most similar of some names, if it is similar enough for a typing error.
pub fn nearest<'a>(
    given: &str,
    names: impl IntoIterator<Item = &'a (impl AsRef<str> + ?Sized + 'a)>,
) -> Option<&'a str> {
    let distance = |name: &'a str| {
        let distance = strsim::damerau_levenshtein(&given.to_lowercase(), name);
        (distance <= 1 + name.len() / 4 && distance < name.len()).then_some((distance, name))
    };
    names.into_iter().filter_map(|name| distance(name.as_ref())).min().map(|(_, name)| name)
}

/// A text of the configuration, quoted for a message. Replaces a text that may contain a key or password, and a long one.
pub fn quoted(text: &str) -> String {
    if text.is_empty() {
        return "an empty string".into();
    }
    let hidden = ["whsec_", "whpk_", "whsk_", "@"].iter().any(|mark| text.contains(mark));
    if hidden || text.chars().count() > 80 { "the given value".into() } else { format!("`{}`", text.escape_debug()) }
}

/// A name, quoted for a message, if it is a plain word. A key in the wrong place is not one.
pub(super) fn quoted_name(name: &str) -> Option<String> {
    let plain = name.len() <= 40 && name.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '-' | '.'));
    let key = ["whsec_", "whpk_", "whsk_"].iter().any(|mark| name.starts_with(mark));
    (plain && !key && !name.is_empty()).then(|| format!("`{name}`"))
}
