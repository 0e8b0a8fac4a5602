//! What is read from certificates.

use model::ids::InvalidId;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, SubjectPublicKeyInfo, X509Certificate};

/// A certificate as far as meshfed reads it; whether to trust it is not its business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Names of kind URI, in order.
    pub(crate) uris: Vec<String>,
    /// Whether it may sign others.
    pub(crate) is_ca: bool,
    /// Its public key, as DER `SubjectPublicKeyInfo`.
    pub(crate) spki: Vec<u8>,
    /// Seconds since 1970.
    pub(crate) not_before_s: i64,
    /// Seconds since 1970.
    pub(crate) not_after_s: i64,
}

/// Reads a certificate; none when it is malformed or bytes follow it.
pub(crate) fn read(der: &[u8]) -> Option<Certificate> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let names = certificate.subject_alternative_name().ok()?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    Some(Certificate {
        uris: names.iter().filter_map(uri).collect(),
        is_ca: certificate.basic_constraints().ok()?.is_some_and(|of| of.value.ca),
        spki: certificate.public_key().raw.to_vec(),
        not_before_s: certificate.validity().not_before.timestamp(),
        not_after_s: certificate.validity().not_after.timestamp(),
    })
}

/// Whether a certificate is signed with the key of this DER `SubjectPublicKeyInfo`. Names and times are not looked at.
pub(crate) fn is_signed_with(der: &[u8], spki: &[u8]) -> bool {
    let (Ok((_, certificate)), Ok((_, key))) =
        (X509Certificate::from_der(der), SubjectPublicKeyInfo::from_der(spki))
    else {
        return false;
    };
    certificate.verify_signature(Some(&key)).is_ok()
}

/// As an anchor for rustls's chain checks; none when it cannot be one.
pub(crate) fn anchor(der: &[u8]) -> Option<rustls::pki_types::TrustAnchor<'static>> {
    let der = CertificateDer::from(der);
    webpki::anchor_from_trusted_cert(&der).ok().map(|anchor| anchor.to_owned())
}

/// The trust domain that a CA's certificate names: `spiffe://TRUST-DOMAIN` without a path. None when it names none.
pub(crate) fn named_domain(
    certificate: &Certificate,
) -> Result<Option<model::identity::TrustDomain>, InvalidId> {
    let Some(uri) = certificate.uris.first() else { return Ok(None) };
    let bad = InvalidId::new("SPIFFE id of a CA", uri, "it must be spiffe://TRUST-DOMAIN, and the only one");
    let domain = uri.strip_prefix("spiffe://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    match domain.map(str::parse) {
        Some(Ok(domain)) if certificate.uris.len() == 1 => Ok(Some(domain)),
        _ => Err(bad),
    }
}
