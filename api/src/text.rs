//! Values that people write as one word: identifiers, names, addresses, and spans of time.

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

/// A text of a file or a stranger for a message: at most so many characters, none of which moves a terminal's cursor.
pub fn plain(text: &str, most: usize) -> String {
    let shown = |c: char| match c {
        '\t' | '\n' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    let cut = text.chars().nth(most).is_some();
    let kept = if cut { most.saturating_sub(1) } else { most };
    text.chars().take(kept).map(shown).chain(cut.then_some('…')).collect()
}

/// A value that is written as text and checked when it is read, for types that know nothing of serde.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text<T>(pub T);

impl<T> Deref for Text<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Text<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: fmt::Display> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T> Deserialize<'de> for Text<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word<T>(PhantomData<T>);

        impl<T> Visitor<'_> for Word<T>
        where
            T: FromStr,
            T::Err: fmt::Display,
        {
            type Value = Text<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Text<T>, E> {
                value.parse().map(Text).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Word(PhantomData))
    }
}

/// A span of time as people write it: a number with a unit (`10s`), or several (`1m30s`).
///
/// Units are `ms`, `s`, `m`, `h`, `d`. At most 10 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// Most that can be written: ten years, so that no sum of two overflows anything.
const SPAN_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Units in milliseconds, greatest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A text that is not a span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a span of time: {reason}")]
pub struct InvalidSpan {
    /// The offending text, cut to 40 characters.
    pub value: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(value: &str) -> Result<Self, InvalidSpan> {
        let bad = |reason| InvalidSpan { value: plain(value, 40), reason };
        let form = "write a number and a unit, ms, s, m, h or d, as in `10s`";
        if value.is_empty() {
            return Err(bad(form));
        }
        let mut rest = value;
        let mut total = Duration::ZERO;
        let mut last_unit = u64::MAX;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
            let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
            let number: u64 = number.parse().map_err(|_| bad(form))?;
            let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| bad(form))?;
            if *unit_ms >= last_unit {
                return Err(bad("units go from the greatest to the least, each once"));
            }
            last_unit = *unit_ms;
            let part = number.checked_mul(*unit_ms).map(Duration::from_millis);
            total = part.and_then(|part| total.checked_add(part)).ok_or_else(|| bad("it is too long"))?;
            rest = &rest[digits + letters..];
        }
        if total > SPAN_MAX { Err(bad("it is longer than 10 years")) } else { Ok(Self(total)) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.pad("0s");
        }
        let mut text = String::new();
        for (name, unit_ms) in UNITS {
            if rest >= unit_ms {
                text.push_str(&format!("{}{name}", rest / unit_ms));
                rest %= unit_ms;
            }
        }
        f.pad(&text)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer).map(|text| text.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_survives_text() {
        for (text, ms) in [
            ("0s", 0),
            ("5ms", 5),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("1s500ms", 1_500),
            ("12h", 43_200_000),
            ("3d", 259_200_000),
        ] {
            let span: Span = text.parse().expect("valid");
            assert_eq!(span.0, Duration::from_millis(ms));
            assert_eq!(span.to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_span_is_refused() {
        for text in
            ["", "10", "s", "10 s", "-1s", "1.5s", "1s1m", "1s1s", "10w", "99999999999999999999s", "4000d"]
        {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        assert!("ä1s".parse::<Span>().is_err());
        assert!("1sä".parse::<Span>().is_err());
    }
}
