//! The catalog: what one site (the origin) says of itself, and the only thing that it ever says to others.
//!
//! A site keeps its own catalog in [`OwnKey`] and [`OwnValue`]; what a peer is told is a projection of it to
//! [`EntryKey`] and [`EntryValue`], by scope (what is shared) and view (how much detail).

use crate::endpoint::Endpoint;
use crate::identity::TrustDomain;
use crate::ids::{Clusterset, EndpointId, GatewayName, SiteId, SiteUid};
use crate::locality::Locality;
use crate::service::{ServiceKind, ServiceName, ServicePort, Subset};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Incarnation of an origin's catalog. A greater one replaces a lesser one, whatever the revisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

/// Position in an origin's catalog; grows by one with each change, begins at 1, 0 is the empty catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

/// A position: an epoch and a revision within it. Ordered by epoch first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version {
    /// Incarnation.
    pub epoch: Epoch,
    /// Position within it.
    pub revision: Revision,
}

/// A gateway as others may dial it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayAddress {
    /// Name within its site.
    pub name: GatewayName,
    /// Where its tunnel port can be reached.
    pub address: SocketAddr,
}

/// What a site says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteInfo {
    /// Name.
    pub id: SiteId,
    /// Uid.
    pub uid: SiteUid,
    /// Trust domain.
    pub trust_domain: TrustDomain,
    /// Default locality of its endpoints.
    pub locality: Locality,
    /// The set of sites with which it shares names.
    pub clusterset: Clusterset,
    /// Its gateways, ordered by name. May be empty while none runs.
    pub gateways: Vec<GatewayAddress>,
}

/// A service as its owner describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Ports, ordered by key, no key twice, at most 64.
    pub ports: Vec<ServicePort>,
    /// Kind.
    pub kind: ServiceKind,
    /// How many endpoints each group should have, where the owner declares it.
    pub declared_total: Option<u32>,
}

/// An offer of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportInfo {
    /// The service.
    pub spec: ServiceSpec,
    /// When it was exported, by the owner's clock, in milliseconds since 1970. A claim: see the merge rules.
    pub created_at_ms: u64,
}

/// Endpoints of one group, counted (view `summary`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSummary {
    /// Healthy endpoints.
    pub healthy: u32,
    /// All endpoints.
    pub total: u32,
    /// Sum of the weights of the healthy ones.
    pub capacity: u64,
}

/// Key in a site's own catalog.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnKey {
    /// The site itself.
    Site,
    /// A service that exists in the site.
    Service(ServiceName),
    /// The decision to offer it.
    Export(ServiceName),
    /// One of its endpoints.
    Endpoint(ServiceName, EndpointId),
}

/// Value in a site's own catalog; its variant is that of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnValue {
    /// The site itself.
    Site(SiteInfo),
    /// A service.
    Service(ServiceSpec),
    /// When it was exported, in milliseconds since 1970.
    Export {
        /// By the own clock.
        created_at_ms: u64,
    },
    /// An endpoint.
    Endpoint(Endpoint),
}

/// Key of an entry that one site tells another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKey {
    /// The origin itself.
    Site,
    /// An offered service.
    Export(ServiceName),
    /// A group of its endpoints, counted (view `summary`).
    Group(ServiceName, Locality, Subset),
    /// One of its endpoints (view `endpoints`).
    Endpoint(ServiceName, EndpointId),
}

impl EntryKey {
    /// The service that the entry belongs to; none for the site itself.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Site => None,
            Self::Export(service) | Self::Group(service, ..) | Self::Endpoint(service, _) => Some(service),
        }
    }
}

/// Value of an entry that one site tells another; its variant is that of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryValue {
    /// The origin itself.
    Site(SiteInfo),
    /// An offered service.
    Export(ExportInfo),
    /// A counted group.
    Group(GroupSummary),
    /// An endpoint.
    Endpoint(Endpoint),
}

/// A key with its value, or the tombstone that stands where a value was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Key.
    pub key: EntryKey,
    /// Value; none: deleted.
    pub value: Option<EntryValue>,
}

/// How much a consumer is told of each service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum View {
    /// Counted groups: the default between sites.
    #[default]
    Summary,
    /// Every endpoint: where callers reach them directly, or need their names.
    Endpoints,
}

/// A set of services: what a link offers, accepts or wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All services.
    All,
    /// Only those named, or in the namespaces named.
    Only {
        /// Whole namespaces.
        namespaces: BTreeSet<crate::ids::Namespace>,
        /// Single services.
        services: BTreeSet<ServiceName>,
    },
}

impl Scope {
    /// The empty scope.
    pub fn none() -> Self {
        Self::Only { namespaces: BTreeSet::new(), services: BTreeSet::new() }
    }

    /// Whether a service lies in the scope.
    pub fn contains(&self, service: &ServiceName) -> bool {
        match self {
            Self::All => true,
            Self::Only { namespaces, services } => {
                namespaces.contains(&service.namespace) || services.contains(service)
            }
        }
    }
}
