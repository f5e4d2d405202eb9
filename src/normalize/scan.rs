//! One pass over a JSON object: the wanted values, and the earliest expiry of a signed URL at any depth.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use jiff::Timestamp;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::repair::repair;
use crate::reason::{Failure, Reason};

/// A value that an attribute or a condition can use.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Null,
}

/// What one pass found.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// One for each wanted name, in order.
    pub values: Vec<Option<Scalar>>,
    /// Unix seconds of the earliest `…expiresAt` that is a number or an RFC 3339 time.
    pub expiry: Option<f64>,
}

/// Reads an object. `wanted`: names of top-level members, or JSON pointers (RFC 6901) that begin with `/`.
///
/// JSON that its grammar allows and most workers can read must not lose the event, even where the parser refuses it. Half
/// of a surrogate pair (`"\ud83d"`: JavaScript writes it for text cut inside an emoji) is read as the replacement
/// character, a number that is too large as `null`. Values that are nested too deeply are skipped, and then so are the
/// expiries.
pub(super) fn scan(text: &str, wanted: &[&str]) -> Result<Scanned, Failure> {
    read(text, wanted, true).or_else(|failure| {
        let repaired = repair(text);
        let repaired = repaired.as_deref();
        let whole = repaired.and_then(|text| read(text, wanted, true).ok());
        let text = repaired.unwrap_or(text);
        whole.or_else(|| read(text, wanted, false).ok()).or_else(|| each_alone(text, wanted)).ok_or(failure)
    })
}

/// Reads every wanted value in a pass of its own: one that cannot be read must not hide the others.
fn each_alone(text: &str, wanted: &[&str]) -> Option<Scanned> {
    let alone: Vec<_> = wanted.iter().map(|one| read(text, &[one], false).ok()).collect();
    let readable = alone.iter().any(Option::is_some);
    let values = alone.into_iter().map(|found| found?.values.pop().flatten()).collect();
    readable.then_some(Scanned { values, expiry: None })
}

/// One pass. `whole`: also through values that are not wanted, for the expiries in them.
fn read(text: &str, wanted: &[&str], whole: bool) -> Result<Scanned, Failure> {
    let found = RefCell::new(Scanned { values: vec![None; wanted.len()], expiry: None });
    let mut reader = serde_json::Deserializer::from_str(text);
    let rests =
        wanted.iter().map(|wanted| if wanted.starts_with('/') { Rest::Pointer(wanted) } else { Rest::Member(wanted) });
    let at = At { found: &found, wanted: rests.enumerate().collect(), whole, top: true, expiry: false };
    at.deserialize(&mut reader).and_then(|()| reader.end()).map_err(|error| {
        let reason = if error.is_data() { Reason::NotAnObject } else { Reason::NotJson };
        Failure::new(reason, format!("{} (line {}, column {})", reason.about(), error.line(), error.column()))
    })?;
    Ok(found.into_inner())
}

/// The way from a place to a wanted value.
#[derive(Clone, Copy)]
enum Rest<'a> {
    /// The name of a member of this object.
    Member(&'a str),
    /// A JSON pointer from this place. If it is empty, the value is at this place.
    Pointer(&'a str),
}

impl<'a> Rest<'a> {
    /// The way from a member or an element, if the wanted value is at it or below it.
    fn after(self, part: &str) -> Option<Rest<'a>> {
        match self {
            Rest::Member(name) => (name == part).then_some(Rest::Pointer("")),
            Rest::Pointer(pointer) => {
                let pointer = pointer.strip_prefix('/')?;
                let end = pointer.find('/').unwrap_or(pointer.len());
                let (first, rest) = pointer.split_at(end);
                let is_same = match first.contains('~') {
                    true => first.replace("~1", "/").replace("~0", "~") == part,
                    false => first == part,
                };
                is_same.then_some(Rest::Pointer(rest))
            }
        }
    }

    fn is_here(self) -> bool {
        matches!(self, Rest::Pointer(""))
    }
}

/// A place in the document.
struct At<'a> {
    found: &'a RefCell<Scanned>,
    /// The wanted values at this place and below it, by their index. Places without one cost no allocation.
    wanted: Vec<(usize, Rest<'a>)>,
    whole: bool,
    top: bool,
    /// Whether the member's name marks its value as an expiry.
    expiry: bool,
}

impl<'a> At<'a> {
    /// A place below this one: a member or an element.
    fn below(&self, part: &str, expiry: bool) -> At<'a> {
        let below = self.wanted.iter().filter_map(|(index, rest)| Some((*index, rest.after(part)?)));
        At { found: self.found, wanted: below.collect(), whole: self.whole, top: false, expiry }
    }

    /// Whether the value can be skipped.
    fn is_skipped(&self) -> bool {
        self.wanted.is_empty() && !self.whole
    }

    /// Keeps a value, if it is wanted.
    fn scalar(&self, value: impl Fn() -> Scalar) {
        for (index, _) in self.wanted.iter().filter(|(_, rest)| rest.is_here()) {
            self.found.borrow_mut().values[*index] = Some(value());
        }
    }

    /// Forgets what was found at this place and below: of several members with one name the last counts, as for the JSON
    /// parsers that workers use.
    fn forget(&self) {
        for (index, _) in &self.wanted {
            self.found.borrow_mut().values[*index] = None;
        }
    }

    fn number(&self, seconds: f64) {
        if self.expiry && seconds > 0.0 {
            let mut found = self.found.borrow_mut();
            found.expiry = Some(found.expiry.map_or(seconds, |earliest| earliest.min(seconds)));
        }
    }
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(MemberName(name)) = map.next_key()? {
            let expiry = name.ends_with("expiresAt") || name.ends_with("ExpiresAt");
            let below = self.below(&name, expiry);
            if below.is_skipped() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            below.forget();
            map.next_value_seed(below)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.top {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Err(A::Error::custom("an array"));
        }
        for index in 0_usize.. {
            let part = if self.wanted.is_empty() { String::new() } else { index.to_string() };
            let below = self.below(&part, false);
            let more = match below.is_skipped() {
                true => seq.next_element::<IgnoredAny>()?.is_some(),
                false => seq.next_element_seed(below)?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.scalar_at(|at| {
            if at.expiry
                && let Ok(time) = text.parse::<Timestamp>()
            {
                at.number(time.as_duration().as_secs_f64());
            }
            at.scalar(|| Scalar::Text(text.to_owned()));
        })
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.scalar_at(|at| {
            at.number(number as f64);
            at.scalar(|| Scalar::Integer(number));
        })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.scalar_at(|at| {
            at.number(number as f64);
            at.scalar(|| i64::try_from(number).map_or(Scalar::Float(number as f64), Scalar::Integer));
        })
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.scalar_at(|at| {
            at.number(number);
            at.scalar(|| Scalar::Float(number));
        })
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.scalar_at(|at| at.scalar(|| Scalar::Bool(value)))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.scalar_at(|at| at.scalar(|| Scalar::Null))
    }
}

impl At<'_> {
    /// A scalar. At the top level it is an error.
    fn scalar_at<E: Error>(self, keep: impl FnOnce(&Self)) -> Result<(), E> {
        if self.top {
            return Err(E::custom("not an object"));
        }
        keep(&self);
        Ok(())
    }
}

/// A member's name, borrowed unless it has escapes.
struct MemberName<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for MemberName<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = MemberName<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(MemberName(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(MemberName(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Name)
    }
}
