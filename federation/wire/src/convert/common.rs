//! Services, endpoints, sites, bundles, callers.

use super::check::*;
use super::{Cause, WireError, limits};
use crate::pb;
use model::catalog::{Epoch, GatewayAddress, Revision, Scope, ServiceSpec, SiteInfo, Version};
use model::endpoint::{Endpoint, Health, Reach};
use model::identity::{Bundle, Proof};
use model::ids::SiteUid;
use model::node::NodeKind;
use model::routing::{Caller, GroupId, PeerState, PeerView};
use model::service::{AppProtocol, PortKey, Protocol, ServiceKind, ServiceName, ServicePort, Subset};
use std::collections::{BTreeMap, BTreeSet};

words!(pb::Protocol, Protocol, { Tcp = Tcp, Udp = Udp });
words!(pb::AppProtocol, AppProtocol, { Tcp = Tcp, Http = Http, Http2 = Http2, Grpc = Grpc, Tls = Tls });
words!(pb::ServiceKind, ServiceKind, { ClusterSetIp = ClusterSetIp, Headless = Headless });
words!(pb::Health, Health, { Healthy = Healthy, Unhealthy = Unhealthy, Draining = Draining });
words!(pb::Proof, Proof, { Host = Host, PodIp = PodIp, Uid = Uid, Mtls = Mtls });
words!(pb::NodeKind, NodeKind, { Gateway = Gateway, Agent = Agent });
words!(pb::PeerState, PeerState, {
    Connected = Connected,
    Degraded = Degraded,
    Unreachable = Unreachable,
    Expired = Expired,
    Removed = Removed,
});

impl From<&PortKey> for pb::PortKey {
    fn from(key: &PortKey) -> Self {
        Self { protocol: pb::Protocol::from(key.protocol) as i32, number: key.number.into() }
    }
}

impl TryFrom<pb::PortKey> for PortKey {
    type Error = WireError;

    fn try_from(key: pb::PortKey) -> Result<Self, WireError> {
        let protocol = word::<pb::Protocol, _>("protocol", key.protocol)?;
        Ok(Self { protocol, number: port("number", key.number)? })
    }
}

impl From<&ServicePort> for pb::ServicePort {
    fn from(port: &ServicePort) -> Self {
        Self {
            key: Some((&port.key).into()),
            name: port.name.as_ref().map(ToString::to_string).unwrap_or_default(),
            app: pb::AppProtocol::from(port.app) as i32,
            retry_safe: port.retry_safe,
        }
    }
}

impl TryFrom<pb::ServicePort> for ServicePort {
    type Error = WireError;

    fn try_from(port: pb::ServicePort) -> Result<Self, WireError> {
        Ok(Self {
            key: convert("key", port.key)?,
            name: parse_some("name", &port.name)?,
            app: word::<pb::AppProtocol, _>("app", port.app)?,
            retry_safe: port.retry_safe,
        })
    }
}

/// Ports of a service: bounded, ordered, none twice.
pub(super) fn ports(field: &'static str, ports: Vec<pb::ServicePort>) -> Result<Vec<ServicePort>, WireError> {
    let ports: Vec<ServicePort> = list(field, ports, limits::PORTS_MAX)?;
    ordered(field, &ports, |port| &port.key)?;
    Ok(ports)
}

impl From<&ServiceName> for pb::ServiceName {
    fn from(service: &ServiceName) -> Self {
        Self { namespace: service.namespace.to_string(), name: service.name.to_string() }
    }
}

impl TryFrom<pb::ServiceName> for ServiceName {
    type Error = WireError;

    fn try_from(service: pb::ServiceName) -> Result<Self, WireError> {
        Ok(Self { namespace: parse("namespace", &service.namespace)?, name: parse("name", &service.name)? })
    }
}

impl From<&ServiceSpec> for pb::ServiceSpec {
    fn from(spec: &ServiceSpec) -> Self {
        Self {
            ports: spec.ports.iter().map(Into::into).collect(),
            kind: pb::ServiceKind::from(spec.kind) as i32,
            declared_total: spec.declared_total,
        }
    }
}

impl TryFrom<pb::ServiceSpec> for ServiceSpec {
    type Error = WireError;

    fn try_from(spec: pb::ServiceSpec) -> Result<Self, WireError> {
        let total = spec.declared_total.map(|total| endpoints("declared_total", total));
        Ok(Self {
            ports: ports("ports", spec.ports)?,
            kind: word::<pb::ServiceKind, _>("kind", spec.kind)?,
            declared_total: total.transpose()?,
        })
    }
}

/// Name of a subset; may be empty.
pub(super) fn subset(name: String) -> Result<Subset, WireError> {
    text("subset", name, limits::SUBSET_MAX).map(Subset)
}

impl From<&Endpoint> for pb::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        let target =
            |(key, port): (&PortKey, &u16)| pb::TargetPort { key: Some(key.into()), target: (*port).into() };
        Self {
            id: endpoint.id.to_string(),
            locality: endpoint.locality.to_string(),
            network: endpoint.network.to_string(),
            subset: endpoint.subset.0.clone(),
            weight: endpoint.weight,
            health: pb::Health::from(endpoint.health) as i32,
            reach: Some(match &endpoint.reach {
                Reach::Direct(address) => pb::endpoint::Reach::Direct(address.to_string()),
                Reach::Agent(host) => pb::endpoint::Reach::Agent(host.to_string()),
            }),
            ports: endpoint.ports.iter().map(target).collect(),
            hostname: endpoint.hostname.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::Endpoint> for Endpoint {
    type Error = WireError;

    fn try_from(endpoint: pb::Endpoint) -> Result<Self, WireError> {
        let targets: Vec<(PortKey, u16)> = list_of("ports", endpoint.ports, limits::PORTS_MAX, |of| {
            Ok((convert("key", of.key)?, port("target", of.target)?))
        })?;
        ordered("ports", &targets, |(key, _)| key)?;
        Ok(Self {
            id: parse("id", &endpoint.id)?,
            locality: parse("locality", &endpoint.locality)?,
            network: parse("network", &endpoint.network)?,
            subset: subset(endpoint.subset)?,
            weight: range("weight", endpoint.weight, 1, limits::WEIGHT_MAX)?,
            health: word::<pb::Health, _>("health", endpoint.health)?,
            reach: match need("reach", endpoint.reach)? {
                pb::endpoint::Reach::Direct(address) => Reach::Direct(ip("direct", &address)?),
                pb::endpoint::Reach::Agent(host) => Reach::Agent(parse("agent", &host)?),
            },
            ports: BTreeMap::from_iter(targets),
            hostname: parse_some("hostname", &endpoint.hostname)?,
        })
    }
}

impl From<&GatewayAddress> for pb::GatewayAddress {
    fn from(gateway: &GatewayAddress) -> Self {
        Self { name: gateway.name.to_string(), address: gateway.address.to_string() }
    }
}

impl TryFrom<pb::GatewayAddress> for GatewayAddress {
    type Error = WireError;

    fn try_from(gateway: pb::GatewayAddress) -> Result<Self, WireError> {
        Ok(Self { name: parse("name", &gateway.name)?, address: socket("address", &gateway.address)? })
    }
}

impl From<&SiteInfo> for pb::SiteInfo {
    fn from(site: &SiteInfo) -> Self {
        Self {
            id: site.id.to_string(),
            uid: site.uid.0.to_vec(),
            trust_domain: site.trust_domain.to_string(),
            locality: site.locality.to_string(),
            clusterset: site.clusterset.to_string(),
            gateways: site.gateways.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::SiteInfo> for SiteInfo {
    type Error = WireError;

    fn try_from(site: pb::SiteInfo) -> Result<Self, WireError> {
        let gateways: Vec<GatewayAddress> = list("gateways", site.gateways, limits::GATEWAYS_MAX)?;
        ordered("gateways", &gateways, |gateway| &gateway.name)?;
        Ok(Self {
            id: parse("id", &site.id)?,
            uid: SiteUid(bytes("uid", &site.uid)?),
            trust_domain: parse("trust_domain", &site.trust_domain)?,
            locality: parse("locality", &site.locality)?,
            clusterset: parse("clusterset", &site.clusterset)?,
            gateways,
        })
    }
}

impl From<&Bundle> for pb::Bundle {
    fn from(bundle: &Bundle) -> Self {
        Self {
            trust_domain: bundle.trust_domain.to_string(),
            sequence: bundle.sequence,
            anchors: bundle.anchors.clone(),
        }
    }
}

impl TryFrom<pb::Bundle> for Bundle {
    type Error = WireError;

    fn try_from(bundle: pb::Bundle) -> Result<Self, WireError> {
        let anchors = certificates("anchors", bundle.anchors, limits::ANCHORS_MAX)?;
        if anchors.is_empty() {
            return Err(WireError::new("anchors", Cause::Missing));
        }
        Ok(Self {
            trust_domain: parse("trust_domain", &bundle.trust_domain)?,
            sequence: bundle.sequence,
            anchors,
        })
    }
}

impl From<&Version> for pb::Version {
    fn from(version: &Version) -> Self {
        Self { epoch: version.epoch.0, revision: version.revision.0 }
    }
}

impl From<pb::Version> for Version {
    fn from(version: pb::Version) -> Self {
        Self { epoch: Epoch(version.epoch), revision: Revision(version.revision) }
    }
}

impl From<&Scope> for pb::Scope {
    fn from(scope: &Scope) -> Self {
        match scope {
            Scope::All => Self { all: true, namespaces: Vec::new(), services: Vec::new() },
            Scope::Only { namespaces, services } => Self {
                all: false,
                namespaces: namespaces.iter().map(ToString::to_string).collect(),
                services: services.iter().map(Into::into).collect(),
            },
        }
    }
}

impl TryFrom<pb::Scope> for Scope {
    type Error = WireError;

    fn try_from(scope: pb::Scope) -> Result<Self, WireError> {
        if !scope.all {
            let namespaces = parse_list("namespaces", scope.namespaces, limits::SCOPE_MAX)?;
            let services: Vec<ServiceName> = list("services", scope.services, limits::SCOPE_MAX)?;
            return Ok(Self::Only {
                namespaces: BTreeSet::from_iter(namespaces),
                services: BTreeSet::from_iter(services),
            });
        }
        if !scope.namespaces.is_empty() || !scope.services.is_empty() {
            return Err(WireError::new("all", Cause::Rule("it is set, and so are the lists")));
        }
        Ok(Self::All)
    }
}

impl From<&Caller> for pb::Caller {
    fn from(caller: &Caller) -> Self {
        Self {
            identity: caller.identity.as_ref().map(ToString::to_string).unwrap_or_default(),
            proof: pb::Proof::from(caller.proof) as i32,
            site: caller.site.to_string(),
            locality: caller.locality.to_string(),
            affinity: caller.affinity,
        }
    }
}

impl TryFrom<pb::Caller> for Caller {
    type Error = WireError;

    fn try_from(caller: pb::Caller) -> Result<Self, WireError> {
        Ok(Self {
            identity: parse_some("identity", &caller.identity)?,
            proof: word::<pb::Proof, _>("proof", caller.proof)?,
            site: parse("site", &caller.site)?,
            locality: parse("locality", &caller.locality)?,
            affinity: caller.affinity,
        })
    }
}

impl From<&GroupId> for pb::GroupId {
    fn from(id: &GroupId) -> Self {
        Self { site: id.site.to_string(), locality: id.locality.to_string(), subset: id.subset.0.clone() }
    }
}

impl TryFrom<pb::GroupId> for GroupId {
    type Error = WireError;

    fn try_from(id: pb::GroupId) -> Result<Self, WireError> {
        Ok(Self {
            site: parse("site", &id.site)?,
            locality: parse("locality", &id.locality)?,
            subset: subset(id.subset)?,
        })
    }
}

impl From<&PeerView> for pb::PeerView {
    fn from(view: &PeerView) -> Self {
        Self { state: pb::PeerState::from(view.state) as i32, rtt_us: view.rtt.map(unduration_us) }
    }
}

impl TryFrom<pb::PeerView> for PeerView {
    type Error = WireError;

    fn try_from(view: pb::PeerView) -> Result<Self, WireError> {
        Ok(Self {
            state: word::<pb::PeerState, _>("state", view.state)?,
            rtt: view.rtt_us.map(|us| duration_us("rtt_us", us)).transpose()?,
        })
    }
}
