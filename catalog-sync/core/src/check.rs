//! Whether an instance is one that its source may register.

use crate::refused::Refused;
use crate::source::{SourceId, SourceScope};
use model::endpoint::Reach;
use model::node::Instance;
use model::service::ServiceName;

/// Most ports of a service.
const PORTS_MAX: usize = 64;
/// Greatest weight of an endpoint.
const WEIGHT_MAX: u32 = 1_000;

/// Checks scope and values of an instance.
pub(crate) fn instance(source: &SourceId, scope: &SourceScope, instance: &Instance) -> Result<(), Refused> {
    namespace(source, scope, &instance.service)?;
    let endpoint = &instance.endpoint;
    if !reach_allowed(scope, &endpoint.reach) {
        return Err(Refused::ReachOutsideScope {
            source_id: source.clone(),
            service: instance.service.clone(),
            endpoint: endpoint.id.clone(),
            reach: Box::new(endpoint.reach.clone()),
        });
    }
    let invalid = |reason| {
        Err(Refused::Invalid {
            source_id: source.clone(),
            service: instance.service.clone(),
            endpoint: endpoint.id.clone(),
            reason,
        })
    };
    let ports = &instance.spec.ports;
    if ports.is_empty() || ports.len() > PORTS_MAX {
        return invalid("a service has 1 to 64 ports");
    }
    if !ports.is_sorted_by(|a, b| a.key < b.key) {
        return invalid("the ports of a service are ordered, and none is named twice");
    }
    if ports.iter().any(|port| port.key.number == 0) || endpoint.ports.values().any(|port| *port == 0) {
        return invalid("a port is 1 to 65535");
    }
    if endpoint.ports.is_empty()
        || !endpoint.ports.keys().all(|key| ports.iter().any(|port| port.key == *key))
    {
        return invalid("an endpoint listens for at least one port of its service, and for no other");
    }
    if endpoint.weight == 0 || endpoint.weight > WEIGHT_MAX {
        return invalid("a weight is 1 to 1000");
    }
    Ok(())
}

/// Checks that a service lies in a namespace of the scope.
pub(crate) fn namespace(
    source: &SourceId,
    scope: &SourceScope,
    service: &ServiceName,
) -> Result<(), Refused> {
    if scope.namespaces.as_ref().is_none_or(|namespaces| namespaces.contains(&service.namespace)) {
        return Ok(());
    }
    Err(Refused::NamespaceOutsideScope {
        source_id: source.clone(),
        service: service.clone(),
        namespace: service.namespace.clone(),
    })
}

/// Whether a source of this scope may speak for an endpoint that is reached like this.
pub(crate) fn reach_allowed(scope: &SourceScope, reach: &Reach) -> bool {
    match (&scope.host, reach) {
        (Some(own), Reach::Agent(host)) => own == host,
        (None, Reach::Direct(_)) => true,
        (Some(_), Reach::Direct(_)) | (None, Reach::Agent(_)) => false,
    }
}
