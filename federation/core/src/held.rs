//! What is held of one peer: the consumer's side of replication.
//!
//! While a snapshot comes in, its entries are gathered apart and also added to what is held, so that knowledge is used
//! at once; nothing is taken away, and counts do not fall, until the snapshot is complete. A withdrawn export is the
//! exception: that is its owner's word.

use crate::check::{CheckedBatch, MessageError};
use crate::digest::{Digest, Measure};
use crate::event::Withdrawal;
use crate::settings::Settings;
use crate::store::{HeldHead, HeldRecord};
use model::catalog::{EntryKey, EntryValue, GroupSummary, Scope, Version, View};
use model::exchange::Held;
use model::ids::SiteUid;
use model::service::ServiceName;
use std::collections::BTreeMap;

type Entries = BTreeMap<EntryKey, (EntryValue, Measure)>;

/// What is held of one peer.
#[derive(Debug)]
pub(crate) struct HeldCatalog {
    uid: SiteUid,
    scope: Scope,
    view: View,
    entries: Entries,
    /// Over `entries`.
    digest: Digest,
    /// Estimated bytes of `entries`.
    bytes: usize,
    /// Last position, and the digest there when the catalog is held whole. None: nothing was ever heard.
    head: Option<Held>,
    complete_once: bool,
    staging: Option<Staging>,
    /// A snapshot was asked for in this session: changes are passed over until it begins.
    awaiting: bool,
    /// It was asked for because digests differed.
    repairing: bool,
}

/// A snapshot that is coming in.
#[derive(Debug)]
struct Staging {
    version: Version,
    entries: Entries,
    digest: Digest,
    bytes: usize,
}

/// What a batch did.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Keys whose value changed (none) or is gone (why). No key twice.
    pub changes: BTreeMap<EntryKey, Option<Withdrawal>>,
    /// A snapshot is complete.
    pub complete: bool,
    /// ...and it repaired a difference.
    pub repaired: bool,
    /// Ask for a snapshot, with this reason.
    pub resync: Option<&'static str>,
}

/// Outcome of comparing digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Same,
    /// They are of different positions.
    NotNow,
    Differs,
}

impl HeldCatalog {
    pub fn new(uid: SiteUid, scope: Scope, view: View) -> Self {
        Self {
            uid,
            scope,
            view,
            entries: BTreeMap::new(),
            digest: Digest::default(),
            bytes: 0,
            head: None,
            complete_once: false,
            staging: None,
            awaiting: false,
            repairing: false,
        }
    }

    /// Takes over what was stored. None when it comes from another uid, or has no head: then it is of no use.
    pub fn restore(record: HeldRecord, uid: SiteUid) -> Option<Self> {
        let head = record.head.filter(|head| head.uid == uid)?;
        let mut held = Self::new(uid, head.scope, head.view);
        for (key, value) in record.entries {
            let measure = Measure::of(&key, &value);
            held.put(key, value, measure);
        }
        held.head = Some(Held { version: head.version, digest: head.digest });
        held.complete_once = head.complete_once;
        Some(held)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&EntryKey, &EntryValue)> {
        self.entries.iter().map(|(key, (value, _))| (key, value))
    }

    pub fn entry(&self, key: &EntryKey) -> Option<&EntryValue> {
        self.entries.get(key).map(|(value, _)| value)
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn held(&self) -> Option<Held> {
        self.head
    }

    pub fn version(&self) -> Option<Version> {
        self.head.map(|head| head.version)
    }

    pub fn snapshot_open(&self) -> bool {
        self.staging.is_some()
    }

    /// Entries of a snapshot that is coming in.
    pub fn staged(&self) -> usize {
        self.staging.as_ref().map_or(0, |staging| staging.entries.len())
    }

    pub fn complete_once(&self) -> bool {
        self.complete_once
    }

    /// The record for the store; none: nothing is held.
    pub fn head_record(&self) -> Option<HeldHead> {
        self.head.map(|head| HeldHead {
            uid: self.uid,
            version: head.version,
            digest: head.digest,
            scope: self.scope.clone(),
            view: self.view,
            complete_once: self.complete_once,
        })
    }

    /// The session ended: what came in of a snapshot stays, but does not count as one.
    pub fn end_session(&mut self) {
        self.staging = None;
        self.awaiting = false;
        self.repairing = false;
    }

    /// Something else is wanted: what lies outside is dropped, the rest stays until a snapshot says how it is.
    /// None when nothing changed.
    pub fn rescope(&mut self, scope: &Scope, view: View) -> Option<Vec<EntryKey>> {
        if self.scope == *scope && self.view == view {
            return None;
        }
        self.end_session();
        self.complete_once &= within(scope, &self.scope);
        self.scope = scope.clone();
        self.view = view;
        let outside: Vec<EntryKey> = self
            .entries
            .keys()
            .filter(|key| key.service().is_some_and(|service| !scope.contains(service)))
            .cloned()
            .collect();
        for key in &outside {
            self.take(key);
        }
        self.head = self.head.map(|head| seen(head.version));
        Some(outside)
    }

    /// Compares what is held with what the origin says should be.
    pub fn compare(&mut self, version: Version, digest: [u8; 32]) -> Comparison {
        let whole = self.head.filter(is_whole).map(|head| head.version);
        if self.staging.is_some() || self.awaiting || whole != Some(version) {
            return Comparison::NotNow;
        }
        if self.digest.bytes() == digest {
            return Comparison::Same;
        }
        self.awaiting = true;
        self.repairing = true;
        Comparison::Differs
    }

    /// Applies a batch, or refuses it and changes nothing.
    pub fn apply(&mut self, batch: CheckedBatch, settings: &Settings) -> Result<Applied, MessageError> {
        if let Some(held) = self.version()
            && batch.version.epoch < held.epoch
        {
            return Err(MessageError::Backwards { said: batch.version, held });
        }
        if batch.snapshot {
            self.apply_snapshot(batch, settings)
        } else {
            self.apply_changes(batch, settings)
        }
    }

    fn apply_changes(&mut self, batch: CheckedBatch, settings: &Settings) -> Result<Applied, MessageError> {
        let wrong = |what| Err(MessageError::Positions { what });
        if self.staging.is_some() {
            return wrong("changes within a snapshot that is not complete");
        }
        if self.awaiting {
            return Ok(Applied::default());
        }
        let Some(held) = self.head.filter(is_whole).map(|head| head.version) else {
            return wrong("changes before a snapshot");
        };
        if batch.version.epoch != held.epoch {
            return wrong("a new epoch begins with a snapshot");
        }
        if batch.base > held {
            self.awaiting = true;
            return Ok(Applied { resync: Some("changes are missing before a batch"), ..Applied::default() });
        }
        if batch.version <= held {
            // It was sent before the sender knew what is held; nothing in it is new.
            return Ok(Applied::default());
        }
        check_size(&self.entries, self.bytes, &batch, 1, settings)?;
        let mut applied = Applied::default();
        for (key, value) in batch.entries {
            match value {
                Some((value, measure)) => {
                    if self.put(key.clone(), value, measure) {
                        applied.changes.insert(key, None);
                    }
                }
                None => {
                    if self.take(&key) {
                        applied.changes.insert(key, Some(Withdrawal::Tombstone));
                    }
                }
            }
        }
        self.head = Some(Held { version: batch.version, digest: self.digest.bytes() });
        Ok(applied)
    }

    fn apply_snapshot(&mut self, batch: CheckedBatch, settings: &Settings) -> Result<Applied, MessageError> {
        let begins = match &self.staging {
            None => true,
            Some(staging) => batch.base == batch.version && batch.base > staging.version,
        };
        if begins {
            if batch.base != batch.version {
                return Err(MessageError::Positions { what: "a snapshot begins at its own position" });
            }
            if let Some(held) = self.version().filter(|held| batch.version < *held) {
                return Err(MessageError::Backwards { said: batch.version, held });
            }
        } else if self.staging.as_ref().is_some_and(|staging| staging.version != batch.base) {
            return Err(MessageError::Positions { what: "a part of the snapshot is missing" });
        }
        let mut staging = match self.staging.take() {
            Some(staging) if !begins => staging,
            Some(_) | None => Staging::new(batch.version),
        };
        let size = check_size(&staging.entries, staging.bytes, &batch, 1, settings)
            .and_then(|()| check_size(&self.entries, self.bytes, &batch, 2, settings));
        if let Err(error) = size {
            self.staging = (!begins).then_some(staging);
            return Err(error);
        }

        self.awaiting = false;
        self.head = Some(seen(batch.version));
        staging.version = batch.version;
        let mut applied = Applied::default();
        for (key, value) in batch.entries {
            match value {
                Some((value, measure)) => {
                    staging.put(key.clone(), value.clone(), measure);
                    let (merged, measure) = self.merged(&key, value, measure);
                    if self.put(key.clone(), merged, measure) {
                        applied.changes.insert(key, None);
                    }
                }
                None => {
                    if let EntryKey::Export(service) = &key {
                        self.withdraw_service(service, &mut applied);
                    }
                    staging.take(&key);
                }
            }
        }
        if batch.complete {
            self.finish(staging, &mut applied);
        } else {
            self.staging = Some(staging);
        }
        Ok(applied)
    }

    /// Value to hold of an entry while its snapshot is not complete: the counts of a group do not fall.
    fn merged(&self, key: &EntryKey, value: EntryValue, measure: Measure) -> (EntryValue, Measure) {
        let (Some(EntryValue::Group(held)), EntryValue::Group(told)) = (self.entry(key), &value) else {
            return (value, measure);
        };
        let merged = GroupSummary {
            healthy: held.healthy.max(told.healthy),
            total: held.total.max(told.total),
            capacity: held.capacity.max(told.capacity),
        };
        if merged == *told {
            return (value, measure);
        }
        let merged = EntryValue::Group(merged);
        let measure = Measure::of(key, &merged);
        (merged, measure)
    }

    fn withdraw_service(&mut self, service: &ServiceName, applied: &mut Applied) {
        let keys: Vec<EntryKey> =
            self.entries.keys().filter(|key| key.service() == Some(service)).cloned().collect();
        for key in keys {
            self.take(&key);
            applied.changes.insert(key, Some(Withdrawal::Tombstone));
        }
    }

    /// The snapshot is complete: it is what is held.
    fn finish(&mut self, staging: Staging, applied: &mut Applied) {
        for key in self.entries.keys().filter(|key| !staging.entries.contains_key(key)) {
            applied.changes.insert(key.clone(), Some(Withdrawal::Snapshot));
        }
        for (key, (value, _)) in &staging.entries {
            if self.entry(key) != Some(value) {
                applied.changes.insert(key.clone(), None);
            }
        }
        self.entries = staging.entries;
        self.digest = staging.digest;
        self.bytes = staging.bytes;
        self.head = Some(Held { version: staging.version, digest: self.digest.bytes() });
        self.complete_once = true;
        applied.complete = true;
        applied.repaired = std::mem::take(&mut self.repairing);
    }

    /// Whether the value changed.
    fn put(&mut self, key: EntryKey, value: EntryValue, measure: Measure) -> bool {
        put(&mut self.entries, &mut self.digest, &mut self.bytes, key, value, measure)
    }

    /// Whether there was a value.
    fn take(&mut self, key: &EntryKey) -> bool {
        take(&mut self.entries, &mut self.digest, &mut self.bytes, key)
    }
}

impl Staging {
    fn new(version: Version) -> Self {
        Self { version, entries: BTreeMap::new(), digest: Digest::default(), bytes: 0 }
    }

    fn put(&mut self, key: EntryKey, value: EntryValue, measure: Measure) {
        put(&mut self.entries, &mut self.digest, &mut self.bytes, key, value, measure);
    }

    fn take(&mut self, key: &EntryKey) {
        take(&mut self.entries, &mut self.digest, &mut self.bytes, key);
    }
}

/// A position that was seen, and at which nothing is held whole: its digest is that of nothing.
fn seen(version: Version) -> Held {
    Held { version, digest: Digest::default().bytes() }
}

/// Whether what is held is what the origin had at that position. An origin always has an entry for itself, so the
/// digest of nothing says that it is not.
pub(crate) fn is_whole(held: &Held) -> bool {
    held.digest != Digest::default().bytes()
}

fn put(
    entries: &mut Entries,
    digest: &mut Digest,
    bytes: &mut usize,
    key: EntryKey,
    value: EntryValue,
    measure: Measure,
) -> bool {
    digest.add(&measure);
    *bytes += measure.bytes as usize;
    let Some((_, old)) = entries.insert(key, (value, measure)) else {
        return true;
    };
    digest.subtract(&old);
    *bytes -= old.bytes as usize;
    old != measure
}

fn take(entries: &mut Entries, digest: &mut Digest, bytes: &mut usize, key: &EntryKey) -> bool {
    let Some((_, old)) = entries.remove(key) else {
        return false;
    };
    digest.subtract(&old);
    *bytes -= old.bytes as usize;
    true
}

/// Refuses a batch after which more would be held than `times` the bounds.
fn check_size(
    held: &Entries,
    held_bytes: usize,
    batch: &CheckedBatch,
    times: usize,
    settings: &Settings,
) -> Result<(), MessageError> {
    let (mut entries, mut bytes) = (held.len(), held_bytes);
    for (key, value) in &batch.entries {
        let old = held.get(key).map(|(_, measure)| measure.bytes as usize);
        if let Some((_, measure)) = value {
            entries += usize::from(old.is_none());
            bytes = bytes + measure.bytes as usize - old.unwrap_or(0);
        } else if let Some(old) = old {
            entries -= 1;
            bytes -= old;
        }
    }
    if entries > settings.held_entries_max * times || bytes > settings.held_bytes_max * times {
        return Err(MessageError::CatalogTooLarge { entries, bytes });
    }
    Ok(())
}

/// Whether every service of `inner` lies in `outer`, as far as it can be told without listing all services.
fn within(inner: &Scope, outer: &Scope) -> bool {
    match (inner, outer) {
        (_, Scope::All) => true,
        (Scope::All, Scope::Only { .. }) => false,
        (Scope::Only { namespaces, services }, Scope::Only { namespaces: all, .. }) => {
            namespaces.is_subset(all) && services.iter().all(|service| outer.contains(service))
        }
    }
}
