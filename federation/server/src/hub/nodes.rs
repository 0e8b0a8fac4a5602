//! Gateways and agents: who is connected, what they see of paths, where they can be dialled.

use super::Hub;
use super::drain::Drain;
use super::links::trusts;
use crate::docs::NodeDoc;
use crate::names::NodeId;
use crate::store::documents::{DocumentKey, DocumentKind};
use api::Text;
use federation_core::peer::PathsSummary;
use model::catalog::{GatewayAddress, OwnKey, OwnValue};
use model::config::{ConfigKey, ConfigValue, ConfigVersion, PeerConfig, SiteConfig};
use model::decision::Explanation;
use model::ids::{GatewayName, SiteId};
use model::locality::Locality;
use model::node::{FederationMessage, NodeMessage, PathReport, PathState};
use model::routing::{PeerState, PeerView};
use model::service::ServiceName;
use runtime::clock;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use sync_core::source::{Session, SourceConfig, SourceId};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// How long the last word of a gateway on its paths counts after its stream has ended, so that a gateway that
/// reconnects takes no peer down; its paths live on meanwhile. Gateways report each second.
const PATHS_GRACE: Duration = Duration::from_secs(5);
/// How long a gateway that is away stays among those that peers dial. Default lease of a peer: until then their
/// paths to it say that it is dead.
const GATEWAY_GONE: Duration = Duration::from_secs(15 * 60);
/// Messages that wait for a node beside config; one that reads so slowly is cut off, and comes back.
pub(crate) const NODE_MESSAGES_MAX: usize = 8_192;

/// What a node says when it connects.
#[derive(Debug, Clone)]
pub struct Hello {
    /// For gateways: where others dial it.
    pub tunnel_address: Option<SocketAddr>,
    /// Where it is; none: where the site is.
    pub locality: Option<Locality>,
}

/// A gateway or an agent.
#[derive(Debug)]
pub(super) struct Node {
    pub doc: NodeDoc,
    pub live: Option<Live>,
    /// Since it is connected, or not.
    pub since: Instant,
    pub acked: Option<ConfigVersion>,
    pub paths: Vec<PathReport>,
    pub streams: Vec<(ServiceName, SiteId, u32)>,
    /// What is wrong at the node itself, in its own words.
    pub problems: Vec<String>,
}

/// The stream of a node.
#[derive(Debug)]
pub(super) struct Live {
    pub connection: u64,
    pub to: mpsc::Sender<FederationMessage>,
    /// For agents: the connection at the intake; none when it may not register anything.
    pub source: Option<Session>,
    /// A refusal was noted: one event for each stream is enough, since agents say everything again and again.
    pub refusal_noted: bool,
    /// It has reported its paths over this stream.
    pub reported: bool,
}

impl Node {
    pub fn new(doc: NodeDoc, now: Instant) -> Self {
        Self {
            doc,
            live: None,
            since: now,
            acked: None,
            paths: Vec::new(),
            streams: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Open streams, all services together.
    pub fn open_streams(&self) -> u32 {
        self.streams.iter().map(|(_, _, count)| *count).fold(0, u32::saturating_add)
    }
}

impl Hub {
    pub(super) fn node_up(
        &mut self,
        id: NodeId,
        connection: u64,
        hello: Hello,
        to: mpsc::Sender<FederationMessage>,
        now: Instant,
    ) {
        let known = self.nodes.contains_key(&id);
        if !known && matches!(id, NodeId::Agent(_)) {
            let why = "its certificate is of this site, but the store does not know it (was the store lost?)";
            self.events.note(
                id.to_string(),
                "may not register workloads: join it again with a new token",
                why,
            );
        }
        self.forget_used_tokens(&id);
        let source = self.open_agent(&id, now);
        let node = self.nodes.entry(id.clone()).or_insert_with(|| Node::new(NodeDoc::default(), now));
        let mut doc = node.doc.clone();
        if doc.joined_at_ms == 0 {
            doc.joined_at_ms = clock::unix_ms();
        }
        doc.tunnel_address = hello.tunnel_address.or(doc.tunnel_address);
        doc.left = false;
        doc.locality = hello.locality.map(Text);
        let came_back = node.live.is_none();
        // An agent that the store does not know is not made known by connecting: its scope is in its token.
        let keep = known || matches!(id, NodeId::Gateway(_));
        let moved = node.doc.locality != doc.locality;
        if node.doc != doc {
            node.doc = doc;
            if keep {
                self.batch.put(node_key(&id), &node.doc);
            }
        }
        node.live = Some(Live { connection, to, source, refusal_noted: false, reported: false });
        node.since = now;
        if came_back {
            self.events.note(id.to_string(), "is connected", "");
        }
        if let (true, NodeId::Agent(host)) = (moved, &id) {
            self.refresh_workloads_of(host);
        }
        if self.is_draining(&id) {
            self.tell(&id, FederationMessage::Drain(true));
        }
        self.dirty_config = true;
    }

    fn open_agent(&mut self, id: &NodeId, now: Instant) -> Option<Session> {
        let NodeId::Agent(host) = id else { return None };
        let doc = &self.nodes.get(id)?.doc;
        let namespaces = (!doc.namespaces.is_empty())
            .then(|| doc.namespaces.iter().map(|namespace| namespace.0.clone()).collect());
        let source = SourceId::Agent(host.clone());
        let opened = self
            .intake
            .register(source.clone(), SourceConfig::agent(host.clone(), namespaces), now)
            .and_then(|()| self.intake.handle_source_open(&source, now));
        opened.inspect_err(|refused| warn!(%refused, "an agent was refused as a source")).ok()
    }

    pub(super) fn node_said(&mut self, id: &NodeId, connection: u64, message: NodeMessage, now: Instant) {
        if let NodeMessage::Paths(paths) = &message
            && self
                .nodes
                .get(id)
                .and_then(|node| node.live.as_ref())
                .is_some_and(|live| live.connection == connection)
        {
            self.note_paths(id, paths);
        }
        let Some(node) = self.nodes.get_mut(id) else { return };
        let Some(live) = node.live.as_mut().filter(|live| live.connection == connection) else { return };
        match message {
            // The stream takes the first one; a second says nothing new.
            NodeMessage::Hello { .. } => {}
            NodeMessage::Ack(version) => node.acked = Some(version),
            NodeMessage::Paths(paths) => {
                node.paths = paths;
                if matches!(id, NodeId::Gateway(_)) {
                    self.refresh_paths(now);
                }
            }
            NodeMessage::Source(event) => {
                let sequence = event.sequence;
                let taken = match &live.source {
                    Some(session) => self
                        .intake
                        .handle_source_event(session, event, now)
                        .map_err(|refused| refused.to_string()),
                    None => Err(format!("this site does not know {id}: join it again with a new token")),
                };
                let refused = taken.err();
                if let Some(why) = &refused
                    && !std::mem::replace(&mut live.refusal_noted, true)
                {
                    self.events.note(id.to_string(), "a registration was refused", why.clone());
                }
                self.tell(id, FederationMessage::SourceTaken { sequence, refused });
            }
            NodeMessage::CarrierFailed { carrier, reason } => {
                if let NodeId::Gateway(name) = id {
                    self.carriers.fail(carrier, name, &reason);
                }
            }
            NodeMessage::Explained { id: question, explanation } => {
                self.explained(id, question, *explanation)
            }
            NodeMessage::Streams { open } => node.streams = open,
            NodeMessage::Problems(problems) => node.problems = problems,
            NodeMessage::Event(event) => self.events.noted_by(&id.to_string(), &event.what, &event.why),
            NodeMessage::Leaving => self.node_leaves(id, connection, now),
        }
    }

    /// A gateway has drained and ends: nobody is told of it any more. Its stream ends, which tells it that it was heard.
    fn node_leaves(&mut self, id: &NodeId, connection: u64, now: Instant) {
        let is_told = |(other, node): &(&NodeId, &Node)| {
            matches!(other, NodeId::Gateway(_)) && node.doc.tunnel_address.is_some() && !node.doc.left
        };
        // The last gateway stays: a site without any could not be reached again by peers that it cannot dial.
        let is_last = !self.nodes.iter().filter(is_told).any(|(other, _)| other != id);
        let Some(node) = self.nodes.get_mut(id).filter(|_| matches!(id, NodeId::Gateway(_))) else { return };
        let why = if is_last {
            "it has drained and ended; peers go on dialling it, since it is the last gateway of the site"
        } else {
            node.doc.left = true;
            self.batch.put(node_key(id), &node.doc);
            "it has drained and ended; peers and agents are no longer told of it"
        };
        node.paths.clear();
        self.dirty_config = true;
        self.end_stream(id, connection, now, why);
    }

    pub(super) fn node_down(&mut self, id: &NodeId, connection: u64, now: Instant) {
        let why = "its config stream ended; it goes on with the config that it has";
        self.end_stream(id, connection, now, why);
    }

    fn end_stream(&mut self, id: &NodeId, connection: u64, now: Instant, why: &str) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        let Some(live) = node.live.take_if(|live| live.connection == connection) else { return };
        node.since = now;
        node.streams.clear();
        if let Some(session) = &live.source {
            self.intake.handle_source_gone(session, now);
        }
        if let NodeId::Gateway(name) = id {
            self.carriers.gateway_left(name);
        }
        self.explains.retain(|_, (asked, _)| asked != id);
        self.events.note(id.to_string(), "has left", why);
    }

    fn explained(&mut self, id: &NodeId, question: u64, explanation: Explanation) {
        if self.explains.get(&question).is_some_and(|(asked, _)| asked == id)
            && let Some((_, waiting)) = self.explains.remove(&question)
        {
            let _ = waiting.send(explanation);
        }
    }

    /// Tells a node something beside config. Answers whether it is connected.
    pub fn tell_node(&mut self, id: &NodeId, message: FederationMessage) -> bool {
        self.tell(id, message)
    }

    pub(super) fn tell(&mut self, id: &NodeId, message: FederationMessage) -> bool {
        let Some(node) = self.nodes.get_mut(id) else { return false };
        let Some(live) = &node.live else { return false };
        match live.to.try_send(message) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                warn!(node = %id, "does not read what it is told; its stream is cut");
                let connection = live.connection;
                self.node_down(id, connection, Instant::now());
                false
            }
        }
    }

    /// Connected gateways, those with a live path to `peer` first when one is given.
    pub(super) fn gateways_towards(&self, peer: Option<&SiteId>) -> Vec<(GatewayName, bool)> {
        let mut gateways: Vec<(GatewayName, bool)> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.live.is_some())
            .filter_map(|(id, node)| {
                let NodeId::Gateway(name) = id else { return None };
                let live = |path: &PathReport| Some(&path.site) == peer && path.state == PathState::Live;
                Some((name.clone(), node.paths.iter().any(live)))
            })
            .collect();
        gateways.sort_by_key(|(_, live)| !live);
        gateways
    }

    /// Reports of the own gateways on the paths to a peer, with who reports.
    pub(super) fn paths_to<'a>(
        &'a self,
        peer: &'a SiteId,
    ) -> impl Iterator<Item = (&'a NodeId, &'a PathReport)> {
        self.nodes
            .iter()
            .filter(|(id, _)| matches!(id, NodeId::Gateway(_)))
            .flat_map(|(id, node)| node.paths.iter().map(move |path| (id, path)))
            .filter(move |(_, path)| path.site == *peer)
    }

    /// What is known of a peer from the paths of all gateways.
    pub(super) fn peer_view(&self, peer: &SiteId) -> PeerView {
        let live = self.paths_to(peer).filter(|(_, path)| path.state == PathState::Live);
        let state = self.replicator.peer(peer).map_or(PeerState::Unreachable, |status| status.state);
        PeerView { state, rtt: live.filter_map(|(_, path)| path.rtt).min() }
    }

    pub(super) fn refresh_paths(&mut self, now: Instant) {
        let mut by_peer: BTreeMap<&SiteId, Vec<&PathReport>> =
            self.links.keys().map(|site| (site, Vec::new())).collect();
        for (_, node) in self.nodes.iter().filter(|(id, _)| matches!(id, NodeId::Gateway(_))) {
            for path in &node.paths {
                if let Some(paths) = by_peer.get_mut(&path.site) {
                    paths.push(path);
                }
            }
        }
        for (peer, paths) in by_peer {
            self.replicator.handle_paths(peer, &PathsSummary::of(paths), now);
        }
    }

    pub(super) fn tick_nodes(&mut self, now: Instant) {
        let mut gone = Vec::new();
        for (id, node) in &mut self.nodes {
            if node.live.is_some() {
                continue;
            }
            let away = now.saturating_duration_since(node.since);
            if away > PATHS_GRACE && !node.paths.is_empty() {
                Self::note_paths_lost(&self.events, id, node);
                node.paths.clear();
            }
            if away > GATEWAY_GONE && matches!(id, NodeId::Gateway(_)) {
                gone.push(id.clone());
            }
        }
        self.refresh_paths(now);
        // The last gateway stays: a site without any could not be reached again by peers that it cannot dial.
        let is_told = |(id, node): &(&NodeId, &Node)| matches!(id, NodeId::Gateway(_)) && !node.doc.left;
        let mut told = self.nodes.iter().filter(is_told).count();
        for id in gone {
            let left = self.nodes.get(&id).is_some_and(|node| node.doc.left);
            if !left && told <= 1 {
                continue;
            }
            if self.needs_old_root(&id) {
                // Peers dial it no more, but the old root is not retired behind its back.
                self.hide_gateway(&id);
                continue;
            }
            self.nodes.remove(&id);
            self.batch.delete(node_key(&id));
            if !left {
                told -= 1;
                self.dirty_config = true;
                self.events.note(id.to_string(), "is no longer told to peers", "it was away for 15 min");
            }
        }
    }

    /// The config of the site and its peers, and what the site says of itself, as they stand.
    pub(super) fn refresh_site_config(&mut self, now: Instant) {
        let gateways = told_gateways(self.nodes.iter().map(|(id, node)| (id, &node.doc)));
        if self.site.gateways != gateways {
            self.site.gateways = gateways;
            let value = OwnValue::Site(self.site.clone());
            if let Err(error) = self.replicator.handle_own(OwnKey::Site, Some(value), now) {
                warn!(%error, "what the site says of itself was refused");
            }
        }
        let site = SiteConfig {
            site: self.site.clone(),
            bundle: self.pki.bundle(),
            link_open: !self.invites.is_empty() || self.tokens.values().any(|token| token.agent),
            names_complete: self.replicator.names_complete(),
            signer: Some(self.pki.signer()),
        };
        let told = match self.book.find(&ConfigKey::Site) {
            Some(ConfigValue::Site(told)) => told.bundle == site.bundle,
            Some(_) | None => false,
        };
        self.book.set(ConfigKey::Site, ConfigValue::Site(site));
        if !told {
            self.bundle_told_at = Some(self.book.version());
        }

        let told: Vec<SiteId> = self
            .book
            .keys()
            .filter_map(|key| match key {
                ConfigKey::Peer(site) => Some(site.clone()),
                ConfigKey::Site | ConfigKey::Service(_) | ConfigKey::Workload(..) => None,
            })
            .filter(|site| !self.links.get(site).is_some_and(trusts))
            .collect();
        for site in told {
            self.book.remove(&ConfigKey::Peer(site));
        }
        for (site, link) in self.links.iter().filter(|(_, link)| trusts(link)) {
            let config = PeerConfig {
                site: self.peer_info(site, link),
                bundle: link.bundle.bundle(),
                expired: self.replicator.peer(site).is_some_and(|peer| peer.state == PeerState::Expired),
            };
            self.book.set(ConfigKey::Peer(site.clone()), ConfigValue::Peer(config));
        }
    }

    /// Makes a node known that has joined.
    pub(super) fn joined(&mut self, id: NodeId, doc: NodeDoc) {
        info!(node = %id, "joined");
        let now = Instant::now();
        self.nodes.entry(id).or_insert_with(|| Node::new(NodeDoc::default(), now)).doc = doc;
        self.dirty_config = true;
    }

    /// Whether a node takes nothing new.
    pub(super) fn is_draining(&self, id: &NodeId) -> bool {
        self.drains.iter().any(|drain: &Drain| drain.covers_node(id))
    }
}

/// Gateways that peers and agents are told to dial.
pub(super) fn told_gateways<'a>(
    nodes: impl Iterator<Item = (&'a NodeId, &'a NodeDoc)>,
) -> Vec<GatewayAddress> {
    let told = nodes.filter(|(_, doc)| !doc.left).filter_map(|(id, doc)| match id {
        NodeId::Gateway(name) => Some(GatewayAddress { name: name.clone(), address: doc.tunnel_address? }),
        NodeId::Agent(_) => None,
    });
    let mut gateways: Vec<GatewayAddress> = told.collect();
    gateways.sort();
    gateways
}

/// Key of the document of a node.
pub(super) fn node_key(id: &NodeId) -> DocumentKey {
    DocumentKey::new(DocumentKind::Node, id)
}
