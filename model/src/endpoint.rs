//! One instance of a service.

use crate::ids::{EndpointId, HostName, Label, NetworkName};
use crate::locality::Locality;
use crate::service::{PortKey, Subset};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Whether an endpoint may get traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Its check passes, or it has none.
    Healthy,
    /// Its check fails, has not yet passed, or its agent is silent.
    Unhealthy,
    /// It finishes what it has and takes nothing new.
    Draining,
}

/// How the endpoint is reached from within its own site.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// By TCP to this address, from members of its network.
    Direct(IpAddr),
    /// Through the tunnel of the agent on this host.
    Agent(HostName),
}

/// One instance of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Unique within its site and service.
    pub id: EndpointId,
    /// Where it is.
    pub locality: Locality,
    /// Who can dial it directly.
    pub network: NetworkName,
    /// Subset of the service that it belongs to.
    pub subset: Subset,
    /// Share of the load within its group, 1 to 1 000. Default 1.
    pub weight: u32,
    /// Whether it may get traffic.
    pub health: Health,
    /// How to reach it.
    pub reach: Reach,
    /// For each port of the service, the port that the instance listens on.
    pub ports: BTreeMap<PortKey, u16>,
    /// Its own name in DNS, for headless services.
    pub hostname: Option<Label>,
}
