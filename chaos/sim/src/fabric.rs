//! The network: a router that asks its rules about each packet. It has no clock and keeps no packet.

use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// What a packet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// A message of a catalog session: ordered and reliable, so what is dropped waits.
    Stream,
    /// A probe between two gateways over the path with this number: what is dropped is gone.
    Probe(u8),
}

/// Something that is to go from one site to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Number of the sending site.
    pub from: usize,
    /// Number of the receiving site.
    pub to: usize,
    /// What it belongs to.
    pub carries: Carries,
}

/// What a rule says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This rule has nothing to say.
    Pass,
    /// It arrives this much later than it would.
    Late(Duration),
    /// It does not arrive.
    Drop,
}

type Decide = Box<dyn Fn(&Packet, &mut fastrand::Rng) -> Verdict>;

struct Rule {
    decide: Decide,
    alive: Weak<()>,
}

/// A fault: it lasts as long as this is kept, and heals when it is dropped.
#[derive(Debug, Clone)]
pub struct Fault {
    _alive: Rc<()>,
}

/// The router.
pub struct Fabric {
    /// One-way delay from each site to each other.
    delays: Vec<Vec<Duration>>,
    rules: Vec<Rule>,
    rng: fastrand::Rng,
}

impl fmt::Debug for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fabric").field("rules", &self.rules.len()).finish_non_exhaustive()
    }
}

impl Fabric {
    /// A fabric for this many sites, with delays of 1 to 120 ms each way.
    pub fn new(seed: u64, sites: usize) -> Self {
        let mut rng = crate::chance::child(seed, "delays", 0);
        let delays = (0..sites)
            .map(|_| (0..sites).map(|_| Duration::from_micros(rng.u64(1_000..120_000))).collect())
            .collect();
        Self { delays, rules: Vec::new(), rng: crate::chance::child(seed, "packets", 0) }
    }

    /// Adds a rule; the first that does not pass decides.
    pub fn add(&mut self, decide: impl Fn(&Packet, &mut fastrand::Rng) -> Verdict + 'static) -> Fault {
        let alive = Rc::new(());
        self.rules.push(Rule { decide: Box::new(decide), alive: Rc::downgrade(&alive) });
        Fault { _alive: alive }
    }

    /// Forgets rules whose fault was dropped. Whether there were any.
    pub fn heal(&mut self) -> bool {
        let before = self.rules.len();
        self.rules.retain(|rule| rule.alive.strong_count() > 0);
        self.rules.len() < before
    }

    /// When a packet arrives; none: it does not.
    pub fn route(&mut self, packet: &Packet) -> Option<Duration> {
        let base = self.delays[packet.from][packet.to];
        for rule in &self.rules {
            match (rule.decide)(packet, &mut self.rng) {
                Verdict::Pass => {}
                Verdict::Late(more) => return Some(base + more),
                Verdict::Drop => return None,
            }
        }
        Some(base + Duration::from_micros(self.rng.u64(0..2_000)))
    }
}

/// Nothing passes between two sites.
pub fn cut(a: usize, b: usize) -> impl Fn(&Packet, &mut fastrand::Rng) -> Verdict {
    move |packet, _| drop_if((packet.from, packet.to) == (a, b) || (packet.from, packet.to) == (b, a))
}

/// Nothing passes from one site to another; the other way is open.
pub fn cut_one_way(from: usize, to: usize) -> impl Fn(&Packet, &mut fastrand::Rng) -> Verdict {
    move |packet, _| drop_if((packet.from, packet.to) == (from, to))
}

/// One of the paths between two sites is dead; streams use another.
pub fn cut_path(a: usize, b: usize, path: u8) -> impl Fn(&Packet, &mut fastrand::Rng) -> Verdict {
    move |packet, _| {
        let between = (packet.from, packet.to) == (a, b) || (packet.from, packet.to) == (b, a);
        drop_if(between && packet.carries == Carries::Probe(path))
    }
}

/// Nothing passes between two groups of sites.
pub fn partition(left: &[usize], right: &[usize]) -> impl Fn(&Packet, &mut fastrand::Rng) -> Verdict + use<> {
    let (left, right) = (left.to_vec(), right.to_vec());
    move |packet, _| {
        let crosses = |a: &[usize], b: &[usize]| a.contains(&packet.from) && b.contains(&packet.to);
        drop_if(crosses(&left, &right) || crosses(&right, &left))
    }
}

/// Nothing passes to or from a site.
pub fn isolate(site: usize) -> impl Fn(&Packet, &mut fastrand::Rng) -> Verdict {
    move |packet, _| drop_if(packet.from == site || packet.to == site)
}

/// A share of the packets between two sites is lost. Streams repeat theirs, each time 200 ms later.
pub fn lossy(a: usize, b: usize, loss_percent: u8) -> impl Fn(&Packet, &mut fastrand::Rng) -> Verdict {
    move |packet, rng| {
        if (packet.from, packet.to) != (a, b) && (packet.from, packet.to) != (b, a) {
            return Verdict::Pass;
        }
        let mut repeats = 0;
        while repeats < 20 && rng.u8(0..100) < loss_percent {
            repeats += 1;
        }
        match packet.carries {
            Carries::Stream => Verdict::Late(Duration::from_millis(200) * repeats),
            Carries::Probe(_) => drop_if(repeats > 0),
        }
    }
}

/// Everything between two sites takes longer.
pub fn slow(a: usize, b: usize, more: Duration) -> impl Fn(&Packet, &mut fastrand::Rng) -> Verdict {
    move |packet, _| {
        if (packet.from, packet.to) == (a, b) || (packet.from, packet.to) == (b, a) {
            Verdict::Late(more)
        } else {
            Verdict::Pass
        }
    }
}

fn drop_if(condition: bool) -> Verdict {
    if condition { Verdict::Drop } else { Verdict::Pass }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_lasts_as_long_as_its_guard() {
        let mut fabric = Fabric::new(1, 3);
        let packet = Packet { from: 0, to: 1, carries: Carries::Stream };
        let fault = fabric.add(cut_one_way(0, 1));
        assert_eq!(fabric.route(&packet), None);
        assert!(fabric.route(&Packet { from: 1, to: 0, ..packet }).is_some());
        assert!(!fabric.heal());
        drop(fault);
        assert!(fabric.heal());
        assert!(fabric.route(&packet).is_some());
    }
}
