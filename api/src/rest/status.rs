//! `GET /v1/status`: is the site well, and if not, why and what to do.

use super::ms;
use super::site::SiteView;
use model::node::{PathReport, PathState};
use serde::{Deserialize, Serialize};

/// The whole status.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusView {
    /// Nothing needs a person. Decides the exit code of `status`.
    pub healthy: bool,
    /// The site itself.
    pub site: SiteView,
    /// Linked sites, ordered by name.
    pub peers: Vec<PeerStatus>,
    /// Gateways and agents, ordered by kind and name.
    pub nodes: Vec<NodeStatus>,
    /// What is wrong or worth knowing, worst first.
    pub findings: Vec<Finding>,
}

/// A linked site.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerStatus {
    /// Name.
    pub site: String,
    /// `pending`, `connected`, `degraded`, `unreachable`, `expired`.
    pub state: String,
    /// Paths that answer, also those to gateways that drain.
    pub paths_live: u32,
    /// Paths in all.
    pub paths_total: u32,
    /// Round trip over the best path; none while there is none.
    pub rtt_ms: Option<f64>,
    /// Lost probes over the last 10 s, worst live path.
    pub loss_pct: Option<f64>,
    /// Its catalog.
    pub catalog: CatalogStatus,
    /// Services that are offered to it.
    pub offers: u32,
    /// Services that are taken from it.
    pub takes: u32,
    /// Open streams of callers, both directions.
    pub streams: u32,
    /// Since it is in this state.
    pub since_s: u64,
    /// When it entered this state.
    pub since_at_ms: u64,
    /// While unreachable: when its imports are withdrawn.
    pub withdrawn_at_ms: Option<u64>,
    /// What is the matter, in words; empty when nothing is.
    pub note: String,
    /// Command that says more; may be empty.
    pub next: String,
    /// Its paths.
    pub paths: Vec<PathStatus>,
}

/// How fresh a peer's catalog is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CatalogStatus {
    /// Incarnation.
    pub epoch: u64,
    /// Position that is applied.
    pub revision: u64,
    /// Since it was last confirmed.
    pub age_s: u64,
    /// A session is open.
    pub live: bool,
    /// It has been complete at least once.
    pub complete: bool,
    /// Differences that the digests have found and repaired; each is a bug.
    pub repairs: u64,
}

/// A path.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PathStatus {
    /// Our gateway, or the agent.
    pub from: String,
    /// Gateway of the peer.
    pub to: String,
    /// Its address.
    pub address: String,
    /// `dialling`, `live`, `suspect`, `dead`, `draining`.
    pub state: String,
    /// Round trip.
    pub rtt_ms: Option<f64>,
    /// Lost probes over the last 10 s.
    pub loss_pct: f64,
    /// Open streams.
    pub streams: u32,
    /// Largest UDP payload that it carries, bytes; none while no connection is up.
    pub mtu: Option<u16>,
    /// What is wrong, in words; empty when nothing is.
    pub problem: String,
}

/// A gateway or an agent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// `gateway` or `agent`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// It has a config stream to the federation.
    pub connected: bool,
    /// It takes nothing new.
    pub draining: bool,
    /// Since it is connected, or not.
    pub since_s: u64,
    /// Open streams.
    pub streams: u32,
    /// For agents: workloads.
    pub workloads: u32,
    /// It holds the config up to here, and the federation is at `config_current`.
    pub config_revision: u64,
    /// Position of the config.
    pub config_current: u64,
    /// What is wrong or cannot be done, in words; empty when nothing is.
    pub problems: Vec<String>,
}

/// Something that is wrong or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Finding {
    /// `error`: something does not work; `warning`: it soon may not; `note`: good to know.
    pub severity: String,
    /// What it is about: `peer lab`, `service shop/orders`, `agent vm-1`.
    pub subject: String,
    /// What, in words.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do next, as a command where there is one.
    pub next: String,
}

/// The word for the state of a path.
pub fn path_state(state: PathState) -> &'static str {
    match state {
        PathState::Dialling => "dialling",
        PathState::Live => "live",
        PathState::Suspect => "suspect",
        PathState::Dead => "dead",
        PathState::Draining => "draining",
    }
}

impl PathStatus {
    /// A path as the gateway or agent `from` reports it.
    pub fn of(from: &str, report: &PathReport) -> Self {
        Self {
            from: from.to_owned(),
            to: report.gateway.to_string(),
            address: report.address.to_string(),
            state: path_state(report.state).to_owned(),
            rtt_ms: report.rtt.map(ms),
            loss_pct: f64::from(report.loss_permille) / 10.0,
            streams: report.streams,
            mtu: report.mtu,
            problem: report.problem.clone(),
        }
    }
}
