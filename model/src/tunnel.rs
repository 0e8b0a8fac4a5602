//! What is said at the beginning of a tunnel stream, and the datagrams beside them.

use crate::decision::Refusal;
use crate::ids::{EndpointId, SiteId, StreamId};
use crate::locality::Locality;
use crate::routing::Caller;
use crate::service::{PortKey, ServiceName};

/// ALPN of the tunnel.
pub const ALPN: &[u8] = b"meshfed/1";
/// ALPN of a link that is being made.
pub const ALPN_LINK: &[u8] = b"meshfed-link/1";
/// Longest header or answer on the wire, without its two length bytes.
pub const HEADER_MAX: usize = 1024;

/// Opens a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamHeader {
    /// What the stream is for.
    pub kind: StreamKind,
    /// Names the stream on all its hops.
    pub stream: StreamId,
    /// Hops so far; the process that the client reached sends 1. More than [`HOPS_MAX`] is refused.
    pub hops: u8,
    /// W3C `traceparent`, or empty; at most 64 characters.
    pub traceparent: String,
}

/// Most hops of a stream: agent, gateway, sibling, gateway, sibling, agent.
pub const HOPS_MAX: u8 = 5;

/// What a stream is for.
// Nearly every stream is of the large kind.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamKind {
    /// One TCP connection of a service.
    Service(ServiceStream),
    /// Bytes between two federations, which a gateway carries and cannot read.
    Federation,
    /// Bytes between an agent and the federation of its site.
    Config,
    /// From a gateway to an agent: [`crate::node::PeerViews`], length-prefixed, one way.
    Views,
}

/// A TCP connection of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceStream {
    /// Service.
    pub service: ServiceName,
    /// Port of the service.
    pub port: PortKey,
    /// Caller, as the process that asserts it saw it.
    pub caller: Caller,
    /// Where it must be served.
    pub target: Target,
    /// Client bytes follow at once, ahead of `accepted`.
    pub bytes_ahead: bool,
}

/// How far the decision was already made by the process before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// By any endpoint of this site.
    Site(SiteId),
    /// By the endpoints of this locality of this site.
    Locality(SiteId, Locality),
    /// By this endpoint of this site.
    Endpoint(SiteId, EndpointId),
}

impl Target {
    /// The site that must serve the stream.
    pub fn site(&self) -> &SiteId {
        match self {
            Self::Site(site) | Self::Locality(site, _) | Self::Endpoint(site, _) => site,
        }
    }
}

/// Answers a header. Exactly one is sent on each stream, before any other byte of the answerer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The endpoint has the connection.
    Accepted {
        /// Which one.
        endpoint: EndpointId,
        /// Where it is.
        locality: Locality,
    },
    /// It has not, and no byte of the client has reached an endpoint.
    Refused(Refusal),
}

/// A probe datagram. Both sides send them on their own; each says what it heard of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Grows by one with each probe that the speaker sends on this connection; begins at 1.
    pub sequence: u64,
    /// Greatest sequence heard from the other side; 0: none yet.
    pub heard: u64,
    /// Microseconds between hearing `heard` and sending this.
    pub held_us: u32,
    /// How many probes of the other side were heard in all, so that it can tell its loss.
    pub heard_count: u64,
    /// The speaker takes no new streams.
    pub draining: bool,
    /// The speaker misses packets of the other side, which answers at once instead of at its next turn. An answer
    /// does not ask, unless its own speaker misses packets too; so two sides never answer each other for ever.
    pub asks: bool,
}
