//! The words in which the table speaks with its shell.

use crate::liveness::State;
use model::catalog::GatewayAddress;
use model::ids::{GatewayName, SiteId, SiteUid};
use model::node::PathState;
use model::routing::PeerView;
use std::net::SocketAddr;
use std::time::Duration;

/// The other end of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathKey {
    /// Its site; the own one for siblings.
    pub site: SiteId,
    /// Its gateway.
    pub gateway: GatewayName,
}

/// A connection, as its shell numbers them. No number is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Who this process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Its site.
    pub site: SiteId,
    /// Uid of its site.
    pub uid: SiteUid,
    /// Its name.
    pub gateway: GatewayName,
}

/// A site whose gateways are dialled: a linked one, or the own one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Name.
    pub id: SiteId,
    /// Uid.
    pub uid: SiteUid,
    /// Its gateways. Those of the own site may include this one, which is left out.
    pub gateways: Vec<GatewayAddress>,
}

/// How a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Whether its probes are answered.
    pub state: State,
    /// Smoothed round trip, once measured.
    pub rtt: Option<Duration>,
    /// Lost probes in 1/1000, of the worse direction.
    pub loss_permille: u32,
    /// The peer takes no new streams.
    pub peer_draining: bool,
}

impl Default for Health {
    fn default() -> Self {
        Self { state: State::Live, rtt: None, loss_permille: 0, peer_draining: false }
    }
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Dial; answer with `handle_connected` or `handle_dial_failed`.
    Dial {
        /// Whom.
        path: PathKey,
        /// Where.
        address: SocketAddr,
    },
    /// Close the connection; the table has forgotten it.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Why.
        why: CloseReason,
    },
}

/// Why the table closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloseReason {
    /// The site is not linked any more.
    Unlinked,
    /// The one that the other side dialled stays.
    Duplicate,
    /// The gateway is not one of its site any more, and nothing is open.
    GatewayGone,
    /// It is dead, nothing is open on it, and another one has taken its place.
    Replaced,
}

/// Why a connection may not be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unwelcome {
    /// The site is not linked.
    #[error("its site is not linked here")]
    UnknownSite,
    /// It has the name of this very process.
    #[error("it has the name of this gateway: two gateways of a site may not share a name")]
    Myself,
    /// The path has enough of them.
    #[error("there are too many connections with this gateway")]
    TooMany,
}

/// What the shell should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The state of a linked site has changed.
    Peer {
        /// Which.
        site: SiteId,
        /// How it is seen from this gateway's own paths.
        view: PeerView,
    },
    /// The state of a path has changed.
    Path {
        /// Which.
        path: PathKey,
        /// Its state.
        state: PathState,
        /// What is wrong; empty when nothing is.
        problem: String,
    },
}
