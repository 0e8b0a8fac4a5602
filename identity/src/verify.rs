//! The verifiers that rustls calls: chain, trust domain, role; never names of hosts.

use crate::bundle;
use crate::peer::{self, PeerError, RoleKind};
use crate::trust::{Anchors, TrustStore};
use crate::x509;
use model::identity::{SpiffeId, TrustDomain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme,
};
use std::sync::Arc;
use webpki::{EndEntityCert, KeyUsage};

/// Verifies those who dial us.
#[derive(Debug)]
pub(crate) struct Callers {
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) trust: TrustStore,
    pub(crate) own: Vec<RoleKind>,
    pub(crate) linked: Vec<RoleKind>,
    pub(crate) anonymous: bool,
}

impl ClientCertVerifier for Callers {
    fn client_auth_mandatory(&self) -> bool {
        !self.anonymous
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Hints would tell strangers with whom this site is linked.
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let id = peer::id_of(leaf)?;
        let trusted = self.trust.load();
        let Some(anchors) = trusted.find(&id.trust_domain) else {
            return Err(PeerError::UnknownTrustDomain(Box::new(id)).into());
        };
        let expected = if trusted.is_own(&id.trust_domain) { &self.own } else { &self.linked };
        has_role(&id, expected)?;
        let usage = KeyUsage::client_auth();
        chains(&self.provider, &id, leaf, chain, &anchors.anchors, usage, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// By what a dialler knows the site that it means.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    /// It is the own site, or linked.
    Trusted(TrustStore),
    /// By the bundle of an invite.
    Bundle(Arc<Anchors>),
    /// By the digest of a join token.
    Digest([u8; 32]),
}

/// Verifies those whom we dial.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) role: RoleKind,
    pub(crate) known: Known,
}

impl Called {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let id = peer::id_of(leaf)?;
        if id.trust_domain != self.trust_domain {
            let expected = self.trust_domain.clone();
            return Err(PeerError::WrongTrustDomain { expected, found: Box::new(id) }.into());
        }
        has_role(&id, &[self.role])?;
        let check = |anchors: &[TrustAnchor<'_>]| {
            chains(&self.provider, &id, leaf, chain, anchors, KeyUsage::server_auth(), now)
        };
        match &self.known {
            Known::Bundle(anchors) => check(&anchors.anchors),
            Known::Trusted(trust) => match trust.load().find(&id.trust_domain) {
                Some(anchors) => check(&anchors.anchors),
                None => Err(PeerError::UnknownTrustDomain(Box::new(id)).into()),
            },
            Known::Digest(digest) => {
                let shown = shown_anchors(&self.trust_domain, chain, digest);
                check(&shown.ok_or(PeerError::Digest { id: Box::new(id.clone()) })?)
            }
        }
    }
}

/// The anchors that stand at the end of a chain and together have this digest: a server that strangers may call shows
/// them there (see `tls::server_config`).
fn shown_anchors(
    trust_domain: &TrustDomain,
    chain: &[CertificateDer<'_>],
    digest: &[u8; 32],
) -> Option<Vec<TrustAnchor<'static>>> {
    // The digest is no secret, so comparing it need not take constant time.
    let shown = (0..chain.len())
        .map(|at| &chain[at..])
        .filter(|shown| shown.len() <= bundle::ANCHORS_MAX)
        .find(|shown| bundle::digest_of(trust_domain, shown) == *digest)?;
    let anchors = shown.iter().map(|der| {
        bundle::check_anchor(trust_domain, der).ok()?;
        x509::anchor(der)
    });
    anchors.collect()
}

impl ServerCertVerifier for Called {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(leaf, chain, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn has_role(id: &SpiffeId, expected: &[RoleKind]) -> Result<(), PeerError> {
    if expected.contains(&RoleKind::of(&id.role)) {
        return Ok(());
    }
    Err(PeerError::WrongRole { found: Box::new(id.clone()), expected: expected.to_vec() })
}

fn chains(
    provider: &CryptoProvider,
    id: &SpiffeId,
    leaf: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    usage: KeyUsage,
    now: UnixTime,
) -> Result<(), Error> {
    let leaf = EndEntityCert::try_from(leaf).map_err(|_| PeerError::Malformed)?;
    let algorithms = provider.signature_verification_algorithms.all;
    match leaf.verify_for_usage(algorithms, anchors, chain, now, usage, None, None) {
        Ok(_) => Ok(()),
        // These two have an alert of their own, which tells the holder what is wrong with its certificate.
        Err(webpki::Error::CertExpired { time, not_after }) => {
            Err(CertificateError::ExpiredContext { time, not_after }.into())
        }
        Err(webpki::Error::CertNotValidYet { time, not_before }) => {
            Err(CertificateError::NotValidYetContext { time, not_before }.into())
        }
        Err(cause) => Err(PeerError::Chain { id: Box::new(id.clone()), cause: cause.to_string() }.into()),
    }
}
