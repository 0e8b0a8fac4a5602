//! The config that a node holds, and how updates change it. Pure.

use model::config::{
    ConfigEntry, ConfigKey, ConfigUpdate, ConfigValue, ConfigVersion, PeerConfig, SiteConfig, WorkloadSpec,
};
use model::ids::{EndpointId, SiteId};
use model::routing::Import;
use model::service::ServiceName;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most pieces of config that a node holds. Past it, an update is refused: a federation that sends more is broken.
pub const ENTRIES_MAX: usize = 1_000_000;

/// Everything that a node knows from its federation. Cheap to clone: large values are shared.
#[derive(Debug, Clone, Default)]
pub struct NodeConfig {
    /// Position of the last update; none before the first.
    pub version: Option<ConfigVersion>,
    /// The own site; none before the first update.
    pub site: Option<Arc<SiteConfig>>,
    /// Linked sites.
    pub peers: BTreeMap<SiteId, Arc<PeerConfig>>,
    /// Services.
    pub services: BTreeMap<ServiceName, Arc<Import>>,
    /// Workloads of this host.
    pub workloads: BTreeMap<(ServiceName, EndpointId), Arc<WorkloadSpec>>,
}

/// An update that cannot be applied. The federation is at fault; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUpdate {
    /// A value does not belong under its key.
    #[error("the value under {key} is of another kind")]
    WrongKind {
        /// Key, in words.
        key: String,
    },
    /// A change that builds on another federation's snapshot.
    #[error("a change at {offered:?} came where {held:?} is held; a snapshot must come first")]
    NoBase {
        /// What is held.
        held: Option<ConfigVersion>,
        /// What came.
        offered: ConfigVersion,
    },
    /// Too much.
    #[error("the config would grow past {max} entries")]
    TooMany {
        /// The bound.
        max: usize,
    },
}

impl NodeConfig {
    /// Applies an update whole, or not at all; says which keys changed.
    ///
    /// A snapshot that is not complete only adds and replaces: what it does not name stays, since the federation that
    /// sent it has not yet heard from all its sources.
    ///
    /// # Errors
    /// [`BadUpdate`], when the update breaks the protocol.
    pub fn apply(&mut self, update: ConfigUpdate) -> Result<BTreeSet<ConfigKey>, BadUpdate> {
        self.apply_within(update, ENTRIES_MAX)
    }

    fn apply_within(&mut self, update: ConfigUpdate, max: usize) -> Result<BTreeSet<ConfigKey>, BadUpdate> {
        let follows = |held: ConfigVersion| {
            held.incarnation == update.version.incarnation && held.revision <= update.version.revision
        };
        if !update.snapshot && !self.version.is_some_and(follows) {
            return Err(BadUpdate::NoBase { held: self.version, offered: update.version });
        }
        if let Some(entry) = update.entries.iter().find(|entry| !is_of_one_kind(entry)) {
            return Err(BadUpdate::WrongKind { key: format!("{:?}", entry.key) });
        }
        let replaces = update.snapshot && update.complete;
        let is_new = |entry: &&ConfigEntry| entry.value.is_some() && (replaces || !self.contains(&entry.key));
        let kept = if replaces { 0 } else { self.len() };
        if kept + update.entries.iter().filter(is_new).count() > max {
            return Err(BadUpdate::TooMany { max });
        }
        let mut changed = BTreeSet::new();
        if replaces {
            let named: BTreeSet<&ConfigKey> = update.entries.iter().map(|entry| &entry.key).collect();
            for key in self.keys() {
                if !named.contains(&key) {
                    self.remove(&key);
                    changed.insert(key);
                }
            }
        }
        for ConfigEntry { key, value } in update.entries {
            let differs = match value {
                Some(value) => self.set(&key, value),
                None => self.remove(&key),
            };
            if differs {
                changed.insert(key);
            }
        }
        self.version = Some(update.version);
        Ok(changed)
    }

    /// All that is held, as a complete snapshot, for the disk.
    pub fn entries(&self) -> Vec<ConfigEntry> {
        let entry = |key, value| ConfigEntry { key, value: Some(value) };
        let site = self.site.iter().map(|site| entry(ConfigKey::Site, ConfigValue::Site((**site).clone())));
        let peers = self
            .peers
            .iter()
            .map(|(id, peer)| entry(ConfigKey::Peer(id.clone()), ConfigValue::Peer((**peer).clone())));
        let services = self.services.iter().map(|(name, import)| {
            entry(ConfigKey::Service(name.clone()), ConfigValue::Service((**import).clone()))
        });
        let workloads = self.workloads.iter().map(|((service, id), workload)| {
            entry(
                ConfigKey::Workload(service.clone(), id.clone()),
                ConfigValue::Workload((**workload).clone()),
            )
        });
        site.chain(peers).chain(services).chain(workloads).collect()
    }

    fn len(&self) -> usize {
        usize::from(self.site.is_some()) + self.peers.len() + self.services.len() + self.workloads.len()
    }

    fn contains(&self, key: &ConfigKey) -> bool {
        match key {
            ConfigKey::Site => self.site.is_some(),
            ConfigKey::Peer(id) => self.peers.contains_key(id),
            ConfigKey::Service(name) => self.services.contains_key(name),
            ConfigKey::Workload(service, id) => self.workloads.contains_key(&(service.clone(), id.clone())),
        }
    }

    fn keys(&self) -> Vec<ConfigKey> {
        let site = self.site.iter().map(|_| ConfigKey::Site);
        let peers = self.peers.keys().cloned().map(ConfigKey::Peer);
        let services = self.services.keys().cloned().map(ConfigKey::Service);
        let workloads = self.workloads.keys().cloned().map(|(service, id)| ConfigKey::Workload(service, id));
        site.chain(peers).chain(services).chain(workloads).collect()
    }

    /// Whether anything changed.
    fn set(&mut self, key: &ConfigKey, value: ConfigValue) -> bool {
        fn put<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, Arc<V>>, key: K, value: V) -> bool {
            if map.get(&key).is_some_and(|held| **held == value) {
                return false;
            }
            map.insert(key, Arc::new(value));
            true
        }
        match (key, value) {
            (ConfigKey::Site, ConfigValue::Site(value)) => {
                let differs = self.site.as_deref() != Some(&value);
                if differs {
                    self.site = Some(Arc::new(value));
                }
                differs
            }
            (ConfigKey::Peer(id), ConfigValue::Peer(value)) => put(&mut self.peers, id.clone(), value),
            (ConfigKey::Service(name), ConfigValue::Service(value)) => {
                put(&mut self.services, name.clone(), value)
            }
            (ConfigKey::Workload(service, id), ConfigValue::Workload(value)) => {
                put(&mut self.workloads, (service.clone(), id.clone()), value)
            }
            // `apply` has refused these.
            (
                ConfigKey::Site | ConfigKey::Peer(_) | ConfigKey::Service(_) | ConfigKey::Workload(..),
                ConfigValue::Site(_)
                | ConfigValue::Peer(_)
                | ConfigValue::Service(_)
                | ConfigValue::Workload(_),
            ) => false,
        }
    }

    /// Whether anything changed.
    fn remove(&mut self, key: &ConfigKey) -> bool {
        match key {
            ConfigKey::Site => self.site.take().is_some(),
            ConfigKey::Peer(id) => self.peers.remove(id).is_some(),
            ConfigKey::Service(name) => self.services.remove(name).is_some(),
            ConfigKey::Workload(service, id) => {
                self.workloads.remove(&(service.clone(), id.clone())).is_some()
            }
        }
    }
}

fn is_of_one_kind(entry: &ConfigEntry) -> bool {
    matches!(
        (&entry.key, &entry.value),
        (_, None)
            | (ConfigKey::Site, Some(ConfigValue::Site(_)))
            | (ConfigKey::Peer(_), Some(ConfigValue::Peer(_)))
            | (ConfigKey::Service(_), Some(ConfigValue::Service(_)))
            | (ConfigKey::Workload(..), Some(ConfigValue::Workload(_)))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::routing::FailoverPolicy;
    use model::service::ServiceKind;

    fn service(name: &str) -> ConfigEntry {
        let service: ServiceName = format!("shop/{name}").parse().expect("valid");
        ConfigEntry {
            key: ConfigKey::Service(service.clone()),
            value: Some(ConfigValue::Service(Import {
                service,
                ports: Vec::new(),
                kind: ServiceKind::ClusterSetIp,
                vip: None,
                groups: Vec::new(),
                failover: FailoverPolicy::default(),
                access: Vec::new(),
            })),
        }
    }

    fn update(revision: u64, snapshot: bool, complete: bool, entries: Vec<ConfigEntry>) -> ConfigUpdate {
        ConfigUpdate { version: ConfigVersion { incarnation: 1, revision }, snapshot, complete, entries }
    }

    fn names(config: &NodeConfig) -> Vec<String> {
        config.services.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn an_incomplete_snapshot_removes_nothing() {
        let mut config = NodeConfig::default();
        config.apply(update(1, true, true, vec![service("a"), service("b")])).expect("applies");
        let mut restarted = update(1, true, false, vec![service("c")]);
        restarted.version.incarnation = 2;
        config.apply(restarted).expect("applies");
        assert_eq!(names(&config), ["shop/a", "shop/b", "shop/c"]);
    }

    #[test]
    fn absence_from_a_complete_snapshot_removes() {
        let mut config = NodeConfig::default();
        config.apply(update(1, true, true, vec![service("a"), service("b")])).expect("applies");
        let changed = config.apply(update(2, true, true, vec![service("b")])).expect("applies");
        assert_eq!(names(&config), ["shop/b"]);
        assert_eq!(changed.len(), 1, "what is as it was has not changed: {changed:?}");
    }

    #[test]
    fn a_change_without_its_base_changes_nothing() {
        let mut config = NodeConfig::default();
        assert!(matches!(
            config.apply(update(2, false, false, vec![service("a")])),
            Err(BadUpdate::NoBase { .. })
        ));
        config.apply(update(5, true, true, vec![service("a")])).expect("applies");
        assert!(config.apply(update(4, false, false, vec![service("b")])).is_err());
        let mut other = update(9, false, false, vec![service("b")]);
        other.version.incarnation = 7;
        assert!(config.apply(other).is_err());
        assert_eq!(names(&config), ["shop/a"]);
    }

    #[test]
    fn a_value_under_a_foreign_key_changes_nothing() {
        let mut config = NodeConfig::default();
        let mut wrong = service("a");
        wrong.key = ConfigKey::Site;
        assert!(config.apply(update(1, true, true, vec![service("b"), wrong])).is_err());
        assert!(config.services.is_empty() && config.version.is_none());
    }

    #[test]
    fn no_update_grows_the_config_past_its_bound() {
        let mut config = NodeConfig::default();
        let three = || vec![service("a"), service("b"), service("c")];
        let too_many = Err(BadUpdate::TooMany { max: 2 });
        assert_eq!(config.apply_within(update(1, true, true, three()), 2), too_many);
        assert_eq!(config.apply_within(update(1, true, false, three()), 2), too_many);
        config.apply_within(update(1, true, true, vec![service("a"), service("b")]), 2).expect("it fits");
        assert_eq!(config.apply_within(update(2, false, false, vec![service("c")]), 2), too_many);
        let mut gone = service("a");
        gone.value = None;
        let replaced = vec![service("b"), gone];
        config.apply_within(update(2, false, false, replaced), 2).expect("nothing is added");
        assert_eq!(names(&config), ["shop/b"]);
    }

    #[test]
    fn what_is_held_survives_being_written_out() {
        let mut config = NodeConfig::default();
        config.apply(update(3, true, true, vec![service("a"), service("b")])).expect("applies");
        let mut again = NodeConfig::default();
        again.apply(update(3, true, true, config.entries())).expect("applies");
        assert_eq!(names(&again), names(&config));
    }
}
