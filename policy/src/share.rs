//! How the load divides between tiers.

use model::routing::FailoverPolicy;

/// The health of one tier, as far as its share depends on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TierHealth {
    /// Endpoints that could take load.
    pub healthy: u32,
    /// Endpoints that may take load by now: those that have not just recovered, and the part of the others that has
    /// returned; at most `healthy`.
    pub returned: f64,
    /// How far the one that has been back the longest has its load, 0 to 1.
    pub furthest: f64,
    /// What `healthy` is measured against.
    pub total: u32,
}

/// Share of each tier, nearest first; they sum to 1, or are all 0 when nothing is healthy.
///
/// Tier i takes `min(rest, factor × healthy / total)`; the rest spills to the next; shares that sum to less than 1 are
/// divided by their sum (the rule of Envoy's priority levels). A tier below `min_healthy` takes nothing while another
/// is not. What has just recovered is held back only as far as others can take the load instead.
pub fn shares(tiers: &[TierHealth], policy: &FailoverPolicy) -> Vec<f64> {
    let enough = |tier: &TierHealth| tier.healthy > 0 && tier.healthy >= policy.min_healthy;
    let any_enough = tiers.iter().any(enough);
    let may = |tier: &TierHealth| if any_enough { enough(tier) } else { tier.healthy > 0 };
    let could: Vec<f64> = tiers
        .iter()
        .map(|tier| if may(tier) { capacity(tier, policy, Counted::Healthy) } else { 0.0 })
        .collect();
    let may_now: Vec<f64> = tiers
        .iter()
        .map(|tier| if may(tier) { capacity(tier, policy, Counted::Returned) } else { 0.0 })
        .collect();
    let mut rest = 1.0;
    let mut shares = vec![0.0; tiers.len()];
    // First what has settled, nearest first; then, if load is left, what is held back.
    for (share, now) in shares.iter_mut().zip(&may_now) {
        let taken = f64::min(rest, *now);
        *share += taken;
        rest -= taken;
    }
    for (share, (could, now)) in shares.iter_mut().zip(could.iter().zip(&may_now)) {
        let taken = f64::min(rest, (could - now).max(0.0));
        *share += taken;
        rest -= taken;
    }
    let sum: f64 = shares.iter().sum();
    if sum > 0.0 && sum < 1.0 {
        shares.iter_mut().for_each(|share| *share /= sum);
    }
    shares
}

/// Sum of what the tiers can take before it is divided; below 1 no tier can take the rest.
pub fn capacity_sum(tiers: &[TierHealth], policy: &FailoverPolicy) -> f64 {
    tiers.iter().map(|tier| capacity(tier, policy, Counted::Healthy)).sum()
}

#[derive(Clone, Copy)]
enum Counted {
    Healthy,
    Returned,
}

/// The part of the whole load that a tier can take, 0 to 1.
fn capacity(tier: &TierHealth, policy: &FailoverPolicy, counted: Counted) -> f64 {
    if tier.healthy == 0 {
        return 0.0;
    }
    let healthy = f64::from(tier.healthy);
    if policy.strict {
        return match counted {
            Counted::Healthy => 1.0,
            // One endpoint is enough to take all, so the first that is back decides.
            Counted::Returned => tier.furthest.clamp(0.0, 1.0),
        };
    }
    let counted = match counted {
        Counted::Healthy => healthy,
        Counted::Returned => tier.returned.clamp(0.0, healthy),
    };
    let factor = f64::from(policy.overprovisioning_pct) / 100.0;
    // Peers may send a total below the healthy ones; a fraction above 1 means nothing more than 1.
    (factor * counted / f64::from(tier.total.max(1))).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tier(healthy: u32, total: u32) -> TierHealth {
        TierHealth { healthy, returned: f64::from(healthy), furthest: 1.0, total }
    }

    fn held(healthy: u32, returned: f64, total: u32) -> TierHealth {
        TierHealth { healthy, returned, furthest: returned / f64::from(healthy), total }
    }

    fn check(tiers: &[TierHealth], policy: &FailoverPolicy, expected: &[f64]) {
        let found = shares(tiers, policy);
        let near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-9);
        assert!(near && found.len() == expected.len(), "{found:?} instead of {expected:?}");
    }

    #[test]
    fn a_tier_takes_what_it_can_and_the_rest_spills() {
        let policy = FailoverPolicy::default();
        check(&[tier(2, 2), tier(3, 3)], &policy, &[1.0, 0.0]);
        check(&[tier(1, 2), tier(3, 3)], &policy, &[0.7, 0.3]);
        check(&[tier(0, 2), tier(3, 3)], &policy, &[0.0, 1.0]);
        check(&[tier(1, 4), tier(1, 4)], &policy, &[0.5, 0.5]);
        check(&[tier(0, 2), tier(0, 3)], &policy, &[0.0, 0.0]);
        check(&[], &policy, &[]);
    }

    #[test]
    fn strict_takes_all_until_it_is_empty() {
        let policy = FailoverPolicy { strict: true, ..FailoverPolicy::default() };
        check(&[tier(1, 10), tier(3, 3)], &policy, &[1.0, 0.0]);
        check(&[tier(0, 10), tier(1, 3), tier(3, 3)], &policy, &[0.0, 1.0, 0.0]);
    }

    #[test]
    fn a_tier_below_the_minimum_takes_nothing_while_another_can() {
        let policy = FailoverPolicy { min_healthy: 2, ..FailoverPolicy::default() };
        check(&[tier(1, 1), tier(2, 2)], &policy, &[0.0, 1.0]);
        check(&[tier(1, 1), tier(1, 2)], &policy, &[1.0, 0.0]);
    }

    #[test]
    fn what_recovers_is_held_back_only_as_far_as_others_can_take_the_load() {
        let policy = FailoverPolicy::default();
        check(&[held(2, 0.0, 2), tier(3, 3)], &policy, &[0.0, 1.0]);
        check(&[held(2, 1.0, 2), tier(3, 3)], &policy, &[0.7, 0.3]);
        check(&[held(2, 0.0, 2), tier(0, 3)], &policy, &[1.0, 0.0]);
        // The second can take 0.7; the held one takes the rest at once.
        check(&[held(2, 0.0, 2), tier(1, 2)], &policy, &[0.3, 0.7]);
    }

    #[test]
    fn a_strict_tier_returns_along_the_ramp_too() {
        let policy = FailoverPolicy { strict: true, ..FailoverPolicy::default() };
        check(&[held(3, 1.5, 3), tier(3, 3)], &policy, &[0.5, 0.5]);
        check(&[TierHealth { furthest: 1.0, ..held(3, 1.0, 3) }, tier(3, 3)], &policy, &[1.0, 0.0]);
    }
}
