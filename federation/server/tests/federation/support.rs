//! Sites, gateways and agents for the tests.

use api::resource::site::{PortsSpec, SiteSettings};
use api::rest::error::ErrorBody;
use bytes::Bytes;
use federation_server::run::run_on;
use federation_server::site_dir::SiteDir;
use federation_server::store::Store;
use federation_server::{Handle, Options, run};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use identity::credentials::Credentials;
use identity::key::NodeKey;
use identity::live::LiveCredentials;
use identity::peer::RoleKind;
use identity::proof::{self, Exporter};
use identity::tls::{Expect, client_config, server_name};
use identity::trust::TrustStore;
use model::config::{ConfigKey, ConfigUpdate, ConfigValue};
use model::node::{CarrierTarget, FederationMessage, NodeKind, NodeMessage, PathReport, PathState};
use runtime::clock::unix_ms;
use runtime::shutdown::Shutdown;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use wire::pb;
use wire::pb::config_client::ConfigClient;

/// Everything in these tests happens within milliseconds; this is for machines that are busy.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `probe` gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    let wait = async {
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}

/// Where the federations of a test are, by trust domain: what the network would know.
pub type Roads = Arc<Mutex<BTreeMap<String, SocketAddr>>>;

/// A running site.
pub struct Site {
    pub name: String,
    pub handle: Handle,
    pub folder: PathBuf,
    pub shutdown: Shutdown,
    pub admin: LiveCredentials,
    pub trust: TrustStore,
    pub roads: Roads,
    /// Removed when the test ends.
    pub _temporary: Arc<tempfile::TempDir>,
}

pub fn settings(name: &str) -> SiteSettings {
    SiteSettings {
        site: name.parse().expect("valid"),
        trust_domain: format!("{name}.mesh").parse().expect("valid"),
        locality: "eu/fra".parse().expect("valid"),
        address: [127, 0, 0, 1].into(),
        advertise: "127.0.0.1:4430".parse().expect("valid"),
        clusterset: "meshfed".parse().expect("valid"),
        vip_range: None,
        ports: PortsSpec::default(),
        reserved_ports: Default::default(),
        drain_timeout: Duration::from_secs(1),
        services: Vec::new(),
        lease: Duration::from_secs(900),
        leaf_lifetime: Duration::from_secs(7 * 86_400),
        default_access: None,
    }
}

pub fn options(settings: SiteSettings, folder: &Path) -> Options {
    let free = "127.0.0.1:0".parse().expect("valid");
    Options {
        config_address: free,
        api_address: free,
        health_address: None,
        ..Options::new(folder.to_owned(), settings)
    }
}

impl Site {
    pub async fn start(name: &str, roads: &Roads) -> Self {
        Self::start_with(settings(name), roads).await
    }

    pub async fn start_with(settings: SiteSettings, roads: &Roads) -> Self {
        Self::start_as(settings, roads, None).await
    }

    /// A site with the uid of another, as a copied directory has it.
    pub async fn start_as(settings: SiteSettings, roads: &Roads, uid: Option<String>) -> Self {
        let temporary = Arc::new(tempfile::tempdir().expect("a folder"));
        let folder = temporary.path().join(settings.site.as_str());
        let dir = SiteDir::create(&folder, &settings.trust_domain, unix_ms()).expect("makes the site");
        let admin = dir.issue_admin("root".parse().expect("valid"), unix_ms()).expect("issues");
        let trust = TrustStore::new(dir.authority.bundle()).expect("a good bundle");
        drop(dir);
        if let Some(uid) = uid {
            std::fs::write(folder.join("uid"), uid).expect("writes");
        }
        Self::run(settings, folder, LiveCredentials::new(admin), trust, roads.clone(), temporary).await
    }

    /// A site whose store is on a disk that the test spoils.
    pub async fn start_on(name: &str, roads: &Roads, faults: &crate::storing::Faults) -> Self {
        let site = Self::start(name, roads).await;
        let faults = faults.clone();
        let (name, folder, roads) = (site.name.clone(), site.folder.clone(), site.roads.clone());
        site.shutdown.begin();
        let Self { handle, admin, trust, _temporary, .. } = site;
        handle.ended().await;
        let shutdown = Shutdown::new();
        let open = |dir: &SiteDir| {
            Ok(Box::new(crate::storing::FaultyStore::open(&dir.store(), &faults)?) as Box<dyn Store>)
        };
        let handle = run_on(options(settings(&name), &folder), open, shutdown.clone()).await.expect("starts");
        roads.lock().expect("fine").insert(format!("{name}.mesh"), handle.config_address);
        Self { name, handle, folder, shutdown, admin, trust, roads, _temporary }
    }

    /// A site on a copy of the directory of another, with roads of its own.
    pub async fn start_copy(of: &Self, folder: PathBuf, roads: &Roads) -> Self {
        let temporary = of._temporary.clone();
        Self::run(settings(&of.name), folder, of.admin.clone(), of.trust.clone(), roads.clone(), temporary)
            .await
    }

    async fn run(
        settings: SiteSettings,
        folder: PathBuf,
        admin: LiveCredentials,
        trust: TrustStore,
        roads: Roads,
        temporary: Arc<tempfile::TempDir>,
    ) -> Self {
        let name = settings.site.to_string();
        let domain = settings.trust_domain.to_string();
        let shutdown = Shutdown::new();
        let handle = run(options(settings, &folder), shutdown.clone()).await.expect("starts");
        roads.lock().expect("fine").insert(domain, handle.config_address);
        Self { name, handle, folder, shutdown, admin, trust, roads, _temporary: temporary }
    }

    /// Ends the federation and starts it again on the same directory.
    pub async fn restart(self) -> Self {
        self.restart_after(|_| {}).await
    }

    /// As [`Site::restart`], with something done to the directory while nothing runs on it.
    pub async fn restart_after(self, change: impl FnOnce(&Path)) -> Self {
        let Self { name, handle, folder, shutdown, admin, trust, roads, _temporary } = self;
        shutdown.begin();
        handle.ended().await;
        change(&folder);
        Self::run(settings(&name), folder, admin, trust, roads, _temporary).await
    }

    /// A request to the API, with the administrator's certificate.
    pub async fn request(&self, method: Method, path: &str, body: Vec<u8>) -> (u16, Bytes) {
        let expect = Expect::trusted(&self.trust, self.trust.own_domain(), RoleKind::Federation);
        let config = client_config(Some(&self.admin), &expect, &[b"http/1.1"]);
        let tcp = TcpStream::connect(self.handle.api_address).await.expect("connects");
        let tls = TlsConnector::from(Arc::new(config)).connect(server_name(), tcp).await.expect("TLS");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.expect("HTTP");
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "site")
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        let response = sender.send_request(request).await.expect("answers");
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.expect("a body").to_bytes())
    }

    pub async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, String> {
        let (status, bytes) = self.request(method, path, serde_json::to_vec(body).expect("json")).await;
        if status < 300 {
            return Ok(serde_json::from_slice(&bytes).expect("the answer is of the type"));
        }
        let error: ErrorBody =
            serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("no error body: {bytes:?}"));
        Err(error.error.to_string())
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let (status, bytes) = self.request(Method::GET, path, Vec::new()).await;
        assert_eq!(status, 200, "{path}: {bytes:?}");
        serde_json::from_slice(&bytes).expect("the answer is of the type")
    }

    /// A gRPC channel to the federation, with the exporter of its TLS session.
    pub async fn channel(&self, credentials: Option<&LiveCredentials>) -> (Channel, Exporter) {
        let expect = Expect::trusted(&self.trust, self.trust.own_domain(), RoleKind::Federation);
        channel(self.handle.config_address, credentials, &expect).await.expect("a channel")
    }

    /// A gateway of this site, whose paths to `peers` are alive.
    pub async fn gateway(&self, name: &str, peers: &[&str]) -> Node {
        let key = NodeKey::generate().expect("a key");
        let address: SocketAddr = "127.0.0.1:4430".parse().expect("valid");
        let joined =
            self.handle.join_gateway(name.parse().expect("valid"), key.csr_der(), Some(address)).await;
        let credentials = Credentials::new(joined.expect("joins").chain, &key).expect("fits");
        let node =
            Node::connect(self, LiveCredentials::new(credentials), NodeKind::Gateway, Some(address)).await;
        node.report(peers).await;
        node
    }
}

/// A channel to a federation.
pub async fn channel(
    address: SocketAddr,
    credentials: Option<&LiveCredentials>,
    expect: &Expect,
) -> Result<(Channel, Exporter), String> {
    let config = client_config(credentials, expect, &[b"h2"]);
    let tcp = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let tls = TlsConnector::from(Arc::new(config)).connect(server_name(), tcp).await;
    let tls = tls.map_err(|error| error.to_string())?;
    let exporter = proof::exporter(tls.get_ref().1).map_err(|error| error.to_string())?;
    let mut once = Some(TokioIo::new(tls));
    let connect = tower::service_fn(move |_| {
        std::future::ready(once.take().ok_or_else(|| std::io::Error::other("once")))
    });
    let channel = Endpoint::from_static("http://test.invalid").connect_with_connector(connect).await;
    Ok((channel.map_err(|error| error.to_string())?, exporter))
}

/// A gateway or an agent, as far as a federation sees it.
pub struct Node {
    pub to_federation: mpsc::Sender<pb::NodeMessage>,
    pub config: watch::Receiver<BTreeMap<ConfigKey, ConfigValue>>,
    pub told: mpsc::Receiver<FederationMessage>,
    pub updates: watch::Receiver<Vec<ConfigUpdate>>,
    pub task: tokio::task::JoinHandle<()>,
}

impl Node {
    pub async fn connect(
        site: &Site,
        credentials: LiveCredentials,
        kind: NodeKind,
        tunnel_address: Option<SocketAddr>,
    ) -> Self {
        let (channel, _) = site.channel(Some(&credentials)).await;
        let mut client = ConfigClient::new(channel);
        let (to_federation, messages) = mpsc::channel(64);
        let hello = NodeMessage::Hello { kind, holds: None, tunnel_address, locality: None };
        to_federation.send((&hello).into()).await.expect("room");
        let mut incoming = client.stream(ReceiverStream::new(messages)).await.expect("a stream").into_inner();
        let (config, config_seen) = watch::channel(BTreeMap::new());
        let (updates, updates_seen) = watch::channel(Vec::new());
        let (tell, told) = mpsc::channel(1024);
        let (roads, back) = (site.roads.clone(), to_federation.clone());
        let task = tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                match FederationMessage::try_from(message).expect("well formed") {
                    FederationMessage::Config(update) => {
                        config.send_modify(|config| apply(config, &update));
                        updates.send_modify(|updates| updates.push(update));
                    }
                    FederationMessage::OpenCarrier { carrier, target } => {
                        let (roads, client, back) = (roads.clone(), client.clone(), back.clone());
                        tokio::spawn(async move {
                            if let Err(reason) = carry(&roads, client, carrier, &target).await {
                                let failed = NodeMessage::CarrierFailed { carrier, reason };
                                let _ = back.send((&failed).into()).await;
                            }
                        });
                    }
                    other => drop(tell.send(other).await),
                }
            }
        });
        Self { to_federation, config: config_seen, told, updates: updates_seen, task }
    }

    pub async fn say(&self, message: NodeMessage) {
        self.to_federation.send((&message).into()).await.expect("the stream is there");
    }

    /// Reports live paths to these sites.
    pub async fn report(&self, peers: &[&str]) {
        self.say(NodeMessage::Paths(peers.iter().map(|peer| path(peer)).collect())).await;
    }

    /// Waits until the config has what `find` looks for.
    pub async fn wait_config<T>(
        &mut self,
        what: &str,
        find: impl Fn(&BTreeMap<ConfigKey, ConfigValue>) -> Option<T>,
    ) -> T {
        let wait = async {
            loop {
                if let Some(found) = find(&self.config.borrow_and_update()) {
                    return found;
                }
                self.config.changed().await.expect("the stream is there");
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("not in the config: {what}"))
    }
}

/// A live path to the gateway of a site.
pub fn path(peer: &str) -> PathReport {
    PathReport {
        site: peer.parse().expect("valid"),
        gateway: "gw-0".parse().expect("valid"),
        address: "127.0.0.1:4430".parse().expect("valid"),
        state: PathState::Live,
        rtt: Some(Duration::from_millis(3)),
        loss_permille: 0,
        streams: 0,
        mtu: Some(1_452),
        problem: String::new(),
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn apply(config: &mut BTreeMap<ConfigKey, ConfigValue>, update: &ConfigUpdate) {
    if update.snapshot && update.complete {
        config.clear();
    }
    for entry in &update.entries {
        match &entry.value {
            Some(value) => drop(config.insert(entry.key.clone(), value.clone())),
            None => drop(config.remove(&entry.key)),
        }
    }
}

/// Carries bytes between two federations, by TCP.
async fn carry(
    roads: &Roads,
    mut client: ConfigClient<Channel>,
    carrier: u64,
    target: &CarrierTarget,
) -> Result<(), String> {
    let domain = match target {
        CarrierTarget::Peer(site) => format!("{site}.mesh"),
        CarrierTarget::Invite { trust_domain, .. } => trust_domain.to_string(),
    };
    let address = roads.lock().expect("fine").get(&domain).copied().ok_or("no answer")?;
    let tcp = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut reader, mut writer) = tcp.into_split();
    let (chunks, outgoing) = mpsc::channel(4);
    let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
    request.metadata_mut().insert(wire::CARRIER_METADATA, carrier.to_string().parse().expect("digits"));
    let mut incoming = client.carry(request).await.map_err(|status| status.to_string())?.into_inner();
    tokio::spawn(async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            let data = Bytes::copy_from_slice(&buffer[..count]);
            if chunks.send(pb::Chunk { data }).await.is_err() {
                return;
            }
        }
    });
    while let Ok(Some(chunk)) = incoming.message().await {
        if writer.write_all(&chunk.data).await.is_err() {
            break;
        }
    }
    Ok(())
}
