//! The link signal: gateways probe each other over two paths per pair of sites, and say what they see.

use super::World;
use crate::fabric::Carries;
use federation_core::peer::PathsSummary;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often each path is probed.
pub const INTERVAL: Duration = Duration::from_millis(500);
/// Paths between two sites.
const PATHS: u8 = 2;
/// Misses in a row after which a path is dead.
const MISSES: u32 = 3;

/// What gateways see of their paths.
#[derive(Debug)]
pub struct Probes {
    sites: usize,
    /// Misses in a row of each path, by (lower site, higher site, path). A path that never answered is dead.
    misses: BTreeMap<(usize, usize, u8), u32>,
    /// What each site was last told of each peer, in the life of its process.
    told: BTreeMap<(usize, usize), PathsSummary>,
    /// When a site last had a live path to a peer, or started.
    path_seen: BTreeMap<(usize, usize), Instant>,
    /// When a site last had a live path to a peer or a message from it, or started.
    heard: BTreeMap<(usize, usize), Instant>,
}

impl Probes {
    /// Nothing has answered yet.
    pub fn new(sites: usize, now: Instant) -> Self {
        let pairs = || (0..sites).flat_map(move |a| (0..sites).map(move |b| (a, b)));
        Self {
            sites,
            misses: BTreeMap::new(),
            told: BTreeMap::new(),
            path_seen: pairs().map(|pair| (pair, now)).collect(),
            heard: pairs().map(|pair| (pair, now)).collect(),
        }
    }

    /// A process or a link is new, and has been told nothing.
    pub fn forget_told(&mut self, site: usize, peer: usize, now: Instant) {
        self.told.remove(&(site, peer));
        self.path_seen.insert((site, peer), now);
        self.heard.insert((site, peer), now);
    }

    /// A message arrived.
    pub fn heard(&mut self, site: usize, peer: usize, now: Instant) {
        self.heard.insert((site, peer), now);
    }

    /// Since when a site has had no live path to a peer, as far as it could know.
    pub fn path_seen(&self, site: usize, peer: usize) -> Instant {
        self.path_seen[&(site, peer)]
    }

    /// Since when a site has had neither a live path nor a message.
    pub fn last_heard(&self, site: usize, peer: usize) -> Instant {
        self.heard[&(site, peer)]
    }

    /// What a site was told.
    pub fn told(&self, site: usize, peer: usize) -> Option<&PathsSummary> {
        self.told.get(&(site, peer))
    }

    fn summary(&self, a: usize, b: usize) -> PathsSummary {
        let misses = |path| self.misses.get(&(a, b, path)).copied().unwrap_or(MISSES);
        let live = (0..PATHS).filter(|path| misses(*path) < MISSES).count();
        let degraded = (0..PATHS).any(|path| (1..MISSES).contains(&misses(path)));
        PathsSummary {
            live: u32::try_from(live).unwrap_or(0),
            total: u32::from(PATHS),
            degraded,
            problem: String::new(),
        }
    }
}

impl World {
    /// Every path is probed once; sites are told of what changed.
    pub(super) fn probe(&mut self) {
        for a in 0..self.probes.sites {
            for b in a + 1..self.probes.sites {
                for path in 0..PATHS {
                    let there = self.route(a, b, Carries::Probe(path)).is_some();
                    let back = self.route(b, a, Carries::Probe(path)).is_some();
                    let misses = self.probes.misses.entry((a, b, path)).or_insert(MISSES);
                    *misses = if there && back { 0 } else { (*misses + 1).min(MISSES) };
                }
                let summary = self.probes.summary(a, b);
                self.tell(a, b, &summary);
                self.tell(b, a, &summary);
            }
        }
    }

    fn tell(&mut self, site: usize, peer: usize, summary: &PathsSummary) {
        if self.sites[site].process.is_none() || !self.sites[site].links.contains_key(&peer) {
            return;
        }
        if summary.live > 0 {
            self.probes.path_seen.insert((site, peer), self.now);
            self.probes.heard.insert((site, peer), self.now);
        }
        if self.probes.told.get(&(site, peer)) != Some(summary) {
            self.probes.told.insert((site, peer), summary.clone());
            self.tell_paths(site, peer, summary);
        }
        self.judge_state(site, peer);
    }
}
