//! Checks sources. Keys matter most: with an empty key, anyone could sign.

use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::checker::{Checker, json_pointer};
use crate::config::mistake::{Place, quoted, quoted_name};
use crate::config::raw::{Leaf, Named, OneOrMany, RawFields, RawSource};
use crate::config::substitute::files_in;
use crate::config::units::{DAY, SECOND};
use crate::settings_file;
use crate::signature::Key;
use crate::source::{Fields, Source, VIDEOGEN, VIDEOGEN_EVENTS};

/// Attributes that are set from the delivery, or that CloudEvents defines.
const RESERVED_ATTRIBUTES: [&str; 16] = [
    "id",
    "source",
    "type",
    "specversion",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "data",
    "partitionkey",
    "traceparent",
    "tracestate",
    "urlexpiry",
    "expirytime",
    "dataref",
    "datasize",
];

/// The keys in a text, which whitespace separates. An empty text is one empty key, and so a mistake.
pub(in super::super) fn keys_in(text: &str) -> Vec<String> {
    let keys: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if keys.is_empty() { vec![String::new()] } else { keys }
}

/// Refuses a key that was base64-encoded once more, as happens to secrets in Kubernetes: it would be accepted, and no
/// delivery would verify.
pub(in super::super) fn encoded_once(key: &str) -> Result<(), &'static str> {
    let encoded = key.strip_prefix("whsec_").or_else(|| key.strip_prefix("whpk_")).unwrap_or(key);
    let decoded = STANDARD_NO_PAD.decode(encoded.trim_end_matches('=')).unwrap_or_default();
    let is_key = decoded.starts_with(b"whsec_") || decoded.starts_with(b"whpk_");
    // `echo` adds a line end before it is encoded.
    if is_key && decoded.trim_ascii_end().iter().all(u8::is_ascii_graphic) {
        return Err("the secret is base64-encoded twice: decode it once, so that it begins with whsec_ or whpk_");
    }
    Ok(())
}

/// Whether a secret's file is not there yet, or empty: a rotation that has not begun.
fn is_pending(file: &Path) -> bool {
    match settings_file::read(file) {
        Ok(bytes) => bytes.trim_ascii().is_empty(),
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

#[derive(Clone, Copy)]
enum Payload {
    Videogen,
    Standard,
}

impl Checker<'_, '_> {
    pub(super) fn sources(&mut self, raw: Option<Named<RawSource>>) -> Vec<Source> {
        let named = raw.map(|named| named.0).filter(|named| !named.is_empty());
        let default = || vec![(Leaf { text: VIDEOGEN.into(), place: Place::Nowhere }, RawSource::default())];
        let mut sources: Vec<Source> = Vec::new();
        for (name, raw) in named.unwrap_or_else(default) {
            let source = self.source(&name, raw, &sources);
            sources.push(source);
        }
        sources
    }

    fn source(&mut self, leaf: &Leaf, raw: RawSource, others: &[Source]) -> Source {
        let name = self.name(leaf, "source");
        let keys = self.keys(leaf, raw.secrets.as_ref());
        let words = [("videogen", Payload::Videogen), ("standard", Payload::Standard)];
        let payload = self.choice(&raw.payload, &words, Payload::Videogen);
        // Names of events at another place are those of another sender.
        let other_sender = raw.payload.is_none() && raw.fields.event.is_some() && &*name != VIDEOGEN;
        let videogen = matches!(payload, Payload::Videogen) && !other_sender;
        let path = self.path(leaf, raw.path.as_ref(), format!("/webhooks/{name}"), others);
        let default_uri = if videogen { "https://api.videogen.io".to_owned() } else { path.clone() };
        let uri = self.value(&raw.uri, default_uri, |uri| attribute_value(uri).map(str::to_owned));
        if let Some(other) = others.iter().find(|other| *other.uri == *uri) {
            let message = format!(
                "the sources `{}` and `{name}` have the same `uri`, so workers cannot tell their events apart: set another `uri`",
                other.name
            );
            let place = raw.uri.as_ref().map_or(&leaf.place, |uri| &uri.place);
            self.report.warning(place, message);
        }
        let default_prefix = if videogen { "io.videogen.".to_owned() } else { format!("{name}.") };
        let type_prefix = self.value(&raw.type_prefix, default_prefix, |prefix| match prefix {
            "" => Ok(String::new()),
            prefix if prefix.len() > 90 => Err("it must not be longer than 90 bytes".into()),
            prefix if !prefix.ends_with('.') => Err("a prefix ends with a dot, such as `io.videogen.`".into()),
            prefix => attribute_value(prefix).map(str::to_owned),
        });
        let events = self.events(raw.events, videogen || &*name == VIDEOGEN);
        if events.is_empty() {
            let message = "it has no `events`, so where a topic contains {event}, all of its events go to `unrouted`";
            self.report.warning(&leaf.place, message);
        }
        Source {
            path,
            keys,
            uri: uri.into(),
            type_prefix,
            tolerance: self.duration(&raw.tolerance, Duration::from_secs(300), SECOND..=DAY),
            legacy_headers: self.flag(&raw.legacy_headers),
            events,
            fields: self.fields(&raw.fields, payload),
            attributes: self.attributes(&raw.attributes).into(),
            in_flight: self.count(&raw.in_flight, 4096, 1..=1_000_000),
            rate: u32::try_from(self.count(&raw.rate, 0, 1..=1_000_000)).ok().and_then(NonZeroU32::new),
            name,
        }
    }

    fn keys(&mut self, name: &Leaf, raw: Option<&OneOrMany>) -> Vec<Key> {
        let leaves = raw.map(|secrets| secrets.all.as_slice()).unwrap_or_default();
        let is_pending = |leaf: &&Leaf| {
            matches!(leaf.place, Place::File { .. }) && files_in(&leaf.text).iter().any(|file| is_pending(file))
        };
        let (pending, there): (Vec<&Leaf>, Vec<&Leaf>) = leaves.iter().partition(is_pending);
        let mut keys = Vec::new();
        for leaf in there {
            self.read_keys(leaf, &mut keys);
        }
        for leaf in pending {
            if keys.is_empty() {
                self.read_keys(leaf, &mut keys);
                continue;
            }
            let files = files_in(&leaf.text);
            let named: Vec<_> = files.iter().map(|file| quoted(&file.display().to_string())).collect();
            let message =
                format!("the file {} is missing or empty: its secret is taken up when it is there", named.join(", "));
            self.report.warning(&leaf.place, message);
            self.report.files.extend(files);
        }
        if leaves.is_empty() {
            let quoted = quoted_name(&name.text).map_or_else(String::new, |name| format!(" {name}"));
            let how = match &*name.text {
                VIDEOGEN => "give --secret, HOOKBRIDGE_SECRET, or `secrets` in the file (--config)",
                _ => "give `secrets`",
            };
            let place = raw.map_or(&name.place, |raw| &raw.place);
            self.report
                .mistake(place, format!("the source{quoted} has no secret, so no delivery can be verified: {how}"));
        }
        keys
    }

    fn read_keys(&mut self, leaf: &Leaf, keys: &mut Vec<Key>) {
        let Some(text) = self.text(leaf) else { return };
        for key in keys_in(&text) {
            if self.report.ok(&leaf.place, encoded_once(&key)).is_none() {
                continue;
            }
            match Key::parse(&key) {
                Ok(key) => keys.push(key),
                Err(fault) => self.report.mistake(&leaf.place, fault.advice()),
            }
        }
    }

    fn path(&mut self, name: &Leaf, leaf: Option<&Leaf>, default: String, others: &[Source]) -> String {
        let path = leaf.map_or(Some(default.clone()), |leaf| {
            self.read(leaf, |path| {
                let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '~');
                let dots = path.split('/').any(|part| part == "." || part == "..");
                match path {
                    _ if !path.starts_with('/') => Err("a path begins with `/`".into()),
                    _ if !path.chars().all(legal) || dots || path.contains("//") || path.len() > 256 => {
                        Err("a path consists of parts of A-Z, a-z, 0-9, `-`, `_`, `.` and `~`, separated by single `/`"
                            .into())
                    }
                    "/healthz" => Err("this path is reserved for the health check".into()),
                    _ => Ok(path.to_owned()),
                }
            })
        });
        let Some(path) = path else { return default };
        if let Some(other) = others.iter().find(|other| other.path == path) {
            let message = format!("the source `{}` already has this path", other.name);
            self.mistake(Some(leaf.unwrap_or(name)), message);
        }
        path
    }

    fn events(&mut self, raw: Option<Vec<Leaf>>, videogen: bool) -> Vec<String> {
        let Some(leaves) = raw else {
            return if videogen { VIDEOGEN_EVENTS.map(str::to_owned).into() } else { Vec::new() };
        };
        let mut events = Vec::new();
        for leaf in leaves {
            let event = self.read(&leaf, |name| {
                let illegal = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '*' | '{' | '}');
                match name {
                    _ if name.is_empty() || name.len() > 160 => {
                        Err("the name of an event is 1 to 160 bytes long".into())
                    }
                    _ if name.contains(illegal) => {
                        Err("the name of an event must not contain whitespace, `*`, `{` or `}`".to_owned())
                    }
                    _ => Ok(name.to_owned()),
                }
            });
            events.extend(event.filter(|event| !events.contains(event)));
        }
        events
    }

    /// The fields of the payload, except those that are given.
    fn fields(&mut self, raw: &RawFields, payload: Payload) -> Fields {
        let default = match payload {
            Payload::Videogen => Fields::videogen(),
            Payload::Standard => Fields::standard(),
        };
        let subject = match &raw.subject {
            Some(subject) => subject.all.iter().filter_map(|leaf| self.read(leaf, field)).collect(),
            None => default.subject,
        };
        Fields {
            event: self.value(&raw.event, default.event, field),
            time: self.value(&raw.time, default.time, field),
            subject,
        }
    }

    fn attributes(&mut self, raw: &Named<Leaf>) -> Vec<(String, String)> {
        let mut attributes = Vec::new();
        for (name, value) in &raw.0 {
            let text = name.text.as_str();
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            if !(1..=20).contains(&text.len()) || !text.chars().all(legal) {
                let rule = "the name of an attribute must be 1 to 20 characters from a-z and 0-9 (CloudEvents)";
                self.mistake(Some(name), format!("{}: {rule}", quoted(text)));
            } else if RESERVED_ATTRIBUTES.contains(&text) {
                self.mistake(
                    Some(name),
                    format!(
                        "the attribute `{text}` is reserved: it is set from the delivery, or CloudEvents defines it"
                    ),
                );
            }
            let value = self.read(value, |value| attribute_value(value).map(str::to_owned));
            attributes.extend(value.map(|value| (text.to_owned(), value)));
        }
        attributes
    }
}

fn attribute_value(text: &str) -> Result<&str, String> {
    match text {
        _ if text.is_empty() || text.len() > 1024 => Err("expected 1 to 1024 bytes".into()),
        _ if text.chars().any(char::is_control) => Err("it must not contain control characters".into()),
        _ => Ok(text),
    }
}

fn field(text: &str) -> Result<String, String> {
    match text {
        "" => Err("expected the name of a member, or a JSON pointer".into()),
        _ if text.starts_with('/') => json_pointer(text),
        _ => Ok(text.into()),
    }
}
