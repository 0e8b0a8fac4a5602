//! Taking something out of service without breaking what is open, and back in.

use super::Hub;
use crate::answer::{Answer, Denied};
use crate::names::NodeId;
use crate::store::WriteBatch;
use crate::store::documents::{DocumentKey, DocumentKind};
use api::rest::drain::{DrainReply, DrainRequest, DrainTarget};
use model::endpoint::{Endpoint, Reach};
use model::ids::EndpointId;
use model::node::{FederationMessage, NodeKind};
use model::service::ServiceName;
use std::fmt;
use std::time::Instant;

/// Most lines of an answer that say what moves, and what stops.
const LINES_MAX: usize = 100;
/// Most things that drain at a time; more are a sign that `undrain` is forgotten.
const DRAINS_MAX: usize = 10_000;

/// Something that takes nothing new.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Drain {
    /// A gateway, or an agent with all workloads of its host.
    Node(NodeId),
    /// One endpoint.
    Endpoint(ServiceName, EndpointId),
    /// Everything.
    Site,
}

impl Drain {
    fn of(target: &DrainTarget) -> Answer<Self> {
        let node = |kind, name: &str| {
            NodeId::new(kind, name)
                .ok_or_else(|| Denied::invalid(format!("`{name}` is no name of a node"), "", ""))
        };
        Ok(match target {
            DrainTarget::Gateway { name } => Self::Node(node(NodeKind::Gateway, name.as_str())?),
            DrainTarget::Agent { name } => Self::Node(node(NodeKind::Agent, name.as_str())?),
            DrainTarget::Endpoint { service, id } => Self::Endpoint(service.0.clone(), id.0.clone()),
            DrainTarget::Site => Self::Site,
        })
    }

    /// Whether it is this node that takes nothing new.
    pub fn covers_node(&self, id: &NodeId) -> bool {
        match self {
            Self::Node(node) => node == id,
            Self::Endpoint(..) => false,
            Self::Site => true,
        }
    }

    fn covers(&self, service: &ServiceName, endpoint: &Endpoint) -> bool {
        match self {
            Self::Node(NodeId::Agent(host)) => endpoint.reach == Reach::Agent(host.clone()),
            Self::Node(NodeId::Gateway(_)) => false,
            Self::Endpoint(of, id) => of == service && *id == endpoint.id,
            Self::Site => true,
        }
    }

    /// Reads the name of a document.
    pub fn from_text(text: &str) -> Option<Self> {
        if text == "site" {
            return Some(Self::Site);
        }
        match text.strip_prefix("endpoint ") {
            Some(rest) => {
                let (service, id) = rest.rsplit_once('/')?;
                Some(Self::Endpoint(service.parse().ok()?, id.parse().ok()?))
            }
            None => NodeId::from_text(text).map(Self::Node),
        }
    }
}

impl fmt::Display for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "{node}"),
            Self::Endpoint(service, id) => write!(f, "endpoint {service}/{id}"),
            Self::Site => f.write_str("site"),
        }
    }
}

impl Hub {
    /// Whether an endpoint takes nothing new.
    pub(super) fn is_drained(&self, service: &ServiceName, endpoint: &Endpoint) -> bool {
        self.drains.iter().any(|drain| drain.covers(service, endpoint))
    }

    /// Drains something, takes it back in, or says how far it is.
    ///
    /// # Errors
    /// It is not there, or the store cannot be written.
    pub fn drain(&mut self, request: &DrainRequest) -> Answer<DrainReply> {
        let drain = Drain::of(&request.target)?;
        self.check_exists(&drain)?;
        let mut reply =
            DrainReply { target: drain.to_string(), dry_run: request.dry_run, ..DrainReply::default() };
        if request.drain {
            self.foretell(&drain, &mut reply);
        }
        let changes = self.drains.contains(&drain) != request.drain;
        if changes && !request.dry_run {
            if request.drain && self.drains.len() >= DRAINS_MAX {
                return Err(Denied::conflict(
                    format!("{DRAINS_MAX} things drain already"),
                    "",
                    "undrain some of them",
                ));
            }
            let key = DocumentKey::new(DocumentKind::Drain, &drain);
            let mut batch = WriteBatch::default();
            if request.drain {
                batch.put(key, &true)
            } else {
                batch.delete(key)
            }
            self.write_now(&batch)?;
            if request.drain {
                self.drains.insert(drain.clone());
            } else {
                self.drains.remove(&drain);
            }
            self.carry_out(&drain, Instant::now());
            let what = if request.drain { "drains" } else { "takes new streams again" };
            self.events.note(drain.to_string(), what, "a person said so");
        }
        reply.draining = self.drains.contains(&drain);
        reply.open_streams = self.streams_of(&drain);
        reply.done = reply.draining && reply.open_streams == 0;
        Ok(reply)
    }

    fn check_exists(&self, drain: &Drain) -> Answer<()> {
        let there = match drain {
            Drain::Node(id) => self.nodes.contains_key(id),
            Drain::Endpoint(service, id) => self.heard_endpoints.contains_key(&(service.clone(), id.clone())),
            Drain::Site => true,
        };
        // What drains may have gone meanwhile, and must still be possible to undrain.
        if there || self.drains.contains(drain) {
            return Ok(());
        }
        Err(Denied::not_found(
            format!("{} has no {drain}", self.site.id),
            "see what there is: meshfed status, meshfed describe service",
        ))
    }

    fn carry_out(&mut self, drain: &Drain, now: Instant) {
        let nodes: Vec<NodeId> = self.nodes.keys().filter(|id| drain.covers_node(id)).cloned().collect();
        for id in nodes {
            let draining = self.is_draining(&id);
            self.tell(&id, FederationMessage::Drain(draining));
        }
        let touched: Vec<(ServiceName, EndpointId)> = self
            .heard_endpoints
            .iter()
            .filter(|((service, _), endpoint)| drain.covers(service, endpoint))
            .map(|(key, _)| key.clone())
            .collect();
        for (service, id) in touched {
            self.hand_endpoint(&service, &id, now);
        }
    }

    fn foretell(&self, drain: &Drain, reply: &mut DrainReply) {
        let own = &self.site.id;
        if let Drain::Node(NodeId::Gateway(name)) = drain {
            let others: Vec<String> = self
                .gateways_towards(None)
                .into_iter()
                .filter(|(other, _)| other != name && !self.is_draining(&NodeId::Gateway(other.clone())))
                .map(|(other, _)| other.to_string())
                .collect();
            if others.is_empty() {
                reply.stops.push("all traffic with other sites: no other gateway is connected".to_owned());
            } else {
                reply.moves.push(format!("streams with other sites → {}", others.join(", ")));
            }
            return;
        }
        for import in self.imports.iter() {
            let mine = || {
                import.groups.iter().filter(|group| group.id.site == *own).flat_map(|group| &group.endpoints)
            };
            if !mine().any(|endpoint| drain.covers(&import.service, endpoint)) {
                continue;
            }
            let left = mine().filter(|endpoint| {
                endpoint.health == model::endpoint::Health::Healthy
                    && !drain.covers(&import.service, endpoint)
            });
            let left = left.count();
            let mut targets = Vec::new();
            if left > 0 {
                targets.push(format!("{left} other in {own}"));
            }
            let others = import.groups.iter().filter(|group| {
                group.id.site != *own && group.healthy > 0 && self.peer_view(&group.id.site).state.is_usable()
            });
            targets.extend(others.map(|group| format!("{} in {}", group.healthy, group.id.site)));
            if reply.moves.len() + reply.stops.len() >= LINES_MAX {
                return;
            }
            if targets.is_empty() {
                reply.stops.push(format!("{}: nobody else serves it", import.service));
            } else {
                reply.moves.push(format!("{} → {}", import.service, targets.join(", ")));
            }
        }
    }

    fn streams_of(&self, drain: &Drain) -> u32 {
        let of = |id: &NodeId| self.nodes.get(id).map_or(0, super::nodes::Node::open_streams);
        match drain {
            Drain::Node(id) => of(id),
            // Nodes count streams by service and site, not by endpoint: this is an upper bound.
            Drain::Endpoint(service, _) => self
                .nodes
                .values()
                .flat_map(|node| &node.streams)
                .filter(|(of, site, _)| of == service && *site == self.site.id)
                .map(|(_, _, count)| *count)
                .fold(0, u32::saturating_add),
            Drain::Site => self.nodes.keys().map(of).fold(0, u32::saturating_add),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_survives_text() {
        for text in ["site", "gateway gw-0", "agent vm-1", "endpoint shop/cart/10.0.0.1:80"] {
            assert_eq!(Drain::from_text(text).expect("valid").to_string(), text);
        }
        assert_eq!(Drain::from_text("endpoint cart"), None);
    }
}
