//! A CA that vouches for its successor: the successor's key under a certificate that the old CA has signed.
//!
//! Shown behind each leaf, it lets whoever knows the old anchor alone verify the new leaves. So a peer that was away
//! while a root was rotated is not locked out, and no connection has to be trusted before it is verified.

use super::{Ca, IssueError, offset, params, uri};
use crate::x509;
use model::identity::TrustDomain;
use rcgen::{BasicConstraints, DistinguishedName, DnType, DnValue, IsCa, Issuer, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

/// Most certificates that are shown behind a leaf: a peer may have been away for so many rotations.
pub const CROSSES_MAX: usize = 4;

/// Why a CA cannot vouch for another, or was given what is no such voucher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrossError {
    /// The caller's fault: they are CAs of two trust domains.
    #[error("a CA of {own} does not vouch for one of {other}")]
    Foreign {
        /// Whose CA it is.
        own: TrustDomain,
        /// Whose the other is.
        other: TrustDomain,
    },
    /// The caller's fault: nothing would be rotated.
    #[error("the new CA has the key of the old one")]
    SameKey,
    /// One of the two has run out, or has not begun.
    #[error("there is no time at which both CAs are valid, from now on")]
    NoTime,
    /// The successor's name is of a kind that cannot be repeated, and certificates are found by name.
    #[error("the new CA has a name of an unusual kind; use one whose name is plain text")]
    Name,
    /// A certificate that was stored is not the one that belongs there.
    #[error("certificate {at} of those that vouch for the CA is not one that does")]
    NotOne {
        /// Which, from 0.
        at: usize,
    },
    /// Signing failed.
    #[error("the certificate could not be signed: {0}")]
    Sign(String),
}

impl From<IssueError> for CrossError {
    fn from(error: IssueError) -> Self {
        Self::Sign(error.to_string())
    }
}

impl Ca {
    /// Vouches for `next`: gives a certificate of its key, signed by this CA, valid while both are.
    ///
    /// # Errors
    /// See [`CrossError`].
    pub fn cross(&self, next: &Self, now_ms: u64) -> Result<Vec<u8>, CrossError> {
        if self.trust_domain != next.trust_domain {
            let (own, other) = (self.trust_domain.clone(), next.trust_domain.clone());
            return Err(CrossError::Foreign { own, other });
        }
        let (own, other) = (x509::read(&self.certificate), x509::read(&next.certificate));
        if own.map(|read| read.spki) == other.map(|read| read.spki) {
            return Err(CrossError::SameKey);
        }
        if !self.is_valid_at(now_ms) || !next.is_valid_at(now_ms) {
            return Err(CrossError::NoTime);
        }
        let sign = |error: rcgen::Error| CrossError::Sign(error.to_string());
        let mut params = params(now_ms, Duration::ZERO)?;
        params.not_before = params.not_before.max(offset(self.not_before_s.max(next.not_before_s))?);
        params.not_after = offset(self.not_after_s.min(next.not_after_s))?;
        params.distinguished_name = name_of(&next.certificate)?;
        params.subject_alt_names = vec![uri(format!("spiffe://{}", self.trust_domain))];
        // Later successors stand between it and a leaf.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(CROSSES_MAX as u8));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = CertificateDer::from(self.certificate.as_slice());
        let issuer = Issuer::from_ca_cert_der(&certificate, &self.key).map_err(sign)?;
        let cross = params.signed_by(&next.key, &issuer).map_err(sign)?.der().to_vec();
        match vouches(&cross, &next.certificate) {
            true => Ok(cross),
            false => Err(CrossError::Name),
        }
    }

    /// This CA, with the certificates that vouch for it: the first for its own key, each further one for the key that
    /// signed the one before. They stand behind every leaf from now on; of more than [`CROSSES_MAX`] the oldest are
    /// left out.
    ///
    /// # Errors
    /// One of them is not what it should be.
    pub fn with_crosses(mut self, mut crosses: Vec<Vec<u8>>) -> Result<Self, CrossError> {
        crosses.truncate(CROSSES_MAX);
        if let Some(first) = crosses.first()
            && !vouches(first, &self.certificate)
        {
            return Err(CrossError::NotOne { at: 0 });
        }
        for (at, pair) in crosses.windows(2).enumerate() {
            // The first names its issuer as the second names its subject.
            let signed =
                X509Certificate::from_der(&pair[0]).ok().zip(X509Certificate::from_der(&pair[1]).ok());
            let fits = signed.is_some_and(|((_, one), (_, two))| {
                one.issuer().as_raw() == two.subject().as_raw() && two.is_ca()
            });
            if !fits {
                return Err(CrossError::NotOne { at: at + 1 });
            }
        }
        self.crosses = crosses;
        Ok(self)
    }

    /// The certificates that vouch for this CA, newest first.
    pub fn crosses(&self) -> &[Vec<u8>] {
        &self.crosses
    }
}

/// Whether a certificate is of the same key and name as that of a CA.
fn vouches(cross: &[u8], certificate: &[u8]) -> bool {
    let read = (X509Certificate::from_der(cross), X509Certificate::from_der(certificate));
    let (Ok((_, cross)), Ok((_, certificate))) = read else { return false };
    cross.is_ca()
        && cross.public_key().raw == certificate.public_key().raw
        && cross.subject().as_raw() == certificate.subject().as_raw()
}

/// The name of a CA, to be written once more.
fn name_of(certificate: &[u8]) -> Result<DistinguishedName, CrossError> {
    let (_, read) = X509Certificate::from_der(certificate).map_err(|_| CrossError::Name)?;
    copy(read.subject()).ok_or(CrossError::Name)
}

fn copy(name: &X509Name<'_>) -> Option<DistinguishedName> {
    use x509_parser::asn1_rs::Tag;
    let mut copied = DistinguishedName::new();
    for attribute in name.iter_attributes() {
        let oid: Vec<u64> = attribute.attr_type().iter()?.collect();
        let value = attribute.attr_value();
        let text = std::str::from_utf8(value.data).ok()?;
        let value = match value.header.tag() {
            Tag::Utf8String => DnValue::Utf8String(text.to_owned()),
            Tag::PrintableString => DnValue::PrintableString(text.try_into().ok()?),
            Tag::Ia5String => DnValue::Ia5String(text.try_into().ok()?),
            _ => return None,
        };
        copied.push(DnType::from_oid(&oid), value);
    }
    Some(copied)
}
