//! A key with its certificate.

use crate::ca::BACKDATE;
use crate::key::{KeyError, NodeKey};
use crate::peer::{self, PeerError};
use crate::{pem, provider, x509};
use model::identity::SpiffeId;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Longest chain, leaf included.
pub const CHAIN_MAX: usize = 8;

/// Why a key and a certificate cannot be used together.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The key cannot be read.
    #[error("the key cannot be used")]
    Key(#[source] KeyError),
    /// The text has no certificate, too many, or is malformed.
    #[error("the certificate file must have 1 to {CHAIN_MAX} certificates in PEM, the own one first")]
    Chain,
    /// The leaf names nobody that meshfed knows.
    #[error("the certificate cannot be used")]
    Identity(#[source] PeerError),
    /// Key and certificate are not a pair.
    #[error("the key does not belong to the certificate of {0}")]
    Mismatch(Box<SpiffeId>),
}

/// A key with its certificate: what a process shows of itself. Both are checked to be a pair.
#[derive(Clone)]
pub struct Credentials {
    chain: Vec<Vec<u8>>,
    key: Arc<Zeroizing<Vec<u8>>>,
    certified: Arc<CertifiedKey>,
    id: SpiffeId,
    not_before_s: i64,
    not_after_s: i64,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("id", &self.id.to_string())
            .field("not_after_s", &self.not_after_s)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Puts a key together with its chain: leaf first, without the anchor, DER.
    ///
    /// # Errors
    /// The chain is empty or too long, the leaf is no SPIFFE leaf, or the key is not its key.
    pub fn new(chain: Vec<Vec<u8>>, key: &NodeKey) -> Result<Self, CredentialsError> {
        if chain.len() > CHAIN_MAX {
            return Err(CredentialsError::Chain);
        }
        let leaf = chain.first().ok_or(CredentialsError::Chain)?;
        let id = peer::id_of(leaf).map_err(CredentialsError::Identity)?;
        let read = x509::read(leaf).ok_or(CredentialsError::Chain)?;
        let key = key.pair.serialized_der();
        let ders = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_vec()));
        let certified = CertifiedKey::from_der(ders, private, &provider());
        let certified = certified.map_err(|_| CredentialsError::Mismatch(Box::new(id.clone())))?;
        Ok(Self {
            chain,
            key: Arc::new(Zeroizing::new(key.to_vec())),
            certified: Arc::new(certified),
            id,
            not_before_s: read.not_before_s,
            not_after_s: read.not_after_s,
        })
    }

    /// Reads both from PEM.
    ///
    /// # Errors
    /// As [`Credentials::new`], and when one of the texts is malformed.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, CredentialsError> {
        let key = NodeKey::from_pem(key).map_err(CredentialsError::Key)?;
        Self::new(pem::certificates(chain).ok_or(CredentialsError::Chain)?, &key)
    }

    /// The chain, PEM, leaf first.
    pub fn chain_pem(&self) -> String {
        pem::encode_certificates(&self.chain)
    }

    /// The key, PKCS #8 PEM. Files that hold it have mode 0600.
    pub fn key_pem(&self) -> Zeroizing<String> {
        pem::encode("PRIVATE KEY", &self.key)
    }

    /// The chain, DER, leaf first.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// Who the holder is.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// When the leaf runs out, in milliseconds since 1970.
    pub fn not_after_ms(&self) -> u64 {
        ms(self.not_after_s)
    }

    /// When the leaf should be renewed, in milliseconds since 1970: at half of its life, which begins when it is issued,
    /// [`BACKDATE`] after the begin that is written in it. Else a leaf of a short life would be due at once.
    pub fn renew_at_ms(&self) -> u64 {
        let (begin, end) = (ms(self.not_before_s), ms(self.not_after_s));
        let issued = begin + BACKDATE.as_millis() as u64;
        let begin = if issued < end { issued } else { begin };
        // A leaf that ends before it begins is due at its end, whatever it says of its beginning.
        (begin + end.saturating_sub(begin) / 2).min(end)
    }

    /// Whether the CA with this certificate, DER, has signed the leaf.
    pub fn is_signed_by(&self, anchor: &[u8]) -> bool {
        let key = x509::read(anchor).map(|read| read.spki);
        self.chain.first().zip(key).is_some_and(|(leaf, key)| x509::is_signed_with(leaf, &key))
    }

    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

fn ms(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}
