//! The checks of which the conversions are made.

use super::{Cause, WireError, limits};
use model::ids::InvalidId;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// Longest duration that is taken from a peer: a sum of many with any clock's reading still fits.
const DURATION_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Puts the name of the outer field before that of the inner one.
pub(crate) trait InField {
    fn in_field(self, field: impl Display) -> Self;
}

impl<T> InField for Result<T, WireError> {
    fn in_field(self, field: impl Display) -> Self {
        self.map_err(|inner| {
            let dot = if inner.field.is_empty() || inner.field.starts_with('[') { "" } else { "." };
            WireError { field: format!("{field}{dot}{}", inner.field), cause: inner.cause }
        })
    }
}

/// A field that must be there.
pub(crate) fn need<T>(field: &'static str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or_else(|| WireError::new(field, Cause::Missing))
}

/// A message that must be there.
pub(crate) fn convert<P, M>(field: &'static str, value: Option<P>) -> Result<M, WireError>
where
    M: TryFrom<P, Error = WireError>,
{
    need(field, value)?.try_into().in_field(field)
}

/// A list of messages.
pub(crate) fn list<P, M>(field: &'static str, values: Vec<P>, max: usize) -> Result<Vec<M>, WireError>
where
    M: TryFrom<P, Error = WireError>,
{
    list_of(field, values, max, M::try_from)
}

/// A list of anything.
pub(crate) fn list_of<P, M>(
    field: &'static str,
    values: Vec<P>,
    max: usize,
    of: impl Fn(P) -> Result<M, WireError>,
) -> Result<Vec<M>, WireError> {
    count(field, values.len(), "elements", max)?;
    let each = values.into_iter().enumerate();
    each.map(|(at, value)| of(value).in_field(format_args!("{field}[{at}]"))).collect()
}

/// A count that has a bound.
pub(crate) fn count(
    field: &'static str,
    found: usize,
    what: &'static str,
    max: usize,
) -> Result<(), WireError> {
    if found > max {
        return Err(WireError::new(field, Cause::TooMany { found, what, max }));
    }
    Ok(())
}

/// A list whose keys must grow.
pub(crate) fn ordered<T, K: Ord>(
    field: &'static str,
    values: &[T],
    key: impl Fn(&T) -> &K,
) -> Result<(), WireError> {
    for (at, pair) in values.windows(2).enumerate() {
        if key(&pair[0]) >= key(&pair[1]) {
            let cause = Cause::Rule("it is not ordered, or is there twice");
            return Err(WireError::new(format_args!("{field}[{}]", at + 1), cause));
        }
    }
    Ok(())
}

/// A text of a type that checks itself.
pub(crate) fn parse<T: FromStr<Err = InvalidId>>(field: &'static str, text: &str) -> Result<T, WireError> {
    text.parse().map_err(|invalid| WireError::new(field, Cause::Invalid(invalid)))
}

/// As [`parse`]; an empty text is none.
pub(crate) fn parse_some<T: FromStr<Err = InvalidId>>(
    field: &'static str,
    text: &str,
) -> Result<Option<T>, WireError> {
    if text.is_empty() { Ok(None) } else { parse(field, text).map(Some) }
}

/// A list of texts of a type that checks itself.
pub(crate) fn parse_list<T: FromStr<Err = InvalidId>>(
    field: &'static str,
    texts: Vec<String>,
    max: usize,
) -> Result<Vec<T>, WireError> {
    list_of(field, texts, max, |text| {
        text.parse().map_err(|invalid| WireError::new("", Cause::Invalid(invalid)))
    })
}

fn address<T: FromStr>(field: &'static str, text: &str, what: &'static str) -> Result<T, WireError> {
    let shown = || clean(text, 80);
    text.parse().map_err(|_| WireError::new(field, Cause::Address(shown(), what)))
}

/// An IP address.
pub(crate) fn ip(field: &'static str, text: &str) -> Result<IpAddr, WireError> {
    address(field, text, "an IP address")
}

/// An IP address with a port.
pub(crate) fn socket(field: &'static str, text: &str) -> Result<SocketAddr, WireError> {
    address(field, text, "an IP address with a port")
}

/// A number of an enum: known to the generated code, and not the unspecified one.
pub(crate) fn word<P, M>(field: &'static str, number: i32) -> Result<M, WireError>
where
    P: TryFrom<i32>,
    M: TryFrom<P, Error = WireError>,
{
    let known = P::try_from(number).map_err(|_| WireError::new(field, Cause::Unknown(number)))?;
    M::try_from(known).in_field(field)
}

/// Bytes of a fixed length.
pub(crate) fn bytes<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], WireError> {
    let wrong = |_| WireError::new(field, Cause::Length { found: bytes.len(), expected: N });
    bytes.try_into().map_err(wrong)
}

/// A number within a range.
pub(crate) fn range(field: &'static str, found: u32, min: u32, max: u32) -> Result<u32, WireError> {
    if !(min..=max).contains(&found) {
        let cause = Cause::Range { found: found.into(), min: min.into(), max: max.into() };
        return Err(WireError::new(field, cause));
    }
    Ok(found)
}

/// A port number, 1 to 65535.
pub(crate) fn port(field: &'static str, number: u32) -> Result<u16, WireError> {
    range(field, number, 1, u16::MAX.into()).map(|port| port as u16)
}

/// Largest payload of a path, bytes.
pub(crate) fn mtu(field: &'static str, number: u32) -> Result<u16, WireError> {
    range(field, number, 1, u16::MAX.into()).map(|bytes| bytes as u16)
}

/// Number of endpoints.
pub(crate) fn endpoints(field: &'static str, number: u32) -> Result<u32, WireError> {
    range(field, number, 0, limits::ENDPOINTS_MAX as u32)
}

/// Free text: bounded, and without characters that would move a terminal's cursor.
pub(crate) fn text(field: &'static str, text: String, max: usize) -> Result<String, WireError> {
    count(field, text.chars().count(), "characters", max)?;
    if text.chars().any(char::is_control) {
        return Err(WireError::new(field, Cause::Rule("it has control characters")));
    }
    Ok(text)
}

/// Makes a free text one that [`text()`] takes.
pub(crate) fn clean(text: &str, max: usize) -> String {
    text.chars().take(max).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Microseconds.
pub(crate) fn duration_us(field: &'static str, us: u64) -> Result<Duration, WireError> {
    let max = DURATION_MAX.as_micros() as u64;
    if us > max {
        return Err(WireError::new(field, Cause::Range { found: us, min: 0, max }));
    }
    Ok(Duration::from_micros(us))
}

/// A duration in microseconds, cut to what [`duration_us`] takes.
pub(crate) fn unduration_us(duration: Duration) -> u64 {
    duration.min(DURATION_MAX).as_micros() as u64
}

/// Certificates, DER.
pub(crate) fn certificates(
    field: &'static str,
    values: Vec<Vec<u8>>,
    max: usize,
) -> Result<Vec<Vec<u8>>, WireError> {
    list_of(field, values, max, |der| {
        count("", der.len(), "bytes", limits::CERTIFICATE_MAX)?;
        if der.is_empty() {
            return Err(WireError::new("", Cause::Missing));
        }
        Ok(der)
    })
}

/// Both directions of an enum whose words are the same on both sides; unspecified is refused.
macro_rules! words {
    ($wire:ty, $model:ty, { $($wire_word:ident = $model_word:ident),+ $(,)? }) => {
        impl From<$model> for $wire {
            fn from(word: $model) -> Self {
                match word {
                    $(<$model>::$model_word => Self::$wire_word,)+
                }
            }
        }

        impl TryFrom<$wire> for $model {
            type Error = $crate::convert::WireError;

            fn try_from(word: $wire) -> Result<Self, Self::Error> {
                match word {
                    $(<$wire>::$wire_word => Ok(Self::$model_word),)+
                    <$wire>::Unspecified => Err($crate::convert::WireError::new("", $crate::convert::Cause::Missing)),
                }
            }
        }
    };
}
pub(crate) use words;
