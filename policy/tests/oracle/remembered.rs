//! What is remembered, against a full history that forgets nothing.

use crate::world::{self, PORT, caller, group, idle, import, own_group, service, site, view};
use model::decision::Reason;
use model::ids::SiteId;
use model::routing::{FailoverPolicy, PeerState};
use policy::memory::high_water::{HighWater, WINDOW};
use policy::memory::order::Order;
use policy::memory::returning::Returning;
use policy::{Ask, Router};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The greatest value that held at any time of the ten minutes before the end.
fn greatest(history: &[(Instant, u32)], end: Instant) -> u32 {
    let mut greatest = 0;
    for (at, (_, value)) in history.iter().enumerate() {
        let until = history.get(at + 1).map_or(end, |(next, _)| *next);
        let is_last = at + 1 == history.len();
        if is_last || end.duration_since(until) < WINDOW {
            greatest = greatest.max(*value);
        }
    }
    greatest
}

/// One endpoint of a group, told apart from the others, which the code does not do.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Unit {
    Down,
    Settled,
    Recovered(Instant),
}

/// Plays healthy counts over units: what falls was the newest recovery, else a settled one; what rises recovers while
/// the count was once as high since the group was whole.
struct Units {
    units: Vec<Unit>,
    peak: usize,
}

impl Units {
    fn up(&self) -> usize {
        self.units.iter().filter(|unit| **unit != Unit::Down).count()
    }

    fn set(&mut self, healthy: usize, total: usize, now: Instant) {
        while self.up() > healthy {
            let newest = |unit: &&mut Unit| match **unit {
                Unit::Down => None,
                Unit::Settled => Some(None),
                Unit::Recovered(since) => Some(Some(since)),
            };
            let unit = self.units.iter_mut().filter(|unit| **unit != Unit::Down).max_by_key(newest);
            *unit.expect("one is up") = Unit::Down;
        }
        while self.up() < healthy {
            let known = self.up() < self.peak;
            let unit = self.units.iter_mut().find(|unit| **unit == Unit::Down).expect("one is down");
            *unit = if known { Unit::Recovered(now) } else { Unit::Settled };
        }
        self.peak = if healthy > 0 && healthy >= total { healthy } else { self.peak.max(healthy) };
    }

    fn returned(&self, policy: &FailoverPolicy, now: Instant) -> f64 {
        let part = |unit: &Unit| match unit {
            Unit::Down => 0.0,
            Unit::Settled => 1.0,
            Unit::Recovered(since) => {
                let waited = now.duration_since(*since).as_secs_f64() - policy.failback_delay.as_secs_f64();
                if waited < 0.0 { 0.0 } else { (waited / policy.failback_ramp.as_secs_f64()).min(1.0) }
            }
        };
        self.units.iter().map(part).sum()
    }
}

/// Every pair is looked at in the whole history: since when is the one behind nearer by over 20 %?
struct Pairs {
    order: Vec<SiteId>,
    rtts: BTreeMap<SiteId, u64>,
    since: BTreeMap<(SiteId, SiteId), u64>,
}

impl Pairs {
    fn wrong(&self, front: &SiteId, back: &SiteId) -> bool {
        let place = |site: &SiteId| self.order.iter().position(|other| other == site).expect("known");
        place(front) < place(back) && self.rtts[front] * 5 > self.rtts[back] * 6
    }
}

fn decide(router: &Router, now: Instant) -> Reason {
    let (service, caller, tried) = (service(), caller("us/sjc"), BTreeSet::new());
    let ask = Ask {
        service: &service,
        port: PORT,
        caller: &caller,
        target: None,
        tried: &tried,
        open_streams: &idle,
    };
    router.decide(&ask, now, 1).reason
}

/// One thing that happens to a small world: west (own) and east.
#[derive(Debug, Clone)]
enum Event {
    Own(&'static str),
    East(u32, u32),
    Peer(PeerState),
    Wait(u64),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        prop::sample::select(vec!["hh", "hu", "uu", "uh", "h", "hhh", "u", "huu"]).prop_map(Event::Own),
        (0_u32..3, 0_u32..2).prop_map(|(healthy, more)| Event::East(healthy, healthy + more)),
        prop::sample::select(vec![PeerState::Connected, PeerState::Unreachable, PeerState::Degraded])
            .prop_map(Event::Peer),
        (1_u64..15).prop_map(Event::Wait),
        (300_u64..700).prop_map(Event::Wait),
    ]
}

proptest! {
    #![proptest_config(world::config(800))]

    #[test]
    fn the_high_water_mark_is_the_greatest_of_ten_minutes(steps in prop::collection::vec((0_u64..200, 0_u32..50), 1..40)) {
        let mut now = world::start();
        let mut water = HighWater::default();
        let mut history = Vec::new();
        for (wait, value) in steps {
            now += Duration::from_secs(wait);
            water.handle_value(value, now);
            history.push((now, value));
            for later in [0, 1, 299, 599, 600, 601] {
                let end = now + Duration::from_secs(later);
                let (mark, exact) = (water.mark(end), greatest(&history, end));
                // Beyond sixteen steps downwards it may stay up longer, and never lower.
                prop_assert!(if history.len() <= 16 { mark == exact } else { mark >= exact }, "{mark} for {exact}");
            }
        }
    }

    #[test]
    fn what_has_returned_is_the_sum_over_single_endpoints(
        steps in prop::collection::vec((0_u64..12, 0_u32..6, 4_u32..7), 1..30),
    ) {
        let policy = FailoverPolicy::default();
        let mut now = world::start();
        let mut returning = Returning::default();
        let mut units = Units { units: vec![Unit::Down; 8], peak: 0 };
        for (wait, healthy, total) in steps {
            now += Duration::from_secs(wait);
            // A recovery that is over is settled, so that a later loss takes a younger one first.
            for unit in &mut units.units {
                if let Unit::Recovered(since) = unit && now.duration_since(*since) >= Duration::from_secs(20) {
                    *unit = Unit::Settled;
                }
            }
            returning.handle_healthy(healthy, total, &policy, now);
            units.set(healthy as usize, total as usize, now);
            for later in [0, 5, 10, 15, 20] {
                let end = now + Duration::from_secs(later);
                let found = returning.returned(healthy, &policy, end);
                let exact = units.returned(&policy, end);
                prop_assert!((found.returned - exact).abs() < 1e-6, "{:?} for {}", found, exact);
                prop_assert!(f64::from(found.settled) <= found.returned + 1e-9 && found.returned <= f64::from(healthy));
            }
        }
    }

    #[test]
    fn the_order_of_sites_changes_only_for_what_is_great_and_lasts(
        steps in prop::collection::vec((0_u64..20, 0_usize..4, 1_u64..20), 1..60),
    ) {
        let names: Vec<SiteId> = ["a", "b", "c", "d"].map(site).to_vec();
        let start = world::start();
        let mut order = Order::default();
        let mut pairs = Pairs { order: Vec::new(), rtts: BTreeMap::new(), since: BTreeMap::new() };
        let mut second = 0;
        for (wait, which, rtt_ms) in steps {
            second += wait;
            let site = &names[which];
            let before = order.sites().to_vec();
            order.handle_rtt(site, Duration::from_millis(rtt_ms), start + Duration::from_secs(second));
            let after = order.sites().to_vec();
            // Whoever has passed another was over 20 % nearer for 30 s, by the history up to now: than it, or than one
            // ahead of it, since the way there leads past it.
            for (at, back) in before.iter().enumerate() {
                for (ahead, front) in before[..at].iter().enumerate() {
                    let place = |site: &SiteId| after.iter().position(|other| other == site);
                    let earned = before[..=ahead].iter().any(|front| {
                        let since = pairs.since.get(&(front.clone(), back.clone()));
                        since.is_some_and(|since| second - since >= 30)
                    });
                    prop_assert!(place(back) > place(front) || earned, "{} passed {}", back, front);
                }
            }
            // And a difference that has lasted is gone.
            for ((front, back), since) in &pairs.since {
                let place = |site: &SiteId| after.iter().position(|other| other == site);
                prop_assert!(second - since < 30 || place(back) < place(front), "{} has not passed {}", back, front);
            }
            pairs.order = after;
            pairs.rtts.insert(site.clone(), rtt_ms);
            for front in &pairs.order {
                for back in &pairs.order {
                    let pair = (front.clone(), back.clone());
                    if front != back && pairs.wrong(front, back) {
                        pairs.since.entry(pair).or_insert(second);
                    } else {
                        pairs.since.remove(&pair);
                    }
                }
            }
        }
    }

    #[test]
    fn whatever_happened_before_shares_sum_to_one_and_dead_sites_get_nothing(
        events in prop::collection::vec(any_event(), 1..40),
    ) {
        let mut now = world::start();
        let mut router = Router::new(site("west"), "gateway gw-0".to_owned());
        let (mut own, mut east, mut state) = ("hh", (2, 2), PeerState::Connected);
        for event in events {
            match event {
                Event::Own(endpoints) => own = endpoints,
                Event::East(healthy, total) => east = (healthy, total),
                Event::Peer(new) => state = new,
                Event::Wait(seconds) => now += Duration::from_secs(seconds),
            }
            router.handle_timeout(now);
            router.handle_peer(&site("east"), view(state, 10), now);
            let groups = vec![group("east", "eu/fra", east.0, east.1), own_group("us/sjc", own)];
            router.handle_import(import(groups), now);
            let reason = decide(&router, now);
            let east_usable = state.is_usable();
            let own_healthy = own.contains('h');
            let sum: f64 = reason.tiers.iter().map(|tier| tier.share).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9, "{:?}", reason);
            let share = |name: &str| reason.tiers.iter().find(|tier| tier.groups[0].id.site == site(name)).expect("there").share;
            if !east_usable || (east.0 == 0 && own_healthy) {
                prop_assert!(share("east") == 0.0, "{:?}", reason);
            }
            if !own_healthy && east_usable && east.0 > 0 {
                prop_assert!(share("west") == 0.0, "loss acts at once: {:?}", reason);
            }
            if own_healthy && (!east_usable || east.0 == 0) {
                prop_assert!((share("west") - 1.0).abs() < 1e-9, "no delay when nobody else can: {:?}", reason);
            }
        }
    }
}
