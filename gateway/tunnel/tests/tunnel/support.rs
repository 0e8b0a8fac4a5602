//! Sites with their own CAs, tunnels, and a UDP relay that can be cut.

use bytes::Bytes;
use identity::ca::{Ca, INFRASTRUCTURE_LIFETIME};
use identity::credentials::Credentials;
use identity::key::NodeKey;
use identity::live::LiveCredentials;
use identity::peer::RoleKind;
use identity::tls::Expect;
use identity::trust::TrustStore;
use model::identity::{Bundle, Proof, SpiffeId, TrustDomain};
use model::ids::StreamId;
use model::locality::Locality;
use model::routing::Caller;
use model::service::PortKey;
use model::tunnel::{ServiceStream, StreamHeader, StreamKind, Target};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tunnel::{Accepted, Config, Connection, IncomingStream, Roles, Tunnel};

/// How long anything may take before a test gives up. Far more than it takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits with patience.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {PATIENCE:?}"),
    }
}

pub struct Site {
    pub domain: TrustDomain,
    ca: Ca,
}

impl Site {
    pub fn new(name: &str) -> Self {
        let domain: TrustDomain = format!("{name}.mesh").parse().expect("valid");
        let ca = Ca::generate(&domain, runtime::clock::unix_ms()).expect("a CA");
        Self { domain, ca }
    }

    pub fn bundle(&self) -> Bundle {
        self.ca.bundle(1)
    }

    pub fn trust(&self, linked: &[&Site]) -> TrustStore {
        let trust = TrustStore::new(self.bundle()).expect("good");
        trust.set_linked(linked.iter().map(|site| site.bundle()).collect()).expect("good");
        trust
    }

    /// Credentials for a path like `gateway/gw-0`.
    pub fn credentials(&self, path: &str) -> Credentials {
        let key = NodeKey::generate().expect("a key");
        let id: SpiffeId = format!("spiffe://{}/{path}", self.domain).parse().expect("valid");
        let now = runtime::clock::unix_ms();
        let chain = self.ca.issue(&key.csr_der(), &id, INFRASTRUCTURE_LIFETIME, now).expect("issued");
        Credentials::new(chain, &key).expect("a pair")
    }

    /// A gateway that accepts gateways of its own and linked sites, and own agents.
    pub fn gateway(&self, linked: &[&Site]) -> Node {
        Node::new(self.credentials("gateway/gw-0"), self.trust(linked), lan().accepting(Roles::of_gateway()))
    }
}

pub fn lan() -> Config {
    Config::lan()
}

pub struct Node {
    pub tunnel: Tunnel,
    pub trust: TrustStore,
}

impl Node {
    pub fn new(credentials: Credentials, trust: TrustStore, config: Config) -> Self {
        let any = "127.0.0.1:0".parse().expect("valid");
        Self::at(any, LiveCredentials::new(credentials), trust, config)
    }

    pub fn at(address: SocketAddr, credentials: LiveCredentials, trust: TrustStore, config: Config) -> Self {
        let tunnel = Tunnel::bind(address, credentials, &trust, config).expect("binds");
        Self { tunnel, trust }
    }

    pub fn address(&self) -> SocketAddr {
        self.tunnel.local_address()
    }

    pub fn expects(&self, site: &Site) -> Expect {
        Expect::trusted(&self.trust, site.domain.clone(), RoleKind::Gateway)
    }

    pub async fn accept(&self) -> Connection {
        match soon("an accept", self.tunnel.accept()).await {
            Some(Accepted::Mesh(connection)) => connection,
            other => panic!("not a peer: {other:?}"),
        }
    }
}

/// Two gateways of two linked sites, and a connection that west dialled.
pub struct Pair {
    pub west: Node,
    pub east: Node,
    pub dialled: Connection,
    pub accepted: Connection,
}

pub async fn pair() -> Pair {
    pair_with(lan()).await
}

/// Both with these settings.
pub async fn pair_with(config: Config) -> Pair {
    let (west, east) = (Site::new("west"), Site::new("east"));
    let config = config.accepting(Roles::of_gateway());
    let west_node = Node::new(west.credentials("gateway/gw-0"), west.trust(&[&east]), config.clone());
    let east_node = Node::new(east.credentials("gateway/gw-0"), east.trust(&[&west]), config);
    let (dialled, accepted) = connect(&west_node, &east, &east_node, east_node.address()).await;
    Pair { west: west_node, east: east_node, dialled, accepted }
}

/// A peer that knows the protocol only as far as TLS. Without credentials it shows no certificate.
pub async fn raw_peer(
    credentials: Option<Credentials>,
    to: &Node,
    site: &Site,
    alpn: &[u8],
) -> Result<quinn::Connection, quinn::ConnectionError> {
    let expect = Expect::bundle(site.bundle(), RoleKind::Gateway).expect("good");
    let credentials = credentials.map(LiveCredentials::new);
    let tls = identity::tls::client_config(credentials.as_ref(), &expect, &[alpn]);
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("TLS 1.3");
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().expect("valid")).expect("binds");
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let connecting = endpoint.connect_with(config, to.address(), identity::tls::SERVER_NAME);
    connecting.expect("a good address").await
}

/// Dials `to` at `address`, which may be that of a relay.
pub async fn connect(from: &Node, site: &Site, to: &Node, address: SocketAddr) -> (Connection, Connection) {
    let expect = from.expects(site);
    let (dialled, accepted) = tokio::join!(from.tunnel.connect(address, expect), to.accept());
    (dialled.expect("connects"), accepted)
}

static NEXT_STREAM: AtomicU64 = AtomicU64::new(1);

pub fn header() -> StreamHeader {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&NEXT_STREAM.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    StreamHeader {
        kind: StreamKind::Service(ServiceStream {
            service: "shop/cart".parse().expect("valid"),
            port: PortKey::tcp(8080),
            caller: Caller {
                identity: Some("spiffe://west.mesh/ns/shop/sa/web".parse().expect("valid")),
                proof: Proof::Host,
                site: "west".parse().expect("valid"),
                locality: locality("us/sjc"),
                affinity: None,
            },
            target: Target::Site("east".parse().expect("valid")),
            bytes_ahead: false,
        }),
        stream: StreamId(id),
        hops: 0,
        traceparent: String::new(),
    }
}

pub fn locality(text: &str) -> Locality {
    text.parse().expect("valid")
}

/// A stream that was opened and accepted: west's end and east's end.
pub async fn accepted_stream(pair: &Pair) -> (tunnel::Stream, tunnel::Stream) {
    let mut opened = pair.dialled.open(&header(), Bytes::new()).await.expect("opens");
    let incoming = incoming(&pair.accepted).await;
    let east = incoming.accept("vm-1".parse().expect("valid"), locality("eu/fra")).await.expect("accepts");
    let answer = soon("an answer", opened.answer()).await.expect("an answer");
    assert!(matches!(answer, model::tunnel::Answer::Accepted { .. }), "{answer:?}");
    (opened.into_stream(), east)
}

pub async fn incoming(connection: &Connection) -> IncomingStream {
    soon("a stream", connection.accept_stream()).await.expect("a stream")
}

/// A TCP connection: the dialling end and the accepting end.
pub async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let (dialled, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (dialled.expect("connects"), accepted.expect("accepts").0)
}

/// Carries UDP between one client and a server, until it is cut.
pub struct Relay {
    pub address: SocketAddr,
    /// Larger datagrams vanish.
    passes: Arc<AtomicUsize>,
    lost_pct: Arc<AtomicUsize>,
    /// Bytes that did not pass, either way.
    dropped: Arc<AtomicUsize>,
    /// Milliseconds that each datagram of the client takes.
    pace: Arc<AtomicUsize>,
}

impl Relay {
    pub async fn to(server: SocketAddr) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
        let back = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
        back.connect(server).await.expect("connects");
        let address = front.local_addr().expect("bound");
        let passes = Arc::new(AtomicUsize::new(usize::MAX));
        let lost_pct = Arc::new(AtomicUsize::new(0));
        let dropped = Arc::new(AtomicUsize::new(0));
        let pace = Arc::new(AtomicUsize::new(0));
        let counts = (Arc::clone(&passes), Arc::clone(&lost_pct), Arc::clone(&dropped), Arc::clone(&pace));
        tokio::spawn(carry(front, back, counts));
        Self { address, passes, lost_pct, dropped, pace }
    }

    /// Waits until both sides have sent into a cut all that they send at once: what still comes are single probes.
    pub async fn exhausts(&self) {
        const PROBES: usize = 4_096;
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = self.dropped.load(Ordering::SeqCst);
            if now > PROBES && now - before < PROBES {
                return;
            }
            before = now;
        }
    }

    /// Forwards nothing from here on, in silence.
    pub fn cut(&self) {
        self.pass(0);
    }

    pub fn mend(&self) {
        self.pass(usize::MAX);
    }

    /// Lets the client's datagrams through one by one, so many milliseconds each, so that who looks late misses little.
    pub fn pace(&self, milliseconds: usize) {
        self.pace.store(milliseconds, Ordering::SeqCst);
    }

    /// Loses so many of a hundred datagrams from here on, each way.
    pub fn lose(&self, percent: usize) {
        self.lost_pct.store(percent, Ordering::SeqCst);
    }

    /// Forwards only datagrams of at most so many bytes from here on.
    pub fn pass(&self, bytes: usize) {
        self.passes.store(bytes, Ordering::SeqCst);
    }
}

/// What passes, what is lost, how much of it there was, and the pace.
type Counts = (Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>);

async fn carry(front: UdpSocket, back: UdpSocket, (passes, lost_pct, dropped, pace): Counts) {
    let mut draw = 1_u64;
    let mut forwards = |n: usize| {
        // Numerical Recipes' linear congruential generator; the same losses each time.
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let lost = ((draw >> 33) % 100) < lost_pct.load(Ordering::SeqCst) as u64;
        let forwards = !lost && n <= passes.load(Ordering::SeqCst);
        if !forwards {
            dropped.fetch_add(n, Ordering::SeqCst);
        }
        forwards
    };
    let (mut there, mut here) = (vec![0; 65_536], vec![0; 65_536]);
    let mut client = None;
    loop {
        tokio::select! {
            Ok((n, from)) = front.recv_from(&mut there) => {
                client = Some(from);
                if forwards(n) {
                    let pace = pace.load(Ordering::SeqCst);
                    if pace > 0 {
                        tokio::time::sleep(Duration::from_millis(pace as u64)).await;
                    }
                    let _ = back.send(&there[..n]).await;
                }
            }
            Ok(n) = back.recv(&mut here) => {
                if let Some(client) = client && forwards(n) {
                    let _ = front.send_to(&here[..n], client).await;
                }
            }
        }
    }
}

/// Two gateways and a connection that goes through a relay.
pub async fn relayed() -> (Node, Node, Relay, Connection, Connection) {
    let (west, east) = (Site::new("west"), Site::new("east"));
    let (from, to) = (west.gateway(&[&east]), east.gateway(&[&west]));
    let relay = Relay::to(to.address()).await;
    let (dialled, accepted) = connect(&from, &east, &to, relay.address).await;
    (from, to, relay, dialled, accepted)
}
