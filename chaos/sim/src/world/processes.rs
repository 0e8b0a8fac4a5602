//! Processes of sites: how they die, start, and hear again from their sources.

use super::{Happening, World};
use crate::chance;
use crate::truth;
use federation_core::Replicator;
use model::catalog::{EntryKey, EntryValue, OwnKey, OwnValue};
use model::ids::Incarnation;
use std::collections::BTreeMap;
use std::time::Duration;

impl World {
    /// The process of a site dies, and comes back after a while.
    pub fn kill(&mut self, site: usize, down: Duration, silent: bool) {
        if self.sites[site].process.take().is_none() {
            return;
        }
        self.note(|| format!("{} dies", truth::site_name(site)));
        self.sites[site].life += 1;
        self.sites[site].relist = None;
        self.sites[site].crash = None;
        self.drop_streams(site, silent);
        let life = self.sites[site].life;
        self.schedule(self.now + down, Happening::Boot(site, life));
    }

    pub(super) fn boot(&mut self, site: usize) {
        let info = match self.sites[site].truth.get(&OwnKey::Site) {
            Some(OwnValue::Site(info)) => info.clone(),
            _ => truth::site_info(site, 0),
        };
        let incarnation = Incarnation(self.incarnations.u64(..));
        let store = self.sites[site].disk.store.clone();
        let life = self.sites[site].life;
        let mut seeds = chance::child(self.seed, "replicators", (site as u64) << 32 | life);
        let process =
            Replicator::new(seeds.u64(..), self.now, info, incarnation, store, self.settings.clone());
        self.note(|| format!("{} starts", truth::site_name(site)));
        self.sites[site].process = Some(process);
        self.sites[site].mirror.clear();
        self.sites[site].known = self.stored(site);
        let peers: Vec<usize> = self.sites[site].links.keys().copied().collect();
        for peer in peers {
            self.tell_link(site, peer);
        }
        let mut keys: Vec<OwnKey> = self.sites[site].truth.keys().cloned().collect();
        self.relists.shuffle(&mut keys);
        self.sites[site].relist = Some(keys.into());
        self.schedule_relist(site);
        self.drain(site);
    }

    /// What the store of a site holds of its peers.
    fn stored(&self, site: usize) -> BTreeMap<(usize, EntryKey), EntryValue> {
        let held = self.sites[site].disk.store.held.iter();
        held.flat_map(|(origin, record)| {
            let origin = self.number(origin);
            record.entries.iter().map(move |(key, value)| ((origin, key.clone()), value.clone()))
        })
        .collect()
    }

    fn schedule_relist(&mut self, site: usize) {
        let pause = Duration::from_millis(self.relists.u64(1..600));
        let life = self.sites[site].life;
        self.schedule(self.now + pause, Happening::Relist(site, life));
    }

    /// Sources of a site say a part of what they have; at the end, what none has said is gone.
    pub(super) fn relist(&mut self, site: usize) {
        let now = self.now;
        let count = self.relists.usize(1..8);
        let state = &mut self.sites[site];
        let (Some(process), Some(rest)) = (&mut state.process, &mut state.relist) else { return };
        // A source that has just started may think that what it has not read yet is gone.
        if self.relists.u8(0..3) == 0 {
            for key in rest.iter().filter(|key| **key != OwnKey::Site) {
                process.handle_own(key.clone(), None, now).expect("valid");
            }
        }
        for _ in 0..count {
            let Some(key) = rest.pop_front() else { break };
            if let Some(value) = state.truth.get(&key) {
                process.handle_own(key, Some(value.clone()), now).expect("valid");
            }
        }
        if rest.is_empty() {
            let gone: Vec<OwnKey> = process
                .own()
                .map(|(key, _)| key.clone())
                .filter(|key| !state.truth.contains_key(key))
                .collect();
            for key in gone {
                process.handle_own(key, None, now).expect("valid");
            }
            process.handle_recovered(now);
            state.relist = None;
        } else {
            self.schedule_relist(site);
        }
        self.drain(site);
    }
}
