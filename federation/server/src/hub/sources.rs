//! From sources to the own catalog, and from there to the imports.

use super::Hub;
use crate::docs::{OwnerDoc, owner_key};
use federation_core::imports::OwnService;
use model::catalog::{OwnKey, OwnValue, ServiceSpec};
use model::endpoint::{Endpoint, Health};
use model::ids::{EndpointId, Label};
use model::node::SourceEvent;
use model::service::ServiceName;
use runtime::clock;
use std::collections::BTreeMap;
use std::time::Instant;
use sync_core::event::{Change, Event};
use sync_core::refused::Refused;
use sync_core::source::{Session, SourceConfig, SourceId, SourceState};
use tracing::warn;

impl Hub {
    /// A connector of this process opens its connection.
    pub fn open_connector(&mut self, name: Label) -> Result<Session, Refused> {
        let now = Instant::now();
        let id = SourceId::Connector(name);
        self.intake.register(id.clone(), SourceConfig::connector(), now)?;
        self.intake.handle_source_open(&id, now)
    }

    /// A connector of this process says something.
    pub fn connector_said(&mut self, session: &Session, event: SourceEvent) -> Result<(), Refused> {
        self.intake.handle_source_event(session, event, Instant::now())
    }

    pub(super) fn on_source_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Change(change) => self.on_own_change(change, now),
            Event::Conflict(conflict) => {
                self.events.note(
                    format!("source {}", conflict.loser),
                    conflict.to_string(),
                    "the older claim stands",
                );
            }
            Event::ConflictOver(conflict) => {
                self.events.note(format!("source {}", conflict.loser), format!("no longer: {conflict}"), "");
            }
            Event::Source { source, from: _, to } => {
                let (what, why) = match to {
                    SourceState::Awaited | SourceState::Listing => return,
                    SourceState::Live => ("has registered its endpoints", ""),
                    SourceState::Away => ("has left", "its connection ended; its lease runs"),
                    SourceState::Silent => {
                        ("is silent", "it missed its renewals; its endpoints are unhealthy")
                    }
                    SourceState::Gone => ("is gone", "its lease ran out; its endpoints are withdrawn"),
                };
                self.events.note(source.to_string(), what, why);
            }
            Event::Recovered => self.recovered(now),
        }
    }

    fn on_own_change(&mut self, change: Change, now: Instant) {
        let key = owner_key(&change.key);
        match &change.value {
            Some(_) => self.batch.put(key, &OwnerDoc::from(&change.owner)),
            None => self.batch.delete(key),
        }
        let why = change.cause.to_string();
        match (change.key, change.value) {
            (OwnKey::Service(service), Some(OwnValue::Service(spec))) => {
                if self.heard_services.insert(service.clone(), spec).is_none() {
                    self.events.note(format!("service {service}"), "is there", why);
                }
                self.hand_service(&service, now);
            }
            (OwnKey::Service(service), None) => {
                self.heard_services.remove(&service);
                self.events.note(format!("service {service}"), "has no endpoint any more", why);
                self.hand_service(&service, now);
            }
            (OwnKey::Endpoint(service, id), Some(OwnValue::Endpoint(endpoint))) => {
                let key = (service, id);
                let before = self.heard_endpoints.get(&key).map(|endpoint| endpoint.health);
                if before != Some(endpoint.health) {
                    let state = match endpoint.health {
                        Health::Healthy => "is healthy",
                        Health::Unhealthy => "is unhealthy",
                        Health::Draining => "drains",
                    };
                    self.events.note(
                        format!("service {}", key.0),
                        format!("endpoint {} {state}", key.1),
                        why,
                    );
                }
                self.heard_endpoints.insert(key.clone(), endpoint);
                self.hand_endpoint(&key.0, &key.1, now);
            }
            (OwnKey::Endpoint(service, id), None) => {
                self.events.note(format!("service {service}"), format!("endpoint {id} is gone"), why);
                self.heard_endpoints.remove(&(service.clone(), id.clone()));
                self.hand_endpoint(&service, &id, now);
            }
            (key, value) => warn!(?key, ?value, "the intake said something that is not its to say"),
        }
    }

    /// The description of a service: as sources have it, else as a workload that was exposed has it.
    fn service_spec(&self, service: &ServiceName) -> Option<ServiceSpec> {
        self.heard_services.get(service).cloned().or_else(|| self.resources.spec_of(service))
    }

    /// Puts a service into the own catalog as it stands, or takes it out.
    pub(super) fn hand_service(&mut self, service: &ServiceName, now: Instant) {
        let value = self.service_spec(service).map(OwnValue::Service);
        self.hand(OwnKey::Service(service.clone()), value, now);
    }

    /// Puts an export into the own catalog as it stands, or takes it out.
    pub(super) fn hand_export(&mut self, service: &ServiceName, now: Instant) {
        let value = self.resources.export(service).map(|created_at_ms| OwnValue::Export { created_at_ms });
        self.hand(OwnKey::Export(service.clone()), value, now);
    }

    /// Puts an endpoint into the own catalog as it stands, or takes it out.
    pub(super) fn hand_endpoint(&mut self, service: &ServiceName, id: &EndpointId, now: Instant) {
        let endpoint = self.heard_endpoints.get(&(service.clone(), id.clone())).cloned();
        let value = endpoint.map(|mut endpoint| {
            if self.is_drained(service, &endpoint) {
                endpoint.health = Health::Draining;
            }
            OwnValue::Endpoint(endpoint)
        });
        self.hand(OwnKey::Endpoint(service.clone(), id.clone()), value, now);
    }

    fn hand(&mut self, key: OwnKey, value: Option<OwnValue>, now: Instant) {
        let service = match &key {
            OwnKey::Site => None,
            OwnKey::Service(service) | OwnKey::Export(service) | OwnKey::Endpoint(service, _) => {
                Some(service.clone())
            }
        };
        if let Err(error) = self.replicator.handle_own(key.clone(), value, now) {
            warn!(%error, "an entry of the own catalog was refused");
            self.events.note("catalog", "an entry was left out", error.to_string());
            return;
        }
        if let OwnKey::Endpoint(service, id) = &key {
            // While recovering, what is gone stays until that is over; so the catalog is asked, not the change.
            if self.replicator.own_entry(&key).is_some() {
                self.own_endpoints.entry(service.clone()).or_default().insert(id.clone());
            } else if let Some(ids) = self.own_endpoints.get_mut(service) {
                ids.remove(id);
                if ids.is_empty() {
                    self.own_endpoints.remove(service);
                }
            }
        }
        self.dirty_own.extend(service);
    }

    /// Tells the imports what the own site has under a name.
    pub(super) fn refresh_own(&mut self, service: &ServiceName) {
        let own = self.own_service(service);
        self.imports.set_own(service, own, clock::unix_ms());
    }

    fn own_service(&self, service: &ServiceName) -> Option<OwnService> {
        let spec = match self.replicator.own_entry(&OwnKey::Service(service.clone()))? {
            OwnValue::Service(spec) => spec.clone(),
            OwnValue::Site(_) | OwnValue::Export { .. } | OwnValue::Endpoint(_) => return None,
        };
        let exported_at_ms = match self.replicator.own_entry(&OwnKey::Export(service.clone())) {
            Some(OwnValue::Export { created_at_ms }) => Some(*created_at_ms),
            Some(OwnValue::Site(_) | OwnValue::Service(_) | OwnValue::Endpoint(_)) | None => None,
        };
        let ids = self.own_endpoints.get(service).into_iter().flatten();
        let endpoints: BTreeMap<EndpointId, Endpoint> = ids
            .filter_map(|id| {
                match self.replicator.own_entry(&OwnKey::Endpoint(service.clone(), id.clone()))? {
                    OwnValue::Endpoint(endpoint) => Some((id.clone(), endpoint.clone())),
                    OwnValue::Site(_) | OwnValue::Service(_) | OwnValue::Export { .. } => None,
                }
            })
            .collect();
        Some(OwnService { spec, exported_at_ms, endpoints })
    }

    /// Every source has completed a full list, or let its lease pass.
    fn recovered(&mut self, now: Instant) {
        let stale: Vec<OwnKey> =
            self.replicator.own().map(|(key, _)| key.clone()).filter(|key| self.is_stale(key)).collect();
        for key in stale {
            self.hand(key, None, now);
        }
        self.replicator.handle_recovered(now);
        self.own_endpoints.clear();
        for (key, _) in self.replicator.own() {
            match key {
                OwnKey::Site => {}
                OwnKey::Endpoint(service, id) => {
                    self.own_endpoints.entry(service.clone()).or_default().insert(id.clone());
                }
                OwnKey::Service(_) | OwnKey::Export(_) => {}
            }
        }
        let names: Vec<ServiceName> = self.imports.iter().map(|import| import.service.clone()).collect();
        self.dirty_own.extend(names);
        self.settling = true;
        self.events.note("site", "has heard from all its sources", "what they did not name is removed");
    }

    /// Whether nobody stands behind an entry of the own catalog.
    fn is_stale(&self, key: &OwnKey) -> bool {
        match key {
            OwnKey::Site => false,
            OwnKey::Service(service) => self.service_spec(service).is_none(),
            OwnKey::Export(service) => self.resources.export(service).is_none(),
            OwnKey::Endpoint(service, id) => {
                !self.heard_endpoints.contains_key(&(service.clone(), id.clone()))
            }
        }
    }
}
