//! A site with gateways and one agent.

use crate::federation::{Federation, Node, Site, soon, vip_range};
use crate::imports::{PORT, name, port};
use crate::tunnels;
use agent::{Handle, Options};
use identity::invite::JoinToken;
use model::catalog::GatewayAddress;
use model::config::{
    ConfigEntry, ConfigKey, ConfigUpdate, ConfigValue, HealthCheck, HealthProbe, VipRange, WorkloadSpec,
};
use model::ids::StreamId;
use model::locality::Locality;
use model::node::PeerViews;
use model::routing::{Caller, PeerState, PeerView};
use model::service::PortKey;
use model::tunnel::{Answer, ServiceStream, StreamHeader, StreamKind, Target};
use node::enroll::{Membership, NodeFolder};
use runtime::shutdown::Shutdown;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tunnel::{Accepted, Connection, IncomingStream, Opened, Tunnel};
use wire::enroll::JoinReply;

/// A gateway: carries config streams and links to the federation, tells agents its views, and leaves streams of
/// services to the test.
pub struct Gateway {
    pub name: &'static str,
    pub tunnel: Tunnel,
    pub views: watch::Sender<PeerViews>,
    streams: tokio::sync::Mutex<mpsc::UnboundedReceiver<IncomingStream>>,
    /// From agents, the newest last.
    connections: Arc<Mutex<Vec<Connection>>>,
    /// Where it carries config streams.
    federation: Arc<Mutex<SocketAddr>>,
}

impl Gateway {
    pub fn start(site: &Arc<Site>, name: &'static str, federation: SocketAddr) -> Self {
        Self::start_at(site, name, federation, tunnels::any())
    }

    pub fn start_at(
        site: &Arc<Site>,
        name: &'static str,
        federation: SocketAddr,
        address: SocketAddr,
    ) -> Self {
        let tunnel = tunnels::gateway(site, name, address);
        let (streams, receiver) = mpsc::unbounded_channel();
        let gateway = Self {
            name,
            tunnel: tunnel.clone(),
            views: watch::Sender::new(PeerViews { peers: Vec::new(), draining: false }),
            streams: tokio::sync::Mutex::new(receiver),
            connections: Arc::default(),
            federation: Arc::new(Mutex::new(federation)),
        };
        let (views, connections) = (gateway.views.clone(), gateway.connections.clone());
        let federation = gateway.federation.clone();
        tokio::spawn(async move {
            while let Some(accepted) = tunnel.accept().await {
                match accepted {
                    Accepted::Mesh(connection) => {
                        connections.lock().expect("no panic").push(connection.clone());
                        tokio::spawn(tell(connection.clone(), views.subscribe()));
                        tokio::spawn(serve(connection, federation.clone(), streams.clone()));
                    }
                    Accepted::Link(mut stream) => {
                        let federation = *federation.lock().expect("no panic");
                        tokio::spawn(async move {
                            if let Ok(mut tcp) = TcpStream::connect(federation).await {
                                let _ = tokio::io::copy_bidirectional(&mut stream, &mut tcp).await;
                            }
                        });
                    }
                }
            }
        });
        gateway
    }

    pub fn address(&self) -> GatewayAddress {
        self.at(self.tunnel.local_address())
    }

    /// As it is known where it is reached through a relay.
    pub fn at(&self, address: SocketAddr) -> GatewayAddress {
        GatewayAddress { name: self.name.parse().expect("valid"), address }
    }

    pub fn carries_to(&self, federation: SocketAddr) {
        *self.federation.lock().expect("no panic") = federation;
    }

    /// Sees these sites, each with a round trip in milliseconds.
    pub fn sees(&self, sites: &[(&str, u64)]) {
        let view = |(site, ms): &(&str, u64)| {
            let view = PeerView { state: PeerState::Connected, rtt: Some(Duration::from_millis(*ms)) };
            (site.parse().expect("valid"), view)
        };
        self.views.send_replace(PeerViews { peers: sites.iter().map(view).collect(), draining: false });
    }

    pub fn connections(&self) -> Vec<Connection> {
        let held = self.connections.lock().expect("no panic");
        held.iter().filter(|connection| connection.close_reason().is_none()).cloned().collect()
    }

    /// The newest connection of the agent that is open.
    pub async fn connection(&self) -> Connection {
        soon("a connection", async {
            loop {
                if let Some(connection) = self.connections().pop() {
                    return connection;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// The next stream of a service that the agent opens.
    pub async fn stream(&self) -> IncomingStream {
        soon("a stream", async { self.streams.lock().await.recv().await }).await.expect("it serves")
    }

    /// Asks the agent for a workload.
    pub async fn ask(&self, header: &StreamHeader) -> (Opened, Answer) {
        let connection = self.connection().await;
        let mut opened = connection.open(header, bytes::Bytes::new()).await.expect("opens");
        let answer = soon("an answer", opened.answer()).await.expect("an answer");
        (opened, answer)
    }
}

async fn tell(connection: Connection, mut views: watch::Receiver<PeerViews>) {
    let header = header(StreamKind::Views);
    let Ok(mut opened) = connection.open(&header, bytes::Bytes::new()).await else { return };
    let Ok(Answer::Accepted { .. }) = opened.answer().await else { return };
    let mut stream = opened.into_stream();
    loop {
        let frame = wire::frame::encode_views(&views.borrow_and_update().clone()).expect("short");
        if stream.write_all(&frame).await.is_err() {
            return;
        }
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

async fn serve(
    connection: Connection,
    federation: Arc<Mutex<SocketAddr>>,
    streams: mpsc::UnboundedSender<IncomingStream>,
) {
    while let Ok(incoming) = connection.accept_stream().await {
        match &incoming.header().kind {
            StreamKind::Service(_) => {
                let _ = streams.send(incoming);
            }
            StreamKind::Config => {
                let federation = *federation.lock().expect("no panic");
                tokio::spawn(async move {
                    let Ok(tcp) = TcpStream::connect(federation).await else {
                        let refusal = tunnels::refusal(model::decision::RefusalCode::EndpointFailed, true);
                        return incoming.refuse(refusal).await;
                    };
                    let accepted = incoming.accept("federation".parse().expect("valid"), Locality::default());
                    let Ok(stream) = accepted.await else { return };
                    let elsewhere: tunnel::splice::Elsewhere = Arc::new(|| true);
                    tunnel::splice::splice(tcp, stream, bytes::Bytes::new(), Some(elsewhere)).await;
                });
            }
            other => panic!("an agent opens no such stream: {other:?}"),
        }
    }
}

pub fn header(kind: StreamKind) -> StreamHeader {
    StreamHeader {
        kind,
        stream: StreamId(fastrand::u128(..).to_be_bytes()),
        hops: 1,
        traceparent: String::new(),
    }
}

/// A header for an endpoint of `shop/cart` in `site`.
pub fn call(site: &str, endpoint: &str) -> StreamHeader {
    call_port(site, "shop/cart", endpoint, PORT)
}

pub fn call_port(site: &str, service: &str, endpoint: &str, port: u16) -> StreamHeader {
    let site: model::ids::SiteId = site.parse().expect("valid");
    header(StreamKind::Service(ServiceStream {
        service: name(service),
        port: PortKey::tcp(port),
        caller: Caller {
            identity: None,
            proof: model::identity::Proof::Host,
            site: site.clone(),
            locality: Locality::default(),
            affinity: None,
        },
        target: Target::Endpoint(site, endpoint.parse().expect("valid")),
        bytes_ahead: false,
    }))
}

/// A workload of `shop/cart` on vm-1.
pub fn workload(id: &str, at: SocketAddr, probe: HealthProbe) -> ConfigEntry {
    workload_of("shop/cart", "vm-1", id, at, probe)
}

pub fn workload_of(service: &str, host: &str, id: &str, at: SocketAddr, probe: HealthProbe) -> ConfigEntry {
    let spec = WorkloadSpec {
        service: name(service),
        id: id.parse().expect("valid"),
        host: host.parse().expect("valid"),
        address: at.ip(),
        ports: vec![(port(PORT), at.port())],
        locality: Locality::default(),
        weight: 1,
        check: HealthCheck {
            probe,
            interval: Duration::from_millis(50),
            timeout: Duration::from_secs(1),
            healthy_threshold: 1,
            unhealthy_threshold: 1,
        },
        account: None,
    };
    let key = ConfigKey::Workload(spec.service.clone(), spec.id.clone());
    ConfigEntry { key, value: Some(ConfigValue::Workload(spec)) }
}

/// Makes a folder that of a member.
pub fn member(site: &Site, path: &Path, host: &str, gateways: Vec<GatewayAddress>, range: VipRange) {
    let info = site.info(gateways);
    let credentials = site.credentials(&format!("agent/{host}"));
    let reply = JoinReply {
        chain: credentials.chain().to_vec(),
        bundle: site.bundle(),
        locality: info.locality.clone(),
        site: info,
        vip_range: Some(range),
    };
    let membership = Membership { credentials, reply, addresses: Vec::new() };
    NodeFolder::open(path).expect("opens").store(&membership).expect("stored");
}

pub fn options(host: &str, folder: &Path, token: Option<JoinToken>) -> Options {
    Options {
        host: host.parse().expect("valid"),
        folder: folder.to_owned(),
        token,
        address: Ipv4Addr::LOCALHOST.into(),
        workloads: None,
        locality: None,
        dns_port: 0,
        proxy_port: 0,
        health_port: 0,
        reserved_ports: BTreeSet::new(),
        drain_timeout: Duration::from_secs(20),
    }
}

/// Site west, with a federation, two gateways and agent vm-1, which is a member.
pub struct World {
    pub site: Arc<Site>,
    pub federation: Federation,
    pub gateways: Vec<Gateway>,
    pub handle: Handle,
    pub shutdown: Shutdown,
    pub range: VipRange,
    _folder: TempDir,
    /// The far end of its config stream.
    pub node: Node,
}

/// Stops the agent's tasks with the test's.
impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

/// Gateways of the site; where each is reached is for the caller to say.
pub async fn site(names: &[&'static str]) -> (Arc<Site>, Federation, Vec<Gateway>) {
    let site = Site::new("west");
    let federation = Federation::start(&site).await;
    let gateways = names.iter().map(|name| Gateway::start(&site, name, federation.address)).collect();
    (site, federation, gateways)
}

/// With this config, beside that of the site.
pub async fn world(entries: Vec<ConfigEntry>) -> World {
    let (site, federation, gateways) = site(&["gw-0", "gw-1"]).await;
    let addresses = gateways.iter().map(Gateway::address).collect();
    begin(site, federation, gateways, addresses, entries).await
}

/// The agent knows the gateways at these addresses.
pub async fn begin(
    site: Arc<Site>,
    federation: Federation,
    gateways: Vec<Gateway>,
    addresses: Vec<GatewayAddress>,
    entries: Vec<ConfigEntry>,
) -> World {
    let (folder, range, shutdown) = (tempfile::tempdir().expect("a folder"), vip_range(), Shutdown::new());
    member(&site, folder.path(), "vm-1", addresses.clone(), range);
    let handle = agent::run(options("vm-1", folder.path(), None), shutdown.clone()).await.expect("runs");
    let mut node = federation.node().await;
    let mut all = vec![site.entry(addresses)];
    all.extend(entries);
    let version = node.send(federation.snapshot(true, all));
    node.acked(version).await;
    World { site, federation, gateways, handle, shutdown, range, _folder: folder, node }
}

impl World {
    /// Changes the config, and waits until the agent has it.
    pub async fn change(&mut self, entries: Vec<ConfigEntry>) {
        let update: ConfigUpdate = self.federation.change(entries);
        let version = self.node.send(update);
        self.node.acked(version).await;
    }

    /// Waits until the agent is connected to all gateways.
    pub async fn connected(&self) {
        for gateway in &self.gateways {
            gateway.connection().await;
        }
        let handle = &self.handle;
        let all = self.gateways.len().min(agent::gateways::GATEWAYS);
        crate::federation::eventually("the gateways", || handle.gateways.candidates(None).len() == all).await;
    }
}
