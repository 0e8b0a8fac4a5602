//! What gateways and agents (the nodes of a site) and their federation say to each other.
//!
//! One ordered stream, opened by the node. `docs/protocol.md` has the order of messages.

use crate::catalog::ServiceSpec;
use crate::config::{ConfigUpdate, ConfigVersion};
use crate::decision::{ExplainRequest, Explanation};
use crate::endpoint::Endpoint;
use crate::identity::TrustDomain;
use crate::ids::{EndpointId, GatewayName, SiteId};
use crate::locality::Locality;
use crate::routing::PeerView;
use crate::service::ServiceName;
use std::net::SocketAddr;
use std::time::Duration;

/// What kind of process a node is. Its name is in its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeKind {
    /// A gateway.
    Gateway,
    /// An agent.
    Agent,
}

/// From a node to its federation.
// Messages are made one at a time and moved once; a box would only be one more allocation.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeMessage {
    /// First message.
    Hello {
        /// What it is.
        kind: NodeKind,
        /// What it holds; none: nothing.
        holds: Option<ConfigVersion>,
        /// For gateways: where others can dial its tunnel port.
        tunnel_address: Option<SocketAddr>,
        /// Locality of the node; none: that of the site.
        locality: Option<Locality>,
    },
    /// The config is applied and stored up to here.
    Ack(ConfigVersion),
    /// All that the node knows of the paths that it has; sent on change, and every second.
    Paths(Vec<PathReport>),
    /// For agents: a source event (see catalog-sync).
    Source(SourceEvent),
    /// The carrier with this id could not be opened, or has ended.
    CarrierFailed {
        /// Id from the request.
        carrier: u64,
        /// Why.
        reason: String,
    },
    /// Answer to `Explain`.
    Explained {
        /// Id from the request.
        id: u64,
        /// The answer.
        explanation: Box<Explanation>,
    },
    /// Open streams, now.
    Streams {
        /// By service and the site that serves them.
        open: Vec<(ServiceName, SiteId, u32)>,
    },
    /// All that is wrong at the node itself, each with the way out; sent on change, and every second.
    Problems(Vec<String>),
    /// Something that an operator would note and only the node can see.
    Event(NodeEvent),
    /// For gateways: it has drained and ends, so nobody need dial it any more. Last message: the federation ends the
    /// stream, which says that it has heard it.
    Leaving,
}

/// An event seen by a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEvent {
    /// What happened, in words.
    pub what: String,
    /// Why.
    pub why: String,
}

/// From a federation to one of its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FederationMessage {
    /// Changes of the config.
    Config(ConfigUpdate),
    /// For gateways: open a carrier, a tunnel stream of kind `federation`, to a gateway of `peer`, and join it to a
    /// `Carry` call with this id.
    OpenCarrier {
        /// Names the carrier.
        carrier: u64,
        /// Where to.
        target: CarrierTarget,
    },
    /// Answer with `Explained`.
    Explain {
        /// Names the request.
        id: u64,
        /// What is asked.
        request: ExplainRequest,
    },
    /// For agents: the source event with this sequence number was taken or refused.
    SourceTaken {
        /// From the event.
        sequence: u64,
        /// Why it was refused; none: it was taken.
        refused: Option<String>,
    },
    /// Take nothing new (true), or take it again (false).
    Drain(bool),
}

/// Where a carrier goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CarrierTarget {
    /// To a linked site, over a live path.
    Peer(SiteId),
    /// To a site that is not yet linked, over a new connection with ALPN `meshfed-link/1`.
    Invite {
        /// Gateways from the invite.
        addresses: Vec<SocketAddr>,
        /// Trust domain from the invite; the gateway must present a certificate of it...
        trust_domain: TrustDomain,
        /// ...that chains to one of these anchors (DER).
        anchors: Vec<Vec<u8>>,
    },
}

/// State of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathState {
    /// Being dialled for the first time, or again after it died.
    Dialling,
    /// Answers probes.
    Live,
    /// Misses probes; takes no new streams.
    Suspect,
    /// Given up; its streams were reset or wait.
    Dead,
    /// Live, and the peer's gateway drains; takes no new streams.
    Draining,
}

/// One path as a gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathReport {
    /// Peer; the own site for siblings.
    pub site: SiteId,
    /// Gateway of the peer; for agents and siblings, of the own site.
    pub gateway: GatewayName,
    /// Its address.
    pub address: SocketAddr,
    /// State.
    pub state: PathState,
    /// Smoothed round trip, once measured.
    pub rtt: Option<Duration>,
    /// Lost probes, in 1/1000, over the last 10 s, worse direction.
    pub loss_permille: u32,
    /// Open streams.
    pub streams: u32,
    /// Largest UDP payload that it carries, bytes; grows while it is sought after. None: no connection is up.
    pub mtu: Option<u16>,
    /// What is wrong, in words; empty when nothing is.
    pub problem: String,
}

/// What a gateway tells the agents that are connected to it, so that they can decide without the federation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerViews {
    /// State of every linked site as this gateway sees it.
    pub peers: Vec<(SiteId, PeerView)>,
    /// This gateway takes nothing new.
    pub draining: bool,
}

/// What a source (an agent, a file, a cluster) says of its services. The shape follows kube-runtime's watcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEvent {
    /// Grows by one with each event of one connection.
    pub sequence: u64,
    /// What.
    pub change: SourceChange,
}

/// One change of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceChange {
    /// A full list begins.
    Init,
    /// An element of the full list.
    InitApply(Instance),
    /// The full list is complete: what it did not name is gone.
    InitDone,
    /// An instance is there, or has changed.
    Apply(Instance),
    /// An instance is gone.
    Delete(ServiceName, EndpointId),
    /// All that was said still holds (renews the lease).
    Renew,
}

/// An endpoint together with the service that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Name of the service.
    pub service: ServiceName,
    /// The service as this source describes it.
    pub spec: ServiceSpec,
    /// The endpoint.
    pub endpoint: Endpoint,
}
