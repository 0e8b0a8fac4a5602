//! The config stream: what it brings, what it refuses, what it says.

use crate::federation::{Federation, Node, Site, eventually, soon};
use crate::imports::{name, peer, service};
use futures_util::future::BoxFuture;
use identity::live::LiveCredentials;
use identity::trust::TrustStore;
use model::config::{ConfigEntry, ConfigKey, ConfigVersion};
use model::decision::ExplainRequest;
use model::identity::Proof;
use model::node::{FederationMessage, NodeEvent, NodeKind, NodeMessage};
use model::routing::Caller;
use node::routes::Routes;
use node::store::ConfigStore;
use node::stream::{Command, Dial, Greeting, Io, Parts, Upstream, config_stream};
use runtime::shutdown::Shutdown;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::sync::mpsc;
use wire::pb;

/// By TCP, to an address that can be changed.
pub struct ByTcp(pub Mutex<SocketAddr>);

impl ByTcp {
    pub fn to(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self(Mutex::new(address)))
    }

    fn set(&self, address: SocketAddr) {
        *self.0.lock().expect("no panic") = address;
    }
}

impl Dial for ByTcp {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        let address = *self.0.lock().expect("no panic");
        Box::pin(async move {
            let tcp = tokio::net::TcpStream::connect(address).await?;
            Ok(Box::new(tcp) as Box<dyn Io>)
        })
    }
}

/// A node that is nothing but its config stream.
struct Running {
    store: Arc<ConfigStore>,
    trust: TrustStore,
    upstream: Upstream,
    commands: mpsc::Receiver<Command>,
    dial: Arc<ByTcp>,
    shutdown: Shutdown,
    ended: Vec<tokio::task::JoinHandle<()>>,
}

impl Running {
    fn start(site: &Site, folder: &Path, federation: SocketAddr) -> Self {
        let store = ConfigStore::open(folder).expect("opens");
        let trust = site.trust();
        let routes = Routes::new(site.id.clone(), "agent vm-1".to_owned());
        let dial = ByTcp::to(federation);
        let explainer = routes.clone();
        let (upstream, stream, commands) = config_stream(Parts {
            dial: dial.clone(),
            credentials: LiveCredentials::new(site.credentials("agent/vm-1")),
            trust: trust.clone(),
            store: store.clone(),
            greeting: Greeting { kind: NodeKind::Agent, tunnel_address: None, locality: None },
            explainer: Arc::new(move |request| explainer.explain(&request)),
        });
        let shutdown = Shutdown::new();
        let ended = vec![
            tokio::spawn(store.clone().keep(shutdown.clone())),
            tokio::spawn(stream.run(shutdown.clone())),
            tokio::spawn(routes.run(store.clone(), shutdown.clone())),
        ];
        Self { store, trust, upstream, commands, dial, shutdown, ended }
    }

    fn services(&self) -> Vec<String> {
        self.store.current().services.keys().map(ToString::to_string).collect()
    }

    async fn stop(self) {
        self.shutdown.begin();
        for ended in self.ended {
            soon("the end", ended).await.expect("no panic");
        }
    }
}

/// A site, its federation, and a node of it that is connected.
async fn connected() -> (Arc<Site>, Federation, TempDir, Running, Node) {
    let site = Site::new("east");
    let federation = Federation::start(&site).await;
    let folder = tempfile::tempdir().expect("a folder");
    let running = Running::start(&site, folder.path(), federation.address);
    let node = federation.node().await;
    (site, federation, folder, running, node)
}

#[tokio::test]
async fn a_snapshot_is_on_disk_before_it_is_acknowledged() {
    let (site, federation, folder, _running, mut node) = connected().await;
    assert_eq!(node.holds, None);
    let entries = vec![site.entry(Vec::new()), service("shop/cart")];
    let version = node.send(federation.snapshot(true, entries.clone()));
    node.acked(version).await;
    let bytes = std::fs::read(folder.path().join("config.snapshot")).expect("there");
    let snapshot = wire::snapshot::decode(&bytes).expect("a snapshot");
    assert_eq!((snapshot.version, snapshot.entries), (version, entries));
}

#[tokio::test]
async fn a_node_that_restarts_serves_what_it_held_without_a_federation() {
    let (site, federation, folder, running, mut node) = connected().await;
    let version = node.send(federation.snapshot(true, vec![site.entry(Vec::new()), service("shop/cart")]));
    node.acked(version).await;
    running.stop().await;
    let address = federation.address;
    drop((node, federation));

    let again = Running::start(&site, folder.path(), address);
    assert_eq!(again.services(), ["shop/cart"], "before any federation was asked");
    let federation = Federation::start(&site).await;
    again.dial.set(federation.address);
    let node = federation.node().await;
    assert_eq!(node.holds, Some(version));
    assert_eq!(again.services(), ["shop/cart"]);
}

#[tokio::test]
async fn an_incomplete_snapshot_of_a_federation_that_restarted_removes_nothing() {
    let (site, federation, _folder, running, mut node) = connected().await;
    let entries = || vec![site.entry(Vec::new()), service("shop/cart")];
    let version = node.send(federation.snapshot(true, entries()));
    node.acked(version).await;
    federation.kill();
    let federation = Federation::start(&site).await;
    running.dial.set(federation.address);

    let mut node = federation.node().await;
    let version = node.send(federation.snapshot(false, vec![service("shop/orders")]));
    node.acked(version).await;
    assert_eq!(running.services(), ["shop/cart", "shop/orders"]);
    let version = node.send(federation.snapshot(true, vec![site.entry(Vec::new()), service("shop/orders")]));
    node.acked(version).await;
    assert_eq!(running.services(), ["shop/orders"], "what is complete removes");
}

#[tokio::test]
async fn a_bad_update_ends_the_stream_changes_nothing_and_leads_to_a_snapshot() {
    let (site, federation, _folder, running, mut node) = connected().await;
    let version = node.send(federation.snapshot(true, vec![site.entry(Vec::new()), service("shop/cart")]));
    node.acked(version).await;
    let mut change = federation.change(vec![service("shop/orders")]);
    change.version.incarnation += 1_000;
    node.send(change);
    node.ended().await;
    assert_eq!(running.services(), ["shop/cart"]);

    let mut node = federation.node().await;
    assert_eq!(node.holds, None, "what it holds does not fit what it is told, so it asks for all");
    let version = node.send(federation.snapshot(true, vec![site.entry(Vec::new()), service("shop/orders")]));
    node.acked(version).await;
    assert_eq!(running.services(), ["shop/orders"]);
    federation.kill();
    let federation = Federation::start(&site).await;
    running.dial.set(federation.address);
    assert_eq!(federation.node().await.holds, Some(version), "from then on as before");
}

#[tokio::test]
async fn a_message_that_breaks_the_rules_ends_the_stream_and_changes_nothing() {
    let (site, federation, _folder, running, mut node) = connected().await;
    let version = node.send(federation.snapshot(true, vec![site.entry(Vec::new()), service("shop/cart")]));
    node.acked(version).await;
    node.tell_raw(pb::FederationMessage { message: None });
    node.ended().await;
    assert_eq!(federation.node().await.holds, Some(version));
    assert_eq!(running.services(), ["shop/cart"]);
}

#[tokio::test]
async fn explain_is_answered_by_the_node_itself() {
    let (site, federation, _folder, _running, mut node) = connected().await;
    let version = node.send(federation.snapshot(true, vec![site.entry(Vec::new()), service("shop/cart")]));
    node.acked(version).await;
    let caller = Caller {
        identity: None,
        proof: Proof::Host,
        site: site.id.clone(),
        locality: Default::default(),
        affinity: None,
    };
    let request = ExplainRequest { service: name("shop/cart"), port: None, caller, without: BTreeSet::new() };
    node.tell(FederationMessage::Explain { id: 7, request });
    let (id, explanation) = node
        .wait("an explanation", |message| match message {
            NodeMessage::Explained { id, explanation } => Some((id, explanation)),
            _ => None,
        })
        .await;
    assert_eq!((id, explanation.node.as_str()), (7, "agent vm-1"));
}

fn event(what: &str) -> NodeMessage {
    NodeMessage::Event(NodeEvent { what: what.to_owned(), why: String::new() })
}

#[tokio::test]
async fn what_was_meant_for_a_stream_that_is_gone_is_not_said_on_the_next() {
    let (_site, federation, _folder, running, mut node) = connected().await;
    eventually("the stream", || running.upstream.is_connected()).await;
    let old = running.upstream.session();
    running.upstream.send(event("first")).await;
    node.wait("the first", |message| (message == event("first")).then_some(())).await;
    drop(node);
    let mut node = federation.node().await;
    eventually("a new session", || running.upstream.is_connected() && running.upstream.session() != old)
        .await;
    running.upstream.send_in(old, event("stale")).await;
    running.upstream.send(event("fresh")).await;
    let next =
        node.wait("an event", |message| matches!(message, NodeMessage::Event(_)).then_some(message)).await;
    assert_eq!(next, event("fresh"));
}

#[tokio::test]
async fn a_node_that_is_slow_to_take_commands_still_says_what_it_has_to_say() {
    let (_site, _federation, _folder, mut running, mut node) = connected().await;
    for sequence in 0..2_000 {
        node.tell(FederationMessage::SourceTaken { sequence, refused: None });
    }
    eventually("the stream", || running.upstream.is_connected()).await;
    for _ in 0..1_000 {
        soon("room", running.upstream.send(event("here"))).await;
    }
    for _ in 0..1_000 {
        node.wait("an event", |message| (message == event("here")).then_some(())).await;
    }
    assert!(matches!(running.commands.recv().await, Some(Command::Connected)));
    for expected in 0..2_000 {
        let Some(Command::SourceTaken { sequence, .. }) = soon("a command", running.commands.recv()).await
        else {
            panic!("a command is missing")
        };
        assert_eq!(sequence, expected);
    }
}

#[tokio::test]
async fn trust_follows_the_config_and_one_bad_bundle_spoils_no_other() {
    let (site, federation, _folder, running, mut node) = connected().await;
    let (west, dc) = (Site::new("west"), Site::new("dc"));
    let version = node.send(federation.snapshot(true, vec![site.entry(Vec::new()), peer(&west)]));
    node.acked(version).await;
    assert_eq!(running.trust.linked(), vec![west.domain.clone()]);

    let mut bad = peer(&west);
    if let Some(model::config::ConfigValue::Peer(peer)) = &mut bad.value {
        peer.bundle.anchors = vec![vec![1, 2, 3]];
    }
    let version = node.send(federation.change(vec![bad, peer(&dc)]));
    node.acked(version).await;
    assert_eq!(running.trust.linked(), [dc.domain.clone(), west.domain.clone()]);
    assert_eq!(running.trust.find(&west.domain), Some(west.bundle()), "as it was");

    let gone = ConfigEntry { key: ConfigKey::Peer(west.id.clone()), value: None };
    let version = node.send(federation.change(vec![gone]));
    node.acked(version).await;
    assert_eq!(running.trust.linked(), vec![dc.domain.clone()]);
}

#[tokio::test]
async fn the_federation_of_another_site_is_not_listened_to() {
    let (site, other) = (Site::new("east"), Site::new("east"));
    let federation = Federation::start(&other).await;
    let folder = tempfile::tempdir().expect("a folder");
    let running = Running::start(&site, folder.path(), federation.address);
    let own = Federation::start(&site).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!running.upstream.is_connected(), "it has the name, and not the CA");
    running.dial.set(own.address);
    own.node().await;
}

#[tokio::test]
async fn a_stream_whose_way_dies_is_opened_anew_with_what_is_held() {
    let (site, federation, _folder, running, mut node) = connected().await;
    let version = node.send(federation.snapshot(true, vec![site.entry(Vec::new())]));
    node.acked(version).await;
    let address = federation.address;
    drop(federation);
    eventually("the end", || !running.upstream.is_connected()).await;
    let federation = Federation::start_at(&site, address).await;
    assert_eq!(federation.node().await.holds, Some(version));
    assert_eq!(running.store.current().version, Some(ConfigVersion { ..version }));
}
