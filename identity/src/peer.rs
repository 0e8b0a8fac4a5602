//! Who the other side is, and why it may be refused.

use crate::x509;
use model::identity::{Role, SpiffeId, TrustDomain};
use model::ids::InvalidId;
use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, CertificateError, OtherError};
use std::fmt;
use std::sync::Arc;

/// Kinds of [`Role`], for rules that do not care for names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleKind {
    /// A gateway.
    Gateway,
    /// A federation.
    Federation,
    /// An agent.
    Agent,
    /// An administrator.
    Admin,
    /// A workload.
    Workload,
}

impl RoleKind {
    /// The kind of a role.
    pub fn of(role: &Role) -> Self {
        match role {
            Role::Gateway(_) => Self::Gateway,
            Role::Federation(_) => Self::Federation,
            Role::Agent(_) => Self::Agent,
            Role::Admin(_) => Self::Admin,
            Role::Workload { .. } => Self::Workload,
        }
    }
}

impl fmt::Display for RoleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Gateway => "gateway",
            Self::Federation => "federation",
            Self::Agent => "agent",
            Self::Admin => "admin",
            Self::Workload => "workload",
        })
    }
}

/// Why a peer was refused. The peer is at fault, or one of the two sites is not configured for the other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It showed no certificate.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// What it showed is no X.509 certificate.
    #[error("the peer's certificate is malformed")]
    Malformed,
    /// Its leaf has no URI name, or several, so it names nobody.
    #[error("the peer's certificate has {found} URI names; a SPIFFE leaf has exactly one")]
    Uris {
        /// How many.
        found: usize,
    },
    /// Its URI is none that meshfed knows.
    #[error("the peer's certificate names nobody that meshfed knows: {0}")]
    Id(InvalidId),
    /// Its leaf may sign others, so it is a CA's and not a leaf.
    #[error("the peer shows the certificate of a CA as its own ({0})")]
    IsCa(Box<SpiffeId>),
    /// Its trust domain is not linked.
    #[error("{0} is of a trust domain that is neither this site's nor linked: see `meshfed status`")]
    UnknownTrustDomain(Box<SpiffeId>),
    /// The dialler meant to reach another site.
    #[error("{expected} was dialled, and {found} answered: the address belongs to another site")]
    WrongTrustDomain {
        /// As meant.
        expected: TrustDomain,
        /// Who answered.
        found: Box<SpiffeId>,
    },
    /// Its role is not the one that has business here.
    #[error("{found} has no business here: this port takes {}", words(expected))]
    WrongRole {
        /// Who came.
        found: Box<SpiffeId>,
        /// Who may.
        expected: Vec<RoleKind>,
    },
    /// Its certificate has run out.
    #[error("the peer's certificate ran out {} ago (or this host's clock is ahead)", span(*ago_s))]
    Expired {
        /// When, in seconds.
        ago_s: u64,
    },
    /// Its certificate is not yet good.
    #[error("the peer's certificate is good only in {} (or this host's clock is behind)", span(*in_s))]
    NotYetValid {
        /// When, in seconds.
        in_s: u64,
    },
    /// It does not chain to the anchors of its trust domain.
    #[error(
        "the certificate of {id} is not signed by the CA of its trust domain as it is known here: {cause}"
    )]
    Chain {
        /// Whom it names.
        id: Box<SpiffeId>,
        /// What the chain check said.
        cause: String,
    },
    /// The anchors that it showed are not those of the token.
    #[error(
        "{id} showed other anchors than those of the token's digest: the token is of another site, or the site has changed its CA"
    )]
    Digest {
        /// Whom it names.
        id: Box<SpiffeId>,
    },
}

fn words(kinds: &[RoleKind]) -> String {
    if kinds.is_empty() {
        return "nobody of that trust domain".to_owned();
    }
    let names: Vec<String> = kinds.iter().map(ToString::to_string).collect();
    format!("only {}", names.join(" and "))
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Says who shows this chain; whether it is trusted was decided in the handshake.
///
/// # Errors
/// The chain is empty, or its leaf names nobody that meshfed knows.
pub fn peer_id(chain: &[CertificateDer<'_>]) -> Result<SpiffeId, PeerError> {
    id_of(chain.first().ok_or(PeerError::NoCertificate)?)
}

pub(crate) fn id_of(leaf: &[u8]) -> Result<SpiffeId, PeerError> {
    let leaf = x509::read(leaf).ok_or(PeerError::Malformed)?;
    let [uri] = leaf.uris.as_slice() else { return Err(PeerError::Uris { found: leaf.uris.len() }) };
    let id: SpiffeId = uri.parse().map_err(PeerError::Id)?;
    if leaf.is_ca {
        return Err(PeerError::IsCa(Box::new(id)));
    }
    Ok(id)
}

impl PeerError {
    /// Finds the reason in an error of a handshake that this side ended, whatever it is wrapped in. None when the
    /// error is of another kind, for example when the other side ended it (see [`told`]).
    pub fn of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<rustls::Error>() {
                return Self::of_tls(error);
            }
            // An `io::Error` hides what it wraps from `source`.
            let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            next =
                inside.map(|inside| inside as &(dyn std::error::Error + 'static)).or_else(|| error.source());
        }
        None
    }

    fn of_tls(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::NoCertificatesPresented => Some(Self::NoCertificate),
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
                inner.downcast_ref::<Refused>().map(|refused| refused.0.clone())
            }
            rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => {
                Some(Self::Expired { ago_s: time.as_secs().saturating_sub(not_after.as_secs()) })
            }
            rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => {
                Some(Self::NotYetValid { in_s: not_before.as_secs().saturating_sub(time.as_secs()) })
            }
            _ => None,
        }
    }
}

/// Carries a [`PeerError`] through rustls, which shows such an error only by its `Debug`; so that is its text.
#[derive(Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(PeerError);

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl From<PeerError> for rustls::Error {
    fn from(error: PeerError) -> Self {
        CertificateError::Other(OtherError(Arc::new(Refused(error)))).into()
    }
}

/// What the other side said when it ended a handshake, in words; none for alerts that say nothing of certificates.
/// `alert` is the number of a TLS alert; QUIC reports it as its error code less 0x100.
pub fn told(alert: u8) -> Option<&'static str> {
    Some(match AlertDescription::from(alert) {
        AlertDescription::CertificateExpired => {
            "the other side says that our certificate has expired or is not yet valid: look at the clocks and at `meshfed status`"
        }
        AlertDescription::UnknownCA => "the other side does not know our CA: the sites are not linked there",
        AlertDescription::CertificateRequired => "the other side wants a certificate, and none was shown",
        AlertDescription::CertificateUnknown
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => {
            "the other side refuses our certificate: its log says why (not linked, another role, or another CA)"
        }
        AlertDescription::NoApplicationProtocol => {
            "the other side does not take this kind of connection now (no invite is pending, or it is no meshfed)"
        }
        _ => return None,
    })
}
