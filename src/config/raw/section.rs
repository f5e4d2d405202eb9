//! Mappings of settings. Keys that begin with `x-` are ignored: a place for YAML anchors.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, StringDeserializer};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, IntoDeserializer as _, MapAccess, Visitor};

pub(super) fn is_extension(key: &str) -> bool {
    key.starts_with("x-")
}

/// A mapping of settings without its extensions.
pub(super) fn settings_of<'de, A: MapAccess<'de>>(map: A) -> MapAccessDeserializer<WithoutExtensions<A>> {
    MapAccessDeserializer::new(WithoutExtensions(map))
}

/// A mapping of settings, for fields with `deserialize_with`.
pub(super) fn section<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Section::deserialize(deserializer).map(|Section(settings)| settings)
}

/// The same for a setting that may be missing.
pub(super) fn optional_section<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Section<T>>::deserialize(deserializer)?.map(|Section(settings)| settings))
}

/// A list of such mappings.
pub(super) fn sections<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let list = Option::<Vec<Section<T>>>::deserialize(deserializer)?;
    Ok(list.map(|all| all.into_iter().map(|Section(settings)| settings).collect()))
}

/// A mapping of settings.
pub(super) struct Section<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Section<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SectionVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for SectionVisitor<T> {
            type Value = Section<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of settings")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(settings_of(map)).map(Section)
            }
        }
        deserializer.deserialize_map(SectionVisitor(PhantomData))
    }
}

pub(super) struct WithoutExtensions<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithoutExtensions<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.0.next_key::<String>()? {
            if !is_extension(&key) {
                let key: StringDeserializer<A::Error> = key.into_deserializer();
                return seed.deserialize(key).map(Some);
            }
            self.0.next_value::<IgnoredAny>()?;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}
