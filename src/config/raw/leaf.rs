//! Values with their places. `Debug` shows no text: any of them may be a secret.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use crate::config::mistake::Place;

/// A scalar as text.
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

/// A mapping from names to values, in the file's order; the names have places too.
#[derive(Debug)]
pub(in super::super) struct Named<T>(pub Vec<(Leaf, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Named<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping from names to settings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key()? {
                    entries.push((name, map.next_value()?));
                }
                Ok(Named(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// A JSON scalar: what a condition compares with.
#[derive(Clone)]
pub(in super::super) struct Scalar {
    pub value: serde_json::Value,
    pub place: Place,
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[value at {:?}]", self.place)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<serde_json::Value>::deserialize(deserializer)?;
        Ok(Scalar { place: place(&spanned.referenced), value: spanned.value })
    }
}

/// One text, or a list of them.
#[derive(Clone, Debug)]
pub(in super::super) struct OneOrMany {
    pub all: Vec<Leaf>,
    /// Where the whole is.
    pub place: Place,
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Inner<List>>::deserialize(deserializer)?;
        let place = place(&spanned.referenced);
        Ok(match spanned.value {
            Inner::Text(text) => OneOrMany { all: vec![Leaf { text, place: place.clone() }], place },
            Inner::More(List(all)) => OneOrMany { all, place },
        })
    }
}

/// A name, or a mapping that says more.
#[derive(Debug)]
pub(in super::super) enum Or<T> {
    Name(Leaf),
    More(T, Place),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Or<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Inner<Mapping<T>>>::deserialize(deserializer)?;
        let place = place(&spanned.referenced);
        Ok(match spanned.value {
            Inner::Text(text) => Or::Name(Leaf { text, place }),
            Inner::More(Mapping(more)) => Or::More(more, place),
        })
    }
}

struct List(Vec<Leaf>);
struct Mapping<T>(T);

/// What may stand in the place of a text.
trait More<'de>: Sized {
    const EXPECTED: &'static str;
    fn list<A: SeqAccess<'de>>(_: A) -> Result<Self, A::Error> {
        Err(A::Error::custom(format_args!("expected {}", Self::EXPECTED)))
    }
    fn map<A: MapAccess<'de>>(_: A) -> Result<Self, A::Error> {
        Err(A::Error::custom(format_args!("expected {}", Self::EXPECTED)))
    }
}

impl<'de> More<'de> for List {
    const EXPECTED: &'static str = "a text or a list of texts";
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut all = Vec::new();
        while let Some(leaf) = list.next_element()? {
            all.push(leaf);
        }
        Ok(List(all))
    }
}

impl<'de, T: Deserialize<'de>> More<'de> for Mapping<T> {
    const EXPECTED: &'static str = "a name or a mapping";
    fn map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Mapping)
    }
}

enum Inner<M> {
    Text(String),
    More(M),
}

impl<'de, M: More<'de>> Deserialize<'de> for Inner<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<M>(PhantomData<M>);
        impl<'de, M: More<'de>> Visitor<'de> for Either<M> {
            type Value = Inner<M>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(M::EXPECTED)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Inner::Text(text.into()))
            }
            // What looks like a number is still a text here.
            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Inner::Text(number.to_string()))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Inner::Text(number.to_string()))
            }
            fn visit_u128<E: Error>(self, number: u128) -> Result<Self::Value, E> {
                Ok(Inner::Text(number.to_string()))
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Inner::Text(number.to_string()))
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Inner::Text(value.to_string()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                M::list(list).map(Inner::More)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                M::map(map).map(Inner::More)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}
