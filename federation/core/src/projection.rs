//! The own catalog as peers are told of it, under one view: every entry with the position of its last change.
//!
//! What one peer is told is this, filtered by scope. Deletions are kept as tombstones for a while, so that a peer that
//! was away gets changes and no snapshot.

use crate::digest::{Digest, Measure};
use model::catalog::{EntryKey, EntryValue, Revision};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Instant;

/// The own catalog under one view.
#[derive(Debug, Default)]
pub(crate) struct Projection {
    slots: BTreeMap<EntryKey, Slot>,
    /// Key of each change after `floor`; a key stands at its last change only.
    changes: BTreeMap<Revision, EntryKey>,
    /// When each tombstone was made, by the revision of its slot. Bounded by `Settings::tombstones_max`.
    tombstones: BTreeMap<Revision, Instant>,
    /// Whoever holds less than this needs a snapshot.
    floor: Revision,
}

/// What is known of one key.
#[derive(Debug)]
struct Slot {
    changed: Revision,
    /// None: a tombstone.
    live: Option<(EntryValue, Measure)>,
}

impl Projection {
    pub fn floor(&self) -> Revision {
        self.floor
    }

    pub fn value(&self, key: &EntryKey) -> Option<&(EntryValue, Measure)> {
        self.slots.get(key)?.live.as_ref()
    }

    /// Whether `value` is something else than what is told.
    pub fn differs(&self, key: &EntryKey, value: Option<&EntryValue>) -> bool {
        self.value(key).map(|(value, _)| value) != value
    }

    /// Sets a key to a value that differs, at a revision that was not used before.
    pub fn set(
        &mut self,
        key: EntryKey,
        value: Option<(EntryValue, Measure)>,
        changed: Revision,
        now: Instant,
    ) {
        if value.is_none() {
            self.tombstones.insert(changed, now);
        }
        self.changes.insert(changed, key.clone());
        if let Some(old) = self.slots.insert(key, Slot { changed, live: value }) {
            self.changes.remove(&old.changed);
            self.tombstones.remove(&old.changed);
        }
    }

    /// Forgets everything; the next positions begin after `floor`.
    pub fn clear(&mut self, floor: Revision) {
        *self = Self { floor, ..Self::default() };
    }

    /// Puts a value in place while the projection is built up after `clear`.
    pub fn load(&mut self, key: EntryKey, value: EntryValue) {
        let measure = Measure::of(&key, &value);
        self.slots.insert(key, Slot { changed: self.floor, live: Some((value, measure)) });
    }

    /// Live entries after a key, in order.
    pub fn live_after(
        &self,
        after: Option<&EntryKey>,
    ) -> impl Iterator<Item = (&EntryKey, &(EntryValue, Measure))> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.slots
            .range::<EntryKey, _>((from, Bound::Unbounded))
            .filter_map(|(key, slot)| slot.live.as_ref().map(|live| (key, live)))
    }

    /// Keys that changed after a position, in the order of their last change.
    pub fn changed_after(&self, revision: Revision) -> impl Iterator<Item = (Revision, &EntryKey)> {
        self.changes
            .range((Bound::Excluded(revision), Bound::Unbounded))
            .map(|(revision, key)| (*revision, key))
    }

    /// Digest over the live entries that pass a filter.
    pub fn digest(&self, mut passes: impl FnMut(&EntryKey) -> bool) -> Digest {
        let mut digest = Digest::default();
        self.live_after(None)
            .filter(|(key, _)| passes(key))
            .for_each(|(_, (_, measure))| digest.add(measure));
        digest
    }

    /// Forgets tombstones that are older than `before`, and the oldest beyond `most`.
    pub fn forget_tombstones(&mut self, before: Option<Instant>, most: usize) {
        while let Some((&revision, &made)) = self.tombstones.first_key_value() {
            if self.tombstones.len() <= most && before.is_none_or(|before| made >= before) {
                return;
            }
            self.tombstones.remove(&revision);
            if let Some(key) = self.changes.remove(&revision) {
                self.slots.remove(&key);
            }
            self.floor = self.floor.max(revision);
        }
    }

    /// Tombstones that are kept.
    pub fn tombstones(&self) -> usize {
        self.tombstones.len()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests have to begin at some instant")]
mod tests {
    use super::*;
    use model::catalog::ExportInfo;
    use model::catalog::ServiceSpec;
    use std::time::Duration;

    fn key(name: &str) -> EntryKey {
        EntryKey::Export(name.parse().expect("valid"))
    }

    fn value(created_at_ms: u64) -> Option<(EntryValue, Measure)> {
        let spec = ServiceSpec { ports: Vec::new(), kind: Default::default(), declared_total: None };
        let value = EntryValue::Export(ExportInfo { spec, created_at_ms });
        let measure = Measure::of(&key("a/a"), &value);
        Some((value, measure))
    }

    #[test]
    fn a_key_stands_at_its_last_change_only() {
        let now = Instant::now();
        let mut projection = Projection::default();
        projection.set(key("a/a"), value(1), Revision(1), now);
        projection.set(key("a/b"), value(1), Revision(2), now);
        projection.set(key("a/a"), None, Revision(3), now);
        let changed: Vec<_> = projection.changed_after(Revision(0)).map(|(r, k)| (r.0, k.clone())).collect();
        assert_eq!(changed, [(2, key("a/b")), (3, key("a/a"))]);
        assert_eq!(projection.live_after(None).count(), 1);
    }

    #[test]
    fn a_forgotten_tombstone_raises_the_floor() {
        let now = Instant::now();
        let mut projection = Projection::default();
        for revision in 1..=6 {
            let value = if revision % 2 == 0 { None } else { value(revision) };
            projection.set(key(&format!("a/s{}", revision.div_ceil(2))), value, Revision(revision), now);
        }
        assert_eq!((projection.tombstones(), projection.floor()), (3, Revision(0)));
        projection.forget_tombstones(None, 2);
        assert_eq!((projection.tombstones(), projection.floor()), (2, Revision(2)));
        projection.forget_tombstones(Some(now + Duration::from_secs(1)), 2);
        assert_eq!((projection.tombstones(), projection.floor()), (0, Revision(6)));
    }
}
