//! The site's certificate authority at work: the own leaf, leaves for nodes, and whom the site trusts.

use crate::site_dir::{self, Files, SiteDir, SiteDirError};
use identity::bundle::{self, BundleError};
use identity::ca::{CaError, IssueError, lifetime};
use identity::live::LiveCredentials;
use identity::rotation::{Authority, RotationError};
use identity::trust::TrustStore;
use model::identity::{Bundle, Role, SpiffeId, TrustDomain};
use model::ids::Label;
use runtime::clock;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
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
    current: Arc<RwLock<Arc<Current>>>,
    /// Of its files.
    folder: Arc<PathBuf>,
    trust_domain: TrustDomain,
    role: Role,
    /// How long leaves of processes are good.
    lifetime: Duration,
    /// What this federation presents.
    pub credentials: LiveCredentials,
    /// Whose certificates count.
    pub trust: TrustStore,
}

/// The CAs of the site at one moment.
#[derive(Debug)]
pub struct Current {
    /// The CAs.
    pub authority: Authority,
    /// Fingerprint of the one that signs.
    pub signer: [u8; 32],
    /// What shows peers that the bundle is the successor of an older one.
    pub vouchers: Vec<Vec<u8>>,
}

impl Current {
    fn new(authority: Authority) -> Arc<Self> {
        let signer = bundle::fingerprint(authority.signing().cert_der());
        let vouchers = authority.vouchers(clock::unix_ms());
        Arc::new(Self { authority, signer, vouchers })
    }
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
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

/// Why a step of a rotation was not taken. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// It is not the next one, or the CAs do not allow it.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// No CA could be made.
    #[error("the next CA cannot be made")]
    Ca(#[from] CaError),
    /// It could not be stored.
    #[error("the step cannot be stored")]
    Store(#[from] SiteDirError),
    /// The new CAs make no bundle.
    #[error("the new bundle cannot be used")]
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
        let authority = dir.authority;
        let credentials = site_dir::issue(authority.signing(), role.clone(), lifetime, clock::unix_ms())?;
        let trust = TrustStore::new(authority.bundle())?;
        let credentials = LiveCredentials::new(credentials);
        let (trust_domain, folder) = (authority.trust_domain().clone(), Arc::new(dir.path.join("ca")));
        let current = Arc::new(RwLock::new(Current::new(authority)));
        Ok(Self { current, folder, trust_domain, role, lifetime, credentials, trust })
    }

    /// The CAs as they are.
    pub fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a step of a rotation: it is stored, then it counts. Whoever calls this is the only one that does.
    ///
    /// # Errors
    /// The step is refused, or cannot be stored; nothing was changed.
    pub fn take_step(
        &self,
        step: impl FnOnce(&mut Authority) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        let mut authority =
            Files::of(&self.current().authority).authority(&self.trust_domain, &self.folder)?;
        step(&mut authority)?;
        let bundle = authority.bundle();
        bundle::check(&bundle)?;
        let credentials =
            site_dir::issue(authority.signing(), self.role.clone(), self.lifetime, clock::unix_ms())?;
        Files::of(&authority).write(&self.folder)?;
        self.trust.set_own(bundle)?;
        self.credentials.replace(credentials);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Current::new(authority);
        Ok(())
    }

    /// The own trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The own anchors.
    pub fn bundle(&self) -> Bundle {
        self.trust.own()
    }

    /// Fingerprint of the CA that signs.
    pub fn signer(&self) -> [u8; 32] {
        self.current().signer
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
        let id = SpiffeId { trust_domain: self.trust_domain.clone(), role };
        self.current().authority.signing().issue(csr_der, &id, lifetime, clock::unix_ms())
    }

    /// The public key of a certificate request; none when it is malformed. Two requests for one key have different
    /// signatures.
    pub fn requested_key(csr_der: &[u8]) -> Option<Vec<u8>> {
        let (_, request) = X509CertificationRequest::from_der(csr_der).ok()?;
        Some(request.certification_request_info.subject_pki.raw.to_vec())
    }

    /// When the certificate of the CA that signs runs out, in milliseconds since 1970.
    pub fn ca_not_after_ms(&self) -> u64 {
        self.current().authority.signing().not_after_ms()
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
            let current = self.current();
            let (ca, role) = (current.authority.signing(), self.role.clone());
            let held = self.credentials.current();
            if now_ms < held.renew_at_ms() && held.is_signed_by(ca.cert_der()) {
                continue;
            }
            match site_dir::issue(ca, role, self.lifetime, now_ms) {
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
