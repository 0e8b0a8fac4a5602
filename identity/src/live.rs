//! Credentials that a running process presents, replaced while it runs.

use crate::credentials::Credentials;
use model::identity::SpiffeId;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use std::sync::{Arc, PoisonError, RwLock};

/// Credentials that can be replaced at run time. Clones share them: a TLS config that was made with them presents the
/// new ones from the next handshake on, and connections that are open stay.
#[derive(Debug, Clone)]
pub struct LiveCredentials {
    current: Arc<RwLock<Arc<Credentials>>>,
}

impl LiveCredentials {
    /// Begins with these.
    pub fn new(credentials: Credentials) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(credentials))) }
    }

    /// Presents these from the next handshake on.
    pub fn replace(&self, credentials: Credentials) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(credentials);
    }

    /// Those that are presented.
    pub fn current(&self) -> Arc<Credentials> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whom they name.
    pub fn id(&self) -> SpiffeId {
        self.current().id().clone()
    }
}

impl ResolvesClientCert for LiveCredentials {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let certified = self.current().certified().clone();
        // Without a scheme that the server takes, no certificate is offered, and the server says so.
        certified.key.choose_scheme(schemes).map(|_| certified)
    }

    fn has_certs(&self) -> bool {
        true
    }
}
