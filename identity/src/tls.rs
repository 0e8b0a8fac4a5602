//! TLS configs. TLS 1.3 only, no resumption, no early data.
//!
//! A resumed session would be accepted without its certificate being looked at again, so an unlinked or expired peer
//! could come back through it; a full handshake costs one signature.

use crate::bundle::BundleError;
use crate::live::LiveCredentials;
use crate::peer::RoleKind;
use crate::provider;
use crate::trust::{Anchors, TrustStore};
use crate::verify::{Called, Callers, Known};
use model::identity::{Bundle, TrustDomain};
use model::tunnel::ALPN_LINK;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What APIs that want the name of a server are given. It is not sent and not looked at: sites are known by their
/// trust domain.
pub const SERVER_NAME: &str = "meshfed.invalid";

/// [`SERVER_NAME`], for `tokio_rustls`.
pub fn server_name() -> ServerName<'static> {
    ServerName::try_from(SERVER_NAME).expect("it is a DNS name")
}

/// Who may dial a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept<'a> {
    /// Roles of the own trust domain.
    pub own: &'a [RoleKind],
    /// Roles of linked trust domains.
    pub linked: &'a [RoleKind],
    /// Also those who show no certificate. One that is shown is verified all the same. The caller of this function
    /// must then look at who came, per service or per ALPN.
    pub anonymous: bool,
}

/// Whom a dialler means to reach.
#[derive(Debug, Clone)]
pub struct Expect {
    trust_domain: TrustDomain,
    role: RoleKind,
    known: Known,
}

impl Expect {
    /// A process of the own or a linked trust domain, as `trust` knows it at the time of the handshake.
    pub fn trusted(trust: &TrustStore, trust_domain: TrustDomain, role: RoleKind) -> Self {
        Self { trust_domain, role, known: Known::Trusted(trust.clone()) }
    }

    /// A process of the site of an invite.
    ///
    /// # Errors
    /// The bundle is not good.
    pub fn bundle(bundle: Bundle, role: RoleKind) -> Result<Self, BundleError> {
        let trust_domain = bundle.trust_domain.clone();
        Ok(Self { trust_domain, role, known: Known::Bundle(Anchors::new(bundle)?) })
    }

    /// A process of the site of a join token, whose bundle has this [digest](crate::bundle::digest).
    pub fn digest(trust_domain: TrustDomain, digest: [u8; 32], role: RoleKind) -> Self {
        Self { trust_domain, role, known: Known::Digest(digest) }
    }

    /// The trust domain that is meant.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
}

/// Milliseconds since 1970 by the clock of the process.
static READ_CLOCK: OnceLock<fn() -> u64> = OnceLock::new();

/// Says by which clock certificates are judged in this process: milliseconds since 1970. Before that, and without it,
/// it is that of the host. Only the first call counts.
pub fn judge_by(clock: fn() -> u64) {
    let _ = READ_CLOCK.set(clock);
}

/// The clock of TLS sessions.
#[derive(Debug)]
struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let Some(read) = READ_CLOCK.get() else { return Some(UnixTime::now()) };
        Some(UnixTime::since_unix_epoch(Duration::from_millis(read())))
    }
}

/// A server's config: presents `credentials`, verifies callers against `trust` by the rules of `accept`.
///
/// Where strangers may come (`anonymous`, or an offered ALPN `meshfed-link/1`) the anchors of the own bundle stand
/// behind the chain, so that the holder of a join token can verify them by their digest.
pub fn server_config(
    credentials: &LiveCredentials,
    trust: &TrustStore,
    accept: Accept<'_>,
    alpn: &[&[u8]],
) -> ServerConfig {
    let provider = provider();
    let callers = Callers {
        provider: provider.clone(),
        trust: trust.clone(),
        own: accept.own.to_vec(),
        linked: accept.linked.to_vec(),
        anonymous: accept.anonymous,
    };
    let shown = Shown {
        credentials: credentials.clone(),
        trust: trust.clone(),
        always_with_anchors: accept.anonymous,
    };
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(Clock))
        .with_protocol_versions(&[&TLS13])
        .expect("ring has suites of TLS 1.3")
        .with_client_cert_verifier(Arc::new(callers))
        .with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

/// A client's config: presents `credentials`, if any, and accepts only whom it expects.
pub fn client_config(credentials: Option<&LiveCredentials>, expect: &Expect, alpn: &[&[u8]]) -> ClientConfig {
    let provider = provider();
    let called = Called {
        provider: provider.clone(),
        trust_domain: expect.trust_domain.clone(),
        role: expect.role,
        known: expect.known.clone(),
    };
    let builder = ClientConfig::builder_with_details(provider, Arc::new(Clock))
        .with_protocol_versions(&[&TLS13])
        .expect("ring has suites of TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(called));
    let mut config = match credentials {
        Some(credentials) => builder.with_client_cert_resolver(Arc::new(credentials.clone())),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config
}

#[derive(Debug)]
struct Shown {
    credentials: LiveCredentials,
    trust: TrustStore,
    always_with_anchors: bool,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certified = self.credentials.current().certified().clone();
        let link = hello.alpn().is_some_and(|mut names| names.any(|name| name == ALPN_LINK));
        if !self.always_with_anchors && !link {
            return Some(certified);
        }
        let anchors = &self.trust.load().own.bundle.anchors;
        // The oldest last: while a root is rotated, a token that was made before still finds the anchors that it knows
        // at the end of the chain.
        let anchors = anchors.iter().rev().map(|der| CertificateDer::from(der.clone()));
        let chain = certified.cert.iter().cloned().chain(anchors).collect();
        Some(Arc::new(CertifiedKey::new(chain, certified.key.clone())))
    }
}
