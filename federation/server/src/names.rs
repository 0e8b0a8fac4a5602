//! Names of the nodes of a site.

use model::identity::{Role, SpiffeId};
use model::ids::{GatewayName, HostName};
use model::node::NodeKind;
use std::fmt;

/// A gateway or an agent of the own site.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeId {
    /// A gateway.
    Gateway(GatewayName),
    /// The agent of a host.
    Agent(HostName),
}

impl NodeId {
    /// The node that holds this identity; none for other roles.
    pub fn of(id: &SpiffeId) -> Option<Self> {
        match &id.role {
            Role::Gateway(name) => Some(Self::Gateway(name.clone())),
            Role::Agent(host) => Some(Self::Agent(host.clone())),
            Role::Federation(_) | Role::Admin(_) | Role::Workload { .. } => None,
        }
    }

    /// By kind and name.
    pub fn new(kind: NodeKind, name: &str) -> Option<Self> {
        Some(match kind {
            NodeKind::Gateway => Self::Gateway(name.parse().ok()?),
            NodeKind::Agent => Self::Agent(name.parse().ok()?),
        })
    }

    /// Reads `gateway gw-0`.
    pub fn from_text(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(' ')?;
        match kind {
            "gateway" => Self::new(NodeKind::Gateway, name),
            "agent" => Self::new(NodeKind::Agent, name),
            _ => None,
        }
    }

    /// Its kind.
    pub fn kind(&self) -> NodeKind {
        match self {
            Self::Gateway(_) => NodeKind::Gateway,
            Self::Agent(_) => NodeKind::Agent,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Gateway(name) => name.as_str(),
            Self::Agent(host) => host.as_str(),
        }
    }

    /// Its role in certificates.
    pub fn role(&self) -> Role {
        match self {
            Self::Gateway(name) => Role::Gateway(name.clone()),
            Self::Agent(host) => Role::Agent(host.clone()),
        }
    }

    /// The host, for agents.
    pub fn host(&self) -> Option<&HostName> {
        match self {
            Self::Gateway(_) => None,
            Self::Agent(host) => Some(host),
        }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(name) => f.pad(&format!("gateway {name}")),
            Self::Agent(host) => f.pad(&format!("agent {host}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_survives_text() {
        for text in ["gateway gw-0", "agent vm-1"] {
            let node = NodeId::from_text(text).expect("valid");
            assert_eq!(node.to_string(), text);
            assert_eq!(NodeId::new(node.kind(), node.name()), Some(node));
        }
        assert_eq!(NodeId::from_text("admin root"), None);
        assert_eq!(NodeId::from_text("gateway"), None);
    }
}
