//! The certificate authority of a site.

mod cross;

pub use cross::{CROSSES_MAX, CrossError};

use crate::bundle::{self, BundleError};
use crate::key::{KeyError, NodeKey};
use crate::pem;
use model::identity::{Bundle, Role, SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use std::fmt;
use std::time::Duration;
use time::OffsetDateTime;
use zeroize::Zeroizing;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long a leaf of a gateway, a federation, an agent or an administrator is good. It is renewed at half of it, so
/// that a federation may be dead for three days.
pub const INFRASTRUCTURE_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a leaf of a workload is good.
pub const WORKLOAD_LIFETIME: Duration = DAY;
/// How far in the past a leaf begins, for holders and peers whose clocks are behind.
pub const BACKDATE: Duration = Duration::from_secs(10 * 60);
/// How long the certificate of a CA that is made here is good.
pub const CA_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Longest certificate request that is taken.
pub const CSR_MAX: usize = 8 * 1024;

/// Why a CA could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The key.
    #[error("the CA's key cannot be used")]
    Key(#[source] KeyError),
    /// The text has not exactly one certificate.
    #[error("the CA's file has {0} certificates in PEM; it must have exactly one: that of the CA that signs")]
    Count(usize),
    /// The certificate cannot be an anchor.
    #[error("the CA's certificate cannot be used")]
    Certificate(#[source] BundleError),
    /// Key and certificate are not a pair.
    #[error("the CA's key does not belong to its certificate")]
    Mismatch,
    /// Making it failed.
    #[error("the CA's certificate could not be made: {0}")]
    Sign(String),
}

/// Why a leaf was not issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The asker's fault: no request, or not signed with its own key.
    #[error("the certificate request is refused: {0}")]
    Request(String),
    /// The asker's fault: a key of a kind that is not taken.
    #[error("the certificate request has a key of another kind than ECDSA P-256, P-384 or Ed25519")]
    KeyKind,
    /// Our fault: an id of somebody else's trust domain.
    #[error("{id} is not in trust domain {own}, so its CA does not issue it")]
    Foreign {
        /// As asked.
        id: String,
        /// Ours.
        own: TrustDomain,
    },
    /// The CA's own certificate has run out, or has not begun.
    #[error("the CA's own certificate is not valid now (its end, in seconds since 1970: {not_after_s})")]
    CaExpired {
        /// End of the CA's certificate.
        not_after_s: i64,
    },
    /// Signing failed.
    #[error("the certificate could not be signed: {0}")]
    Sign(String),
}

/// The certificate authority of a site: the only one that can say who belongs to its trust domain.
pub struct Ca {
    trust_domain: TrustDomain,
    certificate: Vec<u8>,
    key: KeyPair,
    not_before_s: i64,
    not_after_s: i64,
    /// See [`Ca::with_crosses`].
    crosses: Vec<Vec<u8>>,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

impl Ca {
    /// Makes a CA, ECDSA P-256, good for [`CA_LIFETIME`] from `now_ms` (milliseconds since 1970).
    ///
    /// # Errors
    /// The system gave no randomness, or `now_ms` is beyond all calendars.
    pub fn generate(trust_domain: &TrustDomain, now_ms: u64) -> Result<Self, CaError> {
        let sign = |error: String| CaError::Sign(error);
        let key = NodeKey::generate().map_err(CaError::Key)?.pair;
        let mut params = params(now_ms, CA_LIFETIME).map_err(|error| sign(error.to_string()))?;
        // Anchors with one subject and several keys make chain building slower, so the subject has a random part.
        let random: [u8; 4] = random().map_err(|error| sign(error.to_string()))?;
        let name = format!("meshfed CA {:08x}", u32::from_be_bytes(random));
        params.distinguished_name.push(DnType::OrganizationName, "meshfed");
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![uri(format!("spiffe://{trust_domain}"))];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(|error| sign(error.to_string()))?;
        Self::new(trust_domain, certificate.der().to_vec(), key)
    }

    /// Reads a CA from PEM: one certificate, and its key as PKCS #8.
    ///
    /// # Errors
    /// One of them is malformed, they are not a pair, the certificate is not that of a CA, or names another trust
    /// domain.
    pub fn from_pem(trust_domain: &TrustDomain, certificate: &str, key: &str) -> Result<Self, CaError> {
        let key = NodeKey::from_pem(key).map_err(CaError::Key)?.pair;
        let mut certificates = pem::certificates(certificate).unwrap_or_default();
        match (certificates.pop(), certificates.len()) {
            (Some(certificate), 0) => Self::new(trust_domain, certificate, key),
            (Some(_), more) => Err(CaError::Count(more + 1)),
            (None, _) => Err(CaError::Count(0)),
        }
    }

    fn new(trust_domain: &TrustDomain, certificate: Vec<u8>, key: KeyPair) -> Result<Self, CaError> {
        let read = bundle::check_anchor(trust_domain, &certificate).map_err(CaError::Certificate)?;
        if read.spki != key.subject_public_key_info() {
            return Err(CaError::Mismatch);
        }
        Ok(Self {
            trust_domain: trust_domain.clone(),
            certificate,
            key,
            not_before_s: read.not_before_s,
            not_after_s: read.not_after_s,
            crosses: Vec::new(),
        })
    }

    /// Whose CA this is.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Its certificate, DER.
    pub fn cert_der(&self) -> &[u8] {
        &self.certificate
    }

    /// Its certificate, PEM.
    pub fn cert_pem(&self) -> String {
        pem::encode_certificates([&self.certificate])
    }

    /// Its key, PKCS #8 PEM. Files that hold it have mode 0600.
    pub fn key_pem(&self) -> Zeroizing<String> {
        pem::encode("PRIVATE KEY", self.key.serialized_der())
    }

    /// When its certificate runs out, in milliseconds since 1970.
    pub fn not_after_ms(&self) -> u64 {
        u64::try_from(self.not_after_s).unwrap_or(0).saturating_mul(1000)
    }

    /// Whether it can issue at this moment, in milliseconds since 1970.
    pub fn is_valid_at(&self, now_ms: u64) -> bool {
        let now_s = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
        (self.not_before_s..self.not_after_s).contains(&now_s)
    }

    /// The bundle with this CA as its only anchor.
    pub fn bundle(&self, sequence: u64) -> Bundle {
        Bundle { trust_domain: self.trust_domain.clone(), sequence, anchors: vec![self.certificate.clone()] }
    }

    /// Issues a leaf for the key of a certificate request (PKCS #10, DER), from [`BACKDATE`] before `now_ms` to
    /// `lifetime` after it, or to the CA's own end if that is earlier. The request proves that its sender has the
    /// key; the names in it are ignored, `id` alone counts.
    ///
    /// Gives the chain without the anchor, leaf first, DER: the leaf, and what vouches for this CA.
    ///
    /// # Errors
    /// The request is malformed, not signed by its key or of a weak kind, `id` is of another trust domain, or the CA
    /// has run out.
    pub fn issue(
        &self,
        csr_der: &[u8],
        id: &SpiffeId,
        lifetime: Duration,
        now_ms: u64,
    ) -> Result<Vec<Vec<u8>>, IssueError> {
        if id.trust_domain != self.trust_domain {
            return Err(IssueError::Foreign { id: id.to_string(), own: self.trust_domain.clone() });
        }
        if !self.is_valid_at(now_ms) {
            return Err(IssueError::CaExpired { not_after_s: self.not_after_s });
        }
        let key = requested_key(csr_der)?;
        let mut params = params(now_ms, lifetime)?;
        params.not_before = params.not_before.max(offset(self.not_before_s)?);
        params.not_after = params.not_after.min(offset(self.not_after_s)?);
        params.subject_alt_names = vec![uri(id.to_string())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let sign = |error: rcgen::Error| IssueError::Sign(error.to_string());
        let certificate = CertificateDer::from(self.certificate.as_slice());
        let issuer = Issuer::from_ca_cert_der(&certificate, &self.key).map_err(sign)?;
        let leaf = params.signed_by(&key, &issuer).map_err(sign)?;
        let mut chain = vec![leaf.der().to_vec()];
        chain.extend(self.crosses.iter().cloned());
        Ok(chain)
    }
}

/// How long a leaf of this role is good.
pub fn lifetime(role: &Role) -> Duration {
    match role {
        Role::Gateway(_) | Role::Federation(_) | Role::Agent(_) | Role::Admin(_) => INFRASTRUCTURE_LIFETIME,
        Role::Workload { .. } => WORKLOAD_LIFETIME,
    }
}

/// The key of a request, which the request's signature proves its sender to have.
fn requested_key(csr_der: &[u8]) -> Result<rcgen::PublicKey, IssueError> {
    if csr_der.len() > CSR_MAX {
        return Err(IssueError::Request(format!("it has over {CSR_MAX} bytes")));
    }
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der));
    let key = request.map_err(|error| IssueError::Request(error.to_string()))?.public_key;
    let strong = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
    if strong.contains(&key.algorithm()) { Ok(key) } else { Err(IssueError::KeyKind) }
}

fn params(now_ms: u64, lifetime: Duration) -> Result<CertificateParams, IssueError> {
    let now_s = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    let mut params = CertificateParams::default();
    params.not_before = offset(now_s.saturating_sub_unsigned(BACKDATE.as_secs()))?;
    params.not_after = offset(now_s.saturating_add_unsigned(lifetime.as_secs()))?;
    params.distinguished_name = DistinguishedName::new();
    let mut serial: [u8; 16] = random()?;
    // Positive, and of full length (RFC 5280, section 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn offset(unix_s: i64) -> Result<OffsetDateTime, IssueError> {
    OffsetDateTime::from_unix_timestamp(unix_s)
        .map_err(|_| IssueError::Sign(format!("{unix_s} s after 1970 is beyond the calendar")))
}

fn random<const N: usize>() -> Result<[u8; N], IssueError> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| IssueError::Sign("the system gave no randomness".to_owned()))?;
    Ok(bytes)
}

fn uri(id: String) -> SanType {
    SanType::URI(id.try_into().expect("SPIFFE ids are ASCII"))
}
