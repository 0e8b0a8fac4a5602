//! The groups of a service as a caller sees them: tiers of what can take a stream.

use super::{Input, Tried};
use crate::memory::returning::Returned;
use crate::share::{TierHealth, capacity_sum};
use crate::tier::{TierKey, Viewpoint};
use model::decision::{GroupReason, TierReason};
use model::endpoint::{Endpoint, Health};
use model::ids::SiteId;
use model::routing::{FailoverPolicy, Group, GroupId, Import, PeerState, PeerView};
use model::tunnel::Target;
use std::collections::{BTreeMap, BTreeSet};

/// What can be offered, best first. A lower level is offered only when nothing of a higher one is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Healthy.
    Healthy,
    /// Healthy by their check, and set aside since they keep failing.
    SetAside,
    /// Not healthy: their last known state may be wrong.
    LastKnown,
    /// They have said that they take nothing new.
    Draining,
}

impl Level {
    pub(super) const ALL: [Self; 4] = [Self::Healthy, Self::SetAside, Self::LastKnown, Self::Draining];

    pub(super) fn is_last_known(self) -> bool {
        matches!(self, Self::LastKnown | Self::Draining)
    }
}

/// A group, with what of it could take the stream.
pub(super) struct GroupView<'a> {
    pub(super) id: &'a GroupId,
    /// Of the own site, or of a peer that can be reached.
    pub(super) usable: bool,
    /// Endpoints that the group has by the catalog.
    pub(super) known: u32,
    peer: Option<PeerView>,
    own: bool,
    /// It was left out of account by the question.
    left_out: bool,
    healthy: u32,
    total: u32,
    capacity: u64,
    returned: Returned,
    /// Own site only: its endpoints with the port, by level.
    endpoints: BTreeMap<Level, Vec<&'a Endpoint>>,
}

/// Groups at one distance.
pub(super) struct Tier<'a> {
    pub(super) groups: Vec<GroupView<'a>>,
    distance: &'static str,
}

/// The tiers of a service, nearest first; `set_aside`: outliers do not count as healthy.
pub(super) fn tiers<'a>(input: &Input<'a>, import: &'a Import, set_aside: bool) -> Vec<Tier<'a>> {
    let from = Viewpoint {
        own: input.own,
        locality: &input.caller.locality,
        policy: &import.failover,
        by_rtt: input.memory.by_rtt(),
    };
    let mut tiers: BTreeMap<TierKey, Tier<'a>> = BTreeMap::new();
    for group in import.groups.iter().filter(|group| admits(input.target, group)) {
        let rtt = input.peers.get(&group.id.site).and_then(|peer| peer.rtt);
        let key = TierKey::of(&group.id, rtt, &from);
        let distance = key.distance(group.id.site == *input.own);
        let tier = tiers.entry(key).or_insert_with(|| Tier { groups: Vec::new(), distance });
        tier.groups.push(GroupView::of(input, group, &import.failover, set_aside));
    }
    tiers.into_values().collect()
}

/// Whether a stream with this target may be served by the group.
fn admits(target: Option<&Target>, group: &Group) -> bool {
    match target {
        None => true,
        Some(Target::Site(site)) => group.id.site == *site,
        Some(Target::Locality(site, locality)) => group.id.site == *site && group.id.locality == *locality,
        Some(Target::Endpoint(site, id)) => {
            group.id.site == *site && group.endpoints.iter().any(|endpoint| endpoint.id == *id)
        }
    }
}

impl<'a> GroupView<'a> {
    fn of(input: &Input<'a>, group: &'a Group, policy: &FailoverPolicy, set_aside: bool) -> Self {
        let own = group.id.site == *input.own;
        let left_out = input.without.contains(&group.id.site) || input.failed.contains(&group.id);
        let peer = (!own).then(|| input.peers.get(&group.id.site).copied()).flatten();
        let usable = !left_out && (own || peer.is_some_and(|peer| peer.state.is_usable()));
        let mut endpoints: BTreeMap<Level, Vec<&Endpoint>> = BTreeMap::new();
        let mut without_port = 0;
        if own && usable {
            let named = group.endpoints.iter().filter(|endpoint| names(input.target, endpoint));
            let (with, without): (Vec<&Endpoint>, Vec<&Endpoint>) =
                named.partition(|endpoint| endpoint.ports.contains_key(&input.port));
            without_port = count(without.len());
            let outliers = if set_aside {
                input.memory.outliers(input.service, &with, input.now)
            } else {
                BTreeSet::new()
            };
            for endpoint in with {
                let level = match endpoint.health {
                    Health::Healthy if outliers.contains(&endpoint.id) => Level::SetAside,
                    Health::Healthy => Level::Healthy,
                    Health::Unhealthy => Level::LastKnown,
                    Health::Draining => Level::Draining,
                };
                endpoints.entry(level).or_default().push(endpoint);
            }
        }
        let healthy = match (usable, own) {
            (false, _) => 0,
            (true, true) => endpoints.get(&Level::Healthy).map_or(0, |list| count(list.len())),
            (true, false) => group.healthy,
        };
        let total = input.memory.total(input.service, &group.id, group.total, input.now);
        let total = group.declared_total.map_or(total, |declared| declared.min(total));
        let capacity = match (usable, own) {
            (false, _) => 0,
            (true, true) => weights(endpoints.get(&Level::Healthy).map_or(&[], Vec::as_slice)),
            (true, false) => group.capacity,
        };
        // What the memory holds back is counted over all endpoints of the group; of those that are left, at most all.
        let in_memory = crate::memory::healthy(group, input.own, input.peers);
        let mut returned = input.memory.returned(input.service, &group.id, in_memory, policy, input.now);
        returned.settled = returned.settled.min(healthy);
        returned.returned = returned.returned.min(f64::from(healthy));
        Self {
            id: &group.id,
            usable,
            known: group.total,
            peer,
            own,
            left_out,
            healthy,
            total: total.saturating_sub(without_port),
            capacity,
            returned,
            endpoints,
        }
    }

    /// Whether it, or an endpoint of it, did not take this stream.
    pub(super) fn was_tried(&self, tried: &BTreeSet<Tried>) -> bool {
        if !self.own {
            return tried.contains(&Tried::Group(self.id.clone()));
        }
        !tried.is_empty()
            && self
                .endpoints
                .values()
                .flatten()
                .any(|endpoint| tried.contains(&Tried::Endpoint(endpoint.id.clone())))
    }

    /// Endpoints of the own site that can be offered at a level.
    pub(super) fn open_endpoints(&self, level: Level, tried: &BTreeSet<Tried>) -> Vec<&'a Endpoint> {
        let list = self.endpoints.get(&level).map_or(&[][..], Vec::as_slice);
        let untried = |endpoint: &&&Endpoint| {
            tried.is_empty() || !tried.contains(&Tried::Endpoint(endpoint.id.clone()))
        };
        list.iter().filter(untried).copied().collect()
    }

    /// Whether it can be offered at a level.
    pub(super) fn has_open(&self, level: Level, tried: &BTreeSet<Tried>) -> bool {
        if self.own {
            return !self.open_endpoints(level, tried).is_empty();
        }
        let offered = match level {
            Level::Healthy => self.healthy > 0,
            // Which of its endpoints are worth a try is the business of the other site.
            Level::LastKnown => self.healthy == 0 && self.known > 0,
            Level::SetAside | Level::Draining => false,
        };
        self.usable && offered && !self.was_tried(tried)
    }

    /// Its weight among the groups of its tier.
    pub(super) fn weight(&self, level: Level, tried: &BTreeSet<Tried>) -> u64 {
        if self.own {
            return weights(&self.open_endpoints(level, tried));
        }
        if level == Level::Healthy { self.capacity } else { self.known.into() }
    }

    /// Why it cannot be used.
    pub(super) fn state_text(&self) -> String {
        match self.peer {
            _ if self.left_out => "left out".to_owned(),
            Some(peer) => peer.state.to_string(),
            None => PeerState::Unreachable.to_string(),
        }
    }

    fn reason(&self) -> GroupReason {
        let peer = self.peer.map(|peer| peer.state);
        GroupReason {
            id: self.id.clone(),
            healthy: self.healthy,
            total: self.total,
            capacity: self.capacity,
            // A site of which nothing is known cannot be reached.
            peer: if self.own { None } else { peer.or(Some(PeerState::Unreachable)) },
            rtt: self.peer.and_then(|peer| peer.rtt),
            outliers: self.endpoints.get(&Level::SetAside).map_or(0, |list| count(list.len())),
        }
    }
}

/// Whether a stream with this target may be served by the endpoint.
fn names(target: Option<&Target>, endpoint: &Endpoint) -> bool {
    match target {
        Some(Target::Endpoint(_, id)) => endpoint.id == *id,
        Some(Target::Site(_) | Target::Locality(..)) | None => true,
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn weights(endpoints: &[&Endpoint]) -> u64 {
    endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).sum()
}

impl Tier<'_> {
    /// Whether any of its groups can be offered at a level.
    pub(super) fn has_open(&self, level: Level, tried: &BTreeSet<Tried>) -> bool {
        self.groups.iter().any(|group| group.has_open(level, tried))
    }

    /// What its share depends on. Sums saturate: the numbers of peers are taken as they come.
    pub(super) fn health(&self) -> TierHealth {
        let sum =
            |number: fn(&GroupView<'_>) -> u32| self.groups.iter().map(number).fold(0, u32::saturating_add);
        TierHealth {
            healthy: sum(|group| group.healthy),
            returned: self.groups.iter().map(|group| group.returned.returned).sum(),
            furthest: self
                .groups
                .iter()
                .filter(|group| group.healthy > 0)
                .map(|group| group.returned.furthest)
                .fold(0.0, f64::max),
            total: sum(|group| group.total),
        }
    }
}

/// The tiers with their shares, as a person reads them.
pub(super) fn reasons(tiers: &[Tier<'_>], shares: &[f64], policy: &FailoverPolicy) -> Vec<TierReason> {
    let health: Vec<TierHealth> = tiers.iter().map(Tier::health).collect();
    let enough = |tier: &TierHealth| tier.healthy >= policy.min_healthy && tier.healthy > 0;
    let any_enough = health.iter().any(enough);
    let sum = capacity_sum(&health, policy);
    let mut reasons = Vec::new();
    for ((tier, health), share) in tiers.iter().zip(&health).zip(shares) {
        let mut notes = Vec::new();
        if health.healthy == 0 {
            notes.extend(why_empty(tier));
        } else if any_enough && !enough(health) {
            notes.push(format!("fewer than {} healthy, and another tier has enough", policy.min_healthy));
        } else {
            notes.extend(returning(tier, health, *share));
            if policy.strict && *share > 0.0 {
                notes.push("takes all until it is empty (strict)".to_owned());
            }
            if sum > 0.0 && sum < 1.0 {
                notes.push(format!(
                    "all tiers together can take {:.0} %, so they share the rest",
                    sum * 100.0
                ));
            }
        }
        reasons.push(TierReason {
            groups: tier.groups.iter().map(GroupView::reason).collect(),
            distance: tier.distance,
            healthy: health.healthy,
            total: health.total,
            share: *share,
            note: notes.join("; "),
        });
    }
    reasons
}

/// Why a tier has nothing healthy.
fn why_empty(tier: &Tier<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let mut said: BTreeSet<&SiteId> = BTreeSet::new();
    for group in tier.groups.iter().filter(|group| !group.usable) {
        if said.insert(&group.id.site) {
            notes.push(format!("{} is {}", group.id.site, group.state_text()));
        }
    }
    if notes.is_empty() {
        notes.push("none is healthy".to_owned());
    }
    notes
}

/// How far a tier has its load back.
fn returning(tier: &Tier<'_>, health: &TierHealth, share: f64) -> Option<String> {
    let held = f64::from(health.healthy) - health.returned;
    if held <= 0.0 {
        return None;
    }
    let begins_in = tier.groups.iter().filter_map(|group| group.returned.begins_in).min();
    let back = health.returned / f64::from(health.healthy) * 100.0;
    let settled = tier.groups.iter().any(|group| group.returned.settled > 0);
    let text = match begins_in {
        Some(wait) if !settled => {
            format!("recovered: load returns in {} s", wait.as_secs_f64().ceil())
        }
        Some(wait) => {
            format!("{} recovered: their load returns in {} s", held.ceil(), wait.as_secs_f64().ceil())
        }
        None => format!("recovered: {back:.0} % of its load is back"),
    };
    let forced = health.returned <= 0.0 && share > 0.0;
    Some(if forced { format!("{text}, but nobody else can take it") } else { text })
}
