//! Values with their places. `Debug` prints no text, because any value may be a secret.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::section::{Section, is_extension, settings_of};
use crate::config::mistake::Place;

/// A scalar, as text.
#[derive(Clone)]
pub(in super::super) struct Leaf {
    pub text: String,
    pub place: Place,
}

impl Leaf {
    pub fn named(name: &'static str, text: impl Into<String>) -> Self {
        Leaf { text: text.into(), place: Place::Named(name) }
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[text at {:?}]", self.place)
    }
}

fn place(location: &Location) -> Place {
    match location.line() {
        0 => Place::Nowhere,
        line => Place::File { line, column: location.column() },
    }
}

impl<'de> Deserialize<'de> for Leaf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        Ok(Leaf { place: place(&spanned.referenced), text: spanned.value })
    }
}

/// A mapping from names to values, in the order of the file. The names have places too.
#[derive(Debug)]
pub(in super::super) struct Named<T>(pub Vec<(Leaf, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamedVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
            type Value = Named<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping from names to settings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<Leaf>()? {
                    match is_extension(&name.text) {
                        true => drop(map.next_value::<IgnoredAny>()?),
                        false => entries.push((name, map.next_value()?)),
                    }
                }
                Ok(Named(entries))
            }
        }
        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

/// A mapping from names to mappings of settings.
pub(super) fn named_sections<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Named<T>>, D::Error> {
    let named = Option::<Named<Section<T>>>::deserialize(deserializer)?;
    Ok(named.map(|Named(all)| Named(all.into_iter().map(|(name, Section(settings))| (name, settings)).collect())))
}

/// A JSON value that a condition compares with.
#[derive(Clone)]
pub(in super::super) struct RawScalar {
    pub value: serde_json::Value,
    pub place: Place,
}

impl fmt::Debug for RawScalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[value at {:?}]", self.place)
    }
}

impl<'de> Deserialize<'de> for RawScalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<serde_json::Value>::deserialize(deserializer)?;
        Ok(RawScalar { place: place(&spanned.referenced), value: spanned.value })
    }
}

/// A string, or a list of strings.
#[derive(Clone, Debug)]
pub(in super::super) struct OneOrMany {
    pub all: Vec<Leaf>,
    /// The place of the string or list.
    pub place: Place,
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<TextOr<List>>::deserialize(deserializer)?;
        let place = place(&spanned.referenced);
        Ok(match spanned.value {
            TextOr::Text(text) => OneOrMany { all: vec![Leaf { text, place: place.clone() }], place },
            TextOr::Other(List(all)) => OneOrMany { all, place },
        })
    }
}

/// A name, or a mapping with further settings.
#[derive(Debug)]
pub(in super::super) enum NameOr<T> {
    Name(Leaf),
    Mapping(T, Place),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NameOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<TextOr<Mapping<T>>>::deserialize(deserializer)?;
        let place = place(&spanned.referenced);
        Ok(match spanned.value {
            TextOr::Text(text) => NameOr::Name(Leaf { text, place }),
            TextOr::Other(Mapping(settings)) => NameOr::Mapping(settings, place),
        })
    }
}

/// The targets of a route: a list, or one without a list.
#[derive(Debug)]
pub(in super::super) struct Targets<T>(pub Vec<NameOr<T>>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Targets<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<TextOr<TargetList<T>>>::deserialize(deserializer)?;
        let place = place(&spanned.referenced);
        Ok(Targets(match spanned.value {
            TextOr::Text(text) => vec![NameOr::Name(Leaf { text, place })],
            TextOr::Other(TargetList::One(to)) => vec![NameOr::Mapping(to, place)],
            TextOr::Other(TargetList::All(all)) => all,
        }))
    }
}

enum TargetList<T> {
    One(T),
    All(Vec<NameOr<T>>),
}

struct List(Vec<Leaf>);
struct Mapping<T>(T);

/// What a setting accepts besides a string.
trait Alternative<'de>: Sized {
    const EXPECTED: &'static str;
    fn list<A: SeqAccess<'de>>(_: A) -> Result<Self, A::Error> {
        Err(A::Error::custom(format_args!("expected {}", Self::EXPECTED)))
    }
    fn map<A: MapAccess<'de>>(_: A) -> Result<Self, A::Error> {
        Err(A::Error::custom(format_args!("expected {}", Self::EXPECTED)))
    }
}

impl<'de> Alternative<'de> for List {
    const EXPECTED: &'static str = "a list of texts or one text";
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut all = Vec::new();
        while let Some(leaf) = list.next_element()? {
            all.push(leaf);
        }
        Ok(List(all))
    }
}

impl<'de, T: Deserialize<'de>> Alternative<'de> for Mapping<T> {
    const EXPECTED: &'static str = "a name or a mapping of settings";
    fn map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::deserialize(settings_of(map)).map(Mapping)
    }
}

impl<'de, T: Deserialize<'de>> Alternative<'de> for TargetList<T> {
    const EXPECTED: &'static str = "a list of targets or one target";
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut all = Vec::new();
        while let Some(target) = list.next_element()? {
            all.push(target);
        }
        Ok(TargetList::All(all))
    }
    fn map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::deserialize(settings_of(map)).map(TargetList::One)
    }
}

/// A string, or its alternative.
enum TextOr<T> {
    Text(String),
    Other(T),
}

impl<'de, T: Alternative<'de>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrVisitor<T>(PhantomData<T>);
        impl<'de, T: Alternative<'de>> Visitor<'de> for TextOrVisitor<T> {
            type Value = TextOr<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text.into()))
            }
            // A value that YAML reads as a number or a boolean is still a string here.
            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(TextOr::Text(number.to_string()))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(TextOr::Text(number.to_string()))
            }
            fn visit_u128<E: Error>(self, number: u128) -> Result<Self::Value, E> {
                Ok(TextOr::Text(number.to_string()))
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
                Ok(TextOr::Text(number.to_string()))
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
                Ok(TextOr::Text(value.to_string()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                T::list(list).map(TextOr::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::map(map).map(TextOr::Other)
            }
        }
        deserializer.deserialize_any(TextOrVisitor(PhantomData))
    }
}
