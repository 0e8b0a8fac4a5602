//! The division of load against the worked examples of Envoy's documentation ("Priority levels"), and against pouring
//! drops of load into vessels, one by one.

use crate::{slow, world};
use model::routing::FailoverPolicy;
use policy::share::{TierHealth, shares};
use proptest::prelude::*;

fn tier(healthy: u32, total: u32) -> TierHealth {
    TierHealth { healthy, returned: f64::from(healthy), furthest: 1.0, total }
}

/// Healthy percent of each level, and the percent of traffic that each gets.
#[track_caller]
fn check(healthy: &[u32], expected: &[u32]) {
    let tiers: Vec<TierHealth> = healthy.iter().map(|percent| tier(*percent, 100)).collect();
    let found = shares(&tiers, &FailoverPolicy::default());
    for (share, percent) in found.iter().zip(expected) {
        // Envoy counts in whole percents, and gives what is lost by that to the first level.
        let difference = (share * 100.0 - f64::from(*percent)).abs();
        assert!(difference < 1.0, "{healthy:?}: {found:?} instead of {expected:?}");
    }
}

#[test]
fn two_levels_of_which_the_second_is_healthy_divide_as_envoys_do() {
    for (first, load) in
        [(100, [100, 0]), (72, [100, 0]), (71, [99, 1]), (50, [70, 30]), (25, [35, 65]), (0, [0, 100])]
    {
        check(&[first, 100], &load);
    }
}

#[test]
fn two_levels_divide_as_envoys_do() {
    for (healthy, load) in [
        ([100, 100], [100, 0]),
        ([72, 72], [100, 0]),
        ([71, 71], [99, 1]),
        ([50, 50], [70, 30]),
        ([25, 100], [35, 65]),
        ([25, 25], [50, 50]),
    ] {
        check(&healthy, &load);
    }
}

#[test]
fn three_levels_divide_as_envoys_do() {
    for (healthy, load) in [
        ([100, 100, 100], [100, 0, 0]),
        ([72, 72, 100], [100, 0, 0]),
        ([71, 71, 100], [99, 1, 0]),
        ([50, 50, 100], [70, 30, 0]),
        ([25, 100, 100], [35, 65, 0]),
        ([25, 25, 100], [35, 35, 30]),
        ([25, 25, 20], [36, 36, 28]),
    ] {
        check(&healthy, &load);
    }
}

#[test]
fn too_little_health_is_divided_by_its_sum_as_in_envoys_example() {
    // Health scores of 20 and 30 become loads of 40 % and 60 %. A factor of 1 makes the score the percentage.
    let policy = FailoverPolicy { overprovisioning_pct: 100, ..FailoverPolicy::default() };
    let found = shares(&[tier(20, 100), tier(30, 100)], &policy);
    assert!((found[0] - 0.4).abs() < 1e-9 && (found[1] - 0.6).abs() < 1e-9, "{found:?}");
}

prop_compose! {
    fn any_tier()(total in 0_u32..12, healthy in 0_u32..12, held in 0_u32..12, progress in 0.0_f64..1.0) -> TierHealth {
        let held = held.min(healthy);
        let settled = healthy - held;
        TierHealth { healthy, returned: f64::from(settled) + f64::from(held) * progress, furthest: if settled > 0 { 1.0 } else { progress }, total }
    }
}

fn any_policy() -> impl Strategy<Value = FailoverPolicy> {
    (100_u32..300, 1_u32..4, any::<bool>()).prop_map(|(overprovisioning_pct, min_healthy, strict)| {
        FailoverPolicy { overprovisioning_pct, min_healthy, strict, ..FailoverPolicy::default() }
    })
}

proptest! {
    #![proptest_config(world::config(400))]

    #[test]
    fn shares_are_what_pouring_gives(tiers in prop::collection::vec(any_tier(), 0..6), policy in any_policy()) {
        let found = shares(&tiers, &policy);
        let poured = slow::pour(&tiers, &policy);
        for (found, poured) in found.iter().zip(&poured) {
            prop_assert!((found - poured).abs() < 0.005, "{:?} instead of {:?}", found, poured);
        }
    }

    #[test]
    fn shares_sum_to_one_while_anything_is_healthy(tiers in prop::collection::vec(any_tier(), 0..6), policy in any_policy()) {
        let found = shares(&tiers, &policy);
        let sum: f64 = found.iter().sum();
        let any_healthy = tiers.iter().any(|tier| tier.healthy > 0);
        let held = tiers.iter().all(|tier| tier.healthy == 0);
        prop_assert!(if any_healthy { (sum - 1.0).abs() < 1e-9 } else { sum == 0.0 && held }, "{:?}", found);
        prop_assert!(found.iter().all(|share| (0.0..=1.0 + 1e-9).contains(share)));
    }

    #[test]
    fn a_tier_that_loses_health_never_takes_more(
        tiers in prop::collection::vec(any_tier(), 1..6),
        policy in any_policy(),
        which in any::<prop::sample::Index>(),
    ) {
        let at = which.index(tiers.len());
        let mut worse = tiers.clone();
        prop_assume!(worse[at].healthy > 0);
        worse[at].healthy -= 1;
        worse[at].returned = worse[at].returned.min(f64::from(worse[at].healthy));
        let (before, after) = (shares(&tiers, &policy), shares(&worse, &policy));
        // Unless all are now below the minimum, which opens those that were.
        let enough = |tiers: &[TierHealth]| tiers.iter().any(|tier| tier.healthy >= policy.min_healthy && tier.healthy > 0);
        prop_assume!(enough(&tiers) == enough(&worse));
        prop_assert!(after[at] <= before[at] + 1e-9, "{:?} became {:?}", before, after);
    }
}
