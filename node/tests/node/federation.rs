//! A site with its CA, and a federation of it that says what the test tells it to say.
#![allow(dead_code)]

use futures_util::Stream;
use identity::ca::{Ca, INFRASTRUCTURE_LIFETIME};
use identity::credentials::Credentials;
use identity::invite::JoinToken;
use identity::key::NodeKey;
use identity::live::LiveCredentials;
use identity::peer::RoleKind;
use identity::proof::Exporter;
use identity::secret::Secret;
use identity::tls::Accept;
use identity::trust::TrustStore;
use model::catalog::{GatewayAddress, SiteInfo};
use model::config::{ConfigEntry, ConfigKey, ConfigUpdate, ConfigValue, ConfigVersion, SiteConfig, VipRange};
use model::identity::{Bundle, SpiffeId, TrustDomain};
use model::ids::{SiteId, SiteUid};
use model::node::{FederationMessage, NodeKind, NodeMessage};
use runtime::clock::unix_ms;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};
use wire::enroll::{JoinReply, JoinRequest, RenewReply, RenewRequest};
use wire::pb;

/// How long anything may take before a test gives up. Far more than it takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits with patience.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {PATIENCE:?}"),
    }
}

/// Asks until it is so.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    soon(what, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// An address of 127.0.0.0/8 for this test alone, outside the range of virtual IPs.
pub fn address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let [_, high, low, _] = std::process::id().to_be_bytes().map(|byte| byte % 120);
    let process = std::process::id() as u8;
    Ipv4Addr::new(127, 130 + (high ^ low) % 120, process, NEXT.fetch_add(1, Ordering::Relaxed) as u8)
}

/// A range of virtual IPs for this test alone.
pub fn vip_range() -> VipRange {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let slot = (std::process::id() + NEXT.fetch_add(7, Ordering::Relaxed)) % 64;
    VipRange { base: Ipv4Addr::new(127, 64 + slot as u8, 0, 0) }
}

/// A site.
pub struct Site {
    pub id: SiteId,
    pub domain: TrustDomain,
    ca: Ca,
}

impl Site {
    pub fn new(name: &str) -> Arc<Self> {
        let domain: TrustDomain = format!("{name}.mesh").parse().expect("valid");
        let ca = Ca::generate(&domain, unix_ms()).expect("a CA");
        Arc::new(Self { id: name.parse().expect("valid"), domain, ca })
    }

    pub fn bundle(&self) -> Bundle {
        self.ca.bundle(1)
    }

    pub fn trust(&self) -> TrustStore {
        TrustStore::new(self.bundle()).expect("good")
    }

    /// Credentials for a path like `agent/vm-1`.
    pub fn credentials(&self, path: &str) -> Credentials {
        self.credentials_for(path, INFRASTRUCTURE_LIFETIME)
    }

    /// It is due for renewal at half of its life.
    pub fn credentials_for(&self, path: &str, lifetime: Duration) -> Credentials {
        let key = NodeKey::generate().expect("a key");
        Credentials::new(self.issue(&key.csr_der(), path, lifetime), &key).expect("a pair")
    }

    fn issue(&self, csr: &[u8], path: &str, lifetime: Duration) -> Vec<Vec<u8>> {
        let id: SpiffeId = format!("spiffe://{}/{path}", self.domain).parse().expect("valid");
        self.ca.issue(csr, &id, lifetime, unix_ms()).expect("issued")
    }

    pub fn info(&self, gateways: Vec<GatewayAddress>) -> SiteInfo {
        SiteInfo {
            id: self.id.clone(),
            uid: SiteUid([self.id.as_str().len() as u8; 16]),
            trust_domain: self.domain.clone(),
            locality: format!("{}/a", self.id).parse().expect("valid"),
            clusterset: "meshfed".parse().expect("valid"),
            gateways,
        }
    }

    /// What its nodes are told of it.
    pub fn entry(&self, gateways: Vec<GatewayAddress>) -> ConfigEntry {
        let site = SiteConfig {
            site: self.info(gateways),
            bundle: self.bundle(),
            link_open: false,
            names_complete: true,
            signer: None,
        };
        ConfigEntry { key: ConfigKey::Site, value: Some(ConfigValue::Site(site)) }
    }
}

/// How the federation answers a join, beside checking the proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joins {
    /// As it should.
    Well,
    /// It refuses, with these words.
    Refuses(String),
    /// It issues a certificate for this path.
    IssuesFor(String),
}

/// What the test can turn.
pub struct Settings {
    pub joins: Joins,
    /// Of leaves that are issued on joining and renewing.
    pub lifetime: Duration,
    /// Of leaves for others than the caller, when renewing.
    pub renews_for: Option<String>,
    pub vip_range: Option<VipRange>,
    pub gateways: Vec<GatewayAddress>,
}

struct Shared {
    site: Arc<Site>,
    settings: Mutex<Settings>,
    tokens: Mutex<Vec<([u8; 16], Secret)>>,
    nodes: mpsc::UnboundedSender<Node>,
    renewals: AtomicU32,
}

/// A federation.
pub struct Federation {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    nodes: tokio::sync::Mutex<mpsc::UnboundedReceiver<Node>>,
    stop: CancellationToken,
    revision: AtomicU64,
    incarnation: u64,
}

/// The far end of one config stream.
pub struct Node {
    /// Who it is.
    pub id: SpiffeId,
    /// What it holds, by its first message.
    pub holds: Option<ConfigVersion>,
    to: mpsc::UnboundedSender<Result<pb::FederationMessage, Status>>,
    from: Streaming<pb::NodeMessage>,
    /// Source events that were heard while something else was waited for.
    sources: VecDeque<NodeMessage>,
}

impl Federation {
    pub async fn start(site: &Arc<Site>) -> Self {
        Self::start_at(site, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts one on an address, with a new incarnation.
    pub async fn start_at(site: &Arc<Site>, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let (nodes, receiver) = mpsc::unbounded_channel();
        let settings = Settings {
            joins: Joins::Well,
            lifetime: INFRASTRUCTURE_LIFETIME,
            renews_for: None,
            vip_range: None,
            gateways: Vec::new(),
        };
        let shared = Arc::new(Shared {
            site: site.clone(),
            settings: Mutex::new(settings),
            tokens: Mutex::new(Vec::new()),
            nodes,
            renewals: AtomicU32::new(0),
        });
        let stop = CancellationToken::new();
        let (accepted, connections) = mpsc::channel(8);
        tokio::spawn(accept(listener, site.clone(), accepted, stop.clone()));
        let service = Service(shared.clone());
        let server = tonic::transport::Server::builder()
            .add_service(pb::config_server::ConfigServer::new(service.clone()))
            .add_service(pb::enroll_server::EnrollServer::new(service))
            .serve_with_incoming(ReceiverStream::new(connections));
        tokio::spawn(server);
        static INCARNATIONS: AtomicU64 = AtomicU64::new(1);
        let incarnation = INCARNATIONS.fetch_add(1, Ordering::Relaxed);
        let nodes = tokio::sync::Mutex::new(receiver);
        Self { address, shared, nodes, stop, revision: AtomicU64::new(0), incarnation }
    }

    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.shared.settings.lock().expect("no panic"));
    }

    /// A token with which `name` may join.
    pub fn token(&self, kind: NodeKind, name: &str, addresses: Vec<SocketAddr>) -> JoinToken {
        let site = &self.shared.site;
        let (id, secret) =
            (identity::secret::random_id().expect("random"), Secret::random().expect("random"));
        self.shared.tokens.lock().expect("no panic").push((id, secret.clone()));
        JoinToken {
            id,
            secret,
            expires_ms: unix_ms() + 600_000,
            site: site.id.clone(),
            trust_domain: site.domain.clone(),
            digest: identity::bundle::digest(&site.bundle()),
            kind,
            name: name.parse().expect("valid"),
            namespaces: Vec::new(),
            accounts: Vec::new(),
            addresses,
        }
    }

    /// The next config stream that opens.
    pub async fn node(&self) -> Node {
        soon("a config stream", async { self.nodes.lock().await.recv().await }).await.expect("it serves")
    }

    /// How many certificates were renewed.
    pub fn renewals(&self) -> u32 {
        self.shared.renewals.load(Ordering::SeqCst)
    }

    /// Its next version.
    pub fn version(&self) -> ConfigVersion {
        let revision = self.revision.fetch_add(1, Ordering::SeqCst) + 1;
        ConfigVersion { incarnation: self.incarnation, revision }
    }

    pub fn snapshot(&self, complete: bool, entries: Vec<ConfigEntry>) -> ConfigUpdate {
        ConfigUpdate { version: self.version(), snapshot: true, complete, entries }
    }

    pub fn change(&self, entries: Vec<ConfigEntry>) -> ConfigUpdate {
        ConfigUpdate { version: self.version(), snapshot: false, complete: false, entries }
    }

    /// Ends it as a kill would: every connection with it.
    pub fn kill(&self) {
        self.stop.cancel();
    }
}

impl Drop for Federation {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Node {
    /// Tells the node something.
    pub fn tell(&self, message: FederationMessage) {
        self.tell_raw((&message).into());
    }

    pub fn tell_raw(&self, message: pb::FederationMessage) {
        // A stream that has ended is seen by what the node does not say.
        let _ = self.to.send(Ok(message));
    }

    /// Sends config; answers its version.
    pub fn send(&self, update: ConfigUpdate) -> ConfigVersion {
        let version = update.version;
        self.tell(FederationMessage::Config(update));
        version
    }

    /// The next message that was not heard yet; none: the stream has ended.
    pub async fn next(&mut self) -> Option<NodeMessage> {
        let message = soon("a message", self.from.message()).await.ok()??;
        Some(NodeMessage::try_from(message).expect("a node keeps the rules"))
    }

    /// The next message that fits. Source events are kept for whoever waits for them, others are left out.
    pub async fn wait<T>(&mut self, what: &str, fits: impl Fn(NodeMessage) -> Option<T>) -> T {
        for at in 0..self.sources.len() {
            if let Some(found) = fits(self.sources[at].clone()) {
                self.sources.drain(..=at);
                return found;
            }
        }
        soon(what, async {
            loop {
                let message = self.next().await;
                let message = message.unwrap_or_else(|| panic!("the stream has ended, waiting for {what}"));
                let is_source = matches!(message, NodeMessage::Source(_));
                if let Some(found) = fits(message.clone()) {
                    if is_source {
                        self.sources.clear();
                    }
                    return found;
                }
                if is_source {
                    self.sources.push_back(message);
                }
            }
        })
        .await
    }

    pub async fn acked(&mut self, version: ConfigVersion) {
        self.wait("an ack", |message| (message == NodeMessage::Ack(version)).then_some(())).await;
    }

    /// Waits for the end of the stream.
    pub async fn ended(&mut self) {
        while self.next().await.is_some() {}
    }
}

#[derive(Clone)]
struct Service(Arc<Shared>);

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl pb::config_server::Config for Service {
    type StreamStream = Outgoing<pb::FederationMessage>;
    type CarryStream = Outgoing<pb::Chunk>;

    async fn stream(
        &self,
        request: Request<Streaming<pb::NodeMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let id = peer(&request).id.ok_or_else(|| Status::unauthenticated("no certificate"))?;
        let mut from = request.into_inner();
        let first = from.message().await?.ok_or_else(|| Status::invalid_argument("no first message"))?;
        let NodeMessage::Hello { holds, .. } = NodeMessage::try_from(first).expect("a node keeps the rules")
        else {
            return Err(Status::invalid_argument("the first message must be Hello"));
        };
        let (to, outgoing) = mpsc::unbounded_channel();
        let _ = self.0.nodes.send(Node { id, holds, to, from, sources: VecDeque::new() });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(outgoing))))
    }

    async fn carry(&self, _: Request<Streaming<pb::Chunk>>) -> Result<Response<Self::CarryStream>, Status> {
        Err(Status::unimplemented("no carriers here"))
    }
}

#[tonic::async_trait]
impl pb::enroll_server::Enroll for Service {
    async fn join(&self, request: Request<pb::JoinRequest>) -> Result<Response<pb::JoinReply>, Status> {
        let exporter = peer(&request).exporter;
        let request = JoinRequest::try_from(request.into_inner()).expect("a node keeps the rules");
        let known =
            self.0.tokens.lock().expect("no panic").iter().find(|(id, _)| *id == request.token).cloned();
        let (_, secret) = known.ok_or_else(|| Status::not_found("this token is not known here"))?;
        let context = identity::proof::join_context(request.kind, &request.name, &request.csr);
        if !identity::proof::verify(&secret, &exporter, &context, &request.proof) {
            return Err(Status::invalid_argument("the proof of this token is not good"));
        }
        let kind = if request.kind == NodeKind::Agent { "agent" } else { "gateway" };
        let settings = self.0.settings.lock().expect("no panic");
        let path = match &settings.joins {
            Joins::Well => format!("{kind}/{}", request.name),
            Joins::Refuses(why) => return Err(Status::failed_precondition(why.clone())),
            Joins::IssuesFor(path) => path.clone(),
        };
        let site = &self.0.site;
        let info = site.info(settings.gateways.clone());
        let reply = JoinReply {
            chain: site.issue(&request.csr, &path, settings.lifetime),
            bundle: site.bundle(),
            locality: info.locality.clone(),
            site: info,
            vip_range: settings.vip_range,
        };
        Ok(Response::new((&reply).into()))
    }

    async fn redeem(&self, _: Request<pb::RedeemRequest>) -> Result<Response<pb::RedeemReply>, Status> {
        Err(Status::unimplemented("no links here"))
    }

    async fn renew(&self, request: Request<pb::RenewRequest>) -> Result<Response<pb::RenewReply>, Status> {
        let id = peer(&request).id.ok_or_else(|| Status::unauthenticated("no certificate"))?;
        let request = RenewRequest::try_from(request.into_inner()).expect("a node keeps the rules");
        let settings = self.0.settings.lock().expect("no panic");
        let own = id.role.to_string();
        let path = settings.renews_for.as_deref().unwrap_or(own.trim_start_matches('/'));
        let chain = self.0.site.issue(&request.csr, path, settings.lifetime);
        self.0.renewals.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new((&RenewReply { chain }).into()))
    }
}

#[derive(Clone)]
struct PeerInfo {
    id: Option<SpiffeId>,
    exporter: Exporter,
}

fn peer<T>(request: &Request<T>) -> PeerInfo {
    request.extensions().get::<PeerInfo>().cloned().expect("every connection has one")
}

/// A TLS connection that ends when the federation is killed.
struct Io {
    stream: TlsStream<TcpStream>,
    peer: PeerInfo,
    killed: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connected for Io {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.killed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

async fn accept(
    listener: TcpListener,
    site: Arc<Site>,
    accepted: mpsc::Sender<Result<Io, io::Error>>,
    stop: CancellationToken,
) {
    let credentials = LiveCredentials::new(site.credentials("federation/fed-0"));
    let accept = Accept { own: &[RoleKind::Gateway, RoleKind::Agent], linked: &[], anonymous: true };
    let config = identity::tls::server_config(&credentials, &site.trust(), accept, &[b"h2"]);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    loop {
        let tcp = tokio::select! {
            tcp = listener.accept() => tcp.expect("accepts").0,
            () = stop.cancelled() => return,
        };
        let (acceptor, accepted, stop) = (acceptor.clone(), accepted.clone(), stop.clone());
        tokio::spawn(async move {
            let handshake = tokio::select! {
                handshake = acceptor.accept(tcp) => handshake,
                () = stop.cancelled() => return,
            };
            let Ok(stream) = handshake else { return };
            let session = stream.get_ref().1;
            let id =
                session.peer_certificates().map(|chain| identity::peer::peer_id(chain).expect("verified"));
            let exporter = identity::proof::exporter(session).expect("the handshake is done");
            let peer = PeerInfo { id, exporter };
            let io = Io { stream, peer, killed: Box::pin(stop.cancelled_owned()) };
            let _ = accepted.send(Ok(io)).await;
        });
    }
}
