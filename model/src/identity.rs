//! SPIFFE identities, as far as they can be said without cryptography.

use crate::ids::{GatewayName, HostName, InvalidId, Label, Namespace};
use std::fmt;
use std::str::FromStr;

/// A SPIFFE trust domain: 1 to 255 of `a-z 0-9 - _ .` (SPIFFE-ID specification, section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The text of the trust domain, without `spiffe://`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidId;

    fn from_str(value: &str) -> Result<Self, InvalidId> {
        let bad = |reason| Err(InvalidId::new("trust domain", value, reason));
        if value.is_empty() || value.len() > 255 {
            return bad("it must have 1 to 255 characters");
        }
        if !value
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'))
        {
            return bad("only a-z, 0-9, -, _ and . may be used");
        }
        Ok(Self(value.to_owned()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a certificate says that its holder is; the path of its SPIFFE id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `/gateway/NAME`
    Gateway(GatewayName),
    /// `/federation/NAME`
    Federation(Label),
    /// `/agent/HOST`
    Agent(HostName),
    /// `/admin/NAME`
    Admin(Label),
    /// `/ns/NAMESPACE/sa/ACCOUNT`
    Workload {
        /// Namespace of the workload.
        namespace: Namespace,
        /// Its service account.
        account: Label,
    },
}

/// `spiffe://TRUST-DOMAIN/PATH` with a path that meshfed knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    /// The site's trust domain.
    pub trust_domain: TrustDomain,
    /// What the holder is.
    pub role: Role,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(name) => write!(f, "/gateway/{name}"),
            Self::Federation(name) => write!(f, "/federation/{name}"),
            Self::Agent(host) => write!(f, "/agent/{host}"),
            Self::Admin(name) => write!(f, "/admin/{name}"),
            Self::Workload { namespace, account } => write!(f, "/ns/{namespace}/sa/{account}"),
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}{}", self.trust_domain, self.role)
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidId;

    fn from_str(value: &str) -> Result<Self, InvalidId> {
        let bad = |reason| InvalidId::new("SPIFFE id", value, reason);
        let rest = value.strip_prefix("spiffe://").ok_or_else(|| bad("it must begin with spiffe://"))?;
        let (domain, path) = rest.split_once('/').ok_or_else(|| bad("it has no path"))?;
        let trust_domain = domain.parse().map_err(|_| bad("its trust domain is not valid"))?;
        let part = |_| bad("a part of its path is not a DNS label");
        let role = match path.split('/').collect::<Vec<_>>().as_slice() {
            ["gateway", name] => Role::Gateway(name.parse().map_err(part)?),
            ["federation", name] => Role::Federation(name.parse().map_err(part)?),
            ["agent", host] => Role::Agent(host.parse().map_err(part)?),
            ["admin", name] => Role::Admin(name.parse().map_err(part)?),
            ["ns", namespace, "sa", account] => Role::Workload {
                namespace: namespace.parse().map_err(part)?,
                account: account.parse().map_err(part)?,
            },
            _ => return Err(bad("its path is none that meshfed knows")),
        };
        Ok(Self { trust_domain, role })
    }
}

/// How the identity of a caller was proven, weakest first. An access policy may demand a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proof {
    /// Only the host or the site is known.
    Host,
    /// The address of a pod.
    PodIp,
    /// The user id of the local process.
    Uid,
    /// A peer certificate.
    Mtls,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Host => "host",
            Self::PodIp => "pod-ip",
            Self::Uid => "uid",
            Self::Mtls => "mtls",
        })
    }
}

/// The anchors of one trust domain: what a peer must chain to.
///
/// `sequence` grows with every change (`spiffe_sequence` of the SPIFFE bundle format); a lower one never
/// replaces a higher one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Whose anchors these are.
    pub trust_domain: TrustDomain,
    /// Grows with every change.
    pub sequence: u64,
    /// X.509 certificates of certificate authorities, DER, oldest first, at least one, at most 16.
    pub anchors: Vec<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spiffe_id_survives_text() {
        for text in [
            "spiffe://east.mesh/gateway/gw-0",
            "spiffe://east.mesh/federation/fed-0",
            "spiffe://east.mesh/agent/vm-1",
            "spiffe://east.mesh/admin/root",
            "spiffe://east.mesh/ns/shop/sa/cart",
        ] {
            assert_eq!(text.parse::<SpiffeId>().expect("valid").to_string(), text);
        }
    }

    #[test]
    fn an_id_of_another_form_is_refused() {
        for text in [
            "",
            "spiffe://",
            "spiffe://east.mesh",
            "spiffe://east.mesh/",
            "spiffe://east.mesh/gateway",
            "spiffe://east.mesh/gateway/",
            "spiffe://east.mesh/gateway/a/b",
            "spiffe://EAST/gateway/a",
            "spiffe://east.mesh:80/gateway/a",
            "https://east.mesh/gateway/a",
            "spiffe://east.mesh/gateway/a?x",
            "spiffe://east.mesh/ns/a/sa/",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
    }
}
