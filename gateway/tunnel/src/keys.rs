//! Keys that must be the same after a restart, so that peers learn of it at once.
//!
//! A process that was killed leaves peers with connections that nobody knows. What they send on them is answered by
//! a stateless reset, if the new process can build the token that the old one promised, and recognises the
//! connection ids that the old one gave out.
//!
//! Processes that share a secret must never receive each other's packets: they would reset live connections.

use identity::credentials::Credentials;
use identity::secret::Secret;
use quinn::EndpointConfig;
use quinn_proto::HashedConnectionIdGenerator;
use ring::hkdf;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Resets that one endpoint sends at most per second: 500. The transport's default of 50 lets the last of many
/// peers wait for seconds.
const RESET_INTERVAL: Duration = Duration::from_millis(2);

/// Secret from which reset tokens and connection ids are made. Whoever knows it can kill connections, so it is
/// derived from one that the node keeps, or from its private key, with a fixed label, and is never shown.
pub(crate) struct ResetSeed {
    token: [u8; 64],
    ids: u64,
}

impl fmt::Debug for ResetSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetSeed(..)")
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl ResetSeed {
    /// Derives it from the secret that outlives certificates; where there is none, from the node's private key.
    pub(crate) fn of(secret: Option<&Secret>, credentials: &Credentials) -> Self {
        match secret {
            Some(secret) => Self::derive(secret.expose()),
            None => Self::derive(credentials.key_pem().as_bytes()),
        }
    }

    /// The same bytes give the same seed.
    fn derive(secret: &[u8]) -> Self {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"meshfed tunnel v1").extract(secret);
        let mut token = [0; 64];
        let mut ids = [0; 8];
        expand(&secret, b"stateless reset", &mut token);
        expand(&secret, b"connection ids", &mut ids);
        Self { token, ids: u64::from_be_bytes(ids) }
    }

    /// The endpoint's settings with these keys.
    pub(crate) fn endpoint_config(&self) -> EndpointConfig {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.token);
        let mut config = EndpointConfig::new(Arc::new(key));
        let ids = self.ids;
        config
            .cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)))
            .min_reset_interval(RESET_INTERVAL);
        config
    }
}

fn expand(secret: &hkdf::Prk, label: &[u8], out: &mut [u8]) {
    secret
        .expand(&[label], Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .expect("at most 64 bytes are asked for, HKDF-SHA256 gives 8160");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_gives_the_same_seed_and_another_key_another() {
        let (a, b, other) = (ResetSeed::derive(b"k1"), ResetSeed::derive(b"k1"), ResetSeed::derive(b"k2"));
        assert_eq!((a.token, a.ids), (b.token, b.ids));
        assert_ne!(a.token, other.token);
        assert_ne!(a.ids, other.ids);
        assert_ne!(a.token[..8], a.ids.to_be_bytes());
    }

    #[test]
    fn a_seed_is_not_shown() {
        assert_eq!(format!("{:?}", ResetSeed::derive(b"k")), "ResetSeed(..)");
    }
}
