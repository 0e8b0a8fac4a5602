//! The decision: permit, tiers, shares, a candidate.

mod candidates;

use crate::access::{Permit, permit};
use crate::memory::{self, Memory};
use crate::pick;
use crate::share::shares;
use candidates::{GroupView, Level, Tier};
use model::decision::{Decision, Reason, Refusal, RefusalCode, Verdict};
use model::ids::{EndpointId, SiteId};
use model::routing::{Caller, GroupId, Import, PeerView};
use model::service::{PortKey, ServiceName};
use model::tunnel::Target;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// A candidate that was tried for a stream and did not take it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tried {
    /// An endpoint of the own site.
    Endpoint(EndpointId),
    /// A group of another site.
    Group(GroupId),
}

impl Tried {
    /// The candidate that a verdict names; none for a refusal.
    pub fn of(verdict: &Verdict) -> Option<Self> {
        match verdict {
            Verdict::Endpoint { endpoint, .. } => Some(Self::Endpoint(endpoint.clone())),
            Verdict::Site { group } => Some(Self::Group(group.clone())),
            Verdict::Refused(_) => None,
        }
    }
}

/// Everything that counts in a decision.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Site of the process that decides.
    pub own: &'a SiteId,
    /// Service.
    pub service: &'a ServiceName,
    /// What is known of the service; none: nothing.
    pub import: Option<&'a Import>,
    /// Port.
    pub port: PortKey,
    /// Caller.
    pub caller: &'a Caller,
    /// How far the process before has decided already; none: this is the first.
    pub target: Option<&'a Target>,
    /// State of the linked sites, from the own paths.
    pub peers: &'a BTreeMap<SiteId, PeerView>,
    /// What is remembered.
    pub memory: &'a Memory,
    /// Candidates that did not take this stream. They are not named again.
    pub tried: &'a BTreeSet<Tried>,
    /// Sites that count as gone (what if?).
    pub without: &'a BTreeSet<SiteId>,
    /// Groups that count as gone (what if?).
    pub failed: &'a BTreeSet<GroupId>,
    /// Open streams of an endpoint of the own site.
    pub open_streams: &'a dyn Fn(&EndpointId) -> u32,
    /// The time.
    pub now: Instant,
    /// A random number: the same input gives the same answer.
    pub random: u64,
}

/// Decides where a stream goes, and says why.
///
/// With `tried`, the next candidate: the rest of the tier, then the tiers after it, then those before; every candidate
/// that could take the stream is named before it is refused.
pub fn decide(input: &Input<'_>) -> Decision {
    let mut reason = Reason::default();
    let Some(import) = input.import else {
        let detail = format!("no service {} is known in {}", input.service, input.own);
        return refuse(input, reason, RefusalCode::UnknownService, detail);
    };
    if !import.ports.iter().any(|port| port.key == input.port) {
        let ports: Vec<String> = import.ports.iter().map(|port| port.key.to_string()).collect();
        let detail = format!("{} has no port {}; it has {}", input.service, input.port, ports.join(", "));
        return refuse(input, reason, RefusalCode::UnknownPort, detail);
    }
    match permit(input.service, &import.access, input.caller) {
        Permit::Allowed(why) => reason.permit = why,
        Permit::Denied(why) => {
            reason.permit.clone_from(&why);
            return refuse(input, reason, RefusalCode::Denied, why);
        }
    }
    reason.isolated = is_isolated(input);

    let mut tiers = candidates::tiers(input, import, true);
    if tiers.iter().all(|tier| tier.health().healthy == 0) {
        // Setting aside is for when others can take the load.
        tiers = candidates::tiers(input, import, false);
    }
    let health: Vec<_> = tiers.iter().map(Tier::health).collect();
    let mut shares = shares(&health, &import.failover);
    let any_healthy = health.iter().any(|tier| tier.healthy > 0);
    let levels = if may_use_last_known(input, import) { &Level::ALL[..] } else { &Level::ALL[..2] };
    let chosen = choose(input, &tiers, &shares, levels);
    if let Some((tier, level)) = chosen {
        reason.panic = !any_healthy;
        if !any_healthy {
            shares[tier] = 1.0;
        }
        reason.chosen = Some(tier);
        if level.is_last_known() {
            reason.pick = if any_healthy {
                "last known endpoints, since the healthy ones did not take it".to_owned()
            } else {
                "last known endpoints, since none is healthy".to_owned()
            };
        }
    }
    reason.tiers = candidates::reasons(&tiers, &shares, &import.failover);
    let Some((tier, level)) = chosen else {
        let (code, detail) = nobody(input, &tiers);
        return refuse(input, reason, code, detail);
    };
    let verdict = draw(input, &tiers[tier], level, &mut reason);
    Decision { verdict, reason }
}

/// Whether endpoints that are not healthy may be used, once nothing better is left.
///
/// The first process may: it has seen every candidate. One further on sees only a part; where anybody else is healthy,
/// it refuses, and the first process moves on to them.
fn may_use_last_known(input: &Input<'_>, import: &Import) -> bool {
    match input.target {
        // What was named was chosen by one who saw everything.
        None | Some(Target::Endpoint(..)) => true,
        Some(Target::Site(_) | Target::Locality(..)) => {
            import.groups.iter().all(|group| memory::healthy(group, input.own, input.peers) == 0)
        }
    }
}

/// The tier that takes this stream, and what of it.
fn choose(input: &Input<'_>, tiers: &[Tier<'_>], shares: &[f64], levels: &[Level]) -> Option<(usize, Level)> {
    let was_tried = |tier: &Tier<'_>| tier.groups.iter().any(|group| group.was_tried(input.tried));
    let first = !tiers.iter().any(was_tried);
    for &level in levels {
        let open: Vec<bool> = tiers.iter().map(|tier| tier.has_open(level, input.tried)).collect();
        if first && level == Level::Healthy {
            let drawn = pick::by_share(share_point(input), shares).filter(|tier| open[*tier]);
            if let Some(tier) = drawn {
                return Some((tier, level));
            }
        }
        // The rest of a tier that was tried, the tiers after the last one that was, the tiers before.
        let rest = (0..tiers.len()).find(|at| open[*at] && was_tried(&tiers[*at]));
        let after = tiers.iter().rposition(was_tried).map_or(0, |last| last + 1);
        let next = (after..tiers.len()).chain(0..after).find(|at| open[*at]);
        if let Some(tier) = rest.or(next) {
            return Some((tier, level));
        }
    }
    None
}

/// Where in the sum of the shares this stream falls; a caller with a key always falls on the same place.
fn share_point(input: &Input<'_>) -> f64 {
    match input.caller.affinity {
        Some(key) => pick::to_unit(pick::hash(key, b"tier")),
        None => pick::to_unit(pick::hash(input.random, b"tier")),
    }
}

/// Picks a candidate of a tier that has an open one.
fn draw(input: &Input<'_>, tier: &Tier<'_>, level: Level, reason: &mut Reason) -> Verdict {
    let mut rng = fastrand::Rng::with_seed(input.random);
    let open: Vec<(&GroupView<'_>, u64)> = tier
        .groups
        .iter()
        .filter(|group| group.has_open(level, input.tried))
        .map(|group| (group, group.weight(level, input.tried)))
        .collect();
    let name =
        |group: &GroupView<'_>| format!("{}/{}/{}", group.id.site, group.id.locality, group.id.subset.0);
    let drawn = match input.caller.affinity {
        Some(key) => {
            let names: Vec<String> = open.iter().map(|(group, _)| name(group)).collect();
            pick::by_key(key, names.iter().zip(&open).map(|(name, (_, weight))| (name.as_bytes(), *weight)))
        }
        None => pick::by_weight(&mut rng, &open.iter().map(|(_, weight)| *weight).collect::<Vec<_>>()),
    };
    let (group, _) = open[drawn.expect("a tier is chosen only when it has an open candidate")];
    let endpoints = group.open_endpoints(level, input.tried);
    let offers: Vec<pick::Offer> = endpoints
        .iter()
        .map(|endpoint| pick::Offer { weight: endpoint.weight, open: (input.open_streams)(&endpoint.id) })
        .collect();
    let picked = match input.caller.affinity {
        Some(key) => {
            let named = endpoints.iter().map(|e| (e.id.as_str().as_bytes(), u64::from(e.weight)));
            pick::by_key(key, named).map(|chosen| pick::Pick { chosen, other: None })
        }
        None => pick::by_least_open(&mut rng, &offers),
    };
    let Some(picked) = picked else {
        // Another site picks the endpoint.
        return Verdict::Site { group: group.id.clone() };
    };
    let endpoint = &endpoints[picked.chosen].id;
    if reason.pick.is_empty() {
        reason.pick = match (input.caller.affinity, picked.other) {
            (Some(_), _) => "by the caller's affinity key".to_owned(),
            (None, None) => "the only one".to_owned(),
            (None, Some(other)) => format!(
                "by least open streams of two: {endpoint} has {}, {} has {}",
                offers[picked.chosen].open, endpoints[other].id, offers[other].open
            ),
        };
    }
    Verdict::Endpoint { group: group.id.clone(), endpoint: endpoint.clone() }
}

/// All linked sites are gone, so it is probably this one that is cut off.
fn is_isolated(input: &Input<'_>) -> bool {
    let gone = |(site, view): (&SiteId, &PeerView)| input.without.contains(site) || !view.state.is_usable();
    !input.peers.is_empty() && input.peers.iter().all(gone)
}

/// Why nobody can take the stream.
fn nobody(input: &Input<'_>, tiers: &[Tier<'_>]) -> (RefusalCode, String) {
    let groups: Vec<&GroupView<'_>> = tiers.iter().flat_map(|tier| &tier.groups).collect();
    if groups.is_empty() {
        let place = match input.target {
            Some(Target::Site(site)) => format!(" in {site}"),
            Some(Target::Locality(site, locality)) => format!(" in {site} {locality}"),
            Some(Target::Endpoint(site, endpoint)) => format!(" named {endpoint} in {site}"),
            None => String::new(),
        };
        return (RefusalCode::NoEndpoint, format!("{} has no endpoint{place}", input.service));
    }
    let unreachable = groups.iter().any(|group| !group.usable && group.known > 0);
    let reachable = groups.iter().any(|group| group.usable && group.known > 0);
    let code = if unreachable && !reachable { RefusalCode::NoPath } else { RefusalCode::NoEndpoint };
    let mut parts: Vec<String> = Vec::new();
    for group in groups {
        let part = match (group.usable, group.was_tried(input.tried)) {
            (false, _) => format!("{} is {}", group.id.site, group.state_text()),
            (true, true) => format!("{} did not take it", group.id.site),
            (true, false) => format!("{} has no endpoint", group.id.site),
        };
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    (code, format!("nobody can take {}: {}", input.service, parts.join("; ")))
}

/// Most characters of the words of a refusal, since they go over the wire.
const DETAIL_MAX: usize = 200;

fn refuse(input: &Input<'_>, reason: Reason, code: RefusalCode, detail: String) -> Decision {
    // For the first process this was the last candidate; a process further on leaves the rest to the first. A denial
    // is one of policy, which holds everywhere.
    let retryable = input.target.is_some() && code != RefusalCode::Denied;
    let detail = match detail.char_indices().nth(DETAIL_MAX - 1) {
        Some((end, _)) => format!("{}…", &detail[..end]),
        None => detail,
    };
    Decision { verdict: Verdict::Refused(Refusal { code, retryable, detail }), reason }
}
