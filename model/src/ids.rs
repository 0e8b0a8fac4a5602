//! Identifiers. Each is its own type, so that one cannot stand where another belongs.

use std::fmt;
use std::str::FromStr;

/// A text that is not a valid identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a valid {what}: {reason}")]
pub struct InvalidId {
    /// What it should have been, as a person would say it ("site name").
    pub what: &'static str,
    /// The offending text, cut to 80 characters, without control characters.
    pub value: String,
    /// The rule that it breaks.
    pub reason: &'static str,
}

impl InvalidId {
    /// Builds the error; cuts `value` and takes out what would move a terminal's cursor, since it may come from a peer.
    pub fn new(what: &'static str, value: &str, reason: &'static str) -> Self {
        let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        Self { what, value: value.chars().take(80).map(shown).collect(), reason }
    }
}

/// Checks an RFC 1123 label: 1 to 63 of `a-z`, `0-9`, `-`; neither first nor last is `-`.
fn check_label(what: &'static str, value: &str) -> Result<(), InvalidId> {
    let bad = |reason| Err(InvalidId::new(what, value, reason));
    if value.is_empty() {
        return bad("it is empty");
    }
    if value.len() > 63 {
        return bad("it is longer than 63 characters");
    }
    if !value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return bad("only a-z, 0-9 and - may be used");
    }
    if value.starts_with('-') || value.ends_with('-') {
        return bad("it may not begin or end with -");
    }
    Ok(())
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text of the label.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(value: &str) -> Result<Self, InvalidId> {
                check_label($what, value)?;
                Ok(Self(value.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

label!(
    /// Name of a site: a DNS label, unique among linked sites. It is also the cluster id of KEP-2149.
    SiteId,
    "site name"
);
label!(
    /// Name of a gateway, unique within its site.
    GatewayName,
    "gateway name"
);
label!(
    /// Name of a host that runs an agent, unique within its site.
    HostName,
    "host name"
);
label!(
    /// A namespace: the first half of a service's name.
    Namespace,
    "namespace"
);
label!(
    /// A plain DNS label where no narrower type exists: service names, account names, host parts.
    Label,
    "DNS label"
);
label!(
    /// A set of endpoints that can dial each other directly; others go through gateways.
    NetworkName,
    "network name"
);
label!(
    /// The set of sites that share names. Two sites of different clustersets cannot be linked.
    Clusterset,
    "clusterset"
);

/// 128 random bits made when a site is initialised, so that two sites with one name are told apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteUid(pub [u8; 16]);

/// Identifies one tunnel stream over all the hops of its way, for logs and traces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub [u8; 16]);

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

fn parse_hex16(what: &'static str, value: &str) -> Result<[u8; 16], InvalidId> {
    let bad = || InvalidId::new(what, value, "it must be 32 hexadecimal digits");
    // `from_str_radix` would take a sign, so the digits are checked first.
    if value.len() != 32 || !value.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad());
    }
    let mut bytes = [0; 16];
    for (byte, at) in bytes.iter_mut().zip((0..32).step_by(2)) {
        *byte = u8::from_str_radix(&value[at..at + 2], 16).map_err(|_| bad())?;
    }
    Ok(bytes)
}

macro_rules! hex16 {
    ($name:ident, $what:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(value: &str) -> Result<Self, InvalidId> {
                parse_hex16($what, value).map(Self)
            }
        }
    };
}

hex16!(SiteUid, "site uid");
hex16!(StreamId, "stream id");

/// Drawn anew at each start of a process, so that two live copies of one site are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// Name of one endpoint, unique within its site and service.
///
/// 1 to 128 printable ASCII characters without spaces, slashes or commas; for example `vm-1` or
/// `10.2.0.14:8080`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(String);

impl EndpointId {
    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EndpointId {
    type Err = InvalidId;

    fn from_str(value: &str) -> Result<Self, InvalidId> {
        let bad = |reason| Err(InvalidId::new("endpoint id", value, reason));
        if value.is_empty() || value.len() > 128 {
            return bad("it must have 1 to 128 characters");
        }
        if !value.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b',') {
            return bad("only printable ASCII without spaces, slashes and commas may be used");
        }
        Ok(Self(value.to_owned()))
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_follows_rfc_1123() {
        for good in ["a", "east", "a-1", "0", &"x".repeat(63)] {
            assert!(good.parse::<SiteId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<SiteId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_uid_survives_text() {
        let uid = SiteUid([7; 16]);
        assert_eq!(uid.to_string().parse::<SiteUid>(), Ok(uid));
        assert!("07".parse::<SiteUid>().is_err());
        assert!("+7070707070707070707070707070707".parse::<SiteUid>().is_err());
    }

    #[test]
    fn an_error_does_not_repeat_a_long_text() {
        let error = "x".repeat(10_000).parse::<SiteId>().expect_err("too long");
        assert!(error.to_string().len() < 200);
    }
}
