//! Workloads on hosts with an agent.

use super::service::{PortView, ServiceView};
use crate::resource::workload::{Workload, check_text};
use model::config::WorkloadSpec;
use serde::{Deserialize, Serialize};

/// `PUT /v1/workloads`, which is what `expose` does. The resource must name its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadRequest {
    /// The workload.
    pub workload: Workload,
    /// Offer the service to linked sites too. Default true.
    #[serde(default = "yes")]
    pub export: bool,
    /// Check, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

fn yes() -> bool {
    true
}

/// Answer to a [`WorkloadRequest`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkloadReply {
    /// The workload as it stands.
    pub workload: WorkloadView,
    /// The service that it is an instance of: name, VIP, and who may call.
    pub service: ServiceView,
    /// Nothing was changed: this was asked with `dry_run`.
    pub dry_run: bool,
}

/// A workload.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkloadView {
    /// Service, `NAMESPACE/NAME`.
    pub service: String,
    /// Id of the endpoint that it is.
    pub id: String,
    /// Host.
    pub host: String,
    /// Address on which the agent reaches it.
    pub address: String,
    /// Ports of the service.
    pub ports: Vec<PortView>,
    /// Ports that it listens on, in the order of `ports`.
    pub target_ports: Vec<u16>,
    /// Locality.
    pub locality: String,
    /// Share of the load.
    pub weight: u32,
    /// Its check, in one line.
    pub check: String,
    /// Account that it may assert; may be empty.
    pub account: String,
    /// `healthy`, `unhealthy`, `draining`, or `unknown` until the agent has spoken.
    pub health: String,
    /// Why, where it is not healthy; may be empty.
    pub why: String,
    /// Since the agent last renewed it; none: it never has.
    pub renewed_age_s: Option<u64>,
    /// Until it is gone, if the agent does not renew it.
    pub lease_s: Option<u64>,
}

impl WorkloadView {
    /// A workload that no agent has spoken of yet.
    pub fn of(spec: &WorkloadSpec) -> Self {
        Self {
            service: spec.service.to_string(),
            id: spec.id.to_string(),
            host: spec.host.to_string(),
            address: spec.address.to_string(),
            ports: spec.ports.iter().map(|(port, _)| PortView::of(port)).collect(),
            target_ports: spec.ports.iter().map(|(_, target)| *target).collect(),
            locality: spec.locality.to_string(),
            weight: spec.weight,
            check: check_text(&spec.check),
            account: spec.account.as_ref().map(ToString::to_string).unwrap_or_default(),
            health: "unknown".to_owned(),
            ..Self::default()
        }
    }
}
