//! What must outlive the process: the records that the shell stores, and what it gives back at the next start.
//!
//! Rule of order: the shell makes a [`Commit`] durable, whole or not at all, before it next calls
//! [`Replicator::poll_transmit`](crate::Replicator::poll_transmit). Nothing was ever said to a peer that the store
//! does not know of; this is what makes a restored store recognisable.

use model::catalog::{EntryKey, EntryValue, OwnKey, OwnValue, Scope, Version, View};
use model::ids::{SiteId, SiteUid};
use std::collections::BTreeMap;

/// Key of a stored record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKey {
    /// Position of the own catalog.
    OwnVersion,
    /// An entry of the own catalog.
    Own(OwnKey),
    /// What a peer was given of the own catalog.
    Given(SiteId),
    /// What is held of a peer, without the entries.
    HeldHead(SiteId),
    /// An entry that is held of a peer.
    Held(SiteId, EntryKey),
}

/// Value of a stored record; its variant is that of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordValue {
    /// Position of the own catalog.
    OwnVersion(Version),
    /// An entry of the own catalog.
    Own(OwnValue),
    /// What a peer was given.
    Given(Given),
    /// What is held of a peer.
    HeldHead(HeldHead),
    /// An entry that is held of a peer.
    Held(EntryValue),
}

/// A key with its value, or the word that it is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Key.
    pub key: RecordKey,
    /// Value; none: delete it.
    pub value: Option<RecordValue>,
}

/// Records that are stored together, whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Ordered by key, no key twice, never empty.
    pub records: Vec<Record>,
}

/// What a peer was given of the own catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The greatest position that was ever sent to it out of this store. A peer that holds more has it from a store
    /// that was lost since.
    pub version: Version,
    /// The services that were offered to it.
    pub offer: Scope,
}

/// What is held of a peer, without the entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldHead {
    /// Uid that the entries come from.
    pub uid: SiteUid,
    /// Last position that was heard of.
    pub version: Version,
    /// Digest over the entries at that position. All zeros: they are not whole, since a snapshot came in only in part or
    /// something else was asked for.
    pub digest: [u8; 32],
    /// The services that were asked for.
    pub scope: Scope,
    /// The view that was asked for.
    pub view: View,
    /// A snapshot under this scope was complete at least once.
    pub complete_once: bool,
}

/// What is held of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeldRecord {
    /// Everything but the entries; none: the entries are of no use.
    pub head: Option<HeldHead>,
    /// The entries.
    pub entries: BTreeMap<EntryKey, EntryValue>,
}

/// The content of the store, as it is given to [`Replicator::new`](crate::Replicator::new).
///
/// [`Restored::default`] is a new store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// Position of the own catalog; none: the store is new.
    pub version: Option<Version>,
    /// The own catalog.
    pub own: BTreeMap<OwnKey, OwnValue>,
    /// What peers were given.
    pub given: BTreeMap<SiteId, Given>,
    /// What is held of peers.
    pub held: BTreeMap<SiteId, HeldRecord>,
}

/// A record whose value is not of the kind that its key says: the store is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the store holds another kind of value under {key:?} than belongs there; restore it from a backup or remove it"
)]
pub struct DamagedRecord {
    /// The key.
    pub key: Box<RecordKey>,
}

impl Restored {
    /// Takes in one record: the store is read by one call for each, in any order.
    ///
    /// # Errors
    /// [`DamagedRecord`] when the value does not belong to the key; nothing is changed then.
    pub fn apply(&mut self, record: Record) -> Result<(), DamagedRecord> {
        match (record.key, record.value) {
            (RecordKey::OwnVersion, Some(RecordValue::OwnVersion(version))) => self.version = Some(version),
            (RecordKey::OwnVersion, None) => self.version = None,
            (RecordKey::Own(key), Some(RecordValue::Own(value))) => drop(self.own.insert(key, value)),
            (RecordKey::Own(key), None) => drop(self.own.remove(&key)),
            (RecordKey::Given(site), Some(RecordValue::Given(given))) => drop(self.given.insert(site, given)),
            (RecordKey::Given(site), None) => drop(self.given.remove(&site)),
            (RecordKey::HeldHead(site), Some(RecordValue::HeldHead(head))) => {
                self.held.entry(site).or_default().head = Some(head);
            }
            (RecordKey::HeldHead(site), None) => {
                if let Some(held) = self.held.get_mut(&site) {
                    held.head = None;
                    self.forget_when_empty(&site);
                }
            }
            (RecordKey::Held(site, key), Some(RecordValue::Held(value))) => {
                self.held.entry(site).or_default().entries.insert(key, value);
            }
            (RecordKey::Held(site, key), None) => {
                if let Some(held) = self.held.get_mut(&site) {
                    held.entries.remove(&key);
                    self.forget_when_empty(&site);
                }
            }
            (key, Some(_)) => return Err(DamagedRecord { key: Box::new(key) }),
        }
        Ok(())
    }

    fn forget_when_empty(&mut self, site: &SiteId) {
        if self.held.get(site).is_some_and(|held| held.head.is_none() && held.entries.is_empty()) {
            self.held.remove(site);
        }
    }
}
