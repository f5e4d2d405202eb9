//! One pass over a JSON object: the few values that are wanted, and the earliest expiry of a signed URL at any depth.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::reason::{Failure, Reason};

/// A value that an attribute can be made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Text(String),
    Integer(i64),
    Float(f64),
}

/// What one pass found.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// For each wanted name, in order.
    pub values: Vec<Option<Scalar>>,
    /// Unix seconds of the earliest `…expiresAt` that is a number.
    pub expiry: Option<f64>,
}

/// Reads an object. `wanted`: names of top-level members, or JSON pointers that begin with `/`.
///
/// JSON's grammar allows an escape of half a character (`"\ud83d"`: JavaScript writes it for text cut inside an emoji), and
/// most workers read it. It must not cost the event: such an escape counts as the replacement character here.
pub(super) fn scan(text: &str, wanted: &[&str]) -> Result<Scanned, Failure> {
    strict(text, wanted).or_else(|failure| match mend(text) {
        Some(mended) => strict(&mended, wanted),
        None => Err(failure),
    })
}

/// The whole value of a body that [`scan`] could read.
pub(super) fn value(text: &str) -> Option<serde_json::Value> {
    serde_json::from_str(text).ok().or_else(|| serde_json::from_str(&mend(text)?).ok())
}

/// The text with halves of characters replaced, if there are any. In JSON, backslashes are in strings only.
fn mend(text: &str) -> Option<String> {
    let unit = |at: usize| match text.get(at..at + 6)?.strip_prefix("\\u") {
        Some(hex) => u16::from_str_radix(hex, 16).ok(),
        None => None,
    };
    let (mut mended, mut at) = (None, 0);
    while let Some(found) = text.get(at..)?.find('\\') {
        at += found;
        at += match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                mended.get_or_insert_with(|| text.to_owned()).replace_range(at..at + 6, "\\ufffd");
                6
            }
            _ => 2,
        };
    }
    mended
}

fn strict(text: &str, wanted: &[&str]) -> Result<Scanned, Failure> {
    let found = RefCell::new(Scanned { values: vec![None; wanted.len()], expiry: None });
    let mut reader = serde_json::Deserializer::from_str(text);
    let at = At { found: &found, wanted, path: String::new(), top: true, expiry: false };
    at.deserialize(&mut reader).and_then(|()| reader.end()).map_err(|error| {
        let reason = if error.is_data() { Reason::NotAnObject } else { Reason::NotJson };
        Failure::new(reason, format!("{} (line {}, column {})", reason.about(), error.line(), error.column()))
    })?;
    Ok(found.into_inner())
}

/// A place in the document.
struct At<'a> {
    found: &'a RefCell<Scanned>,
    wanted: &'a [&'a str],
    /// The pointer to here, kept only while a wanted pointer could still be below.
    path: String,
    top: bool,
    /// Whether the member's name says that this number is an expiry.
    expiry: bool,
}

impl At<'_> {
    fn take(&self, name: &str, value: impl Fn() -> Scalar) {
        let mut found = self.found.borrow_mut();
        for (index, wanted) in self.wanted.iter().enumerate() {
            if *wanted == name {
                found.values[index] = Some(value());
            }
        }
    }

    fn scalar(&self, value: impl Fn() -> Scalar) {
        if let Some(name) = self.path.strip_prefix('/').filter(|name| !name.contains('/')) {
            self.take(name, &value);
        }
        if !self.path.is_empty() {
            self.take(&self.path, value);
        }
    }

    fn number(&self, seconds: f64) {
        if self.expiry && seconds > 0.0 {
            let mut found = self.found.borrow_mut();
            found.expiry = Some(found.expiry.map_or(seconds, |earliest| earliest.min(seconds)));
        }
    }

    /// Whether anything that is wanted has this path, or one below it.
    fn interesting(&self, path: &str) -> bool {
        self.wanted.iter().any(|wanted| match wanted.strip_prefix('/') {
            Some(_) => wanted.starts_with(path),
            None => *wanted == &path[1..],
        })
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
        while let Some(Key(name)) = map.next_key()? {
            let mut path = String::new();
            if self.top || !self.path.is_empty() {
                path = format!("{}/{name}", self.path);
                if !self.interesting(&path) {
                    path.clear();
                }
            }
            if !path.is_empty() {
                // The last of several members of one name counts, as for every JSON parser a worker may use.
                self.forget(&path);
            }
            let expiry = name.ends_with("expiresAt") || name.ends_with("ExpiresAt");
            map.next_value_seed(At { found: self.found, wanted: self.wanted, path, top: false, expiry })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.top {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Err(A::Error::custom("an array"));
        }
        let inside = || At { found: self.found, wanted: self.wanted, path: String::new(), top: false, expiry: false };
        while seq.next_element_seed(inside())?.is_some() {}
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.done(|at| at.scalar(|| Scalar::Text(text.to_owned())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.done(|at| {
            at.number(number as f64);
            at.scalar(|| Scalar::Integer(number));
        })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.done(|at| {
            at.number(number as f64);
            at.scalar(|| i64::try_from(number).map_or(Scalar::Float(number as f64), Scalar::Integer));
        })
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.done(|at| {
            at.number(number);
            at.scalar(|| Scalar::Float(number));
        })
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.done(|_| ())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.done(|_| ())
    }
}

impl At<'_> {
    /// A value that is not an object ends a pass only at the top.
    fn done<E: Error>(self, note: impl FnOnce(&Self)) -> Result<(), E> {
        if self.top {
            return Err(E::custom("not an object"));
        }
        note(&self);
        Ok(())
    }

    fn forget(&self, path: &str) {
        let mut found = self.found.borrow_mut();
        for (index, wanted) in self.wanted.iter().enumerate() {
            if *wanted == path || *wanted == &path[1..] {
                found.values[index] = None;
            }
        }
    }
}

/// A member's name, borrowed where it has no escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Name)
    }
}
