//! The config of the site, as a versioned map: what gateways and agents are told, and since which revision.
//!
//! One task changes it; config streams read an immutable copy. A stream that is slow asks later and gets the newest
//! values: nothing queues up for it.

use model::config::{ConfigEntry, ConfigKey, ConfigUpdate, ConfigValue, ConfigVersion};
use model::ids::HostName;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most removals that are remembered. A node that is further behind gets a snapshot.
const REMOVED_MAX: usize = 10_000;

/// A value and the revision that it came with.
#[derive(Debug, Clone)]
struct Slot {
    revision: u64,
    value: Arc<ConfigValue>,
}

/// The config at one revision.
#[derive(Debug, Clone)]
pub struct Book {
    incarnation: u64,
    revision: u64,
    /// Revision at which all sources had completed; none: they have not yet.
    complete_since: Option<u64>,
    /// Removals up to this revision are forgotten.
    horizon: u64,
    entries: BTreeMap<ConfigKey, Slot>,
    removed: BTreeMap<ConfigKey, u64>,
}

impl Book {
    /// An empty config. `incarnation` is drawn at the start of the process.
    pub fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            revision: 1,
            complete_since: None,
            horizon: 0,
            entries: BTreeMap::new(),
            removed: BTreeMap::new(),
        }
    }

    /// Position.
    pub fn version(&self) -> ConfigVersion {
        ConfigVersion { incarnation: self.incarnation, revision: self.revision }
    }

    /// Whether absence means removal.
    pub fn is_complete(&self) -> bool {
        self.complete_since.is_some()
    }

    /// All sources have completed: from here on, absence means removal.
    pub fn complete(&mut self) {
        if self.complete_since.is_none() {
            self.revision += 1;
            self.complete_since = Some(self.revision);
        }
    }

    /// Sets a value. Answers whether that changed anything.
    pub fn set(&mut self, key: ConfigKey, value: ConfigValue) -> bool {
        if self.entries.get(&key).is_some_and(|slot| *slot.value == value) {
            return false;
        }
        self.revision += 1;
        self.removed.remove(&key);
        self.entries.insert(key, Slot { revision: self.revision, value: Arc::new(value) });
        true
    }

    /// Removes a value. Answers whether it was there.
    pub fn remove(&mut self, key: &ConfigKey) -> bool {
        if self.entries.remove(key).is_none() {
            return false;
        }
        self.revision += 1;
        self.removed.insert(key.clone(), self.revision);
        if self.removed.len() > REMOVED_MAX {
            self.horizon = self.revision;
            self.removed.clear();
        }
        true
    }

    /// A value.
    pub fn find(&self, key: &ConfigKey) -> Option<&ConfigValue> {
        self.entries.get(key).map(|slot| &*slot.value)
    }

    /// Keys of all values.
    pub fn keys(&self) -> impl Iterator<Item = &ConfigKey> {
        self.entries.keys()
    }

    /// All values.
    pub fn iter(&self) -> impl Iterator<Item = (&ConfigKey, &ConfigValue)> {
        self.entries.iter().map(|(key, slot)| (key, &*slot.value))
    }

    /// What a node must be told that holds `holds`; none: it is up to date. `host` is set for agents: workloads of
    /// other hosts are not told.
    pub fn update_since(
        &self,
        holds: Option<ConfigVersion>,
        host: Option<&HostName>,
    ) -> Option<ConfigUpdate> {
        let known = holds
            .filter(|holds| holds.incarnation == self.incarnation && holds.revision <= self.revision)
            .map(|holds| holds.revision)
            .filter(|revision| *revision >= self.horizon)
            .filter(|revision| self.complete_since.is_none_or(|complete| *revision >= complete));
        let from = known.unwrap_or(0);
        if known == Some(self.revision) {
            return None;
        }
        let set = self.entries.iter().filter(|(_, slot)| slot.revision > from).filter_map(|(key, slot)| {
            let value = match &*slot.value {
                ConfigValue::Workload(workload) if host != Some(&workload.host) => {
                    // It may have been on the receiving host before.
                    (known.is_some() && host.is_some()).then_some(None)?
                }
                value => Some(value.clone()),
            };
            Some(ConfigEntry { key: key.clone(), value })
        });
        let gone = self
            .removed
            .iter()
            .filter(|(key, revision)| known.is_some() && **revision > from && told_of(key, host))
            .map(|(key, _)| ConfigEntry { key: key.clone(), value: None });
        Some(ConfigUpdate {
            version: self.version(),
            snapshot: known.is_none(),
            complete: known.is_none() && self.is_complete(),
            entries: set.chain(gone).collect(),
        })
    }
}

/// Whether a removal is told: of workloads, gateways hear nothing. Agents hear of those of other hosts too, which
/// changes nothing for them.
fn told_of(key: &ConfigKey, host: Option<&HostName>) -> bool {
    !matches!(key, ConfigKey::Workload(..)) || host.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::config::{HealthCheck, HealthProbe, WorkloadSpec};
    use std::time::Duration;

    fn workload(host: &str, id: &str) -> (ConfigKey, ConfigValue) {
        let spec = WorkloadSpec {
            service: "shop/cart".parse().expect("valid"),
            id: id.parse().expect("valid"),
            host: host.parse().expect("valid"),
            address: [127, 0, 0, 1].into(),
            ports: Vec::new(),
            locality: Default::default(),
            weight: 1,
            check: HealthCheck {
                probe: HealthProbe::None,
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
                healthy_threshold: 1,
                unhealthy_threshold: 2,
            },
            account: None,
        };
        (ConfigKey::Workload(spec.service.clone(), spec.id.clone()), ConfigValue::Workload(spec))
    }

    fn host(name: &str) -> HostName {
        name.parse().expect("valid")
    }

    #[test]
    fn a_node_that_follows_gets_only_changes() {
        let mut book = Book::new(7);
        let (key, value) = workload("vm-1", "a");
        book.set(key.clone(), value.clone());
        let first = book.update_since(None, Some(&host("vm-1"))).expect("a snapshot");
        assert!(first.snapshot && !first.complete && first.entries.len() == 1);
        assert!(!book.set(key.clone(), value));
        assert_eq!(book.update_since(Some(first.version), Some(&host("vm-1"))), None);
        book.remove(&key);
        let next = book.update_since(Some(first.version), Some(&host("vm-1"))).expect("a change");
        assert!(!next.snapshot && next.entries == [ConfigEntry { key, value: None }]);
    }

    #[test]
    fn completeness_comes_once_and_with_everything() {
        let mut book = Book::new(7);
        let first = book.update_since(None, None).expect("a snapshot");
        assert!(!first.complete);
        book.complete();
        let second = book.update_since(Some(first.version), None).expect("a snapshot");
        assert!(second.snapshot && second.complete);
        assert_eq!(book.update_since(Some(second.version), None), None);
        book.complete();
        assert_eq!(book.update_since(Some(second.version), None), None);
    }

    #[test]
    fn a_node_of_another_incarnation_gets_everything() {
        let mut book = Book::new(7);
        book.complete();
        let foreign = ConfigVersion { incarnation: 6, revision: 2 };
        assert!(book.update_since(Some(foreign), None).expect("a snapshot").snapshot);
        let future = ConfigVersion { incarnation: 7, revision: 99 };
        assert!(book.update_since(Some(future), None).expect("a snapshot").snapshot);
    }

    #[test]
    fn workloads_are_told_to_their_host_alone() {
        let mut book = Book::new(7);
        for (at, name) in ["vm-1", "vm-2"].iter().enumerate() {
            let (key, value) = workload(name, &format!("w{at}"));
            book.set(key, value);
        }
        assert_eq!(book.update_since(None, Some(&host("vm-1"))).expect("a snapshot").entries.len(), 1);
        assert_eq!(book.update_since(None, None).expect("a snapshot").entries.len(), 0);
    }

    #[test]
    fn a_workload_that_moves_is_taken_from_its_old_host() {
        let mut book = Book::new(7);
        let (key, value) = workload("vm-1", "a");
        book.set(key.clone(), value);
        let before = book.version();
        let (_, moved) = workload("vm-2", "a");
        book.set(key.clone(), moved.clone());
        let told = |name| book.update_since(Some(before), Some(&host(name))).expect("a change").entries;
        assert_eq!(told("vm-1"), [ConfigEntry { key: key.clone(), value: None }]);
        assert_eq!(told("vm-2"), [ConfigEntry { key: key.clone(), value: Some(moved) }]);
    }

    #[test]
    fn a_node_behind_the_horizon_gets_a_snapshot() {
        let mut book = Book::new(7);
        book.complete();
        let old = book.version();
        for at in 0..=REMOVED_MAX {
            let (key, value) = workload("vm-1", &format!("w{at}"));
            book.set(key.clone(), value);
            book.remove(&key);
        }
        assert!(book.update_since(Some(old), None).expect("a snapshot").snapshot);
        assert_eq!(book.update_since(Some(book.version()), None), None);
    }
}
