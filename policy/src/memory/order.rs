//! Sites by round trip, in an order that does not follow every quiver.

use model::ids::SiteId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a difference must last before it changes the order.
pub const LASTS: Duration = Duration::from_secs(30);
/// Most sites that are ordered; others come after them, by name.
pub const SITES_MAX: usize = 1_024;
/// Most differences that are watched at a time; the rest is looked at when there is room.
const WATCHED_MAX: usize = 8_192;
/// Most changes of place at a time; the rest follows with the next.
const MOVES_MAX: usize = 64;

/// Sites by round trip, nearest first. Two change places only when the round trip of the first is over 20 % greater than
/// that of the second for 30 s.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    /// Bound: `SITES_MAX`.
    sites: Vec<SiteId>,
    rtts: BTreeMap<SiteId, Duration>,
    /// Pairs in the wrong order (the first stands ahead), and since when. Bound: `WATCHED_MAX`.
    wrong: BTreeMap<(SiteId, SiteId), Instant>,
}

impl Order {
    /// The sites whose round trip was measured, nearest first.
    pub fn sites(&self) -> &[SiteId] {
        &self.sites
    }

    /// The round trip to a site was measured.
    pub fn handle_rtt(&mut self, site: &SiteId, rtt: Duration, now: Instant) {
        self.handle_timeout(now);
        let known = self.rtts.contains_key(site);
        if !known && self.sites.len() >= SITES_MAX {
            return;
        }
        self.rtts.insert(site.clone(), rtt);
        if !known {
            // At first sight it takes its place at once.
            let nearer = |other: &SiteId| (self.rtt(other), other) < (rtt, site);
            let place = self.sites.iter().position(|other| !nearer(other)).unwrap_or(self.sites.len());
            self.sites.insert(place, site.clone());
        }
        self.watch(site, now);
    }

    /// A site is gone.
    pub fn handle_removed(&mut self, site: &SiteId) {
        self.sites.retain(|other| other != site);
        self.rtts.remove(site);
        self.wrong.retain(|(front, back), _| front != site && back != site);
    }

    /// Changes the order where a difference has lasted. A site may pass one that stands between it and the place that
    /// it has earned.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        let mut moved: Vec<SiteId> = Vec::new();
        // Whoever has the shortest way goes first, so that nobody is passed who need not be.
        while let Some((to, from)) = self.next_move(now).filter(|_| moved.len() < MOVES_MAX) {
            let site = self.sites.remove(from);
            self.sites.insert(to, site.clone());
            moved.push(site);
        }
        for site in moved {
            self.watch(&site, now);
        }
        let places = self.places();
        self.wrong.retain(|(front, back), _| places.get(front) < places.get(back));
    }

    /// Places of the nearest two of which the second has to pass the first.
    fn next_move(&self, now: Instant) -> Option<(usize, usize)> {
        let places = self.places();
        let lasted = self.wrong.iter().filter(|(_, since)| now.saturating_duration_since(**since) >= LASTS);
        let moves = lasted.filter_map(|((front, back), _)| Some((*places.get(front)?, *places.get(back)?)));
        moves.filter(|(to, from)| to < from).min_by_key(|(to, from)| from - to)
    }

    fn places(&self) -> BTreeMap<SiteId, usize> {
        self.sites.iter().cloned().zip(0..).collect()
    }

    /// When the order may change next, if nothing new is measured.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wrong.values().min().map(|since| *since + LASTS)
    }

    /// Looks at all pairs of a site.
    fn watch(&mut self, site: &SiteId, now: Instant) {
        let Some(place) = self.sites.iter().position(|other| other == site) else { return };
        for (at, other) in self.sites.iter().enumerate().filter(|(at, _)| *at != place) {
            let (front, back) = if at < place { (other, site) } else { (site, other) };
            let pair = (front.clone(), back.clone());
            // Over 20 % greater: 5 × front > 6 × back.
            if self.rtt(front).saturating_mul(5) > self.rtt(back).saturating_mul(6) {
                if self.wrong.len() < WATCHED_MAX {
                    self.wrong.entry(pair).or_insert(now);
                }
            } else {
                self.wrong.remove(&pair);
            }
        }
    }

    fn rtt(&self, site: &SiteId) -> Duration {
        self.rtts.get(site).copied().unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::some_instant;

    /// Plays `(second, site, rtt in ms)`; gives the order at the end.
    fn order(steps: &[(u64, &str, u64)], end: u64) -> String {
        let start = some_instant();
        let mut order = Order::default();
        for (second, site, ms) in steps {
            let now = start + Duration::from_secs(*second);
            order.handle_rtt(&site.parse().expect("valid"), Duration::from_millis(*ms), now);
        }
        order.handle_timeout(start + Duration::from_secs(end));
        order.sites().iter().map(SiteId::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_new_site_takes_its_place_at_once() {
        assert_eq!(order(&[(0, "a", 50), (1, "b", 20), (2, "c", 30)], 2), "b c a");
        assert_eq!(order(&[(0, "b", 50), (1, "a", 50)], 1), "a b");
    }

    #[test]
    fn the_order_changes_only_for_a_difference_that_is_great_and_lasts() {
        let steps = [(0, "a", 50), (0, "b", 60), (10, "b", 40)];
        assert_eq!(order(&steps, 39), "a b");
        assert_eq!(order(&steps, 40), "b a");
        // 20 % and no more.
        assert_eq!(order(&[(0, "a", 48), (0, "b", 60), (10, "b", 40)], 100), "a b");
    }

    #[test]
    fn a_difference_that_ends_begins_anew() {
        let steps = [(0, "a", 50), (0, "b", 60), (10, "b", 40), (30, "b", 45), (35, "b", 40)];
        assert_eq!(order(&steps, 64), "a b");
        assert_eq!(order(&steps, 65), "b a");
        let other = [(0, "a", 50), (0, "b", 60), (10, "b", 40), (30, "a", 40)];
        assert_eq!(order(&other, 100), "a b");
    }

    #[test]
    fn a_site_may_pass_several_others_at_once() {
        let steps = [(0, "a", 10), (0, "b", 20), (0, "c", 30), (0, "d", 40), (10, "d", 1)];
        assert_eq!(order(&steps, 39), "a b c d");
        assert_eq!(order(&steps, 40), "d a b c");
    }

    #[test]
    fn a_site_that_is_gone_leaves_nothing() {
        let start = some_instant();
        let mut order = Order::default();
        let (a, b): (SiteId, SiteId) = ("a".parse().expect("valid"), "b".parse().expect("valid"));
        order.handle_rtt(&a, Duration::from_millis(10), start);
        order.handle_rtt(&b, Duration::from_millis(20), start);
        order.handle_rtt(&b, Duration::from_millis(1), start);
        assert!(order.poll_timeout().is_some());
        order.handle_removed(&b);
        assert_eq!((order.poll_timeout(), order.sites()), (None, &[a][..]));
        assert_eq!(order.rtts.len(), 1);
    }
}
