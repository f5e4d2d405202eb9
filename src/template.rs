//! Templates for topics and record keys, such as `videogen.{event}` or `{source}.{partition:8}`.

use std::borrow::Cow;
use std::fmt;

use crate::event::Event;
use crate::naming;
use crate::naming::Kind;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Event,
    Type,
    Source,
    Subject,
    Partition(u32),
}

/// The value of `{subject}` for an event without a subject.
const NO_SUBJECT: &str = "none";

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// What is wrong. For an unknown placeholder also the known ones.
    pub fn parse(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find(['{', '}']) {
            if rest[start..].starts_with('}') {
                return Err("a '}' has no matching '{'".into());
            }
            let end = rest[start..].find('}').ok_or("a '{' has no matching '}'")? + start;
            if start > 0 {
                parts.push(Part::Text(rest[..start].into()));
            }
            parts.push(placeholder(&rest[start + 1..end])?);
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        if parts.is_empty() { Err("it is empty".into()) } else { Ok(Template(parts)) }
    }

    /// Whether it contains the event's name. Then only events for whose names topology was created may use it.
    pub fn names_event(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Event | Part::Type))
    }

    /// Whether it contains `{subject}` or `{partition:N}`, which the names of Kafka topics and files must not.
    pub fn varies(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Subject | Part::Partition(_)))
    }

    /// The name for an event on a kind of broker.
    ///
    /// # Errors
    /// The event's subject cannot be part of a name, or the whole name breaks the broker's rules.
    pub fn topic(&self, event: &Event, kind: Kind) -> Result<String, String> {
        let name = self.expand(|part| {
            Ok(match part {
                Part::Subject => {
                    let subject = event.subject.as_deref().unwrap_or(NO_SUBJECT);
                    if !naming::is_part(kind, subject) {
                        return Err("the event's subject cannot be part of a name".to_string());
                    }
                    Cow::Borrowed(subject)
                }
                other => other.fixed(event),
            })
        })?;
        naming::check(kind, &name)?;
        Ok(name)
    }

    /// The name for an event, with `{subject}` and `{partition:N}` as they are written.
    pub fn outline(&self, event: &Event) -> String {
        let fixed = |part: &Part| match part {
            Part::Subject | Part::Partition(_) => Template(vec![part.clone()]).to_string(),
            other => other.fixed(event).into_owned(),
        };
        self.0.iter().map(fixed).collect()
    }

    /// The record key for an event; `None` if the template contains `{subject}` and the event has none.
    pub fn key(&self, event: &Event) -> Option<String> {
        self.expand(|part| match part {
            Part::Subject => event.subject.as_deref().map(Cow::Borrowed).ok_or(()),
            other => Ok(other.fixed(event)),
        })
        .ok()
    }

    /// Every name that the template can yield for these events, with `any` in place of `{subject}`. Topology is created for
    /// these names.
    pub fn names(&self, source: &str, prefix: &str, events: &[String], any: &str) -> Vec<String> {
        let mut names = vec![String::new()];
        let per_event: Vec<&str> =
            if self.names_event() { events.iter().map(String::as_str).collect() } else { vec![""] };
        let mut all = Vec::new();
        for event in per_event {
            for part in &self.0 {
                names = match part {
                    Part::Partition(count) => {
                        (0..*count).flat_map(|number| names.iter().map(move |name| format!("{name}{number}"))).collect()
                    }
                    fixed => {
                        let text: Cow<'_, str> = match fixed {
                            Part::Text(text) => text.as_str().into(),
                            Part::Event => event.into(),
                            Part::Type => format!("{prefix}{event}").into(),
                            Part::Source => source.into(),
                            Part::Subject | Part::Partition(_) => any.into(),
                        };
                        names.iter().map(|name| format!("{name}{text}")).collect()
                    }
                };
            }
            all.append(&mut names);
            names.push(String::new());
        }
        all
    }

    /// The number of names that the template can yield for one event: the product of its partition counts.
    pub fn width(&self) -> u64 {
        let count = |part: &Part| if let Part::Partition(count) = part { u64::from(*count) } else { 1 };
        self.0.iter().map(count).fold(1, u64::saturating_mul)
    }

    fn expand<'a, E>(&'a self, value: impl Fn(&'a Part) -> Result<Cow<'a, str>, E>) -> Result<String, E> {
        self.0.iter().map(value).collect()
    }
}

/// The form in the configuration.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Event => f.write_str("{event}"),
            Part::Type => f.write_str("{type}"),
            Part::Source => f.write_str("{source}"),
            Part::Subject => f.write_str("{subject}"),
            Part::Partition(count) => write!(f, "{{partition:{count}}}"),
        })
    }
}

impl Part {
    fn fixed<'a>(&'a self, event: &'a Event) -> Cow<'a, str> {
        match self {
            Part::Text(text) => text.as_str().into(),
            Part::Event => event.name.as_str().into(),
            Part::Type => event.kind.as_str().into(),
            Part::Source => (&*event.source_name).into(),
            Part::Subject => event.subject.as_deref().unwrap_or(NO_SUBJECT).into(),
            Part::Partition(count) => {
                let key = event.partitionkey.as_deref().unwrap_or(&event.id);
                (partition(key.as_bytes(), *count)).to_string().into()
            }
        }
    }
}

fn placeholder(name: &str) -> Result<Part, String> {
    Ok(match name {
        "event" => Part::Event,
        "type" => Part::Type,
        "source" => Part::Source,
        "subject" => Part::Subject,
        _ => {
            let count = name.strip_prefix("partition:").and_then(|count| count.parse().ok());
            let count = count.filter(|count| (1..=1024).contains(count)).ok_or_else(|| {
                format!(
                    "unknown placeholder {{{name}}}: expected {{event}}, {{type}}, {{source}}, {{subject}} or \
                     {{partition:N}} with N from 1 to 1024"
                )
            })?;
            Part::Partition(count)
        }
    })
}

/// The partition of a key, as Kafka's Java client computes it: murmur2 without the sign bit, modulo the count.
pub fn partition(key: &[u8], count: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % count
}

/// Kafka's variant of MurmurHash2 (`org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0_u32, |tail, byte| (tail << 8) | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_matches_kafkas_java_client() {
        // From Kafka's own UtilsTest.
        for (key, hash) in [
            ("21", -973932308_i32),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn names_lists_every_possible_name() {
        let events = ["a.b".to_string(), "c".to_string()];
        let names = |text: &str| Template::parse(text).unwrap().names("src", "io.x.", &events, "*");
        assert_eq!(names("v.{event}"), ["v.a.b", "v.c"]);
        assert_eq!(names("{source}.{subject}"), ["src.*"]);
        assert_eq!(names("p{partition:2}.{event}"), ["p0.a.b", "p1.a.b", "p0.c", "p1.c"]);
        assert_eq!(names("{type}"), ["io.x.a.b", "io.x.c"]);
    }

    #[test]
    fn malformed_templates_are_refused() {
        assert!(Template::parse("{evnt}").unwrap_err().contains("{event}"));
        assert!(Template::parse("{partition:0}").is_err());
        assert!(Template::parse("a}").is_err());
        assert!(Template::parse("{event").is_err());
        assert!(Template::parse("").is_err());
    }
}
