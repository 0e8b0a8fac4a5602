//! Can our gateways reach an address? Asked before a link is made.

use crate::text::Text;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// `POST /v1/reach`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReachRequest {
    /// UDP addresses of gateways of the other site, 1 to 16.
    pub addresses: Vec<Text<SocketAddr>>,
}

/// Answer to a [`ReachRequest`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReachReply {
    /// One for each gateway of ours and each address.
    pub probes: Vec<ReachProbe>,
}

/// What one gateway saw.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReachProbe {
    /// Our gateway.
    pub gateway: String,
    /// Address that was tried.
    pub address: String,
    /// `answered`, `refused` or `silent`.
    pub outcome: String,
    /// Round trip, when it answered.
    pub rtt_ms: Option<f64>,
    /// How long was waited.
    pub waited_ms: f64,
    /// What was seen, in words: `no answer in 3 s`.
    pub seen: String,
}

impl ReachReply {
    /// Whether any gateway of ours reached any of the addresses.
    pub fn reached(&self) -> bool {
        self.probes.iter().any(|probe| probe.outcome == "answered")
    }

    /// One line for each probe, as the command line prints it behind `tried`.
    pub fn lines(&self, site: &str) -> Vec<String> {
        let line = |probe: &ReachProbe| {
            format!("{}/udp from {site} gateway {}: {}", probe.address, probe.gateway, probe.seen)
        };
        self.probes.iter().map(line).collect()
    }
}
