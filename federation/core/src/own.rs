//! The own catalog: what this site says of itself, its position, and what it holds back after a start.

use crate::digest::Measure;
use crate::projection::Projection;
use crate::store::{Record, RecordKey, RecordValue};
use model::catalog::{
    EntryKey, EntryValue, Epoch, ExportInfo, GroupSummary, OwnKey, OwnValue, Revision, ServiceSpec, Version,
    View,
};
use model::endpoint::{Endpoint, Health};
use model::locality::Locality;
use model::service::{ServiceKind, ServiceName, Subset};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

type Groups = BTreeMap<ServiceName, BTreeMap<(Locality, Subset), GroupSummary>>;

/// The own catalog, kept as it is and as peers are told of it, under both views.
#[derive(Debug)]
pub(crate) struct OwnCatalog {
    version: Version,
    entries: BTreeMap<OwnKey, Own>,
    /// Not every source has finished a full list: nothing is removed.
    recovering: bool,
    /// What sources removed while `recovering`.
    removals: BTreeSet<OwnKey>,
    /// Endpoints that went to another group while `recovering`.
    moves: BTreeMap<OwnKey, OwnValue>,
    /// The store turned out to be old while `recovering`: what it said and no source has confirmed is not told.
    withholding: bool,
    groups: Groups,
    /// Services that peers are told of.
    offered: BTreeMap<ServiceName, ServiceKind>,
    summary: Projection,
    endpoints: Projection,
    /// Changes that are not yet stored; newer values replace older ones.
    unstored: BTreeMap<OwnKey, Option<OwnValue>>,
    stored_version: Option<Version>,
    /// Epoch before the one that was taken while `withholding`, see `to_store`.
    epoch_before: Epoch,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Own {
    value: OwnValue,
    /// A source has said so since the start.
    confirmed: bool,
}

/// Views in which an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Summary,
    Endpoints,
    Both,
}

impl OwnCatalog {
    /// Takes over what was stored; without a version the store is new. `given` is the greatest epoch of which anything
    /// was given to a peer: when it is greater than that of the version, see `to_store`.
    pub fn new(version: Option<Version>, given: Epoch, entries: BTreeMap<OwnKey, OwnValue>) -> Self {
        let entries =
            entries.into_iter().map(|(key, value)| (key, Own { value, confirmed: false })).collect();
        let stored_version = version;
        let version = version.unwrap_or(Version { epoch: Epoch(1), revision: Revision(0) });
        let mut own = Self {
            version,
            epoch_before: version.epoch,
            entries,
            recovering: true,
            removals: BTreeSet::new(),
            moves: BTreeMap::new(),
            withholding: false,
            groups: BTreeMap::new(),
            offered: BTreeMap::new(),
            summary: Projection::default(),
            endpoints: Projection::default(),
            unstored: BTreeMap::new(),
            stored_version,
        };
        if given > version.epoch {
            own.raise(Epoch(given.0 + 1));
        } else {
            own.build();
        }
        own
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn is_recovering(&self) -> bool {
        self.recovering
    }

    pub fn iter(&self) -> impl Iterator<Item = (&OwnKey, &OwnValue)> {
        self.entries.iter().map(|(key, own)| (key, &own.value))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn entry(&self, key: &OwnKey) -> Option<&OwnValue> {
        self.entries.get(key).map(|own| &own.value)
    }

    pub fn projection(&self, view: View) -> &Projection {
        match view {
            View::Summary => &self.summary,
            View::Endpoints => &self.endpoints,
        }
    }

    /// Changes wait to be stored.
    pub fn is_unstored(&self) -> bool {
        !self.unstored.is_empty() || self.stored_version != Some(self.to_store())
    }

    /// Position that is stored. While the catalog withholds, the new epoch is not among what is stored, only among what
    /// peers were given: so a process that dies meanwhile knows at its next start that its entries are still old.
    fn to_store(&self) -> Version {
        let epoch = if self.withholding { self.epoch_before } else { self.version.epoch };
        Version { epoch, ..self.version }
    }

    /// Changes that wait to be stored.
    pub fn unstored(&self) -> usize {
        self.unstored.len()
    }

    /// Hands out what is to be stored.
    pub fn store(&mut self) -> impl Iterator<Item = Record> + use<> {
        let version = self.to_store();
        let moved = self.stored_version.replace(version) != Some(version);
        let version = moved
            .then_some(Record { key: RecordKey::OwnVersion, value: Some(RecordValue::OwnVersion(version)) });
        let entries = std::mem::take(&mut self.unstored);
        let entries = entries
            .into_iter()
            .map(|(key, value)| Record { key: RecordKey::Own(key), value: value.map(RecordValue::Own) });
        version.into_iter().chain(entries)
    }

    /// Sets an entry. The value is of the kind of its key. While recovering, an endpoint stays in its group.
    pub fn set(&mut self, key: OwnKey, value: OwnValue, now: Instant) {
        self.removals.remove(&key);
        self.moves.remove(&key);
        let value = match self.stay(&key, &value) {
            Some(stays) => {
                self.moves.insert(key.clone(), value);
                stays
            }
            None => value,
        };
        let own = Own { value, confirmed: true };
        if self.entries.get(&key) != Some(&own) {
            self.replace(key, Some(own), now);
        }
    }

    /// Removes an entry; while recovering, only when that is over.
    pub fn remove(&mut self, key: OwnKey, now: Instant) {
        if !self.entries.contains_key(&key) {
            return;
        }
        if self.recovering {
            self.moves.remove(&key);
            self.removals.insert(key);
        } else {
            self.replace(key, None, now);
        }
    }

    /// What an endpoint is until recovering is over, when it has gone to another group: as long as not every endpoint
    /// has been heard of, a group could seem to lose its last one.
    fn stay(&self, key: &OwnKey, value: &OwnValue) -> Option<OwnValue> {
        let (OwnValue::Endpoint(after), true) = (value, self.recovering) else { return None };
        let OwnValue::Endpoint(before) = self.shown(key)? else { return None };
        if (&before.locality, &before.subset) == (&after.locality, &after.subset) {
            return None;
        }
        let (locality, subset) = (before.locality.clone(), before.subset.clone());
        Some(OwnValue::Endpoint(Endpoint { locality, subset, ..after.clone() }))
    }

    /// Every source has finished a full list.
    pub fn recovered(&mut self, now: Instant) {
        self.recovering = false;
        for key in std::mem::take(&mut self.removals) {
            self.replace(key, None, now);
        }
        for (key, value) in std::mem::take(&mut self.moves) {
            self.replace(key, Some(Own { value, confirmed: true }), now);
        }
        let unconfirmed: Vec<OwnKey> =
            self.entries.iter().filter(|(_, own)| !own.confirmed).map(|(key, _)| key.clone()).collect();
        for key in unconfirmed {
            let value = self.entries.get(&key).map(|own| Own { value: own.value.clone(), confirmed: true });
            self.replace(key, value, now);
        }
        self.withholding = false;
    }

    /// Takes a position that no entry has, for a change that concerns one peer only.
    pub fn skip_revision(&mut self) -> Revision {
        self.version.revision.0 += 1;
        self.version.revision
    }

    /// Begins a new epoch.
    pub fn raise(&mut self, epoch: Epoch) {
        if !self.withholding {
            self.epoch_before = self.version.epoch;
        }
        self.version.epoch = epoch;
        self.version.revision.0 += 1;
        self.withholding |= self.recovering;
        // The groups that endpoints were to stay in may be those of an old store. Peers keep theirs until the snapshot
        // of the new epoch is complete.
        for (key, value) in std::mem::take(&mut self.moves) {
            self.unstored.insert(key.clone(), Some(value.clone()));
            self.entries.insert(key, Own { value, confirmed: true });
        }
        self.build();
    }

    /// Forgets old tombstones.
    pub fn forget_tombstones(&mut self, before: Option<Instant>, most: usize) {
        self.summary.forget_tombstones(before, most);
        self.endpoints.forget_tombstones(before, most);
    }

    fn shown(&self, key: &OwnKey) -> Option<&OwnValue> {
        self.entries.get(key).filter(|own| own.confirmed || !self.withholding).map(|own| &own.value)
    }

    fn replace(&mut self, key: OwnKey, own: Option<Own>, now: Instant) {
        let shown_before = self.shown(&key).cloned();
        let value = own.as_ref().map(|own| own.value.clone());
        let before = match own {
            Some(own) => self.entries.insert(key.clone(), own),
            None => self.entries.remove(&key),
        };
        if before.map(|own| own.value) != value {
            self.unstored.insert(key.clone(), value);
        }
        let shown = self.shown(&key).cloned();
        if shown == shown_before {
            return;
        }
        match key {
            OwnKey::Site => {
                let value = shown.and_then(site_entry);
                self.put(Stands::Both, EntryKey::Site, value, now);
            }
            OwnKey::Service(service) | OwnKey::Export(service) => self.show_service(service, now),
            OwnKey::Endpoint(service, _) => {
                let (before, after) = (endpoint(shown_before), endpoint(shown));
                self.show_endpoint(&service, before, after, now);
            }
        }
    }

    /// What peers are told of a service, when they are told of it.
    fn offer(&self, service: &ServiceName) -> Option<ExportInfo> {
        let spec: &ServiceSpec = match self.shown(&OwnKey::Service(service.clone()))? {
            OwnValue::Service(spec) => spec,
            OwnValue::Site(_) | OwnValue::Export { .. } | OwnValue::Endpoint(_) => return None,
        };
        match self.shown(&OwnKey::Export(service.clone()))? {
            OwnValue::Export { created_at_ms } => {
                Some(ExportInfo { spec: spec.clone(), created_at_ms: *created_at_ms })
            }
            OwnValue::Site(_) | OwnValue::Service(_) | OwnValue::Endpoint(_) => None,
        }
    }

    fn show_service(&mut self, service: ServiceName, now: Instant) {
        let offer = self.offer(&service);
        let kind = offer.as_ref().map(|offer| offer.spec.kind);
        let before = match kind {
            Some(kind) => self.offered.insert(service.clone(), kind),
            None => self.offered.remove(&service),
        };
        self.put(Stands::Both, EntryKey::Export(service.clone()), offer.map(EntryValue::Export), now);
        if before == kind {
            return;
        }
        let groups: Vec<(Locality, Subset)> =
            self.groups.get(&service).map(|groups| groups.keys().cloned().collect()).unwrap_or_default();
        for group in groups {
            self.show_group(&service, group, now);
        }
        let endpoints: Vec<Endpoint> = self.endpoints_of(&service).cloned().collect();
        for endpoint in endpoints {
            self.show_single(&service, &endpoint, true, now);
        }
    }

    fn show_endpoint(
        &mut self,
        service: &ServiceName,
        before: Option<Endpoint>,
        after: Option<Endpoint>,
        now: Instant,
    ) {
        let groups = self.groups.entry(service.clone()).or_default();
        let mut touched = BTreeSet::new();
        for (endpoint, count) in [(&before, uncount as fn(&mut _, &_)), (&after, count)] {
            if let Some(endpoint) = endpoint {
                let group = (endpoint.locality.clone(), endpoint.subset.clone());
                count(groups.entry(group.clone()).or_insert(EMPTY_GROUP), endpoint);
                touched.insert(group);
            }
        }
        groups.retain(|_, group| group.total > 0);
        if groups.is_empty() {
            self.groups.remove(service);
        }
        for group in touched {
            self.show_group(service, group, now);
        }
        match (&before, &after) {
            (_, Some(endpoint)) => self.show_single(service, endpoint, true, now),
            (Some(endpoint), None) => self.show_single(service, endpoint, false, now),
            (None, None) => {}
        }
    }

    /// Groups stand in the summary, except those of headless services, whose endpoints are named.
    fn show_group(&mut self, service: &ServiceName, group: (Locality, Subset), now: Instant) {
        let counted = self.groups.get(service).and_then(|groups| groups.get(&group)).copied();
        let told = self.offered.get(service) == Some(&ServiceKind::ClusterSetIp);
        let key = EntryKey::Group(service.clone(), group.0, group.1);
        self.put(Stands::Summary, key, counted.filter(|_| told).map(EntryValue::Group), now);
    }

    fn show_single(&mut self, service: &ServiceName, endpoint: &Endpoint, there: bool, now: Instant) {
        let key = EntryKey::Endpoint(service.clone(), endpoint.id.clone());
        let offered = self.offered.get(service).copied().filter(|_| there);
        let value = |told: bool| told.then(|| EntryValue::Endpoint(endpoint.clone()));
        self.put(Stands::Endpoints, key.clone(), value(offered.is_some()), now);
        self.put(Stands::Summary, key, value(offered == Some(ServiceKind::Headless)), now);
    }

    fn endpoints_of(&self, service: &ServiceName) -> impl Iterator<Item = &Endpoint> {
        let first = "!".parse().expect("! is the least id: the first printable character");
        self.entries
            .range(OwnKey::Endpoint(service.clone(), first)..)
            .take_while(move |(key, _)| matches!(key, OwnKey::Endpoint(name, _) if name == service))
            .filter(|(_, own)| own.confirmed || !self.withholding)
            .filter_map(|(_, own)| match &own.value {
                OwnValue::Endpoint(endpoint) => Some(endpoint),
                OwnValue::Site(_) | OwnValue::Service(_) | OwnValue::Export { .. } => None,
            })
    }

    /// Tells peers another value, at a new position, when it is another.
    fn put(&mut self, stands: Stands, key: EntryKey, value: Option<EntryValue>, now: Instant) {
        let summary = stands != Stands::Endpoints && self.summary.differs(&key, value.as_ref());
        let endpoints = stands != Stands::Summary && self.endpoints.differs(&key, value.as_ref());
        if !summary && !endpoints {
            return;
        }
        self.version.revision.0 += 1;
        let at = self.version.revision;
        let told = value.map(|value| {
            let measure = Measure::of(&key, &value);
            (value, measure)
        });
        match (summary, endpoints) {
            (true, false) => self.summary.set(key, told, at, now),
            (false, _) => self.endpoints.set(key, told, at, now),
            (true, true) => {
                self.summary.set(key.clone(), told.clone(), at, now);
                self.endpoints.set(key, told, at, now);
            }
        }
    }

    /// Builds both projections anew, at the position as it is.
    fn build(&mut self) {
        self.summary.clear(self.version.revision);
        self.endpoints.clear(self.version.revision);
        self.groups.clear();
        self.offered.clear();
        let shown: Vec<(OwnKey, OwnValue)> = self
            .entries
            .iter()
            .filter(|(_, own)| own.confirmed || !self.withholding)
            .map(|(key, own)| (key.clone(), own.value.clone()))
            .collect();
        for (key, value) in shown {
            match (key, value) {
                (OwnKey::Site, value) => {
                    if let Some(value) = site_entry(value) {
                        self.summary.load(EntryKey::Site, value.clone());
                        self.endpoints.load(EntryKey::Site, value);
                    }
                }
                (OwnKey::Export(service), _) => {
                    if let Some(offer) = self.offer(&service) {
                        self.offered.insert(service.clone(), offer.spec.kind);
                        let key = EntryKey::Export(service);
                        self.summary.load(key.clone(), EntryValue::Export(offer.clone()));
                        self.endpoints.load(key, EntryValue::Export(offer));
                    }
                }
                // Keys are ordered: all exports come before the first endpoint.
                (OwnKey::Endpoint(service, id), OwnValue::Endpoint(endpoint)) => {
                    let group = (endpoint.locality.clone(), endpoint.subset.clone());
                    let groups = self.groups.entry(service.clone()).or_default();
                    count(groups.entry(group).or_insert(EMPTY_GROUP), &endpoint);
                    if let Some(kind) = self.offered.get(&service) {
                        let key = EntryKey::Endpoint(service, id);
                        if *kind == ServiceKind::Headless {
                            self.summary.load(key.clone(), EntryValue::Endpoint(endpoint.clone()));
                        }
                        self.endpoints.load(key, EntryValue::Endpoint(endpoint));
                    }
                }
                (OwnKey::Service(_) | OwnKey::Endpoint(..), _) => {}
            }
        }
        for (service, groups) in &self.groups {
            if self.offered.get(service) == Some(&ServiceKind::ClusterSetIp) {
                for ((locality, subset), group) in groups {
                    let key = EntryKey::Group(service.clone(), locality.clone(), subset.clone());
                    self.summary.load(key, EntryValue::Group(*group));
                }
            }
        }
    }
}

const EMPTY_GROUP: GroupSummary = GroupSummary { healthy: 0, total: 0, capacity: 0 };

fn count(group: &mut GroupSummary, endpoint: &Endpoint) {
    group.total += 1;
    if endpoint.health == Health::Healthy {
        group.healthy += 1;
        group.capacity += u64::from(endpoint.weight);
    }
}

fn uncount(group: &mut GroupSummary, endpoint: &Endpoint) {
    group.total -= 1;
    if endpoint.health == Health::Healthy {
        group.healthy -= 1;
        group.capacity -= u64::from(endpoint.weight);
    }
}

fn site_entry(value: OwnValue) -> Option<EntryValue> {
    match value {
        OwnValue::Site(site) => Some(EntryValue::Site(site)),
        OwnValue::Service(_) | OwnValue::Export { .. } | OwnValue::Endpoint(_) => None,
    }
}

fn endpoint(value: Option<OwnValue>) -> Option<Endpoint> {
    match value? {
        OwnValue::Endpoint(endpoint) => Some(endpoint),
        OwnValue::Site(_) | OwnValue::Service(_) | OwnValue::Export { .. } => None,
    }
}
