//! Whose certificates count.

use crate::bundle::{self, BundleError};
use crate::x509;
use model::identity::{Bundle, TrustDomain};
use rustls::pki_types::TrustAnchor;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// A bundle, ready for chain checks.
#[derive(Debug)]
pub(crate) struct Anchors {
    pub(crate) bundle: Bundle,
    pub(crate) anchors: Vec<TrustAnchor<'static>>,
}

impl Anchors {
    pub(crate) fn new(bundle: Bundle) -> Result<Arc<Self>, BundleError> {
        bundle::check(&bundle)?;
        let anchors = bundle.anchors.iter().filter_map(|der| x509::anchor(der)).collect();
        Ok(Arc::new(Self { bundle, anchors }))
    }
}

#[derive(Debug)]
pub(crate) struct Trusted {
    pub(crate) own: Arc<Anchors>,
    pub(crate) linked: BTreeMap<TrustDomain, Arc<Anchors>>,
}

impl Trusted {
    /// The anchors of a trust domain that counts here.
    pub(crate) fn find(&self, trust_domain: &TrustDomain) -> Option<&Arc<Anchors>> {
        if self.own.bundle.trust_domain == *trust_domain {
            return Some(&self.own);
        }
        self.linked.get(trust_domain)
    }

    pub(crate) fn is_own(&self, trust_domain: &TrustDomain) -> bool {
        self.own.bundle.trust_domain == *trust_domain
    }
}

/// The own bundle and those of the linked sites. Clones share it: TLS configs that were made with it follow every
/// change from the next handshake on.
#[derive(Debug, Clone)]
pub struct TrustStore {
    trusted: Arc<RwLock<Arc<Trusted>>>,
}

impl TrustStore {
    /// Begins with the own bundle and no linked site.
    ///
    /// # Errors
    /// It is not a good bundle.
    pub fn new(own: Bundle) -> Result<Self, BundleError> {
        let trusted = Trusted { own: Anchors::new(own)?, linked: BTreeMap::new() };
        Ok(Self { trusted: Arc::new(RwLock::new(Arc::new(trusted))) })
    }

    /// Replaces the own bundle.
    ///
    /// # Errors
    /// It is not a good bundle; nothing is changed then.
    pub fn set_own(&self, own: Bundle) -> Result<(), BundleError> {
        let own = Anchors::new(own)?;
        let mut trusted = self.trusted.write().unwrap_or_else(PoisonError::into_inner);
        *trusted = Arc::new(Trusted { own, linked: trusted.linked.clone() });
        Ok(())
    }

    /// Replaces the bundles of all linked sites. A bundle of the own trust domain is left out: nobody else speaks
    /// for it.
    ///
    /// # Errors
    /// One of them is not good; nothing is changed then.
    pub fn set_linked(&self, linked: Vec<Bundle>) -> Result<(), BundleError> {
        let linked =
            linked.into_iter().map(|bundle| Ok((bundle.trust_domain.clone(), Anchors::new(bundle)?)));
        let mut linked = linked.collect::<Result<BTreeMap<_, _>, BundleError>>()?;
        let mut trusted = self.trusted.write().unwrap_or_else(PoisonError::into_inner);
        linked.remove(&trusted.own.bundle.trust_domain);
        *trusted = Arc::new(Trusted { own: trusted.own.clone(), linked });
        Ok(())
    }

    /// The own bundle.
    pub fn own(&self) -> Bundle {
        self.load().own.bundle.clone()
    }

    /// The own trust domain.
    pub fn own_domain(&self) -> TrustDomain {
        self.load().own.bundle.trust_domain.clone()
    }

    /// The bundle of a trust domain, the own or a linked one.
    pub fn find(&self, trust_domain: &TrustDomain) -> Option<Bundle> {
        self.load().find(trust_domain).map(|anchors| anchors.bundle.clone())
    }

    /// The linked trust domains, in order.
    pub fn linked(&self) -> Vec<TrustDomain> {
        self.load().linked.keys().cloned().collect()
    }

    pub(crate) fn load(&self) -> Arc<Trusted> {
        self.trusted.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
