//! The private key of a process. It is made where it is used and never leaves the host.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use std::fmt;
use zeroize::Zeroizing;

/// Why a key could not be made or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The system gave no randomness.
    #[error("no key could be made: {0}")]
    Generate(String),
    /// The text is no private key of a known kind.
    #[error(
        "this is no private key in PKCS #8 PEM (`-----BEGIN PRIVATE KEY-----`): {0}; `openssl pkcs8 -topk8 -nocrypt` converts others"
    )]
    Read(String),
}

/// A private key, ECDSA P-256 when made here.
pub struct NodeKey {
    pub(crate) pair: KeyPair,
}

impl NodeKey {
    /// Makes a key.
    ///
    /// # Errors
    /// The system gave no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        Ok(Self { pair: pair.map_err(|error| KeyError::Generate(error.to_string()))? })
    }

    /// Reads a key from PKCS #8 PEM.
    ///
    /// # Errors
    /// The text is no such key.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let pair = KeyPair::from_pem(text).map_err(|error| match error {
            // Its words repeat what stands where a tag should be, which may be the key.
            rcgen::Error::PemError(_) => KeyError::Read("the PEM is damaged".to_owned()),
            other => KeyError::Read(other.to_string()),
        });
        Ok(Self { pair: pair? })
    }

    /// The key as PKCS #8 PEM. Files that hold it have mode 0600.
    pub fn to_pem(&self) -> Zeroizing<String> {
        crate::pem::encode("PRIVATE KEY", self.pair.serialized_der())
    }

    /// A certificate request (PKCS #10, DER) with no names in it: the CA says what the holder is.
    pub fn csr_der(&self) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.pair).expect("a request without names can be signed");
        request.der().to_vec()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(hidden)")
    }
}
