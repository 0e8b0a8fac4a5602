//! What is told: the value that stands under a key, conflicts, and states of sources, when they have changed.

use super::{Dirty, Intake, Published};
use crate::event::{Cause, Change, Conflict, Event};
use crate::source::SourceId;
use model::catalog::{OwnKey, OwnValue};
use model::endpoint::Health;
use std::collections::BTreeMap;

impl Intake {
    /// Marks a key to be looked at: at once, or when its last change is old enough.
    pub(super) fn touch(&mut self, key: OwnKey, cause: &Cause) {
        let free = self.published.get(&key).map(|published| published.at + self.limits.coalesce);
        let rank = match &key {
            OwnKey::Service(service) if self.claims.service(service).is_some() => 0,
            OwnKey::Site | OwnKey::Export(_) | OwnKey::Endpoint(..) => 1,
            OwnKey::Service(_) => 2,
        };
        let due = (free.map_or(self.now, |free| free.max(self.now)), rank);
        let dirty = Dirty { due, cause: cause.clone() };
        if let Some(old) = self.dirty.insert(key.clone(), dirty) {
            self.due.remove(&(old.due.0, old.due.1, key.clone()));
        }
        self.due.insert((due.0, due.1, key));
    }

    /// What stands under a key.
    pub(super) fn effective(&self, key: &OwnKey) -> Option<(OwnValue, SourceId)> {
        match key {
            OwnKey::Site | OwnKey::Export(_) => None,
            OwnKey::Service(service) => {
                let (owner, spec) = self.claims.service(service)?;
                Some((OwnValue::Service(spec.clone()), owner.clone()))
            }
            OwnKey::Endpoint(service, id) => {
                let (owner, endpoint) = self.claims.endpoint(&(service.clone(), id.clone()))?;
                let mut endpoint = endpoint.clone();
                let silent = self.sources.get(owner).is_some_and(|source| source.silent);
                if silent && endpoint.health == Health::Healthy {
                    endpoint.health = Health::Unhealthy;
                }
                Some((OwnValue::Endpoint(endpoint), owner.clone()))
            }
        }
    }

    pub(super) fn tell(&mut self, key: OwnKey, cause: Cause) {
        self.tell_conflicts(&key);
        let before = self.published.get(&key);
        match (self.effective(&key), before) {
            (None, None) => {}
            (None, Some(before)) => {
                let owner = before.owner.clone();
                self.published.remove(&key);
                self.out.push_back(Event::Change(Change { key, value: None, owner, cause }));
            }
            (Some((value, owner)), before) => {
                if before.is_some_and(|before| before.value == value && before.owner == owner) {
                    return;
                }
                let published = Published { value: value.clone(), owner: owner.clone(), at: self.now };
                self.published.insert(key.clone(), published);
                self.out.push_back(Event::Change(Change { key, value: Some(value), owner, cause }));
            }
        }
    }

    pub(super) fn tell_conflicts(&mut self, key: &OwnKey) {
        let (winner, losers) = match key {
            OwnKey::Site | OwnKey::Export(_) => return,
            OwnKey::Service(service) => {
                (self.claims.service(service).map(|of| of.0.clone()), self.claims.service_losers(service))
            }
            OwnKey::Endpoint(service, id) => {
                let key = (service.clone(), id.clone());
                (self.claims.endpoint(&key).map(|of| of.0.clone()), self.claims.endpoint_losers(&key))
            }
        };
        let told = self.conflicts.remove(key).unwrap_or_default();
        let new: BTreeMap<SourceId, SourceId> = winner
            .into_iter()
            .flat_map(|winner| losers.iter().map(move |l| (l.clone(), winner.clone())))
            .collect();
        let conflict = |(loser, winner): (&SourceId, &SourceId)| Conflict {
            key: key.clone(),
            winner: winner.clone(),
            loser: loser.clone(),
        };
        let over = told.iter().filter(|(loser, winner)| new.get(*loser) != Some(*winner));
        self.out.extend(over.map(conflict).map(Event::ConflictOver));
        let begun = new.iter().filter(|(loser, winner)| told.get(*loser) != Some(*winner));
        self.out.extend(begun.map(conflict).map(Event::Conflict));
        if !new.is_empty() {
            self.conflicts.insert(key.clone(), new);
        }
    }

    pub(super) fn tell_state(&mut self, id: SourceId) {
        let Some(source) = self.sources.get_mut(&id) else { return };
        let (from, to) = (source.told, source.state());
        if from != to {
            source.told = to;
            self.out.push_back(Event::Source { source: id, from, to });
        }
    }
}
