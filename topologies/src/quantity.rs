//! Numbers with a unit, as people write them: `30ms`, `2%`, `100Mbit`, `256KiB`.
//!
//! Each is kept as a whole number of its least part, so that what was read is written again to the letter. Written with
//! `{}` they have the form of files, with `{:#}` that of texts for people (`30 ms`, `2 %`, `100 Mbit/s`).

use api::text::{Span, plain};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A text that is not the quantity that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {what}: {reason}")]
pub struct InvalidQuantity {
    /// What it should have been, as a person would say it (`a share`).
    pub what: &'static str,
    /// The offending text, cut to 40 characters.
    pub value: String,
    /// What is wrong with it, or what to write.
    pub reason: &'static str,
}

fn invalid(what: &'static str, value: &str, reason: &'static str) -> InvalidQuantity {
    InvalidQuantity { what, value: plain(value, 40), reason }
}

/// A time that is short: of a delay, a jitter, a queue. At most [`Delay::MAX`], to the nanosecond.
///
/// Written as `30ms`, `4.5ms`, `250us` or `1.5s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Delay(pub Duration);

impl Delay {
    /// Longest that can be written: a minute. What is longer is no delay of a network.
    pub const MAX: Duration = Duration::from_secs(60);
    const WHAT: &'static str = "a delay";
    /// Units in nanoseconds.
    const UNITS: [(&'static str, u64); 3] = [("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];
}

impl FromStr for Delay {
    type Err = InvalidQuantity;

    fn from_str(value: &str) -> Result<Self, InvalidQuantity> {
        let form = "write a number and a unit, us, ms or s, as in `30ms` or `4.5ms`";
        let (number, unit) = split(value);
        let nanos = Self::UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .and_then(|(_, scale)| decimal(number, *scale))
            .map(Duration::from_nanos);
        // The form of longer spans, as in `1s500ms`, is understood too.
        let time = nanos.or_else(|| value.parse::<Span>().ok().map(|span| span.0));
        let time = time.ok_or_else(|| invalid(Self::WHAT, value, form))?;
        if time > Self::MAX {
            return Err(invalid(Self::WHAT, value, "it is longer than a minute"));
        }
        Ok(Self(time))
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        let (unit, scale) = match nanos {
            0 => ("ms", 1_000_000),
            1..100_000 => ("us", 1_000),
            100_000..1_000_000_000 => ("ms", 1_000_000),
            _ => ("s", 1_000_000_000),
        };
        amount(f, nanos, scale, unit)
    }
}

/// A share of packets, 0 % to 100 %. Written as `2%` or `0.1%`, to seven places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Share {
    /// Parts of a billion, at most a billion.
    parts: u32,
}

impl Share {
    /// Nothing.
    pub const NONE: Self = Self { parts: 0 };
    /// All.
    pub const ALL: Self = Self { parts: 1_000_000_000 };
    const WHAT: &'static str = "a share";

    /// The nearest share to a fraction of 1; what lies outside 0 to 1, or is no number, is brought into it.
    pub fn of(fraction: f64) -> Self {
        let parts = (fraction.clamp(0.0, 1.0) * f64::from(Self::ALL.parts)).round();
        // Between 0 and a billion, or no number, which becomes 0.
        Self { parts: parts as u32 }
    }

    /// As a fraction of 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.parts) / f64::from(Self::ALL.parts)
    }

    /// Nothing at all.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

impl FromStr for Share {
    type Err = InvalidQuantity;

    fn from_str(value: &str) -> Result<Self, InvalidQuantity> {
        let form = "write per cent, as in `2%` or `0.1%`";
        let number = value.strip_suffix('%').map(str::trim_end);
        let parts = number.and_then(|number| decimal(number, 10_000_000));
        let parts = parts.ok_or_else(|| invalid(Self::WHAT, value, form))?;
        match u32::try_from(parts) {
            Ok(parts) if parts <= Self::ALL.parts => Ok(Self { parts }),
            _ => Err(invalid(Self::WHAT, value, "it is more than 100%")),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        amount(f, u64::from(self.parts), 10_000_000, "%")
    }
}

/// A rate, from 1 kbit/s to 100 Gbit/s. Written as `512kbit`, `1.5Mbit` or `1Gbit`; `/s` may follow. 1 kbit is 1000 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate {
    bits_per_s: u64,
}

impl Rate {
    const WHAT: &'static str = "a rate";
    const UNITS: [(&'static str, u64); 3] = [("kbit", 1_000), ("Mbit", 1_000_000), ("Gbit", 1_000_000_000)];
    const RANGE: std::ops::RangeInclusive<u64> = 1_000..=100_000_000_000;

    /// A rate, brought into the range of rates.
    pub fn of(bits_per_s: u64) -> Self {
        Self { bits_per_s: bits_per_s.clamp(*Self::RANGE.start(), *Self::RANGE.end()) }
    }

    /// In bits per second, never 0.
    pub fn bits_per_s(self) -> u64 {
        self.bits_per_s
    }

    /// How long so many bytes take.
    pub fn time_of(self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(self.bits_per_s);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many bytes go in such a time.
    pub fn bytes_in(self, time: Duration) -> u64 {
        u64::try_from(time.as_nanos() * u128::from(self.bits_per_s) / 8 / 1_000_000_000).unwrap_or(u64::MAX)
    }
}

impl FromStr for Rate {
    type Err = InvalidQuantity;

    fn from_str(value: &str) -> Result<Self, InvalidQuantity> {
        let form = "write a number and a unit, kbit, Mbit or Gbit, as in `100Mbit`";
        let (number, unit) = split(value.strip_suffix("/s").unwrap_or(value));
        let scale = Self::UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
        let bits_per_s = scale.and_then(|scale| decimal(number, scale));
        let bits_per_s = bits_per_s.ok_or_else(|| invalid(Self::WHAT, value, form))?;
        if !Self::RANGE.contains(&bits_per_s) {
            let reason = "it must lie between 1kbit and 100Gbit; what lets nothing through is a `cut`";
            return Err(invalid(Self::WHAT, value, reason));
        }
        Ok(Self { bits_per_s })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = Self::UNITS.iter().rev().find(|(_, scale)| self.bits_per_s >= *scale);
        let (unit, scale) = fits.copied().unwrap_or(Self::UNITS[0]);
        amount(f, self.bits_per_s, scale, unit)?;
        if f.alternate() { f.write_str("/s") } else { Ok(()) }
    }
}

/// How much may wait for a rate: a time at that rate (`50ms`), or bytes (`256KiB`, `64kB`, `3000B`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Queue {
    /// What goes out in this time.
    Time(Duration),
    /// So many bytes, at most [`Queue::BYTES_MAX`].
    Bytes(u64),
}

impl Queue {
    /// Longest queue that is not said otherwise: 100 ms, as a home router has.
    pub const DEFAULT: Self = Self::Time(Duration::from_millis(100));
    /// Most bytes of a queue, so that no relay is asked to hold more.
    pub const BYTES_MAX: u64 = 16 << 20;
    const WHAT: &'static str = "the length of a queue";
    /// Units in bytes, greatest first.
    const UNITS: [(&'static str, u64); 5] =
        [("MiB", 1 << 20), ("MB", 1_000_000), ("KiB", 1 << 10), ("kB", 1_000), ("B", 1)];

    /// In bytes, for what leaves it at a rate. At most [`Queue::BYTES_MAX`].
    pub fn bytes(self, rate: Rate) -> u64 {
        let bytes = match self {
            Self::Time(time) => rate.bytes_in(time),
            Self::Bytes(bytes) => bytes,
        };
        bytes.min(Self::BYTES_MAX)
    }
}

impl FromStr for Queue {
    type Err = InvalidQuantity;

    fn from_str(value: &str) -> Result<Self, InvalidQuantity> {
        let form = "write a time or bytes, as in `50ms` or `256KiB`";
        if let Ok(time) = value.parse::<Delay>() {
            return Ok(Self::Time(time.0));
        }
        let (number, unit) = split(value);
        let scale = Self::UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
        let bytes = scale.and_then(|scale| decimal(number, scale));
        match bytes.ok_or_else(|| invalid(Self::WHAT, value, form))? {
            bytes if bytes > Self::BYTES_MAX => Err(invalid(Self::WHAT, value, "it is more than 16MiB")),
            bytes => Ok(Self::Bytes(bytes)),
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => Delay(*time).fmt(f),
            Self::Bytes(bytes) => {
                // The greatest unit of which it is a whole number.
                let whole = Self::UNITS.iter().find(|(_, scale)| *bytes > 0 && bytes % scale == 0);
                let (unit, scale) = whole.copied().unwrap_or(("B", 1));
                amount(f, *bytes, scale, unit)
            }
        }
    }
}

/// Number and unit of a text; a blank may stand between them.
fn split(value: &str) -> (&str, &str) {
    let digits = value.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = value.split_at(digits);
    (number, unit.trim_start())
}

/// A decimal number times `scale`, a product of twos and tens; none: it is no number, too large, or finer than 1.
fn decimal(number: &str, scale: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !are_digits(whole) || !are_digits(part) || part.len() > 9 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    let tens = 10_u64.pow(u32::try_from(part.len()).ok()?);
    let part = u128::from(part.parse::<u64>().ok()?) * u128::from(scale);
    let is_exact = part % u128::from(tens) == 0;
    is_exact.then(|| u64::try_from(part / u128::from(tens)).ok())??.checked_add(whole)
}

/// Writes `count` parts, of which `scale` make one of the unit, as a decimal number without idle zeros.
fn amount(f: &mut fmt::Formatter<'_>, count: u64, scale: u64, unit: &str) -> fmt::Result {
    let blank = if f.alternate() { " " } else { "" };
    let (whole, rest) = (count / scale, count % scale);
    if rest == 0 {
        return write!(f, "{whole}{blank}{unit}");
    }
    // Powers of two never leave a rest: their counts are whole.
    let places = usize::try_from(scale.ilog10()).unwrap_or_default();
    let part = format!("{rest:0places$}");
    write!(f, "{whole}.{}{blank}{unit}", part.trim_end_matches('0'))
}

/// Reads and writes a plain `Duration` as a [`Delay`], for `#[serde(with)]`.
pub(crate) mod delay {
    use super::{Delay, Deserialize, Deserializer, Duration, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        Delay(*time).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Delay::deserialize(deserializer).map(|delay| delay.0)
    }
}

macro_rules! as_text {
    ($($name:ident)*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Word;

                impl Visitor<'_> for Word {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($name::WHAT)
                    }

                    fn visit_str<E: de::Error>(self, value: &str) -> Result<$name, E> {
                        value.parse().map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Word)
            }
        }
    )*};
}

as_text!(Delay Share Rate Queue);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn again<T: FromStr + fmt::Display>(text: &str) -> String
    where
        T::Err: fmt::Display,
    {
        match text.parse::<T>() {
            Ok(value) => format!("{value} {value:#}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_people_write_is_understood_and_written_alike() {
        for (text, shown) in [
            ("30ms", "30ms 30 ms"),
            ("4.5 ms", "4.5ms 4.5 ms"),
            ("0s", "0ms 0 ms"),
            ("250us", "0.25ms 0.25 ms"),
            ("50us", "50us 50 us"),
            ("1s500ms", "1.5s 1.5 s"),
            ("1m", "60s 60 s"),
        ] {
            assert_eq!(again::<Delay>(text), shown);
        }
        for (text, shown) in
            [("2%", "2% 2 %"), ("0.1%", "0.1% 0.1 %"), ("7 %", "7% 7 %"), ("100%", "100% 100 %")]
        {
            assert_eq!(again::<Share>(text), shown);
        }
        for (text, shown) in [
            ("100Mbit", "100Mbit 100 Mbit/s"),
            ("1.5Mbit/s", "1.5Mbit 1.5 Mbit/s"),
            ("1000kbit", "1Mbit 1 Mbit/s"),
            ("512 kbit", "512kbit 512 kbit/s"),
        ] {
            assert_eq!(again::<Rate>(text), shown);
        }
        for (text, shown) in [
            ("256KiB", "256KiB 256 KiB"),
            ("64kB", "64kB 64 kB"),
            ("1.5KiB", "1536B 1536 B"),
            ("50ms", "50ms 50 ms"),
            ("0B", "0B 0 B"),
        ] {
            assert_eq!(again::<Queue>(text), shown);
        }
    }

    #[test]
    fn what_is_none_is_refused_with_the_form() {
        for text in
            ["", "30", "ms", "-1ms", "1.ms", ".5ms", "1e3ms", "0.0000001ms", "99999999999999999999s", "1ä"]
        {
            assert!(text.parse::<Delay>().is_err(), "{text}");
        }
        assert_eq!(again::<Delay>("61s"), "`61s` is not a delay: it is longer than a minute");
        assert_eq!(again::<Share>("2"), "`2` is not a share: write per cent, as in `2%` or `0.1%`");
        assert_eq!(again::<Share>("100.1%"), "`100.1%` is not a share: it is more than 100%");
        assert_eq!(
            again::<Rate>("100Mbps"),
            "`100Mbps` is not a rate: write a number and a unit, kbit, Mbit or Gbit, as in `100Mbit`"
        );
        assert!("0kbit".parse::<Rate>().is_err());
        assert!("17MiB".parse::<Queue>().is_err());
        assert!("1.5B".parse::<Queue>().is_err());
    }

    #[test]
    fn a_rate_says_how_long_bytes_take() {
        let rate: Rate = "100Mbit".parse().expect("a rate");
        assert_eq!(rate.time_of(1_250_000), Duration::from_millis(100));
        assert_eq!(Queue::DEFAULT.bytes(rate), 1_250_000);
        assert_eq!(Queue::Bytes(3000).bytes(rate), 3000);
        assert_eq!(Queue::DEFAULT.bytes(Rate::of(u64::MAX)), Queue::BYTES_MAX);
    }

    proptest! {
        #[test]
        fn every_quantity_survives_text(nanos in 0..=60_000_000_000_u64, parts in 0..=1_000_000_000_u32,
                                        bits in Rate::RANGE, bytes in 0..=Queue::BYTES_MAX) {
            let delay = Delay(Duration::from_nanos(nanos));
            prop_assert_eq!(delay.to_string().parse(), Ok(delay));
            let share = Share { parts };
            prop_assert_eq!(share.to_string().parse(), Ok(share));
            prop_assert_eq!(Share::of(share.fraction()), share);
            let rate = Rate::of(bits);
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
            let queue = Queue::Bytes(bytes);
            prop_assert_eq!(queue.to_string().parse(), Ok(queue));
        }
    }
}
