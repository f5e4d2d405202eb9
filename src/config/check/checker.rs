//! Reads single values: replaces references, parses, and records each mistake at its place.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::mistake::{Place, Report, hint, quoted};
use crate::config::raw::Leaf;
use crate::config::substitute::{Environment, files_in, substitute, substitute_url};
use crate::config::units;
use crate::settings_file::why;

/// Reads values of one configuration.
pub(super) struct Checker<'a, 'e> {
    pub(super) environment: &'a Environment<'e>,
    pub(super) report: &'a mut Report,
    /// Whether a pattern or template contained a reference. Then no message quotes the name of a topic.
    has_references: bool,
}

impl<'a, 'e> Checker<'a, 'e> {
    pub(super) fn new(environment: &'a Environment<'e>, report: &'a mut Report) -> Self {
        Checker { environment, report, has_references: false }
    }

    pub(super) fn mistake(&mut self, leaf: Option<&Leaf>, message: impl Into<String>) {
        let place = leaf.map_or(Place::Nowhere, |leaf| leaf.place.clone());
        self.report.mistake(&place, message);
    }

    /// The text with its references replaced. Flags and variables have none.
    pub(super) fn text(&mut self, leaf: &Leaf) -> Option<String> {
        self.replaced(leaf, substitute)
    }

    /// The same for a URL.
    pub(super) fn url(&mut self, leaf: &Leaf) -> Option<String> {
        self.replaced(leaf, substitute_url)
    }

    fn replaced(
        &mut self,
        leaf: &Leaf,
        replace: fn(&str, &Environment<'_>) -> Result<String, String>,
    ) -> Option<String> {
        match leaf.place {
            Place::File { .. } => {
                self.report.files.extend(files_in(&leaf.text));
                self.report.ok(&leaf.place, replace(&leaf.text, self.environment))
            }
            _ => Some(leaf.text.clone()),
        }
    }

    /// Parses a value that is no secret. Its mistake quotes it with its references.
    pub(super) fn read<T>(&mut self, leaf: &Leaf, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(leaf)?;
        let value = parse(&text).map_err(|message| format!("{}: {message}", quoted(&leaf.text)));
        self.report.ok(&leaf.place, value)
    }

    /// Parses a pattern or a template. The messages of their parsers quote parts of the text, so they are replaced when a
    /// reference or something like a secret is in it.
    pub(super) fn pattern<T>(&mut self, leaf: &Leaf, parse: fn(&str) -> Result<T, String>) -> Option<T> {
        let has_references = leaf.text.contains("${") && matches!(leaf.place, Place::File { .. });
        self.has_references |= has_references;
        let hidden = has_references || quoted(&leaf.text) != format!("`{}`", leaf.text.escape_debug());
        self.read(leaf, |text| match parse(text) {
            Err(_) if hidden && !text.is_empty() => Err("it is not well-formed".into()),
            result => result,
        })
    }

    /// The name of a topic, quoted for a message unless a reference may be part of it.
    pub(super) fn quoted_topic(&self, topic: &str) -> String {
        if self.has_references { "(not shown)".into() } else { quoted(topic) }
    }

    pub(super) fn value<T>(
        &mut self,
        leaf: &Option<Leaf>,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        leaf.as_ref().and_then(|leaf| self.read(leaf, parse)).unwrap_or(default)
    }

    pub(super) fn flag(&mut self, leaf: &Option<Leaf>) -> bool {
        self.value(leaf, false, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("expected true or false".into()),
        })
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&mut self, leaf: &Option<Leaf>, words: &[(&str, T)], default: T) -> T {
        self.value(leaf, default, |text| {
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
                let names: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
                let nearest = hint(text, words.iter().map(|(word, _)| *word));
                format!("expected {}{nearest}", names.join(" or "))
            })
        })
    }

    pub(super) fn duration(
        &mut self,
        leaf: &Option<Leaf>,
        default: Duration,
        within: RangeInclusive<Duration>,
    ) -> Duration {
        self.value(leaf, default, |text| bounded(units::duration(text)?, &within, units::write_duration))
    }

    pub(super) fn size(&mut self, leaf: &Option<Leaf>, default: usize, within: RangeInclusive<usize>) -> usize {
        self.value(leaf, default, |text| {
            bounded(units::size(text)?.try_into().unwrap_or(usize::MAX), &within, units::write_size)
        })
    }

    pub(super) fn count(&mut self, leaf: &Option<Leaf>, default: usize, within: RangeInclusive<usize>) -> usize {
        self.value(leaf, default, |text| {
            bounded(units::count(text)?.try_into().unwrap_or(usize::MAX), &within, |count| count.to_string())
        })
    }

    pub(super) fn address(&mut self, leaf: &Option<Leaf>, default: SocketAddr) -> SocketAddr {
        self.value(leaf, default, |text| {
            let local = |port: &str| Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().ok()?));
            let address = text.strip_prefix("localhost:").map_or_else(|| text.parse().ok(), local);
            address.ok_or_else(|| "expected an IP address and a port, such as 0.0.0.0:8080 or [::]:8080".into())
        })
    }

    /// The name of a source or destination, which becomes part of paths, topics, metrics and ledger entries.
    pub(super) fn name(&mut self, leaf: &Leaf, what: &str) -> Arc<str> {
        let legal = (1..=64).contains(&leaf.text.len())
            && leaf.text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        if !legal {
            let message = format!(
                "{}: the name of a {what} must be 1 to 64 characters from A-Z, a-z, 0-9, `_` and `-`",
                quoted(&leaf.text)
            );
            self.mistake(Some(leaf), message);
        }
        leaf.text.as_str().into()
    }

    /// The path of a file that must be readable.
    pub(super) fn readable_file(&mut self, leaf: &Option<Leaf>) -> Option<PathBuf> {
        let leaf = leaf.as_ref()?;
        self.read(leaf, |path| match std::fs::File::open(path).and_then(|file| file.metadata()) {
            Ok(metadata) if metadata.is_file() => Ok(PathBuf::from(path)),
            Ok(_) => Err("it is not a regular file".into()),
            Err(error) => Err(format!("the file cannot be read: {}", why(Path::new(path), &error))),
        })
    }
}

fn bounded<T: PartialOrd + Copy>(
    value: T,
    within: &RangeInclusive<T>,
    write: impl Fn(T) -> String,
) -> Result<T, String> {
    let bounds = || format!("it must be from {} to {}", write(*within.start()), write(*within.end()));
    if within.contains(&value) { Ok(value) } else { Err(bounds()) }
}

/// Checks the form of a JSON pointer (RFC 6901).
pub(super) fn json_pointer(text: &str) -> Result<String, String> {
    let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if text.starts_with('/') && escapes {
        return Ok(text.into());
    }
    Err("expected a JSON pointer, which begins with `/`; in a name, write `~` as ~0 and `/` as ~1".into())
}
