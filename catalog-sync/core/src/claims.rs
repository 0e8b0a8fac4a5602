//! All that sources claim, by key, with the age of each claim. The oldest claim of a key stands.

use crate::source::SourceId;
use model::catalog::ServiceSpec;
use model::endpoint::{Endpoint, Reach};
use model::ids::EndpointId;
use model::service::ServiceName;
use std::collections::BTreeMap;

/// Names an endpoint of the site.
pub(crate) type EndpointKey = (ServiceName, EndpointId);

/// A value with the age of the claim: lower is older. The age does not change when the value does.
#[derive(Debug)]
struct Claim<T> {
    age: u64,
    value: T,
}

/// What a source says of a service: its spec, and how many endpoints it claims. It ends with the last of these.
#[derive(Debug)]
struct ServiceClaim {
    spec: ServiceSpec,
    endpoints: usize,
}

/// The claims of all sources.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    endpoints: BTreeMap<EndpointKey, BTreeMap<SourceId, Claim<Endpoint>>>,
    services: BTreeMap<ServiceName, BTreeMap<SourceId, Claim<ServiceClaim>>>,
    next_age: u64,
    count: usize,
}

/// What a new or changed claim has changed.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Touched {
    pub(crate) service: bool,
    pub(crate) endpoint: bool,
}

impl Claims {
    /// How many endpoints are claimed, by all sources together; two that claim one id count twice.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether a source claims this endpoint, rightly or not.
    pub(crate) fn has(&self, source: &SourceId, key: &EndpointKey) -> bool {
        self.endpoints.get(key).is_some_and(|claims| claims.contains_key(source))
    }

    /// Takes a claim, new or changed.
    pub(crate) fn put(
        &mut self,
        source: &SourceId,
        service: &ServiceName,
        spec: &ServiceSpec,
        endpoint: &Endpoint,
    ) -> Touched {
        let mut touched = Touched::default();
        let key = (service.clone(), endpoint.id.clone());
        let claims = self.endpoints.entry(key).or_default();
        let is_new = match claims.get_mut(source) {
            Some(claim) => {
                touched.endpoint = claim.value != *endpoint;
                if touched.endpoint {
                    claim.value = endpoint.clone();
                }
                false
            }
            None => {
                claims.insert(source.clone(), Claim { age: self.next_age, value: endpoint.clone() });
                self.next_age += 1;
                self.count += 1;
                touched.endpoint = true;
                true
            }
        };
        let specs = self.services.entry(service.clone()).or_default();
        match specs.get_mut(source) {
            Some(claim) => {
                claim.value.endpoints += usize::from(is_new);
                touched.service = claim.value.spec != *spec;
                if touched.service {
                    claim.value.spec = spec.clone();
                }
            }
            None => {
                let value = ServiceClaim { spec: spec.clone(), endpoints: 1 };
                specs.insert(source.clone(), Claim { age: self.next_age, value });
                self.next_age += 1;
                touched.service = true;
            }
        }
        touched
    }

    /// Drops a claim; answers nothing when there was none.
    pub(crate) fn remove(&mut self, source: &SourceId, key: &EndpointKey) -> Option<Touched> {
        let claims = self.endpoints.get_mut(key)?;
        claims.remove(source)?;
        if claims.is_empty() {
            self.endpoints.remove(key);
        }
        self.count -= 1;
        let mut touched = Touched { service: false, endpoint: true };
        let specs = self.services.get_mut(&key.0).expect("a claimed endpoint has a claimed service");
        let claim = specs.get_mut(source).expect("who claims an endpoint claims its service");
        claim.value.endpoints -= 1;
        if claim.value.endpoints == 0 {
            specs.remove(source);
            touched.service = true;
        }
        if specs.is_empty() {
            self.services.remove(&key.0);
        }
        Some(touched)
    }

    /// Makes the claim of this source on a service the oldest: for what is restored from a store.
    pub(crate) fn prefer(&mut self, source: &SourceId, service: &ServiceName) {
        let Some(specs) = self.services.get_mut(service) else { return };
        let oldest = specs.values().map(|claim| claim.age).min().unwrap_or_default();
        let Some(own) = specs.get(source).map(|claim| claim.age) else { return };
        for (of, claim) in specs.iter_mut() {
            if of == source {
                claim.age = oldest;
            } else if claim.age == oldest {
                claim.age = own;
            }
        }
    }

    /// The endpoint that stands under a key, and whose it is.
    pub(crate) fn endpoint(&self, key: &EndpointKey) -> Option<(&SourceId, &Endpoint)> {
        let (source, claim) = self.endpoints.get(key)?.iter().min_by_key(|(_, claim)| claim.age)?;
        Some((source, &claim.value))
    }

    /// How the endpoint that this source claims is reached.
    pub(crate) fn reach(&self, source: &SourceId, key: &EndpointKey) -> Option<&Reach> {
        Some(&self.endpoints.get(key)?.get(source)?.value.reach)
    }

    /// The spec of a service that stands, and whose it is.
    pub(crate) fn service(&self, service: &ServiceName) -> Option<(&SourceId, &ServiceSpec)> {
        let (source, claim) = self.services.get(service)?.iter().min_by_key(|(_, claim)| claim.age)?;
        Some((source, &claim.value.spec))
    }

    /// Sources whose claim on an endpoint waits.
    pub(crate) fn endpoint_losers(&self, key: &EndpointKey) -> Vec<SourceId> {
        let Some((winner, _)) = self.endpoint(key) else { return Vec::new() };
        self.endpoints[key].keys().filter(|source| *source != winner).cloned().collect()
    }

    /// Sources that describe a service otherwise than the spec that stands.
    pub(crate) fn service_losers(&self, service: &ServiceName) -> Vec<SourceId> {
        let Some((_, spec)) = self.service(service) else { return Vec::new() };
        let specs = &self.services[service];
        specs
            .iter()
            .filter(|(_, claim)| claim.value.spec != *spec)
            .map(|(source, _)| source.clone())
            .collect()
    }
}
