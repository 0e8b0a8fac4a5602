//! Sites on loopback: real gateways with real QUIC, in this process, that serve from a config on disk.
#![allow(dead_code)]

use bytes::Bytes;
use gateway_server::{Entry, Handle, Local, Options, run};
use identity::ca::{self, Ca};
use identity::credentials::Credentials;
use identity::key::NodeKey;
use identity::live::LiveCredentials;
use identity::peer::RoleKind;
use identity::tls::Expect;
use identity::trust::TrustStore;
use local::dns::Forward;
use local::vip::VipSettings;
use model::catalog::{GatewayAddress, SiteInfo};
use model::config::{ConfigEntry, ConfigKey, ConfigValue, ConfigVersion, PeerConfig, SiteConfig};
use model::decision::Refusal;
use model::endpoint::{Endpoint, Health, Reach};
use model::identity::{Proof, Role, SpiffeId};
use model::ids::{EndpointId, HostName, SiteId, SiteUid, StreamId};
use model::locality::Locality;
use model::routing::{Caller, FailoverPolicy, Group, GroupId, Import};
use model::service::{AppProtocol, PortKey, ServiceKind, ServicePort, Subset};
use model::tunnel::{Answer, ServiceStream, StreamHeader, StreamKind, Target};
use node::enroll::Membership;
use runtime::shutdown::Shutdown;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tunnel::{Connection, IncomingStream, Tunnel};
use wire::enroll::JoinReply;

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The port of the service that everybody calls, `shop/cart`.
pub const PORT: u16 = 8080;

/// An address of 127.0.0.0/8 for this test alone, outside the range of virtual IPs.
pub fn address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let process = std::process::id();
    let [high, low] = [(process >> 8) as u8 % 100 + 130, process as u8];
    Ipv4Addr::new(127, high, low, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A site, as far as gateways need one.
pub struct Site {
    pub id: SiteId,
    pub ca: Ca,
    pub info: SiteInfo,
    /// Strangers may open link streams.
    pub link_open: bool,
}

impl Site {
    pub fn new(name: &str, uid: u8, gateways: usize) -> Self {
        let trust_domain = format!("{name}.mesh").parse().expect("valid");
        let ca = Ca::generate(&trust_domain, runtime::clock::unix_ms()).expect("a CA");
        let gateways = (0..gateways).map(|number| GatewayAddress {
            name: format!("gw-{number}").parse().expect("valid"),
            address: SocketAddr::new(address().into(), 4430),
        });
        let info = SiteInfo {
            id: name.parse().expect("valid"),
            uid: SiteUid([uid; 16]),
            trust_domain,
            locality: format!("{name}/a").parse().expect("valid"),
            clusterset: "meshfed".parse().expect("valid"),
            gateways: gateways.collect(),
        };
        Self { id: info.id.clone(), ca, info, link_open: false }
    }

    pub fn credentials(&self, role: Role) -> Credentials {
        let key = NodeKey::generate().expect("a key");
        let id = SpiffeId { trust_domain: self.info.trust_domain.clone(), role };
        let lifetime = ca::lifetime(&id.role);
        let chain = self.ca.issue(&key.csr_der(), &id, lifetime, runtime::clock::unix_ms()).expect("a leaf");
        Credentials::new(chain, &key).expect("a pair")
    }

    fn membership(&self, number: usize) -> Membership {
        Membership {
            credentials: self.credentials(Role::Gateway(self.info.gateways[number].name.clone())),
            reply: JoinReply {
                chain: Vec::new(),
                bundle: self.ca.bundle(1),
                site: self.info.clone(),
                locality: self.info.locality.clone(),
                vip_range: None,
            },
            addresses: Vec::new(),
        }
    }

    /// The config of its gateways: itself, its peers, and `shop/cart` with these groups.
    pub fn config(&self, peers: &[&Site], groups: Vec<Group>) -> Vec<ConfigEntry> {
        let entry = |key, value| ConfigEntry { key, value: Some(value) };
        let bundle = |site: &Site| site.ca.bundle(1);
        let site = SiteConfig {
            site: self.info.clone(),
            bundle: bundle(self),
            link_open: self.link_open,
            names_complete: true,
            signer: None,
        };
        let service: model::service::ServiceName = "shop/cart".parse().expect("valid");
        let import = Import {
            service: service.clone(),
            ports: vec![ServicePort {
                key: PortKey::tcp(PORT),
                name: None,
                app: AppProtocol::Tcp,
                retry_safe: false,
            }],
            kind: ServiceKind::ClusterSetIp,
            vip: None,
            groups,
            failover: FailoverPolicy::default(),
            access: Vec::new(),
        };
        let mut entries = vec![
            entry(ConfigKey::Site, ConfigValue::Site(site)),
            entry(ConfigKey::Service(service), ConfigValue::Service(import)),
        ];
        entries.extend(peers.iter().map(|peer| {
            let config = PeerConfig { site: peer.info.clone(), bundle: bundle(peer), expired: false };
            entry(ConfigKey::Peer(peer.id.clone()), ConfigValue::Peer(config))
        }));
        entries
    }

    /// A group as another site sees it.
    pub fn summary(&self, healthy: u32) -> Group {
        Group {
            id: self.group(),
            healthy,
            total: healthy,
            declared_total: None,
            capacity: healthy.into(),
            endpoints: Vec::new(),
        }
    }

    /// A group as its own gateways see it.
    pub fn endpoints(&self, endpoints: Vec<Endpoint>) -> Group {
        let healthy = endpoints.len() as u32;
        Group { endpoints, ..self.summary(healthy) }
    }

    fn group(&self) -> GroupId {
        GroupId { site: self.id.clone(), locality: self.info.locality.clone(), subset: Subset::default() }
    }

    fn endpoint(&self, id: &str, reach: Reach, port: u16) -> Endpoint {
        Endpoint {
            id: id.parse::<EndpointId>().expect("valid"),
            locality: self.info.locality.clone(),
            network: "default".parse().expect("valid"),
            subset: Subset::default(),
            weight: 1,
            health: Health::Healthy,
            reach,
            ports: BTreeMap::from([(PortKey::tcp(PORT), port)]),
            hostname: None,
        }
    }

    pub fn direct(&self, id: &str, address: SocketAddr) -> Endpoint {
        self.endpoint(id, Reach::Direct(address.ip()), address.port())
    }

    pub fn on_host(&self, id: &str, host: &str, port: u16) -> Endpoint {
        self.endpoint(id, Reach::Agent(host.parse::<HostName>().expect("valid")), port)
    }
}

/// A gateway with a runtime of its own, so that it can be killed.
pub struct Gateway {
    runtime: Option<tokio::runtime::Runtime>,
    shutdown: Shutdown,
    handle: Option<Handle>,
    pub proxy: SocketAddr,
    pub tunnel: SocketAddr,
    _folder: TempDir,
}

impl Gateway {
    /// Starts gateway `number` of the site. Nobody is its federation.
    pub async fn start(site: &Site, number: usize, config: Vec<ConfigEntry>) -> Self {
        let nobody = SocketAddr::new(address().into(), 15_010);
        Self::start_with(site, number, config, nobody).await
    }

    pub async fn start_with(
        site: &Site,
        number: usize,
        config: Vec<ConfigEntry>,
        federation: SocketAddr,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let version = ConfigVersion { incarnation: 1, revision: 1 };
        let snapshot = wire::snapshot::encode(version, &config);
        std::fs::write(folder.path().join("config.snapshot"), snapshot).expect("written");
        let ip = site.info.gateways[number].address.ip();
        let proxy = SocketAddr::new(ip, 1080);
        let entry = Entry::Given(Box::new(site.membership(number)));
        let options = Options {
            health: None,
            local: Some(Local {
                range: None,
                vips: VipSettings::default(),
                proxy: Some(proxy),
                dns: None,
                forward: Forward::Nowhere,
            }),
            drain_timeout: Duration::from_secs(10),
            ..Options::new(folder.path().to_owned(), ip, federation, entry)
        };
        let shutdown = Shutdown::new();
        let leaving = shutdown.clone();
        let started = tokio::task::spawn_blocking(move || {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
            let handle = runtime.block_on(run(options, leaving)).expect("a gateway");
            (runtime, handle)
        });
        let (runtime, handle) = started.await.expect("starts");
        let tunnel = handle.tunnel_address();
        Self { runtime: Some(runtime), shutdown, handle: Some(handle), proxy, tunnel, _folder: folder }
    }

    /// As `kill -9` would: no packet says goodbye.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// As SIGSTOP would: it does nothing, and no packet is refused in its name.
    pub fn freeze(&self, time: Duration) {
        let runtime = self.runtime.as_ref().expect("it runs");
        // It has one worker, which also waits for its sockets.
        runtime.spawn(async move { std::thread::sleep(time) });
    }

    /// As SIGTERM would.
    pub fn leave(&self) {
        self.shutdown.begin();
    }

    /// Waits until it has left.
    pub async fn left(&mut self) {
        let handle = self.handle.take().expect("waited for once");
        tokio::time::timeout(PATIENCE, handle.ended()).await.expect("it leaves in time");
    }

    /// A client of `shop/cart` on this gateway's host; none: the connection was refused or reset.
    pub async fn call(&self) -> Option<Call> {
        self.call_name("cart.shop.svc.clusterset.local").await
    }

    pub async fn call_name(&self, name: &str) -> Option<Call> {
        let mut tcp = BufReader::new(TcpStream::connect(self.proxy).await.ok()?);
        let request = format!("CONNECT {name}:{PORT} HTTP/1.1\r\nhost: x\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.ok()?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if tcp.read_line(&mut head).await.ok()? == 0 {
                return None;
            }
        }
        if !head.starts_with("HTTP/1.1 200") {
            return None;
        }
        let mut served_by = String::new();
        tcp.read_line(&mut served_by).await.ok().filter(|read| *read > 0)?;
        Some(Call { tcp, served_by: served_by.trim().to_owned() })
    }

    /// Calls until it is served.
    pub async fn call_until_served(&self) -> Call {
        let calling = async {
            loop {
                if let Some(call) = self.call().await {
                    return call;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, calling).await.expect("served in time")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A client connection that was served.
pub struct Call {
    tcp: BufReader<TcpStream>,
    /// What the endpoint said first.
    pub served_by: String,
}

impl Call {
    /// Whether the endpoint still answers.
    pub async fn echoes(&mut self) -> bool {
        let echo = async {
            self.tcp.write_all(b"ping").await.ok()?;
            let mut back = [0; 4];
            self.tcp.read_exact(&mut back).await.ok()?;
            (back == *b"ping").then_some(())
        };
        matches!(tokio::time::timeout(PATIENCE, echo).await, Ok(Some(())))
    }
}

/// An endpoint that says its name and then echoes.
pub async fn endpoint(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::new(IpAddr::V4(address()), 0)).await.expect("binds");
    let bound = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(greet_and_echo(name, tcp));
        }
    });
    bound
}

async fn greet_and_echo(name: &'static str, mut tcp: TcpStream) {
    if tcp.write_all(format!("{name}\n").as_bytes()).await.is_ok() {
        let (mut read, mut write) = tcp.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    }
}

/// An address at which nobody listens.
pub fn nobody() -> SocketAddr {
    SocketAddr::new(address().into(), 9)
}

/// Tries until it succeeds.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut attempt: impl FnMut() -> F) -> T {
    let trying = async {
        loop {
            if let Some(found) = attempt().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, trying).await {
        Ok(found) => found,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// An agent, as far as its connection to one gateway goes.
pub struct Agent {
    site: SiteId,
    identity: SpiffeId,
    pub connection: Connection,
    _tunnel: Tunnel,
}

impl Agent {
    pub async fn connect(site: &Site, host: &str, gateway: SocketAddr) -> Self {
        let credentials = site.credentials(Role::Agent(host.parse().expect("valid")));
        let identity = credentials.id().clone();
        let trust = TrustStore::new(site.ca.bundle(1)).expect("good");
        let here = SocketAddr::new(address().into(), 0);
        let live = LiveCredentials::new(credentials);
        let tunnel = Tunnel::bind(here, live, &trust, tunnel::Config::wan()).expect("binds");
        let expect = Expect::trusted(&trust, site.info.trust_domain.clone(), RoleKind::Gateway);
        let connection = tunnel.connect(gateway, expect).await.expect("connects");
        Self { site: site.id.clone(), identity, connection, _tunnel: tunnel }
    }

    /// A header of a stream of a caller on its host, for any endpoint of `target`.
    pub fn header(&self, service: &str, target: &Site) -> StreamHeader {
        StreamHeader {
            kind: StreamKind::Service(ServiceStream {
                service: service.parse().expect("valid"),
                port: PortKey::tcp(PORT),
                caller: Caller {
                    identity: Some(self.identity.clone()),
                    proof: Proof::Host,
                    site: self.site.clone(),
                    locality: Locality::default(),
                    affinity: None,
                },
                target: Target::Site(target.id.clone()),
                bytes_ahead: false,
            }),
            stream: StreamId(fastrand::u128(..).to_be_bytes()),
            hops: 1,
            traceparent: String::new(),
        }
    }

    /// Opens a stream; says why it was refused.
    pub async fn open(&self, header: &StreamHeader) -> Result<tunnel::Stream, Refusal> {
        let mut opened = self.connection.open(header, Bytes::new()).await.expect("opens");
        match opened.answer().await.expect("answers") {
            Answer::Accepted { .. } => Ok(opened.into_stream()),
            Answer::Refused(refusal) => Err(refusal),
        }
    }

    /// Serves streams for its one endpoint, and takes views.
    pub fn serve(&self, endpoint: SocketAddr) {
        let connection = self.connection.clone();
        tokio::spawn(async move {
            while let Ok(incoming) = connection.accept_stream().await {
                tokio::spawn(serve_one(incoming, endpoint));
            }
        });
    }
}

async fn serve_one(incoming: IncomingStream, endpoint: SocketAddr) {
    let (id, locality) = ("vm-1".parse().expect("valid"), Locality::default());
    if incoming.header().kind == StreamKind::Views {
        let mut stream = incoming.accept(id, locality).await.expect("open");
        let mut sink = [0; 1024];
        while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        return;
    }
    let tcp = TcpStream::connect(endpoint).await.expect("the endpoint listens");
    if let Ok(stream) = incoming.accept(id, locality).await {
        tunnel::splice::splice(tcp, stream, Bytes::new(), None).await;
    }
}
