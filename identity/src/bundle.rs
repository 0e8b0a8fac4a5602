//! Bundles: the anchors of a trust domain, also in the SPIFFE bundle format.
//!
//! Format: SPIFFE Trust Domain and Bundle, section 4: a JWK set (RFC 7517) whose keys of use `x509-svid` have one
//! certificate each in `x5c`. Keys of other uses are skipped on reading and never written.

use crate::x509::{self, Certificate};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use model::identity::{Bundle, TrustDomain};
use model::ids::InvalidId;
use ring::digest::{SHA256, digest as hash};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use x509_parser::oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_SIG_ED25519};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey;

/// Most anchors of a bundle.
pub const ANCHORS_MAX: usize = 16;
/// Longest anchor, DER.
pub const ANCHOR_MAX: usize = 8 * 1024;
/// Longest text of a bundle that is read.
pub const TEXT_MAX: usize = 512 * 1024;
/// How often readers are asked to look for a newer bundle, in seconds: written into the format for SPIRE and Istio.
const REFRESH_HINT_S: u64 = 300;
const USE: &str = "x509-svid";

/// Why a bundle was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// No anchors, or too many.
    #[error("the bundle of {trust_domain} has {found} anchors; it must have 1 to {ANCHORS_MAX}")]
    Count {
        /// Whose.
        trust_domain: TrustDomain,
        /// As found.
        found: usize,
    },
    /// An anchor is no certificate that can be one.
    #[error("an anchor of {trust_domain} is no X.509 certificate that can be used")]
    NotACertificate {
        /// Whose.
        trust_domain: TrustDomain,
    },
    /// An anchor may not sign.
    #[error("an anchor of {trust_domain} is not the certificate of a CA (its basic constraints say so)")]
    NotACa {
        /// Whose.
        trust_domain: TrustDomain,
    },
    /// An anchor names another trust domain.
    #[error("an anchor in the bundle of {trust_domain} belongs to {named}")]
    OtherDomain {
        /// Whose bundle it is.
        trust_domain: TrustDomain,
        /// Whom it names.
        named: TrustDomain,
    },
    /// An anchor names itself in a way that SPIFFE does not allow.
    #[error("an anchor of {trust_domain} has a name that is not allowed: {cause}")]
    Name {
        /// Whose.
        trust_domain: TrustDomain,
        /// How.
        cause: InvalidId,
    },
    /// The text is not in the format.
    #[error("the bundle of {trust_domain} is not in the SPIFFE bundle format: {reason}")]
    Format {
        /// Whose.
        trust_domain: TrustDomain,
        /// How.
        reason: String,
    },
}

/// Checks a bundle: 1 to [`ANCHORS_MAX`] certificates of CAs that name this trust domain or none.
///
/// # Errors
/// See [`BundleError`].
pub fn check(bundle: &Bundle) -> Result<(), BundleError> {
    let found = bundle.anchors.len();
    if found == 0 || found > ANCHORS_MAX {
        return Err(BundleError::Count { trust_domain: bundle.trust_domain.clone(), found });
    }
    bundle.anchors.iter().try_for_each(|anchor| check_anchor(&bundle.trust_domain, anchor).map(drop))
}

pub(crate) fn check_anchor(trust_domain: &TrustDomain, der: &[u8]) -> Result<Certificate, BundleError> {
    let trust_domain = || trust_domain.clone();
    let not_one = || BundleError::NotACertificate { trust_domain: trust_domain() };
    if der.len() > ANCHOR_MAX || x509::anchor(der).is_none() {
        return Err(not_one());
    }
    let certificate = x509::read(der).ok_or_else(not_one)?;
    if !certificate.is_ca {
        return Err(BundleError::NotACa { trust_domain: trust_domain() });
    }
    let named = x509::named_domain(&certificate);
    match named.map_err(|cause| BundleError::Name { trust_domain: trust_domain(), cause })? {
        Some(named) if named != trust_domain() => {
            Err(BundleError::OtherDomain { trust_domain: trust_domain(), named })
        }
        Some(_) | None => Ok(certificate),
    }
}

/// Names the anchors of a bundle: SHA-256 over the trust domain, a zero byte, and the sorted SHA-256 sums of the
/// anchors' DER. The sequence and the order do not count.
pub fn digest(bundle: &Bundle) -> [u8; 32] {
    digest_of(&bundle.trust_domain, &bundle.anchors)
}

pub(crate) fn digest_of<A: AsRef<[u8]>>(trust_domain: &TrustDomain, anchors: &[A]) -> [u8; 32] {
    let sums: BTreeSet<[u8; 32]> = anchors.iter().map(|anchor| sha256(anchor.as_ref())).collect();
    let mut text = trust_domain.as_str().as_bytes().to_vec();
    text.push(0);
    sums.iter().for_each(|sum| text.extend(sum));
    sha256(&text)
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    hash(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Certificates, DER, as one text in PEM.
pub fn to_pem(certificates: &[Vec<u8>]) -> String {
    crate::pem::encode_certificates(certificates)
}

/// SHA-256 of an anchor, DER: what names it where its bytes would be too long.
pub fn fingerprint(anchor: &[u8]) -> [u8; 32] {
    sha256(anchor)
}

/// Whether two bundles have an anchor key in common: then either could issue in the other's name, and `link` refuses
/// them.
pub fn shares_anchor_key(one: &Bundle, other: &Bundle) -> bool {
    let keys = |bundle: &Bundle| -> BTreeSet<Vec<u8>> {
        bundle.anchors.iter().filter_map(|anchor| x509::read(anchor)).map(|read| read.spki).collect()
    };
    !keys(one).is_disjoint(&keys(other))
}

#[derive(Serialize, Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
    #[serde(default)]
    spiffe_sequence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spiffe_refresh_hint: Option<u64>,
}

#[derive(Serialize, Deserialize, Default)]
struct Jwk {
    #[serde(default)]
    kty: String,
    #[serde(rename = "use", default)]
    purpose: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(default)]
    x5c: Vec<String>,
}

/// The bundle in the SPIFFE format.
///
/// # Errors
/// It is not a good bundle ([`check`]), or has a key of a kind that the format cannot say.
pub fn to_jwks(bundle: &Bundle) -> Result<String, BundleError> {
    check(bundle)?;
    let keys = bundle.anchors.iter().map(|anchor| {
        jwk(anchor).ok_or_else(|| BundleError::Format {
            trust_domain: bundle.trust_domain.clone(),
            reason: "an anchor's key is neither EC (P-256, P-384), Ed25519 nor RSA".to_owned(),
        })
    });
    let set = Jwks {
        keys: keys.collect::<Result<_, _>>()?,
        spiffe_sequence: bundle.sequence,
        spiffe_refresh_hint: Some(REFRESH_HINT_S),
    };
    Ok(serde_json::to_string_pretty(&set).expect("texts and numbers can be written as JSON"))
}

fn jwk(anchor: &[u8]) -> Option<Jwk> {
    let spki = x509::read(anchor)?.spki;
    let (_, key) = SubjectPublicKeyInfo::from_der(&spki).ok()?;
    let text = |bytes: &[u8]| Some(URL_SAFE_NO_PAD.encode(bytes));
    let jwk = Jwk { purpose: USE.to_owned(), x5c: vec![STANDARD.encode(anchor)], ..Jwk::default() };
    if key.algorithm.algorithm == OID_SIG_ED25519 {
        let x = text(&key.subject_public_key.data);
        return Some(Jwk { kty: "OKP".to_owned(), crv: Some("Ed25519".to_owned()), x, ..jwk });
    }
    match key.parsed().ok()? {
        PublicKey::EC(point) => {
            let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
            let (crv, size) = match () {
                () if curve == OID_EC_P256 => ("P-256", 32),
                () if curve == OID_NIST_EC_P384 => ("P-384", 48),
                () => return None,
            };
            // Uncompressed (SEC 1, section 2.3.3): 4, x, y.
            let (x, y) = point.data().strip_prefix(&[4])?.split_at_checked(size)?;
            Some(Jwk { kty: "EC".to_owned(), crv: Some(crv.to_owned()), x: text(x), y: text(y), ..jwk })
        }
        PublicKey::RSA(key) => {
            let number = |bytes: &[u8]| {
                let zeroes = bytes.iter().take_while(|byte| **byte == 0).count();
                text(&bytes[zeroes..])
            };
            let (n, e) = (number(key.modulus), number(key.exponent));
            Some(Jwk { kty: "RSA".to_owned(), n, e, ..jwk })
        }
        _ => None,
    }
}

/// Reads a bundle in the SPIFFE format. The certificate of a key counts; its parameters beside that do not.
///
/// # Errors
/// The text is too long, not in the format, or not a good bundle ([`check`]).
pub fn from_jwks(trust_domain: &TrustDomain, text: &str) -> Result<Bundle, BundleError> {
    let bad = |reason: String| BundleError::Format { trust_domain: trust_domain.clone(), reason };
    // The JSON reader repeats what it found, at any length.
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let cut = |reason: String| reason.chars().take(200).map(plain).collect();
    if text.len() > TEXT_MAX {
        return Err(bad(format!("it has over {TEXT_MAX} bytes")));
    }
    let set: Jwks = serde_json::from_str(text).map_err(|error| bad(cut(error.to_string())))?;
    let mut anchors = Vec::new();
    for key in set.keys.into_iter().filter(|key| key.purpose == USE) {
        let [certificate] = key.x5c.as_slice() else {
            return Err(bad(format!("a key has {} certificates in x5c and not one", key.x5c.len())));
        };
        anchors.push(STANDARD.decode(certificate).map_err(|_| bad("x5c is not base64".to_owned()))?);
    }
    let bundle = Bundle { trust_domain: trust_domain.clone(), sequence: set.spiffe_sequence, anchors };
    check(&bundle)?;
    Ok(bundle)
}
