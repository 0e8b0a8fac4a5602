//! Two ends of a TLS session on a bench: sites with CAs, and handshakes over memory.

#![allow(dead_code, reason = "each test file uses its part")]

use identity::ca::Ca;
use identity::credentials::Credentials;
use identity::key::NodeKey;
use identity::live::LiveCredentials;
use identity::peer::{PeerError, RoleKind, peer_id, told};
use identity::proof::{Exporter, exporter};
use identity::tls::{Accept, Expect, client_config, server_config, server_name};
use identity::trust::TrustStore;
use model::identity::{SpiffeId, TrustDomain};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
pub const ALL: &[RoleKind] =
    &[RoleKind::Gateway, RoleKind::Federation, RoleKind::Agent, RoleKind::Admin, RoleKind::Workload];

pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

pub fn domain(name: &str) -> TrustDomain {
    name.parse().expect("valid")
}

/// A site: its CA and its trust.
pub struct Site {
    pub ca: Ca,
    pub trust: TrustStore,
}

impl Site {
    pub fn new(name: &str) -> Self {
        let ca = Ca::generate(&domain(name), now_ms()).expect("made");
        let trust = TrustStore::new(ca.bundle(1)).expect("good");
        Self { ca, trust }
    }

    pub fn link(&self, others: &[&Site]) {
        self.trust.set_linked(others.iter().map(|site| site.ca.bundle(1)).collect()).expect("good");
    }

    pub fn id(&self, path: &str) -> SpiffeId {
        format!("spiffe://{}{path}", self.ca.trust_domain()).parse().expect("valid")
    }

    pub fn credentials(&self, path: &str) -> LiveCredentials {
        self.credentials_at(path, now_ms(), WEEK)
    }

    pub fn credentials_at(&self, path: &str, now_ms: u64, lifetime: Duration) -> LiveCredentials {
        let key = NodeKey::generate().expect("made");
        let chain = self.ca.issue(&key.csr_der(), &self.id(path), lifetime, now_ms).expect("issued");
        LiveCredentials::new(Credentials::new(chain, &key).expect("a pair"))
    }

    /// A gateway's tunnel port.
    pub fn server(&self) -> ServerConfig {
        self.server_for(Accept { own: &[RoleKind::Agent], linked: &[RoleKind::Gateway], anonymous: false })
    }

    pub fn server_for(&self, accept: Accept<'_>) -> ServerConfig {
        server_config(&self.credentials("/gateway/gw-0"), &self.trust, accept, &[b"meshfed/1"])
    }

    /// A gateway that dials a gateway of `other`.
    pub fn client(&self, other: &Site) -> ClientConfig {
        self.client_as("/gateway/gw-0", other)
    }

    pub fn client_as(&self, path: &str, other: &Site) -> ClientConfig {
        client_config(Some(&self.credentials(path)), &self.expect_gateway(other), &[b"meshfed/1"])
    }

    pub fn expect_gateway(&self, other: &Site) -> Expect {
        Expect::trusted(&self.trust, other.ca.trust_domain().clone(), RoleKind::Gateway)
    }
}

/// Two linked sites.
pub fn east_and_west() -> (Site, Site) {
    let (east, west) = (Site::new("east.mesh"), Site::new("west.mesh"));
    east.link(&[&west]);
    west.link(&[&east]);
    (east, west)
}

/// What came of a handshake at one end.
pub type End = Result<(Option<SpiffeId>, Exporter), io::Error>;

/// Shakes hands; an end is good when a byte has come from the other side.
pub async fn shake(server: ServerConfig, client: ClientConfig) -> (End, End) {
    let (one, two) = tokio::io::duplex(64 * 1024);
    let server = async {
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(one).await?;
        stream.write_u8(1).await?;
        stream.flush().await?;
        stream.read_u8().await?;
        let session = stream.get_ref().1;
        Ok((who(session.peer_certificates()), exporter(session).map_err(io::Error::other)?))
    };
    let client = async {
        let connector = TlsConnector::from(Arc::new(client));
        let mut stream = connector.connect(server_name(), two).await?;
        stream.read_u8().await?;
        stream.write_u8(1).await?;
        stream.flush().await?;
        let session = stream.get_ref().1;
        Ok((who(session.peer_certificates()), exporter(session).map_err(io::Error::other)?))
    };
    let both = async { tokio::join!(server, client) };
    tokio::time::timeout(Duration::from_secs(30), both).await.expect("a handshake ends")
}

fn who(chain: Option<&[CertificateDer<'_>]>) -> Option<SpiffeId> {
    chain.map(|chain| peer_id(chain).expect("a verified peer has an id"))
}

/// Why this end refused the other.
pub fn refusal(end: &End) -> PeerError {
    let error = end.as_ref().expect_err("refused");
    PeerError::of(error).unwrap_or_else(|| panic!("no reason in {error:?}"))
}

/// What this end was told when the other refused it.
pub fn told_by_alert(end: &End) -> &'static str {
    let error = end.as_ref().expect_err("refused");
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::AlertReceived(alert)) => {
            told(u8::from(*alert)).unwrap_or_else(|| panic!("{alert:?}"))
        }
        other => panic!("no alert but {other:?} in {error:?}"),
    }
}

/// Shows any certificate, also one that [`Credentials`] would not take.
#[derive(Debug)]
pub struct Raw(pub Arc<CertifiedKey>);

impl Raw {
    pub fn new(chain: Vec<Vec<u8>>, key: &rcgen::KeyPair) -> Arc<Self> {
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let certified = CertifiedKey::from_der(chain, key, &identity::provider()).expect("a pair");
        Arc::new(Self(Arc::new(certified)))
    }
}

impl ResolvesClientCert for Raw {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A leaf that the site's own CA signed, but that meshfed would not issue.
pub fn odd_leaf(site: &Site, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Arc<Raw> {
    let ca_key = rcgen::KeyPair::from_pem(&site.ca.key_pem()).expect("a key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&site.ca.cert_pem(), ca_key).expect("a CA");
    let key = rcgen::KeyPair::generate().expect("made");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    params.extended_key_usages =
        vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    let leaf = params.signed_by(&key, &issuer).expect("signed");
    Raw::new(vec![leaf.der().to_vec()], &key)
}

pub fn uri(text: &str) -> rcgen::SanType {
    rcgen::SanType::URI(text.try_into().expect("ASCII"))
}
