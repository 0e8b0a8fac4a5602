//! The site's certificate authority at work: the own leaf, leaves for nodes, and whom the site trusts.

use crate::site_dir::{self, SiteDir, SiteDirError};
use identity::bundle::BundleError;
use identity::ca::{Ca, IssueError, lifetime};
use identity::live::LiveCredentials;
use identity::trust::TrustStore;
use model::identity::{Bundle, Role, SpiffeId, TrustDomain};
use model::ids::Label;
use runtime::clock;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

/// How often it is looked whether the own leaf is due for renewal. The leaf lives for days; a host that slept notices
/// within this time.
const RENEWAL_CHECK: Duration = Duration::from_secs(60);

/// Between two tries: a leaf that is due again as soon as it was issued means that the CA runs out.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);

/// The site's certificate authority, the own credentials, and the bundles that count. Clones share them.
#[derive(Clone)]
pub struct Pki {
    ca: Arc<Ca>,
    role: Role,
    /// How long leaves of processes are good.
    lifetime: Duration,
    /// What this federation presents.
    pub credentials: LiveCredentials,
    /// Whose certificates count.
    pub trust: TrustStore,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("trust_domain", self.ca.trust_domain()).finish_non_exhaustive()
    }
}

/// Why there is no certificate authority.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// No leaf for this process.
    #[error("the federation has no certificate")]
    Own(#[from] SiteDirError),
    /// The CA's certificate makes no bundle.
    #[error("the certificate of the CA cannot be an anchor")]
    Bundle(#[from] BundleError),
}

impl Pki {
    /// Begins with a new leaf for this process, named `name`, and no linked site. Leaves of processes are good for
    /// `lifetime`.
    ///
    /// # Errors
    /// The CA has run out, or cannot be an anchor.
    pub fn new(dir: SiteDir, name: Label, lifetime: Duration) -> Result<Self, PkiError> {
        let role = Role::Federation(name);
        let credentials = site_dir::issue(&dir.ca, role.clone(), lifetime, clock::unix_ms())?;
        let trust = TrustStore::new(dir.ca.bundle(1))?;
        let credentials = LiveCredentials::new(credentials);
        Ok(Self { ca: Arc::new(dir.ca), role, lifetime, credentials, trust })
    }

    /// The own trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        self.ca.trust_domain()
    }

    /// The own anchors.
    pub fn bundle(&self) -> Bundle {
        self.trust.own()
    }

    /// Issues a leaf of the own trust domain.
    ///
    /// # Errors
    /// The request is not good, or the CA has run out.
    pub fn issue(&self, csr_der: &[u8], role: Role) -> Result<Vec<Vec<u8>>, IssueError> {
        let lifetime = match &role {
            Role::Gateway(_) | Role::Federation(_) | Role::Agent(_) => self.lifetime,
            Role::Admin(_) | Role::Workload { .. } => lifetime(&role),
        };
        let id = SpiffeId { trust_domain: self.ca.trust_domain().clone(), role };
        self.ca.issue(csr_der, &id, lifetime, clock::unix_ms())
    }

    /// The public key of a certificate request; none when it is malformed. Two requests for one key have different
    /// signatures.
    pub fn requested_key(csr_der: &[u8]) -> Option<Vec<u8>> {
        let (_, request) = X509CertificationRequest::from_der(csr_der).ok()?;
        Some(request.certification_request_info.subject_pki.raw.to_vec())
    }

    /// When the CA's own certificate runs out, in milliseconds since 1970.
    pub fn ca_not_after_ms(&self) -> u64 {
        self.ca.not_after_ms()
    }

    /// Renews the own leaf at half of its life, until cancelled. Open connections stay.
    pub async fn keep_young(self, stop: CancellationToken) {
        loop {
            let left = self.credentials.current().renew_at_ms().saturating_sub(clock::unix_ms());
            let wait = Duration::from_millis(left).clamp(RENEWAL_PAUSE, RENEWAL_CHECK);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            let now_ms = clock::unix_ms();
            if now_ms < self.credentials.current().renew_at_ms() {
                continue;
            }
            match site_dir::issue(&self.ca, self.role.clone(), self.lifetime, now_ms) {
                Ok(credentials) => {
                    self.credentials.replace(credentials);
                    info!("renewed the certificate of the federation");
                }
                Err(error) => {
                    warn!(error = %runtime::telemetry::chain(&error), "the certificate of the federation was not renewed");
                }
            }
        }
    }
}
