//! What a federation tells the gateways and agents of its own site, so that they can serve without it.

use crate::catalog::{GatewayAddress, SiteInfo};
use crate::identity::Bundle;
use crate::ids::{EndpointId, HostName, Label, SiteId};
use crate::locality::Locality;
use crate::routing::Import;
use crate::service::{ServiceName, ServicePort};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Position in the config of one federation process; restarts at 1 with each `incarnation` of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigVersion {
    /// Drawn at the start of the federation.
    pub incarnation: u64,
    /// Grows by one with each update.
    pub revision: u64,
}

/// Key of a piece of config.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigKey {
    /// The own site.
    Site,
    /// A linked site.
    Peer(SiteId),
    /// A service.
    Service(ServiceName),
    /// A workload that the agent of the receiving host checks and registers.
    Workload(ServiceName, EndpointId),
}

/// A piece of config; its variant is that of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigValue {
    /// The own site.
    Site(SiteConfig),
    /// A linked site.
    Peer(PeerConfig),
    /// A service.
    Service(Import),
    /// A workload.
    Workload(WorkloadSpec),
}

/// A key with its value, or the word that it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Key.
    pub key: ConfigKey,
    /// Value; none: removed.
    pub value: Option<ConfigValue>,
}

/// A run of changes of the config.
///
/// A snapshot comes as one update. Absence from it removes only when `complete` is set: a federation that has not
/// yet heard from all its sources sends `complete = false`, and receivers keep what they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigUpdate {
    /// Position after the entries.
    pub version: ConfigVersion,
    /// The entries are all there is, not changes.
    pub snapshot: bool,
    /// Absence from the snapshot means removal. Always false outside a snapshot.
    pub complete: bool,
    /// Entries, no key twice.
    pub entries: Vec<ConfigEntry>,
}

/// The own site, as its gateways and agents need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteConfig {
    /// The site; its gateways are the siblings.
    pub site: SiteInfo,
    /// Its own anchors.
    pub bundle: Bundle,
    /// An invite is pending, so strangers may open `meshfed-link/1`.
    pub link_open: bool,
    /// Every linked peer's catalog has been complete at least once, so an unknown DNS name does not exist.
    pub names_complete: bool,
    /// Fingerprint (SHA-256 of the certificate) of the anchor that signs leaves: a node whose leaf another one has
    /// signed renews it. None: the federation does not say.
    pub signer: Option<[u8; 32]>,
}

/// A linked site, as gateways and agents need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// The site and where its gateways are.
    pub site: SiteInfo,
    /// Its anchors.
    pub bundle: Bundle,
    /// Its lease has run out; routing to it needs a new answer first.
    pub expired: bool,
}

/// A workload on a host with an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadSpec {
    /// Service that it is an instance of.
    pub service: ServiceName,
    /// Id of the endpoint that it becomes. Default: the host's name.
    pub id: EndpointId,
    /// Host that it runs on.
    pub host: HostName,
    /// Address on which the agent reaches it. Default 127.0.0.1.
    pub address: IpAddr,
    /// Ports of the service, each with the port that the workload listens on.
    pub ports: Vec<(ServicePort, u16)>,
    /// Locality. Default: that of the host.
    pub locality: Locality,
    /// Share of the load, 1 to 1 000. Default 1.
    pub weight: u32,
    /// Health check.
    pub check: HealthCheck,
    /// Account whose identity it may assert.
    pub account: Option<Label>,
}

/// How the health of a workload is found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is done.
    pub probe: HealthProbe,
    /// From the end of one probe to the start of the next. Default 1 s, at least 50 ms.
    pub interval: Duration,
    /// After this a probe has failed. Default 1 s.
    pub timeout: Duration,
    /// Passes in a row that make it healthy. Default 1.
    pub healthy_threshold: u32,
    /// Failures in a row that make it unhealthy. Default 2.
    pub unhealthy_threshold: u32,
}

/// One kind of health probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthProbe {
    /// Always healthy.
    None,
    /// A TCP connect to the port.
    Tcp {
        /// Target port.
        port: u16,
    },
    /// GET; healthy on any status from 200 to 399.
    Http {
        /// Target port.
        port: u16,
        /// Path with query, begins with `/`.
        path: String,
    },
    /// The standard health service, `grpc.health.v1.Health/Check`.
    Grpc {
        /// Target port.
        port: u16,
        /// Service asked for; empty: the server as a whole.
        service: String,
    },
    /// A command, run directly, no shell; healthy when it exits with 0.
    Exec {
        /// Program and arguments; at least one.
        command: Vec<String>,
    },
}

/// The range from which one process takes virtual IPs: a /16 within 127.64.0.0/10.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VipRange {
    /// First address, `x.y.0.0`.
    pub base: Ipv4Addr,
}

impl VipRange {
    /// Ranges of one block. A site has a whole block: one range for itself, the others for its nodes; so the ranges of
    /// the nodes of several sites on one host do not meet. A block begins at a multiple of this. 8 of the 64 ranges:
    /// as many sites fit on a host as each has ranges.
    pub const BLOCK: u8 = 8;

    /// Number of the block that the range is of: 0 for 127.64.0.0 to 127.71.0.0, and 7 for the last.
    pub fn block(self) -> u8 {
        (self.second() & 63) / Self::BLOCK
    }

    /// The range so many steps further in the same block, where the first one follows the last.
    pub fn in_block(self, steps: u8) -> Self {
        let within = self.second().wrapping_add(steps) % Self::BLOCK;
        let [first, second, ..] = self.base.octets();
        Self { base: Ipv4Addr::new(first, second - second % Self::BLOCK + within, 0, 0) }
    }

    fn second(self) -> u8 {
        self.base.octets()[1]
    }
}

/// Where an agent or a gateway can be told to dial.
pub type Gateways = Vec<GatewayAddress>;
