//! Merging: what this site has itself and what its peers offer, under one name, becomes one [`Import`].
//!
//! [`Imports`] is told of single changes and merges again only the services that they touch. [`merge`] has the rules
//! for one service: who may join the name, who wins a conflict, which endpoints count. [`vips`] gives each name its
//! virtual IP. [`accept`] says what a link lets a peer bring in.
//!
//! What it deliberately does not know: how catalogs get here, and whether a path to a peer is alive. A stale catalog
//! changes nothing here; only an expired lease withdraws a peer's endpoints.

pub mod accept;
pub mod merge;
pub mod vips;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use accept::Accept;
use merge::{Candidate, Condition, Merged};
use model::catalog::{EntryKey, EntryValue, ExportInfo, GroupSummary, Scope, ServiceSpec};
use model::endpoint::Endpoint;
use model::ids::{EndpointId, SiteId};
use model::locality::Locality;
use model::routing::{AccessRule, FailoverPolicy, Group, GroupId, Import};
use model::service::{ServiceKind, ServiceName, Subset};
use std::collections::{BTreeMap, BTreeSet};
use vips::VipPool;

/// What the own site has under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnService {
    /// The service as the own site describes it.
    pub spec: ServiceSpec,
    /// When it was exported, by the own clock, in milliseconds since 1970; none: callers of the own site alone use it.
    pub exported_at_ms: Option<u64>,
    /// Its endpoints.
    pub endpoints: BTreeMap<EndpointId, Endpoint>,
}

/// What a link says of a peer, as far as merging goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerTerms {
    /// What the peer may bring in.
    pub accept: Accept,
    /// When the link was made, by the own clock, in milliseconds since 1970. An export that claims to be older is
    /// not believed.
    pub linked_at_ms: u64,
}

/// Policies that are attached to imports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policies {
    /// Failover; the first whose scope has the service counts, so the narrow ones stand first.
    pub failover: Vec<(Scope, FailoverPolicy)>,
    /// Access; all whose scope has the service count, in this order.
    pub access: Vec<(Scope, AccessRule)>,
}

/// When each site was first seen to have each name, in milliseconds since 1970 by the own clock. Kept in the store, so
/// that a restart does not decide a conflict anew.
pub type FirstSeen = BTreeMap<(SiteId, ServiceName), u64>;

/// What has changed, told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The import is new or differs.
    Set(Box<Import>),
    /// Nobody has the name any more. Its virtual IP is free.
    Gone(ServiceName),
}

impl Change {
    /// The service that it speaks of.
    pub fn service(&self) -> &ServiceName {
        match self {
            Self::Set(import) => &import.service,
            Self::Gone(service) => service,
        }
    }
}

/// A peer's catalog, sorted for merging.
#[derive(Debug, Default)]
struct PeerCatalog {
    terms: Option<PeerTerms>,
    expired: bool,
    exports: BTreeMap<ServiceName, ExportInfo>,
    groups: BTreeMap<ServiceName, BTreeMap<(Locality, Subset), GroupSummary>>,
    endpoints: BTreeMap<ServiceName, BTreeMap<EndpointId, Endpoint>>,
}

/// All imports of a site.
///
/// Inputs mark the services that they touch; [`Imports::poll_change`] merges those and tells what differs. The order
/// of inputs does not matter but for the times at which names are first seen.
#[derive(Debug)]
pub struct Imports {
    own_site: SiteId,
    own: BTreeMap<ServiceName, OwnService>,
    peers: BTreeMap<SiteId, PeerCatalog>,
    policies: Policies,
    seen: FirstSeen,
    seen_changed: bool,
    vips: VipPool,
    dirty: BTreeSet<ServiceName>,
    merged: BTreeMap<ServiceName, Merged>,
    conditions_changed: bool,
    merges: u64,
}

impl Imports {
    /// Begins with nothing but what was kept: the virtual IPs, and when names were first seen.
    pub fn new(own_site: SiteId, vips: VipPool, seen: FirstSeen) -> Self {
        Self {
            own_site,
            own: BTreeMap::new(),
            peers: BTreeMap::new(),
            policies: Policies::default(),
            seen,
            seen_changed: false,
            vips,
            dirty: BTreeSet::new(),
            merged: BTreeMap::new(),
            conditions_changed: false,
            merges: 0,
        }
    }

    /// What the own site has under this name; none: nothing.
    pub fn set_own(&mut self, service: &ServiceName, own: Option<OwnService>, now_ms: u64) {
        if self.own.get(service) == own.as_ref() {
            return;
        }
        let site = self.own_site.clone();
        match own {
            Some(own) => {
                self.see(&site, service, now_ms);
                self.own.insert(service.clone(), own);
            }
            None => {
                self.own.remove(service);
                self.forget(&site, service);
            }
        }
        self.dirty.insert(service.clone());
    }

    /// Replaces the policies.
    pub fn set_policies(&mut self, policies: Policies) {
        if self.policies != policies {
            self.policies = policies;
            self.dirty.extend(self.merged.keys().cloned());
        }
    }

    /// A link is there, or its terms have changed. Entries of a peer without terms count for nothing.
    pub fn set_peer(&mut self, peer: &SiteId, terms: PeerTerms) {
        let catalog = self.peers.entry(peer.clone()).or_default();
        if catalog.terms.as_ref() != Some(&terms) {
            catalog.terms = Some(terms);
            self.dirty.extend(catalog.exports.keys().cloned());
        }
    }

    /// A link is gone, and with it all that the peer has said.
    pub fn remove_peer(&mut self, peer: &SiteId) {
        if let Some(catalog) = self.peers.remove(peer) {
            self.dirty.extend(catalog.exports.into_keys());
        }
        let before = self.seen.len();
        self.seen.retain(|(site, _), _| site != peer);
        self.seen_changed |= self.seen.len() != before;
    }

    /// The peer's lease has run out (true), or it has answered again (false). Its endpoints are withdrawn meanwhile;
    /// names and virtual IPs stay.
    pub fn set_expired(&mut self, peer: &SiteId, expired: bool) {
        if let Some(catalog) = self.peers.get_mut(peer)
            && catalog.expired != expired
        {
            catalog.expired = expired;
            self.dirty.extend(catalog.exports.keys().cloned());
        }
    }

    /// One entry of a peer's catalog; no value: it is gone.
    ///
    /// A value of another kind than its key is left out; the replicator refuses such entries.
    pub fn apply_entry(&mut self, peer: &SiteId, key: &EntryKey, value: Option<&EntryValue>, now_ms: u64) {
        let Some(service) = key.service() else { return };
        let catalog = self.peers.entry(peer.clone()).or_default();
        match (key, value) {
            (EntryKey::Export(_), Some(EntryValue::Export(info))) => {
                catalog.exports.insert(service.clone(), info.clone());
                self.see(&peer.clone(), service, now_ms);
            }
            (EntryKey::Export(_), None) => {
                catalog.exports.remove(service);
                self.forget(peer, service);
            }
            (EntryKey::Group(_, locality, subset), Some(EntryValue::Group(summary))) => {
                let groups = catalog.groups.entry(service.clone()).or_default();
                groups.insert((locality.clone(), subset.clone()), *summary);
            }
            (EntryKey::Group(_, locality, subset), None) => {
                remove_nested(&mut catalog.groups, service, &(locality.clone(), subset.clone()));
            }
            (EntryKey::Endpoint(_, id), Some(EntryValue::Endpoint(endpoint))) => {
                let endpoints = catalog.endpoints.entry(service.clone()).or_default();
                endpoints.insert(id.clone(), endpoint.clone());
            }
            (EntryKey::Endpoint(_, id), None) => remove_nested(&mut catalog.endpoints, service, id),
            _ => return,
        }
        self.dirty.insert(service.clone());
    }

    /// The whole catalog of a peer: what it does not name is gone.
    pub fn replace_catalog<'a>(
        &mut self,
        peer: &SiteId,
        entries: impl IntoIterator<Item = (&'a EntryKey, &'a EntryValue)>,
        now_ms: u64,
    ) {
        let catalog = self.peers.entry(peer.clone()).or_default();
        let old_exports: Vec<ServiceName> = std::mem::take(&mut catalog.exports).into_keys().collect();
        self.dirty.extend(std::mem::take(&mut catalog.groups).into_keys());
        self.dirty.extend(std::mem::take(&mut catalog.endpoints).into_keys());
        for (key, value) in entries {
            self.apply_entry(peer, key, Some(value), now_ms);
        }
        for service in old_exports {
            if !self.peers.get(peer).is_some_and(|catalog| catalog.exports.contains_key(&service)) {
                self.forget(peer, &service);
            }
            self.dirty.insert(service);
        }
    }

    /// All sources and all kept catalogs have been heard: what was kept for names that nobody has is let go.
    ///
    /// To be called once, at the end of recovery. Until then a name that the own site had before its restart is held
    /// for it, so that no peer can take it meanwhile.
    pub fn settle(&mut self) {
        let (own_site, own, peers) = (&self.own_site, &self.own, &self.peers);
        let (kept, lost): (FirstSeen, FirstSeen) =
            std::mem::take(&mut self.seen).into_iter().partition(|((site, service), _)| {
                if site == own_site {
                    own.contains_key(service)
                } else {
                    peers.get(site).is_some_and(|catalog| catalog.exports.contains_key(service))
                }
            });
        self.seen = kept;
        self.seen_changed |= !lost.is_empty();
        self.dirty.extend(lost.into_keys().map(|(_, service)| service));
        let merged = &self.merged;
        let described = |service: &ServiceName| {
            let imported = merged.get(service).is_some_and(|merged| merged.import.is_some());
            imported || own.contains_key(service) || has_export(peers, service)
        };
        self.vips.release_all_but(described);
    }

    /// Merges the next service that was touched; none: nothing has changed any more.
    pub fn poll_change(&mut self) -> Option<Change> {
        while let Some(service) = self.dirty.pop_first() {
            let new = self.merge(&service);
            self.conditions_changed |= self.conditions_of(&service) != new.conditions;
            let old = self.merged.get(&service).and_then(|merged| merged.import.as_ref());
            let change = match (old, &new.import) {
                (old, Some(new)) if old != Some(new) => Some(Change::Set(Box::new(new.clone()))),
                (_, Some(_)) | (None, None) => None,
                (Some(_), None) => {
                    self.vips.release(&service);
                    Some(Change::Gone(service.clone()))
                }
            };
            if new.import.is_some() || !new.conditions.is_empty() {
                self.merged.insert(service, new);
            } else {
                self.merged.remove(&service);
            }
            if change.is_some() {
                return change;
            }
        }
        None
    }

    /// The import of a name.
    pub fn import(&self, service: &ServiceName) -> Option<&Import> {
        self.merged.get(service)?.import.as_ref()
    }

    /// All imports, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = &Import> {
        self.merged.values().filter_map(|merged| merged.import.as_ref())
    }

    /// What is wrong with the exports of a name.
    pub fn conditions_of(&self, service: &ServiceName) -> &[Condition] {
        self.merged.get(service).map_or(&[], |merged| &merged.conditions)
    }

    /// What is wrong with any export, ordered by name.
    pub fn conditions(&self) -> impl Iterator<Item = &Condition> {
        self.merged.values().flat_map(|merged| &merged.conditions)
    }

    /// Whether conditions have changed since this was asked for last.
    pub fn take_conditions_changed(&mut self) -> bool {
        std::mem::take(&mut self.conditions_changed)
    }

    /// The virtual IPs, to be kept.
    pub fn vips(&self) -> &VipPool {
        &self.vips
    }

    /// When names were first seen, when that has changed since it was asked for last; to be kept.
    pub fn take_seen(&mut self) -> Option<&FirstSeen> {
        std::mem::take(&mut self.seen_changed).then_some(&self.seen)
    }

    /// How many services were merged so far. For tests and metrics: a change of one service costs one.
    pub fn merges(&self) -> u64 {
        self.merges
    }

    fn see(&mut self, site: &SiteId, service: &ServiceName, now_ms: u64) {
        self.seen.entry((site.clone(), service.clone())).or_insert_with(|| {
            self.seen_changed = true;
            now_ms
        });
    }

    fn forget(&mut self, site: &SiteId, service: &ServiceName) {
        self.seen_changed |= self.seen.remove(&(site.clone(), service.clone())).is_some();
    }

    fn seen_at(&self, site: &SiteId, service: &ServiceName) -> u64 {
        self.seen.get(&(site.clone(), service.clone())).copied().unwrap_or(u64::MAX)
    }

    fn merge(&mut self, service: &ServiceName) -> Merged {
        self.merges += 1;
        let mut candidates = Vec::with_capacity(self.peers.len() + 1);
        let own_seen = self.seen.get(&(self.own_site.clone(), service.clone())).copied();
        match (self.own.get(service), own_seen) {
            (Some(own), seen) => {
                candidates.push(Candidate::own(&self.own_site, own, seen.unwrap_or(u64::MAX)))
            }
            (None, Some(seen)) => candidates.push(Candidate::held(&self.own_site, seen)),
            (None, None) => {}
        }
        for (site, catalog) in &self.peers {
            let (Some(terms), Some(export)) = (&catalog.terms, catalog.exports.get(service)) else {
                continue;
            };
            let groups =
                if catalog.expired { Vec::new() } else { peer_groups(site, catalog, service, export) };
            candidates.push(Candidate::peer(
                site,
                terms,
                service,
                export,
                self.seen_at(site, service),
                groups,
            ));
        }
        let mut merged = merge::merge(service, candidates);
        let Some(import) = &mut merged.import else { return merged };
        if import.kind == ServiceKind::ClusterSetIp {
            match self.vips.assign(service) {
                Ok(vip) => import.vip = Some(vip),
                Err(error) => merged.conditions.push(Condition::no_vip(&self.own_site, service, &error)),
            }
        }
        if let Some((_, policy)) = self.policies.failover.iter().find(|(scope, _)| scope.contains(service)) {
            import.failover = policy.clone();
        }
        import.access = (self.policies.access.iter())
            .filter(|(scope, _)| scope.contains(service))
            .map(|(_, rule)| rule.clone())
            .collect();
        merged
    }
}

fn has_export(peers: &BTreeMap<SiteId, PeerCatalog>, service: &ServiceName) -> bool {
    peers.values().any(|catalog| catalog.terms.is_some() && catalog.exports.contains_key(service))
}

fn remove_nested<K: Ord, V>(map: &mut BTreeMap<ServiceName, BTreeMap<K, V>>, service: &ServiceName, key: &K) {
    if let Some(inner) = map.get_mut(service) {
        inner.remove(key);
        if inner.is_empty() {
            map.remove(service);
        }
    }
}

/// Groups of a peer: those that it counted itself, else its endpoints, counted here.
fn peer_groups(
    site: &SiteId,
    catalog: &PeerCatalog,
    service: &ServiceName,
    export: &ExportInfo,
) -> Vec<Group> {
    if let Some(endpoints) = catalog.endpoints.get(service) {
        // Headless services are answered by the names of their endpoints, also those of peers.
        let named = export.spec.kind == ServiceKind::Headless;
        return merge::count(site, endpoints.values(), export.spec.declared_total, named);
    }
    let Some(groups) = catalog.groups.get(service) else { return Vec::new() };
    groups
        .iter()
        .map(|((locality, subset), summary)| Group {
            id: GroupId { site: site.clone(), locality: locality.clone(), subset: subset.clone() },
            healthy: summary.healthy,
            total: summary.total,
            declared_total: export.spec.declared_total,
            capacity: summary.capacity,
            endpoints: Vec::new(),
        })
        .collect()
}
