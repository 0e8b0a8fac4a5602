//! What the routing decision is made from: imports, groups, peers, policies, callers.

use crate::endpoint::Endpoint;
use crate::identity::{Proof, SpiffeId, TrustDomain};
use crate::ids::{Label, Namespace, SiteId};
use crate::locality::Locality;
use crate::service::{ServiceKind, ServiceName, ServicePort, Subset};
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Names a group of endpoints: a site, a locality, a subset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    /// Site of the endpoints.
    pub site: SiteId,
    /// Their locality.
    pub locality: Locality,
    /// Their subset.
    pub subset: Subset,
}

/// Endpoints of one service in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Which one.
    pub id: GroupId,
    /// Number of healthy endpoints.
    pub healthy: u32,
    /// Number of endpoints.
    pub total: u32,
    /// What the owner says `total` should be, where it says so; else the high-water mark counts.
    pub declared_total: Option<u32>,
    /// Sum of the weights of the healthy endpoints.
    pub capacity: u64,
    /// The endpoints themselves; present for groups of the own site, and of peers for headless services, whose
    /// endpoints are known by name.
    pub endpoints: Vec<Endpoint>,
}

/// A service as this site sees it: the union of the exports under one name, and its own endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Name.
    pub service: ServiceName,
    /// Ports, ordered by key, as the oldest accepted export has them.
    pub ports: Vec<ServicePort>,
    /// Kind.
    pub kind: ServiceKind,
    /// Virtual IP within the site's range; none for headless services.
    pub vip: Option<Ipv4Addr>,
    /// Groups, ordered by id.
    pub groups: Vec<Group>,
    /// How load moves between tiers.
    pub failover: FailoverPolicy,
    /// Who may call; empty: everyone.
    pub access: Vec<AccessRule>,
}

/// State of a linked site, as routing sees it (design: the catalog, states of a peer).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerState {
    /// A path answers probes.
    Connected,
    /// Some paths are dead, or loss or RTT is high.
    Degraded,
    /// Every path is dead.
    Unreachable,
    /// Unreachable for the whole lease.
    Expired,
    /// Unlinked by a person.
    Removed,
}

impl PeerState {
    /// Whether traffic may be sent to the peer.
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Connected | Self::Degraded)
    }
}

impl fmt::Display for PeerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Connected => "connected",
            Self::Degraded => "degraded",
            Self::Unreachable => "unreachable",
            Self::Expired => "expired",
            Self::Removed => "removed",
        })
    }
}

/// What a gateway or agent knows of a peer from its own paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerView {
    /// State.
    pub state: PeerState,
    /// Smoothed round trip over the best path, when one was measured.
    pub rtt: Option<Duration>,
}

/// Who calls, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Identity; none when not even the host is known.
    pub identity: Option<SpiffeId>,
    /// How it was proven.
    pub proof: Proof,
    /// Site of the caller.
    pub site: SiteId,
    /// Locality of the caller.
    pub locality: Locality,
    /// Callers with one key go to one endpoint while it is healthy (session affinity), where the service asks for it.
    pub affinity: Option<u64>,
}

/// How load moves between tiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailoverPolicy {
    /// Sites in the order in which they take over, before the order by RTT. Default none.
    pub order: Vec<SiteId>,
    /// Overprovisioning, in per cent. A tier takes the whole load down to 100/140 of its endpoints. Default 140
    /// (Envoy's default factor 1.4).
    pub overprovisioning_pct: u32,
    /// A tier with fewer healthy endpoints takes nothing while another can. Default 1.
    pub min_healthy: u32,
    /// A tier takes everything until it is empty. Default false.
    pub strict: bool,
    /// How long a recovered tier waits before it takes load back. Default 10 s.
    pub failback_delay: Duration,
    /// Over what time it then takes its load back. Default 10 s.
    pub failback_ramp: Duration,
}

impl Default for FailoverPolicy {
    fn default() -> Self {
        Self {
            order: Vec::new(),
            overprovisioning_pct: 140,
            min_healthy: 1,
            strict: false,
            failback_delay: Duration::from_secs(10),
            failback_ramp: Duration::from_secs(10),
        }
    }
}

/// One rule of an access policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// `namespace/name` of the policy that it comes from, for reasons.
    pub policy: String,
    /// Allow or deny.
    pub allow: bool,
    /// Whom it speaks of; empty: everyone.
    pub from: Vec<CallerMatch>,
    /// How well the identity must be proven, for an allow. Default `Host`.
    pub min_proof: Proof,
}

/// Matches callers; every field that is present must match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallerMatch {
    /// Trust domain.
    pub trust_domain: Option<TrustDomain>,
    /// Site.
    pub site: Option<SiteId>,
    /// Namespace of a workload identity.
    pub namespace: Option<Namespace>,
    /// Account of a workload identity.
    pub account: Option<Label>,
}
