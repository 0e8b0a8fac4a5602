//! The rules for one name: who may join it, whose description counts, which endpoints are part of it.
//!
//! They follow the conflict rules of the Multi-Cluster Services API (KEP-1645): endpoints are a union, and where
//! descriptions differ the oldest accepted export wins and the others get a condition. In one point they are
//! stricter: whether a port's first bytes may be sent twice must be said by all.

use super::accept::Permission;
use super::vips::VipError;
use super::{OwnService, PeerTerms};
use model::catalog::{ExportInfo, ServiceSpec};
use model::endpoint::{Endpoint, Health};
use model::ids::SiteId;
use model::routing::{FailoverPolicy, Group, GroupId, Import};
use model::service::{PortKey, ServiceName, ServicePort};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Most groups of one import. A name with more (a peer that invents localities) keeps its first ones, by site and
/// locality, and its exports get a condition.
pub const GROUPS_MAX: usize = 1024;

/// What is wrong with one site's export of a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// Name.
    pub service: ServiceName,
    /// Whose export.
    pub site: SiteId,
    /// Kind.
    pub kind: ConditionKind,
    /// What was seen, in words.
    pub message: String,
    /// What a person can do.
    pub help: String,
}

/// Kinds of conditions; a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionKind {
    /// The link does not let the peer bring in this name.
    NotAccepted,
    /// Its ports differ from those of the oldest export.
    PortConflict,
    /// Its kind differs from that of the oldest export.
    TypeConflict,
    /// No virtual IP is left for it.
    NoVip,
    /// It has too many groups.
    TooManyGroups,
}

impl fmt::Display for ConditionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NotAccepted => "NotAccepted",
            Self::PortConflict => "PortConflict",
            Self::TypeConflict => "TypeConflict",
            Self::NoVip => "NoVip",
            Self::TooManyGroups => "TooManyGroups",
        })
    }
}

impl Condition {
    pub(super) fn no_vip(site: &SiteId, service: &ServiceName, error: &VipError) -> Self {
        Self {
            service: service.clone(),
            site: site.clone(),
            kind: ConditionKind::NoVip,
            message: error.to_string(),
            help: "reach it through the SOCKS5 or HTTP CONNECT port, or accept fewer names from peers"
                .to_owned(),
        }
    }
}

/// One site's word on a name.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    site: &'a SiteId,
    /// None: the name is only held for the site, until it says what it is.
    spec: Option<&'a ServiceSpec>,
    permission: Permission,
    first_seen_ms: u64,
    age_ms: u64,
    own: bool,
    groups: Vec<Group>,
}

impl<'a> Candidate<'a> {
    /// The own site's. It is always accepted.
    pub fn own(site: &'a SiteId, own: &'a OwnService, first_seen_ms: u64) -> Self {
        Self {
            site,
            spec: Some(&own.spec),
            permission: Permission::Join,
            first_seen_ms,
            age_ms: own.exported_at_ms.unwrap_or(first_seen_ms),
            own: true,
            groups: count(site, own.endpoints.values(), own.spec.declared_total, true),
        }
    }

    /// A name that the own site had before its restart, and has not yet claimed again.
    pub fn held(site: &'a SiteId, first_seen_ms: u64) -> Self {
        Self {
            site,
            spec: None,
            permission: Permission::Join,
            first_seen_ms,
            age_ms: u64::MAX,
            own: true,
            groups: Vec::new(),
        }
    }

    /// A peer's. `groups` is empty while its lease has run out.
    pub fn peer(
        site: &'a SiteId,
        terms: &PeerTerms,
        service: &ServiceName,
        export: &'a ExportInfo,
        first_seen_ms: u64,
        groups: Vec<Group>,
    ) -> Self {
        let claimed = export.created_at_ms;
        let believed = (terms.linked_at_ms..=first_seen_ms).contains(&claimed);
        Self {
            site,
            spec: Some(&export.spec),
            permission: terms.accept.permission(service),
            first_seen_ms,
            age_ms: if believed { claimed } else { first_seen_ms },
            own: false,
            groups,
        }
    }
}

/// What a name has become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The import, without virtual IP and policies; none when no accepted export describes it.
    pub import: Option<Import>,
    /// What is wrong with the exports.
    pub conditions: Vec<Condition>,
}

/// Merges one name.
pub fn merge(service: &ServiceName, mut candidates: Vec<Candidate<'_>>) -> Merged {
    let mut conditions = Vec::new();
    // Who came first is judged by when we saw it, never by what it claims: else a partner could claim to have had a
    // name before its owner did.
    candidates.sort_by_key(|c| (c.first_seen_ms, !c.own, c.site));
    let mut accepted: Vec<Candidate<'_>> = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        match candidate.permission {
            Permission::None => conditions.push(not_in_scope(service, candidate.site)),
            Permission::New if !accepted.is_empty() => {
                conditions.push(name_taken(service, candidate.site, accepted[0].site));
            }
            Permission::New | Permission::Join => accepted.push(candidate),
        }
    }

    let winner = accepted
        .iter()
        .filter_map(|candidate| Some((candidate.age_ms, candidate.site, candidate.spec?)))
        .min_by_key(|(age_ms, site, _)| (*age_ms, *site));
    let Some((_, winner, spec)) = winner else { return Merged { import: None, conditions } };
    let mut ports = spec.ports.clone();
    let keys: BTreeSet<PortKey> = ports.iter().map(|port| port.key).collect();
    let (winner, kind) = (winner.clone(), spec.kind);

    let mut groups = Vec::new();
    for candidate in accepted {
        let Some(spec) = candidate.spec else { continue };
        let shares = spec.ports.iter().any(|port| keys.contains(&port.key)) || keys.is_empty();
        if candidate.site != &winner {
            if !same_ports(&spec.ports, &ports) {
                conditions.push(port_conflict(service, &candidate, &winner, &ports, shares));
            }
            if spec.kind != kind {
                conditions.push(Condition {
                    service: service.clone(),
                    site: candidate.site.clone(),
                    kind: ConditionKind::TypeConflict,
                    message: format!(
                        "it is {}, and {kind} in {winner}, whose export is older and counts",
                        spec.kind
                    ),
                    help: format!("export it as {kind}, or under another name"),
                });
            }
        }
        if shares {
            keep_only_what_is_safe(&mut ports, &spec.ports);
            groups.extend(candidate.groups);
        }
    }
    groups.sort_by(|a, b| a.id.cmp(&b.id));
    if groups.len() > GROUPS_MAX {
        conditions.push(Condition {
            service: service.clone(),
            site: winner,
            kind: ConditionKind::TooManyGroups,
            message: format!(
                "it has {} groups (site, locality, subset); {GROUPS_MAX} are used",
                groups.len()
            ),
            help: "use fewer localities or subsets".to_owned(),
        });
        groups.truncate(GROUPS_MAX);
    }
    conditions.sort_by(|a, b| (&a.site, a.kind).cmp(&(&b.site, b.kind)));
    let import = Import {
        service: service.clone(),
        ports,
        kind,
        vip: None,
        groups,
        failover: FailoverPolicy::default(),
        access: Vec::new(),
    };
    Merged { import: Some(import), conditions }
}

/// Counts endpoints by locality and subset. `detailed`: the groups carry the endpoints themselves.
pub fn count<'a>(
    site: &SiteId,
    endpoints: impl Iterator<Item = &'a Endpoint>,
    declared_total: Option<u32>,
    detailed: bool,
) -> Vec<Group> {
    let mut groups: BTreeMap<GroupId, Group> = BTreeMap::new();
    for endpoint in endpoints {
        let id = GroupId {
            site: site.clone(),
            locality: endpoint.locality.clone(),
            subset: endpoint.subset.clone(),
        };
        let group = groups.entry(id).or_insert_with_key(|id| Group {
            id: id.clone(),
            healthy: 0,
            total: 0,
            declared_total,
            capacity: 0,
            endpoints: Vec::new(),
        });
        group.total += 1;
        if endpoint.health == Health::Healthy {
            group.healthy += 1;
            group.capacity += u64::from(endpoint.weight);
        }
        if detailed {
            group.endpoints.push(endpoint.clone());
        }
    }
    groups.into_values().collect()
}

fn same_ports(a: &[ServicePort], b: &[ServicePort]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a.key, &a.name, a.app) == (b.key, &b.name, b.app))
}

/// `retry: safe` holds for a port only while everyone who serves it says so.
fn keep_only_what_is_safe(ports: &mut [ServicePort], other: &[ServicePort]) {
    for port in ports {
        if let Some(theirs) = other.iter().find(|theirs| theirs.key == port.key) {
            port.retry_safe &= theirs.retry_safe;
        }
    }
}

fn not_in_scope(service: &ServiceName, site: &SiteId) -> Condition {
    Condition {
        service: service.clone(),
        site: site.clone(),
        kind: ConditionKind::NotAccepted,
        message: format!("the link with {site} does not accept it"),
        help: format!("to take it, add a line `{service}` to `accept` of the link with {site}"),
    }
}

fn name_taken(service: &ServiceName, site: &SiteId, holder: &SiteId) -> Condition {
    Condition {
        service: service.clone(),
        site: site.clone(),
        kind: ConditionKind::NotAccepted,
        message: format!("{holder} has the name already, and the link with {site} accepts only new names"),
        help: format!("to let {site} join it, add a line `{service}` to `accept` of the link with {site}"),
    }
}

fn port_conflict(
    service: &ServiceName,
    loser: &Candidate<'_>,
    winner: &SiteId,
    ports: &[ServicePort],
    shares: bool,
) -> Condition {
    let list = |ports: &[ServicePort]| {
        let mut texts: Vec<String> =
            ports.iter().take(4).map(|port| format!("{}/{}", port.key.number, port.app)).collect();
        if ports.len() > texts.len() {
            texts.push(format!("{} more", ports.len() - texts.len()));
        }
        texts.join(", ")
    };
    let theirs = loser.spec.map(|spec| list(&spec.ports)).unwrap_or_default();
    let outcome = if shares { "" } else { "; they have none in common, so its endpoints are left out" };
    Condition {
        service: service.clone(),
        site: loser.site.clone(),
        kind: ConditionKind::PortConflict,
        message: format!(
            "its ports ({theirs}) differ from those of {winner} ({}), whose export is older and counts{outcome}",
            list(ports)
        ),
        help: format!("give it the ports that it has in {winner}, or export it under another name"),
    }
}
