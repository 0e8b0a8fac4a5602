//! Single decisions, in random worlds, without a past.

use crate::slow;
use crate::world::{self, PORT, any_caller, any_import, any_peers, idle, service, site};
use model::decision::{Decision, RefusalCode, Verdict};
use model::ids::SiteId;
use model::routing::{Caller, Import, PeerView};
use policy::{Ask, Outcome, Router, Tried};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn router(import: &Import, peers: &BTreeMap<SiteId, PeerView>) -> Router {
    let now = world::start();
    let mut router = Router::new(site("west"), "gateway gw-0".to_owned());
    for (site, view) in peers {
        router.handle_peer(site, *view, now);
    }
    router.handle_import(import.clone(), now);
    router
}

fn decide(router: &Router, caller: &Caller, tried: &BTreeSet<Tried>, random: u64) -> Decision {
    let service = service();
    let ask = Ask { service: &service, port: PORT, caller, target: None, tried, open_streams: &idle };
    router.decide(&ask, world::start(), random)
}

/// Sites by round trip, then name: what the router sees first.
fn by_rtt(peers: &BTreeMap<SiteId, PeerView>) -> Vec<SiteId> {
    let mut sites: Vec<_> = peers.iter().map(|(site, view)| (view.rtt, site.clone())).collect();
    sites.sort();
    sites.into_iter().map(|(_, site)| site).collect()
}

/// Names candidates until the stream is refused; gives them in order, with their decisions.
fn exhaust(router: &Router, caller: &Caller, random: u64) -> Vec<(Tried, BTreeSet<Tried>, Decision)> {
    let mut tried = BTreeSet::new();
    let mut named = Vec::new();
    for turn in 0..100 {
        let decision = decide(router, caller, &tried, random.wrapping_add(turn));
        let Some(candidate) = Tried::of(&decision.verdict) else { return named };
        named.push((candidate.clone(), tried.clone(), decision));
        tried.insert(candidate);
    }
    panic!("it never ends: {named:?}");
}

proptest! {
    #![proptest_config(world::config(800))]

    #[test]
    fn every_candidate_is_named_once_and_in_order_before_a_refusal(
        import in any_import(),
        peers in any_peers(),
        caller in any_caller(),
        random in any::<u64>(),
    ) {
        let own = site("west");
        let all = slow::candidates(&import, &own, PORT, &caller.locality, &peers, &by_rtt(&peers));
        let named = exhaust(&router(&import, &peers), &caller, random);
        for (candidate, tried, _) in &named {
            let expected = slow::next(&all, tried);
            prop_assert!(expected.contains(candidate), "{:?} after {:?}, instead of one of {:?}", candidate, tried, expected);
        }
        prop_assert_eq!(named.len(), all.len(), "{:?} of {:?}", named, all);
    }

    #[test]
    fn no_decision_names_an_unreachable_peer(
        import in any_import(),
        peers in any_peers(),
        caller in any_caller(),
        random in any::<u64>(),
    ) {
        for (_, _, decision) in exhaust(&router(&import, &peers), &caller, random) {
            if let Verdict::Site { group } = &decision.verdict {
                prop_assert!(peers.get(&group.site).is_some_and(|peer| peer.state.is_usable()));
                prop_assert_ne!(group.site.as_str(), "west");
            }
        }
    }

    #[test]
    fn the_reason_tells_the_shares_that_pouring_gives(
        import in any_import(),
        peers in any_peers(),
        caller in any_caller(),
        random in any::<u64>(),
    ) {
        let decision = decide(&router(&import, &peers), &caller, &BTreeSet::new(), random);
        let reason = &decision.reason;
        let refused = matches!(decision.verdict, Verdict::Refused(_));
        let sum: f64 = reason.tiers.iter().map(|tier| tier.share).sum();
        prop_assert!(if refused { sum == 0.0 } else { (sum - 1.0).abs() < 1e-9 }, "{:?}", reason);
        if !refused && !reason.panic {
            let health: Vec<_> = reason.tiers.iter().map(|tier| policy::share::TierHealth {
                healthy: tier.healthy,
                returned: f64::from(tier.healthy),
                furthest: 1.0,
                total: tier.total,
            }).collect();
            for (tier, poured) in reason.tiers.iter().zip(slow::pour(&health, &import.failover)) {
                prop_assert!((tier.share - poured).abs() < 0.005, "{:?} instead of {}", tier, poured);
            }
            let chosen = &reason.tiers[reason.chosen.expect("not refused")];
            prop_assert!(chosen.share > 0.0);
        }
    }

    #[test]
    fn tiers_are_the_groups_by_distance(import in any_import(), peers in any_peers(), caller in any_caller()) {
        let decision = decide(&router(&import, &peers), &caller, &BTreeSet::new(), 1);
        let order = by_rtt(&peers);
        let rank = |id| {
            let group = import.groups.iter().find(|group| group.id == id).expect("of the import");
            slow::rank(group, &site("west"), &caller.locality, &import.failover, &order)
        };
        let unknown = |id: &model::routing::GroupId| id.site != site("west") && !peers.contains_key(&id.site);
        let tiers: Vec<Vec<_>> = decision.reason.tiers.iter()
            .map(|tier| tier.groups.iter().filter(|group| !unknown(&group.id)).map(|group| rank(group.id.clone())).collect())
            .collect();
        let listed: usize = decision.reason.tiers.iter().map(|tier| tier.groups.len()).sum();
        prop_assert_eq!(listed, import.groups.len(), "every group is in one tier");
        for tier in &tiers {
            prop_assert!(tier.windows(2).all(|pair| pair[0] == pair[1]), "{:?}", tiers);
        }
        let flat: Vec<_> = tiers.iter().filter_map(|tier| tier.first()).collect();
        prop_assert!(flat.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", tiers);
    }

    #[test]
    fn panic_is_when_nothing_that_can_be_reached_is_healthy(
        import in any_import(),
        peers in any_peers(),
        caller in any_caller(),
        random in any::<u64>(),
    ) {
        let all = slow::candidates(&import, &site("west"), PORT, &caller.locality, &peers, &by_rtt(&peers));
        let decision = decide(&router(&import, &peers), &caller, &BTreeSet::new(), random);
        let none_healthy = !all.is_empty() && all.iter().all(|candidate| candidate.level > 0);
        prop_assert_eq!(decision.reason.panic, none_healthy);
        if let Verdict::Refused(refusal) = &decision.verdict {
            prop_assert!(all.is_empty());
            prop_assert!(!refusal.retryable);
            prop_assert!(matches!(refusal.code, RefusalCode::NoEndpoint | RefusalCode::NoPath));
        }
        let gone = !peers.is_empty() && peers.values().all(|peer| !peer.state.is_usable());
        prop_assert_eq!(decision.reason.isolated, gone);
    }

    #[test]
    fn the_same_input_gives_the_same_answer_and_a_key_the_same_candidate(
        import in any_import(),
        peers in any_peers(),
        caller in any_caller(),
        random in any::<u64>(),
        other in any::<u64>(),
    ) {
        let router = router(&import, &peers);
        let first = decide(&router, &caller, &BTreeSet::new(), random);
        prop_assert_eq!(&decide(&router, &caller, &BTreeSet::new(), random), &first);
        if caller.affinity.is_some() {
            prop_assert_eq!(decide(&router, &caller, &BTreeSet::new(), other).verdict, first.verdict);
        }
    }

    #[test]
    fn never_more_than_half_of_a_group_is_set_aside(
        import in any_import(),
        failing in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut router = router(&import, &BTreeMap::new());
        let ids: Vec<_> = import.groups.iter().flat_map(|group| &group.endpoints).map(|e| e.id.clone()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        for which in failing {
            for _ in 0..3 {
                router.handle_outcome(&service(), &ids[which.index(ids.len())], Outcome::Failed, world::start());
            }
        }
        let decision = decide(&router, &world::caller("us/sjc"), &BTreeSet::new(), 1);
        for group in decision.reason.tiers.iter().flat_map(|tier| &tier.groups) {
            prop_assert!(group.outliers <= group.total / 2, "{:?}", group);
        }
        // Setting aside never makes a service fail, and hides nobody for good.
        let healthy = import.groups.iter().flat_map(|group| &group.endpoints)
            .any(|e| e.health == model::endpoint::Health::Healthy && e.ports.contains_key(&PORT));
        prop_assert!(!decision.reason.panic || !healthy);
        let named = exhaust(&router, &world::caller("us/sjc"), 1);
        let all = slow::candidates(&import, &site("west"), PORT, &world::caller("us/sjc").locality, &BTreeMap::new(), &[]);
        prop_assert_eq!(named.len(), all.len());
    }

    #[test]
    fn draws_follow_the_shares(import in any_import(), peers in any_peers(), caller in any_caller()) {
        let caller = Caller { affinity: None, ..caller };
        let router = router(&import, &peers);
        let reason = decide(&router, &caller, &BTreeSet::new(), 0).reason;
        if reason.tiers.iter().all(|tier| tier.share <= 0.0) {
            return Ok(());
        }
        let mut drawn = vec![0_u32; reason.tiers.len()];
        for random in 0..400_u64 {
            let decision = decide(&router, &caller, &BTreeSet::new(), random.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            drawn[decision.reason.chosen.expect("not refused")] += 1;
        }
        for (tier, drawn) in reason.tiers.iter().zip(&drawn) {
            // Five standard deviations of 400 draws are at most 12.5 %.
            prop_assert!((f64::from(*drawn) / 400.0 - tier.share).abs() < 0.125, "{:?}: {}", tier, drawn);
        }
    }
}
