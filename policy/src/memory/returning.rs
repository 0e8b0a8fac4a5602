//! Endpoints that have recovered, and how much of their load they have back.

use model::routing::FailoverPolicy;
use std::time::{Duration, Instant};

/// Most recoveries at different times that are told apart; past this, the newest two become one that began later.
const HELD_MAX: usize = 32;

/// The healthy endpoints of one group, and those of them that have just recovered.
///
/// A rise up to what was healthy before is a recovery, and is held back. A rise above it is growth, and is not: what is
/// seen for the first time has nothing to recover from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Returning {
    healthy: u32,
    /// The most that was healthy since the group was last whole.
    peak: u32,
    /// Recoveries, oldest first: how many endpoints, since when. Bound: `HELD_MAX`.
    held: Vec<(u32, Instant)>,
}

/// How much of a group has its load back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Returned {
    /// Endpoints that have not just recovered.
    pub settled: u32,
    /// `settled`, and the part of the others that has returned.
    pub returned: f64,
    /// How far the one that has been back the longest has its load, 0 to 1; 1 when any has not just recovered.
    pub furthest: f64,
    /// Until the first of those that are held back begins to return; none: it has begun, or none is held.
    pub begins_in: Option<Duration>,
}

impl Returning {
    /// `healthy` endpoints of `total` can take load now.
    pub fn handle_healthy(&mut self, healthy: u32, total: u32, policy: &FailoverPolicy, now: Instant) {
        let over = policy.failback_delay.saturating_add(policy.failback_ramp);
        self.held.retain(|(_, since)| now.saturating_duration_since(*since) < over);
        self.held = self.held_after_fall(healthy);
        // Bounded by the peak, so what grows beyond it is not counted.
        let recovered = healthy.min(self.peak).saturating_sub(self.healthy.min(self.peak));
        if recovered > 0 && !over.is_zero() {
            let full = self.held.len() >= HELD_MAX;
            match self.held.last_mut().filter(|_| full) {
                Some((count, since)) => (*count, *since) = (count.saturating_add(recovered), now),
                None => self.held.push((recovered, now)),
            }
        }
        self.healthy = healthy;
        // A group that is whole has forgotten what it once was; else scaling down would make all later growth a recovery.
        self.peak = if healthy > 0 && healthy >= total { healthy } else { self.peak.max(healthy) };
    }

    /// How much of `healthy` endpoints has its load back.
    pub fn returned(&self, healthy: u32, policy: &FailoverPolicy, now: Instant) -> Returned {
        let held = self.held_after_fall(healthy);
        let mut missing = 0.0;
        let mut held_count = 0_u32;
        let mut begins_in: Option<Duration> = None;
        let mut furthest = 0.0_f64;
        for (count, since) in held {
            let waited = now.saturating_duration_since(since);
            let progress = match waited.checked_sub(policy.failback_delay) {
                None => 0.0,
                Some(_) if policy.failback_ramp.is_zero() => 1.0,
                Some(ramped) => (ramped.as_secs_f64() / policy.failback_ramp.as_secs_f64()).min(1.0),
            };
            if progress >= 1.0 {
                continue;
            }
            held_count = held_count.saturating_add(count);
            furthest = furthest.max(progress);
            missing += f64::from(count) * (1.0 - progress);
            let wait = policy.failback_delay.saturating_sub(waited);
            begins_in = Some(begins_in.map_or(wait, |least| least.min(wait)));
        }
        let settled = healthy.saturating_sub(held_count);
        Returned {
            settled,
            furthest: if settled > 0 { 1.0 } else { furthest },
            returned: (f64::from(healthy) - missing).max(0.0),
            begins_in: begins_in.filter(|wait| !wait.is_zero()),
        }
    }

    /// A loss is first one of those that came back last: they flap.
    fn held_after_fall(&self, healthy: u32) -> Vec<(u32, Instant)> {
        let mut held = self.held.clone();
        let mut fall = self.healthy.saturating_sub(healthy);
        while let Some((count, _)) = held.last_mut().filter(|_| fall > 0) {
            let lost = fall.min(*count);
            *count -= lost;
            fall -= lost;
            if *count == 0 {
                held.pop();
            }
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::some_instant;

    /// Plays `(second, healthy)` steps of a group of `total`; gives how much has returned at `second`.
    fn returned(total: u32, steps: &[(u64, u32)], second: u64) -> f64 {
        let start = some_instant();
        let policy = FailoverPolicy::default();
        let mut returning = Returning::default();
        for (second, healthy) in steps {
            returning.handle_healthy(*healthy, total, &policy, start + Duration::from_secs(*second));
        }
        let healthy = steps.last().expect("a step").1;
        returning.returned(healthy, &policy, start + Duration::from_secs(second)).returned
    }

    fn check(total: u32, steps: &[(u64, u32)], expected: &[(u64, f64)]) {
        for (second, part) in expected {
            let found = returned(total, steps, *second);
            assert!((found - part).abs() < 1e-9, "{found} instead of {part} after {second} s");
        }
    }

    #[test]
    fn what_is_seen_first_is_not_held_back() {
        check(2, &[(0, 2)], &[(0, 2.0)]);
        check(3, &[(0, 0), (1, 1), (2, 2), (3, 3)], &[(3, 3.0)]);
    }

    #[test]
    fn a_recovery_waits_and_then_returns_along_a_ramp() {
        let steps = [(0, 2), (60, 0), (100, 2)];
        check(2, &steps, &[(100, 0.0), (109, 0.0), (110, 0.0), (115, 1.0), (120, 2.0), (500, 2.0)]);
    }

    #[test]
    fn each_recovery_has_its_own_ramp() {
        let steps = [(0, 2), (60, 0), (100, 1), (105, 2)];
        check(2, &steps, &[(112, 0.2), (116, 0.7), (120, 1.5), (125, 2.0)]);
    }

    #[test]
    fn a_loss_acts_at_once_and_what_flaps_waits_again() {
        check(3, &[(0, 3), (60, 2)], &[(60, 2.0)]);
        check(3, &[(0, 3), (60, 2), (70, 3), (75, 2)], &[(75, 2.0)]);
        check(3, &[(0, 3), (60, 2), (70, 3), (75, 2), (76, 3)], &[(85, 2.0), (91, 2.5), (96, 3.0)]);
        check(3, &[(0, 3), (60, 2), (70, 3), (75, 1)], &[(75, 1.0)]);
    }

    #[test]
    fn a_site_that_was_away_for_long_still_returns_gently() {
        check(2, &[(0, 2), (60, 0), (7_200, 2)], &[(7_205, 0.0), (7_220, 2.0)]);
    }

    #[test]
    fn growth_is_not_a_recovery() {
        // One of one, then two are registered and come up.
        check(2, &[(0, 1), (60, 2)], &[(60, 2.0)]);
        let start = some_instant();
        let policy = FailoverPolicy::default();
        let mut returning = Returning::default();
        // Scaled down from ten to three, which is whole again; the fourth is growth.
        for (healthy, total) in [(10, 10), (3, 10), (3, 3), (4, 4)] {
            returning.handle_healthy(healthy, total, &policy, start);
        }
        assert_eq!(returning.returned(4, &policy, start).settled, 4);
    }

    #[test]
    fn many_recoveries_need_no_more_room() {
        let start = some_instant();
        let policy =
            FailoverPolicy { failback_delay: Duration::from_secs(3_600), ..FailoverPolicy::default() };
        let mut returning = Returning::default();
        returning.handle_healthy(1_000, 1_000, &policy, start);
        returning.handle_healthy(0, 1_000, &policy, start);
        for healthy in 1..=1_000 {
            returning.handle_healthy(healthy, 1_000, &policy, start + Duration::from_secs(healthy.into()));
        }
        assert!(returning.held.len() <= HELD_MAX);
        assert_eq!(returning.returned(1_000, &policy, start + Duration::from_secs(1_000)).settled, 0);
    }
}
