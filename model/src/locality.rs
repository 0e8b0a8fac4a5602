//! Where an endpoint or a caller is: region, zone, sub-zone.

use crate::ids::InvalidId;
use std::fmt;
use std::str::FromStr;

/// `region/zone/sub-zone`; the later parts may be missing.
///
/// Parts have 1 to 63 characters of `a-z A-Z 0-9 - _ .`; an empty part is only allowed at the end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Locality {
    /// Region, for example `eu`. Empty when nothing is known.
    pub region: String,
    /// Zone within the region, or empty.
    pub zone: String,
    /// Part of the zone, or empty. It is shown, and does not count in routing.
    pub sub_zone: String,
}

impl Locality {
    /// Whether both are in the same, known region.
    pub fn same_region(&self, other: &Self) -> bool {
        !self.region.is_empty() && self.region == other.region
    }

    /// Whether both are in the same, known zone of the same region.
    pub fn same_zone(&self, other: &Self) -> bool {
        self.same_region(other) && !self.zone.is_empty() && self.zone == other.zone
    }
}

impl FromStr for Locality {
    type Err = InvalidId;

    fn from_str(value: &str) -> Result<Self, InvalidId> {
        let bad = |reason| Err(InvalidId::new("locality", value, reason));
        if value.is_empty() {
            return Ok(Self::default());
        }
        let parts: Vec<&str> = value.split('/').collect();
        if parts.len() > 3 {
            return bad("it has at most three parts: region/zone/sub-zone");
        }
        for part in &parts {
            if part.is_empty() || part.len() > 63 {
                return bad("each part has 1 to 63 characters");
            }
            if !part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
                return bad("only letters, digits, -, _ and . may be used");
            }
        }
        let part = |at: usize| parts.get(at).map(|p| (*p).to_owned()).unwrap_or_default();
        Ok(Self { region: part(0), zone: part(1), sub_zone: part(2) })
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.region.clone();
        for part in [&self.zone, &self.sub_zone] {
            if !part.is_empty() {
                text.push('/');
                text.push_str(part);
            }
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locality_survives_text() {
        for text in ["", "eu", "eu/fra", "us/sjc/a"] {
            let locality: Locality = text.parse().expect("valid");
            assert_eq!(locality.to_string(), text);
        }
        for bad in ["/", "eu/", "eu//a", "a/b/c/d", "eu/f ra"] {
            assert!(bad.parse::<Locality>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unknown_place_is_near_nothing() {
        let unknown = Locality::default();
        assert!(!unknown.same_region(&unknown));
        assert!(!unknown.same_zone(&unknown));
    }
}
