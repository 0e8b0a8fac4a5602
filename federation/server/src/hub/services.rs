//! Services, workloads and links, as the API shows them.

use super::Hub;
use crate::answer::{Answer, Denied};
use crate::docs::{LinkDoc, LinkState};
use crate::names::NodeId;
use api::rest::link::{LinkList, LinkView};
use api::rest::service::{ServiceList, ServiceView};
use api::rest::workload::WorkloadView;
use model::catalog::EntryKey;
use model::config::WorkloadSpec;
use model::endpoint::Health;
use model::ids::SiteId;
use model::node::PathReport;
use model::routing::PeerView;
use model::service::ServiceName;
use std::collections::BTreeMap;
use std::time::Instant;
use sync_core::source::SourceId;

impl Hub {
    pub(super) fn peer_views(&self) -> BTreeMap<SiteId, PeerView> {
        self.links.keys().map(|site| (site.clone(), self.peer_view(site))).collect()
    }

    /// All services.
    pub fn services(&self) -> ServiceList {
        let peers = self.peer_views();
        let names: Vec<ServiceName> = self.imports.iter().map(|import| import.service.clone()).collect();
        ServiceList { services: names.iter().filter_map(|name| self.view_of(name, &peers)).collect() }
    }

    /// One service.
    ///
    /// # Errors
    /// There is none.
    pub fn service(&self, service: &ServiceName) -> Answer<ServiceView> {
        self.service_view(service).ok_or_else(|| {
            let mut denied = Denied::not_found(
                format!("{} knows no service {service}", self.site.id),
                "see what there is: meshfed get services",
            );
            if !self.replicator.names_complete() {
                denied.error.cause = "the catalog of a linked site has not been complete yet".to_owned();
            }
            denied
        })
    }

    pub(super) fn service_view(&self, service: &ServiceName) -> Option<ServiceView> {
        self.view_of(service, &self.peer_views())
    }

    fn view_of(&self, service: &ServiceName, peers: &BTreeMap<SiteId, PeerView>) -> Option<ServiceView> {
        let mut view = ServiceView::of(self.imports.import(service)?, &self.site.id, peers);
        view.exported = self.resources.export(service).is_some();
        if view.exported {
            view.offered_to = self.sites_offered(service);
        }
        for endpoint in &mut view.endpoints {
            let Ok(id) = endpoint.id.parse() else { continue };
            let Some(heard) = self.heard_endpoints.get(&(service.clone(), id)) else { continue };
            endpoint.why = match heard.health {
                Health::Healthy if self.is_drained(service, heard) => "a person drains it".to_owned(),
                Health::Healthy => String::new(),
                Health::Draining => "it leaves".to_owned(),
                Health::Unhealthy => match &heard.reach {
                    model::endpoint::Reach::Agent(host)
                        if !self.is_connected(&NodeId::Agent(host.clone())) =>
                    {
                        format!("agent {host} is away")
                    }
                    model::endpoint::Reach::Agent(_) | model::endpoint::Reach::Direct(_) => {
                        "its check fails".to_owned()
                    }
                },
            };
        }
        let failing = view.endpoints.iter().filter(|endpoint| endpoint.health == "unhealthy").count();
        match failing {
            0 => {}
            1 => view.notes.push("1 endpoint fails its check".to_owned()),
            many => view.notes.push(format!("{many} endpoints fail their check")),
        }
        for condition in self.imports.conditions_of(service) {
            view.notes.push(format!("{} of {}: {}", condition.kind, condition.site, condition.message));
        }
        Some(view)
    }

    pub(super) fn is_connected(&self, id: &NodeId) -> bool {
        self.nodes.get(id).is_some_and(|node| node.live.is_some())
    }

    /// Sites that are offered a service, once it is exported.
    pub(super) fn sites_offered(&self, service: &ServiceName) -> Vec<String> {
        let offered = |link: &LinkDoc| link.scopes().offer.contains(service);
        self.links.iter().filter(|(_, link)| offered(link)).map(|(site, _)| site.to_string()).collect()
    }

    /// Services that a site is offered.
    pub(super) fn offers_to(&self, site: &SiteId) -> Vec<String> {
        let Some(link) = self.links.get(site) else { return Vec::new() };
        let offer = link.scopes().offer;
        let mut services: Vec<ServiceName> =
            self.resources.exports().filter(|service| offer.contains(service)).collect();
        services.sort();
        services.iter().map(ToString::to_string).collect()
    }

    /// Services that are taken from a site.
    pub(super) fn takes_from(&self, site: &SiteId) -> Vec<String> {
        let exports = self.replicator.held(site).filter_map(|(key, _)| match key {
            EntryKey::Export(service) => Some(service),
            EntryKey::Site | EntryKey::Group(..) | EntryKey::Endpoint(..) => None,
        });
        let refused = |service: &ServiceName| {
            use federation_core::imports::merge::ConditionKind;
            let of_site = |condition: &federation_core::imports::merge::Condition| {
                condition.site == *site && condition.kind == ConditionKind::NotAccepted
            };
            self.imports.conditions_of(service).iter().any(of_site)
        };
        exports.filter(|service| !refused(service)).map(ToString::to_string).collect()
    }

    pub(super) fn workload_view(&self, spec: &WorkloadSpec) -> WorkloadView {
        let mut view = WorkloadView::of(spec);
        let Some(endpoint) = self.heard_endpoints.get(&(spec.service.clone(), spec.id.clone())) else {
            let agent = NodeId::Agent(spec.host.clone());
            view.why = if self.is_connected(&agent) {
                format!("{agent} has not reported it yet")
            } else {
                format!("{agent} is not connected")
            };
            return view;
        };
        view.health = match endpoint.health {
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
            Health::Draining => "draining",
        }
        .to_owned();
        let source = SourceId::Agent(spec.host.clone());
        if let Some(status) = self.intake.sources().find(|status| status.source == source) {
            let silent_s = status.silent_for.as_secs();
            view.renewed_age_s = Some(silent_s);
            view.lease_s =
                Some(sync_core::source::Lease::default().gone_after.as_secs().saturating_sub(silent_s));
        }
        view
    }

    /// All links.
    pub fn links(&self) -> LinkList {
        LinkList { links: self.links.keys().filter_map(|site| self.link_view(site)).collect() }
    }

    /// One link.
    pub fn link_view(&self, site: &SiteId) -> Option<LinkView> {
        let link = self.links.get(site)?;
        let info = self.peer_info(site, link);
        let paths: Vec<&PathReport> = self.paths_to(site).map(|(_, path)| path).collect();
        let scopes = link.scopes();
        Some(LinkView {
            site: site.to_string(),
            uid: info.uid.to_string(),
            trust_domain: info.trust_domain.to_string(),
            state: self.link_state(site, link),
            since_at_ms: link.linked_at_ms,
            paths_live: count(paths.iter().filter(|path| super::status::answers(path)).count()),
            paths_total: count(paths.len()),
            rtt_ms: self.peer_view(site).rtt.map(api::rest::ms),
            synced: self.replicator.peer(site).is_some_and(|peer| peer.complete_once),
            offers: self.offers_to(site),
            takes: self.takes_from(site),
            offer: (&scopes.offer).into(),
            accept: (&scopes.accept).into(),
            gateways: info.gateways.iter().map(|gateway| gateway.address.to_string()).collect(),
        })
    }

    /// The word for the state of a link.
    pub(super) fn link_state(&self, site: &SiteId, link: &LinkDoc) -> String {
        let state = self.replicator.peer(site).map(|peer| peer.state);
        match (link.state, state) {
            (LinkState::Active, Some(state)) => state.to_string(),
            // The other side may have heard us although we did not hear it say so; what is seen counts.
            (LinkState::Confirming, Some(state)) if state.is_usable() => state.to_string(),
            (LinkState::AwaitsConfirmation | LinkState::Confirming | LinkState::Active, _) => {
                "pending".to_owned()
            }
        }
    }

    /// How long this process has run, in seconds.
    pub(super) fn uptime_s(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs()
    }
}

/// A number of things, for the API.
pub(super) fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
