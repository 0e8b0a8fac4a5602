//! The rules, told slowly: nothing here is clever, and nothing is shared with the code that it judges.

use model::endpoint::{Endpoint, Health};
use model::ids::SiteId;
use model::locality::Locality;
use model::routing::{FailoverPolicy, Group, Import, PeerView};
use model::service::PortKey;
use policy::Tried;
use policy::share::TierHealth;
use std::collections::{BTreeMap, BTreeSet};

const DROPS: u32 = 1_000;

/// Divides the load by pouring it, drop by drop, into the first vessel with room.
pub fn pour(tiers: &[TierHealth], policy: &FailoverPolicy) -> Vec<f64> {
    let mut allowed = vec![true; tiers.len()];
    if tiers.iter().any(|tier| tier.healthy > 0 && tier.healthy >= policy.min_healthy) {
        for (allowed, tier) in allowed.iter_mut().zip(tiers) {
            *allowed = tier.healthy >= policy.min_healthy;
        }
    }
    // How full each vessel may become: first with what has returned only, then with all that is healthy.
    let room = |tier: &TierHealth, endpoints: f64| {
        if policy.strict {
            if tier.healthy == 0 {
                0.0
            } else if endpoints < f64::from(tier.healthy) {
                tier.furthest
            } else {
                1.0
            }
        } else if tier.total == 0 {
            if endpoints > 0.0 { f64::from(policy.overprovisioning_pct) / 100.0 * endpoints } else { 0.0 }
        } else {
            f64::from(policy.overprovisioning_pct) / 100.0 * endpoints / f64::from(tier.total)
        }
    };
    let mut vessels = vec![0_u32; tiers.len()];
    let mut poured = 0_u32;
    for round in 0..2 {
        while poured < DROPS {
            let mut taken = false;
            for (at, tier) in tiers.iter().enumerate() {
                let endpoints = if round == 0 { tier.returned } else { f64::from(tier.healthy) };
                let limit = room(tier, endpoints).min(1.0);
                if allowed[at]
                    && tier.healthy > 0
                    && f64::from(vessels[at] + 1) <= limit * f64::from(DROPS) + 0.5
                {
                    vessels[at] += 1;
                    poured += 1;
                    taken = true;
                    break;
                }
            }
            if !taken {
                break;
            }
        }
    }
    if poured == 0 {
        return vec![0.0; tiers.len()];
    }
    vessels.iter().map(|drops| f64::from(*drops) / f64::from(poured)).collect()
}

/// How far a group is, as a sentence would rank it; less is nearer. The second number orders what ranks the same.
pub fn rank(
    group: &Group,
    own: &SiteId,
    caller: &Locality,
    policy: &FailoverPolicy,
    by_rtt: &[SiteId],
) -> Vec<usize> {
    let there = &group.id.locality;
    let place = |list: &[SiteId]| list.iter().position(|site| *site == group.id.site);
    let same_region = !caller.region.is_empty() && caller.region == there.region;
    let same_zone = same_region && !caller.zone.is_empty() && caller.zone == there.zone;
    if group.id.site == *own {
        if same_zone {
            return vec![1];
        }
        if same_region {
            return vec![2];
        }
        if caller.region.is_empty() || there.region.is_empty() {
            return vec![3];
        }
    } else if same_region {
        return vec![4, place(&policy.order).unwrap_or(1_000)];
    }
    let declared = place(&policy.order).map_or(1_000, |place| place + 1);
    if group.id.site == *own {
        return vec![5, if declared == 1_000 { 0 } else { declared }, 0];
    }
    vec![5, declared, 1 + place(by_rtt).unwrap_or(1_000)]
}

/// One that could be named for a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// As it is named.
    pub named: Tried,
    /// How far it is.
    pub rank: Vec<usize>,
    /// 0: healthy; 1: not; 2: it drains.
    pub level: u32,
}

/// Everything that could be named, in no order.
pub fn candidates(
    import: &Import,
    own: &SiteId,
    port: PortKey,
    caller: &Locality,
    peers: &BTreeMap<SiteId, PeerView>,
    by_rtt: &[SiteId],
) -> Vec<Candidate> {
    let mut found = Vec::new();
    for group in &import.groups {
        let rank = rank(group, own, caller, &import.failover, by_rtt);
        if group.id.site == *own {
            let with_port = |endpoint: &&Endpoint| endpoint.ports.contains_key(&port);
            for endpoint in group.endpoints.iter().filter(with_port) {
                let level = match endpoint.health {
                    Health::Healthy => 0,
                    Health::Unhealthy => 1,
                    Health::Draining => 2,
                };
                found.push(Candidate {
                    named: Tried::Endpoint(endpoint.id.clone()),
                    rank: rank.clone(),
                    level,
                });
            }
        } else if peers.get(&group.id.site).is_some_and(|peer| peer.state.is_usable()) {
            if group.healthy > 0 {
                found.push(Candidate { named: Tried::Group(group.id.clone()), rank, level: 0 });
            } else if group.total > 0 {
                found.push(Candidate { named: Tried::Group(group.id.clone()), rank, level: 1 });
            }
        }
    }
    found
}

/// The candidates that may be named next, after `tried` did not take the stream: at least one while any is left.
pub fn next(all: &[Candidate], tried: &BTreeSet<Tried>) -> Vec<Tried> {
    let names = |list: Vec<&Candidate>| list.into_iter().map(|candidate| candidate.named.clone()).collect();
    for level in 0..3 {
        let left: Vec<&Candidate> = all
            .iter()
            .filter(|candidate| candidate.level == level && !tried.contains(&candidate.named))
            .collect();
        if left.is_empty() {
            continue;
        }
        if tried.is_empty() && level == 0 {
            return names(left);
        }
        let was_tried =
            |rank: &Vec<usize>| all.iter().any(|other| other.rank == *rank && tried.contains(&other.named));
        // The rest of a tier that was begun.
        if let Some(begun) = left.iter().map(|candidate| &candidate.rank).filter(|rank| was_tried(rank)).min()
        {
            return names(left.iter().filter(|candidate| candidate.rank == *begun).copied().collect());
        }
        // Else the nearest beyond all that was tried; else the nearest.
        let last = all.iter().filter(|other| tried.contains(&other.named)).map(|other| &other.rank).max();
        let beyond = left
            .iter()
            .map(|candidate| &candidate.rank)
            .filter(|rank| last.is_none_or(|last| *rank > last))
            .min();
        let nearest = left.iter().map(|candidate| &candidate.rank).min().expect("some are left");
        let rank = beyond.unwrap_or(nearest);
        return names(left.iter().filter(|candidate| candidate.rank == *rank).copied().collect());
    }
    Vec::new()
}
