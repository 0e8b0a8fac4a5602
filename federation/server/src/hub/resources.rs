//! What people wrote: exports, workloads, policies; and what is looked up in them.

use super::Hub;
use crate::answer::{Answer, Denied};
use crate::docs::ResourceDoc;
use crate::names::NodeId;
use crate::store::documents::{DocumentKey, DocumentKind};
use api::resource::failover::Selector;
use api::resource::workload::Workload;
use api::resource::{Key, Kind, Resource};
use federation_core::imports::Policies;
use model::catalog::{Scope, ServiceSpec};
use model::config::{ConfigKey, ConfigValue, WorkloadSpec};
use model::ids::{EndpointId, HostName};
use model::service::{ServiceKind, ServiceName};
use std::collections::{BTreeMap, BTreeSet};

/// All resources, with what is looked up often.
#[derive(Debug, Default)]
pub(super) struct Resources {
    pub docs: BTreeMap<Key, ResourceDoc>,
    /// Workloads by service and endpoint id, checked.
    pub workloads: BTreeMap<(ServiceName, EndpointId), (Key, WorkloadSpec)>,
}

impl Resources {
    /// Takes in a resource that is stored.
    pub fn insert(&mut self, key: Key, doc: ResourceDoc) {
        self.remove(&key);
        if let Resource::Workload(workload) = &doc.resource
            && let Ok(spec) = workload_spec(workload)
        {
            self.workloads.insert((spec.service.clone(), spec.id.clone()), (key.clone(), spec));
        }
        self.docs.insert(key, doc);
    }

    /// Forgets a resource.
    pub fn remove(&mut self, key: &Key) {
        self.docs.remove(key);
        if key.kind == Kind::Workload {
            self.workloads.retain(|_, (of, _)| of != key);
        }
    }

    /// When a service was exported; none: it is not.
    pub fn export(&self, service: &ServiceName) -> Option<u64> {
        self.docs.get(&export_key(service)).map(|doc| doc.created_at_ms)
    }

    /// Services that are exported.
    pub fn exports(&self) -> impl Iterator<Item = ServiceName> {
        self.docs.values().filter_map(|doc| match &doc.resource {
            Resource::ServiceExport(export) => export.service().ok(),
            _ => None,
        })
    }

    /// Workloads, checked.
    pub fn workloads(&self) -> impl Iterator<Item = &WorkloadSpec> {
        self.workloads.values().map(|(_, spec)| spec)
    }

    /// A workload.
    pub fn workload(&self, service: &ServiceName, id: &EndpointId) -> Option<&WorkloadSpec> {
        self.workloads.get(&(service.clone(), id.clone())).map(|(_, spec)| spec)
    }

    /// A service as its first workload describes it.
    pub fn spec_of(&self, service: &ServiceName) -> Option<ServiceSpec> {
        let spec = self.workloads().find(|spec| spec.service == *service)?;
        let ports = spec.ports.iter().map(|(port, _)| port.clone()).collect();
        Some(ServiceSpec { ports, kind: ServiceKind::ClusterSetIp, declared_total: None })
    }

    fn policies(&self) -> Policies {
        let scope = |selector: &Selector| {
            let services: BTreeSet<ServiceName> = selector
                .names
                .iter()
                .map(|name| ServiceName { namespace: selector.namespace.clone(), name: name.clone() })
                .collect();
            let namespaces =
                if services.is_empty() { [selector.namespace.clone()].into() } else { BTreeSet::new() };
            Scope::Only { namespaces, services }
        };
        let mut failover: Vec<_> = self
            .docs
            .values()
            .filter_map(|doc| match &doc.resource {
                Resource::FailoverPolicy(policy) => policy.rule().ok(),
                _ => None,
            })
            .collect();
        // One that names its services weighs more than one for the namespace.
        failover.sort_by_key(|rule| !rule.services.is_exact());
        let access = self.docs.values().filter_map(|doc| match &doc.resource {
            Resource::AccessPolicy(policy) => policy.rule().ok(),
            _ => None,
        });
        Policies {
            failover: failover.into_iter().map(|rule| (scope(&rule.services), rule.policy)).collect(),
            access: access.map(|rule| (scope(&rule.services), rule.rule)).collect(),
        }
    }
}

pub(super) fn export_key(service: &ServiceName) -> Key {
    Key { kind: Kind::ServiceExport, namespace: Some(service.namespace.clone()), name: service.name.clone() }
}

/// A workload of this site, which must name its host.
pub(super) fn workload_spec(workload: &Workload) -> Answer<WorkloadSpec> {
    let Some(host) = &workload.spec.host else {
        return Err(Denied::invalid(
            "the workload names no host",
            "",
            "add `host:`, the name of a host with an agent",
        ));
    };
    Ok(workload
        .workload(&host.0, &workload.spec.locality.as_ref().map(|text| text.0.clone()).unwrap_or_default())?)
}

pub(super) fn document_key(key: &Key) -> DocumentKey {
    DocumentKey::new(DocumentKind::Resource, key)
}

impl Hub {
    /// Tells the agent of a workload how it stands, or that it is gone.
    pub(super) fn refresh_workload(&mut self, service: &ServiceName, id: &EndpointId) {
        let key = ConfigKey::Workload(service.clone(), id.clone());
        match self.resources.workload(service, id) {
            Some(spec) => {
                let spec = WorkloadSpec { locality: self.locality_of(&spec.host, spec), ..spec.clone() };
                self.book.set(key, ConfigValue::Workload(spec));
            }
            None => drop(self.book.remove(&key)),
        }
    }

    /// The agent of a host has moved: workloads that say nothing of their own move with it.
    pub(super) fn refresh_workloads_of(&mut self, host: &HostName) {
        let of_host = self.resources.workloads().filter(|spec| spec.host == *host);
        let keys: Vec<_> = of_host.map(|spec| (spec.service.clone(), spec.id.clone())).collect();
        for (service, id) in keys {
            self.refresh_workload(&service, &id);
        }
    }

    fn locality_of(&self, host: &HostName, spec: &WorkloadSpec) -> model::locality::Locality {
        if spec.locality != Default::default() {
            return spec.locality.clone();
        }
        let node = self.nodes.get(&NodeId::Agent(host.clone()));
        let of_host = node.and_then(|node| node.doc.locality.as_ref()).map(|locality| locality.0.clone());
        of_host.unwrap_or_else(|| self.site.locality.clone())
    }

    /// Brings the policies of the imports in line with the resources.
    pub(super) fn refresh_policies(&mut self) {
        let mut policies = self.resources.policies();
        policies.access.extend(self.default_access.clone().map(|rule| (Scope::All, rule)));
        self.imports.set_policies(policies);
    }
}
