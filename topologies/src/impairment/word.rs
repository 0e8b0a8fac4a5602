//! Values that are one word in the common case, and a mapping where more is said.

use crate::quantity::Share;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Reads a `T` from a share, or from a mapping of `Fields`.
pub(super) fn or_fields<'de, T, Fields, D>(deserializer: D, expecting: &'static str) -> Result<T, D::Error>
where
    T: From<Share> + From<Fields>,
    Fields: Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(WordOrFields { expecting, of: PhantomData::<(T, Fields)> })
}

struct WordOrFields<T, Fields> {
    expecting: &'static str,
    of: PhantomData<(T, Fields)>,
}

impl<'de, T, Fields> Visitor<'de> for WordOrFields<T, Fields>
where
    T: From<Share> + From<Fields>,
    Fields: Deserialize<'de>,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<T, E> {
        value.parse::<Share>().map(T::from).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        Fields::deserialize(MapAccessDeserializer::new(map)).map(T::from)
    }
}
