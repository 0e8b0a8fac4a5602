//! Config: updates, sites, peers, imports and their policies.

use super::check::*;
use super::exchange::{counted, endpoint_key, endpoint_key_of};
use super::{Cause, WireError, common, limits};
use crate::pb;
use model::config::*;
use model::ids::SiteId;
use model::routing::{AccessRule, CallerMatch, FailoverPolicy, Group, Import};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Greatest overprovisioning, in per cent.
const OVERPROVISIONING_MAX: u32 = 100_000;

impl From<&ConfigVersion> for pb::ConfigVersion {
    fn from(version: &ConfigVersion) -> Self {
        Self { incarnation: version.incarnation, revision: version.revision }
    }
}

impl From<pb::ConfigVersion> for ConfigVersion {
    fn from(version: pb::ConfigVersion) -> Self {
        Self { incarnation: version.incarnation, revision: version.revision }
    }
}

impl From<&ConfigUpdate> for pb::ConfigUpdate {
    fn from(update: &ConfigUpdate) -> Self {
        Self {
            version: Some((&update.version).into()),
            snapshot: update.snapshot,
            complete: update.complete,
            entries: update.entries.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::ConfigUpdate> for ConfigUpdate {
    type Error = WireError;

    fn try_from(update: pb::ConfigUpdate) -> Result<Self, WireError> {
        Ok(Self {
            version: need("version", update.version)?.into(),
            snapshot: update.snapshot,
            complete: update.complete,
            entries: entries(update.entries)?,
        })
    }
}

/// Entries of an update or a snapshot; no key is there twice.
pub(crate) fn entries(entries: Vec<pb::ConfigEntry>) -> Result<Vec<ConfigEntry>, WireError> {
    let entries: Vec<ConfigEntry> = list("entries", entries, limits::ENTRIES_MAX)?;
    let mut keys = BTreeSet::new();
    for (at, entry) in entries.iter().enumerate() {
        if !keys.insert(&entry.key) {
            let field = format_args!("entries[{at}].key");
            return Err(WireError::new(field, Cause::Rule("it is there twice")));
        }
    }
    Ok(entries)
}

impl From<&ConfigEntry> for pb::ConfigEntry {
    fn from(entry: &ConfigEntry) -> Self {
        use pb::config_entry::Value as Wire;
        Self {
            key: Some((&entry.key).into()),
            value: entry.value.as_ref().map(|value| match value {
                ConfigValue::Site(site) => Wire::Site(site.into()),
                ConfigValue::Peer(peer) => Wire::Peer(peer.into()),
                ConfigValue::Service(import) => Wire::Service(import.into()),
                ConfigValue::Workload(workload) => Wire::Workload(workload.into()),
            }),
        }
    }
}

impl TryFrom<pb::ConfigEntry> for ConfigEntry {
    type Error = WireError;

    fn try_from(entry: pb::ConfigEntry) -> Result<Self, WireError> {
        let key: ConfigKey = convert("key", entry.key)?;
        let value = entry.value.map(|value| value_of(&key, value).in_field("value")).transpose()?;
        Ok(Self { key, value })
    }
}

/// A value, which must be one that belongs to its key.
fn value_of(key: &ConfigKey, value: pb::config_entry::Value) -> Result<ConfigValue, WireError> {
    use pb::config_entry::Value as Wire;
    let other = || WireError::new("", Cause::Rule("it is not the one that its key names"));
    match (key, value) {
        (ConfigKey::Site, Wire::Site(site)) => Ok(ConfigValue::Site(site.try_into()?)),
        (ConfigKey::Peer(id), Wire::Peer(peer)) => {
            let peer: PeerConfig = peer.try_into()?;
            if peer.site.id == *id { Ok(ConfigValue::Peer(peer)) } else { Err(other()) }
        }
        (ConfigKey::Service(name), Wire::Service(import)) => {
            let import: Import = import.try_into()?;
            if import.service == *name { Ok(ConfigValue::Service(import)) } else { Err(other()) }
        }
        (ConfigKey::Workload(service, id), Wire::Workload(workload)) => {
            let workload: WorkloadSpec = workload.try_into()?;
            let same = workload.service == *service && workload.id == *id;
            if same { Ok(ConfigValue::Workload(workload)) } else { Err(other()) }
        }
        (
            ConfigKey::Site | ConfigKey::Peer(_) | ConfigKey::Service(_) | ConfigKey::Workload(..),
            Wire::Site(_) | Wire::Peer(_) | Wire::Service(_) | Wire::Workload(_),
        ) => Err(other()),
    }
}

impl From<&ConfigKey> for pb::ConfigKey {
    fn from(key: &ConfigKey) -> Self {
        use pb::config_key::Key as Wire;
        Self {
            key: Some(match key {
                ConfigKey::Site => Wire::Site(pb::SiteKey {}),
                ConfigKey::Peer(site) => Wire::Peer(site.to_string()),
                ConfigKey::Service(service) => Wire::Service(service.into()),
                ConfigKey::Workload(service, id) => Wire::Workload(endpoint_key(service, id)),
            }),
        }
    }
}

impl TryFrom<pb::ConfigKey> for ConfigKey {
    type Error = WireError;

    fn try_from(key: pb::ConfigKey) -> Result<Self, WireError> {
        use pb::config_key::Key as Wire;
        Ok(match need("key", key.key)? {
            Wire::Site(_) => Self::Site,
            Wire::Peer(site) => Self::Peer(parse("peer", &site)?),
            Wire::Service(service) => Self::Service(service.try_into().in_field("service")?),
            Wire::Workload(key) => {
                let (service, id) = endpoint_key_of(key).in_field("workload")?;
                Self::Workload(service, id)
            }
        })
    }
}

impl From<&SiteConfig> for pb::SiteConfig {
    fn from(config: &SiteConfig) -> Self {
        Self {
            site: Some((&config.site).into()),
            bundle: Some((&config.bundle).into()),
            link_open: config.link_open,
            names_complete: config.names_complete,
            signer: config.signer.map(|signer| signer.to_vec()).unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::SiteConfig> for SiteConfig {
    type Error = WireError;

    fn try_from(config: pb::SiteConfig) -> Result<Self, WireError> {
        Ok(Self {
            site: convert("site", config.site)?,
            bundle: convert("bundle", config.bundle)?,
            link_open: config.link_open,
            names_complete: config.names_complete,
            signer: match config.signer.as_slice() {
                [] => None,
                signer => Some(bytes("signer", signer)?),
            },
        })
    }
}

impl From<&PeerConfig> for pb::PeerConfig {
    fn from(config: &PeerConfig) -> Self {
        Self {
            site: Some((&config.site).into()),
            bundle: Some((&config.bundle).into()),
            expired: config.expired,
        }
    }
}

impl TryFrom<pb::PeerConfig> for PeerConfig {
    type Error = WireError;

    fn try_from(config: pb::PeerConfig) -> Result<Self, WireError> {
        Ok(Self {
            site: convert("site", config.site)?,
            bundle: convert("bundle", config.bundle)?,
            expired: config.expired,
        })
    }
}

impl From<&Import> for pb::Import {
    fn from(import: &Import) -> Self {
        Self {
            service: Some((&import.service).into()),
            ports: import.ports.iter().map(Into::into).collect(),
            kind: pb::ServiceKind::from(import.kind) as i32,
            vip: import.vip.map(u32::from),
            groups: import.groups.iter().map(Into::into).collect(),
            failover: Some((&import.failover).into()),
            access: import.access.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::Import> for Import {
    type Error = WireError;

    fn try_from(import: pb::Import) -> Result<Self, WireError> {
        let groups: Vec<Group> = list("groups", import.groups, limits::GROUPS_MAX)?;
        ordered("groups", &groups, |group| &group.id)?;
        Ok(Self {
            service: convert("service", import.service)?,
            ports: common::ports("ports", import.ports)?,
            kind: word::<pb::ServiceKind, _>("kind", import.kind)?,
            vip: import.vip.map(Ipv4Addr::from),
            groups,
            failover: convert("failover", import.failover)?,
            access: list("access", import.access, limits::RULES_MAX)?,
        })
    }
}

impl From<&Group> for pb::Group {
    fn from(group: &Group) -> Self {
        Self {
            id: Some((&group.id).into()),
            healthy: group.healthy,
            total: group.total,
            declared_total: group.declared_total,
            capacity: group.capacity,
            endpoints: group.endpoints.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::Group> for Group {
    type Error = WireError;

    fn try_from(group: pb::Group) -> Result<Self, WireError> {
        counted(group.healthy, group.total, group.capacity)?;
        let declared = group.declared_total.map(|total| endpoints("declared_total", total));
        Ok(Self {
            id: convert("id", group.id)?,
            healthy: group.healthy,
            total: group.total,
            declared_total: declared.transpose()?,
            capacity: group.capacity,
            endpoints: list("endpoints", group.endpoints, limits::ENDPOINTS_MAX)?,
        })
    }
}

impl From<&FailoverPolicy> for pb::FailoverPolicy {
    fn from(policy: &FailoverPolicy) -> Self {
        Self {
            order: policy.order.iter().map(ToString::to_string).collect(),
            overprovisioning_pct: policy.overprovisioning_pct,
            min_healthy: policy.min_healthy,
            strict: policy.strict,
            failback_delay_us: unduration_us(policy.failback_delay),
            failback_ramp_us: unduration_us(policy.failback_ramp),
        }
    }
}

impl TryFrom<pb::FailoverPolicy> for FailoverPolicy {
    type Error = WireError;

    fn try_from(policy: pb::FailoverPolicy) -> Result<Self, WireError> {
        let pct = policy.overprovisioning_pct;
        Ok(Self {
            order: parse_list::<SiteId>("order", policy.order, limits::SITES_MAX)?,
            overprovisioning_pct: range("overprovisioning_pct", pct, 1, OVERPROVISIONING_MAX)?,
            min_healthy: policy.min_healthy,
            strict: policy.strict,
            failback_delay: duration_us("failback_delay_us", policy.failback_delay_us)?,
            failback_ramp: duration_us("failback_ramp_us", policy.failback_ramp_us)?,
        })
    }
}

impl From<&AccessRule> for pb::AccessRule {
    fn from(rule: &AccessRule) -> Self {
        Self {
            policy: clean(&rule.policy, limits::REASON_MAX),
            allow: rule.allow,
            from: rule.from.iter().map(Into::into).collect(),
            min_proof: pb::Proof::from(rule.min_proof) as i32,
        }
    }
}

impl TryFrom<pb::AccessRule> for AccessRule {
    type Error = WireError;

    fn try_from(rule: pb::AccessRule) -> Result<Self, WireError> {
        Ok(Self {
            policy: text("policy", rule.policy, limits::REASON_MAX)?,
            allow: rule.allow,
            from: list("from", rule.from, limits::RULES_MAX)?,
            min_proof: word::<pb::Proof, _>("min_proof", rule.min_proof)?,
        })
    }
}

impl From<&CallerMatch> for pb::CallerMatch {
    fn from(of: &CallerMatch) -> Self {
        fn text<T: ToString>(value: &Option<T>) -> String {
            value.as_ref().map(ToString::to_string).unwrap_or_default()
        }
        Self {
            trust_domain: text(&of.trust_domain),
            site: text(&of.site),
            namespace: text(&of.namespace),
            account: text(&of.account),
        }
    }
}

impl TryFrom<pb::CallerMatch> for CallerMatch {
    type Error = WireError;

    fn try_from(of: pb::CallerMatch) -> Result<Self, WireError> {
        Ok(Self {
            trust_domain: parse_some("trust_domain", &of.trust_domain)?,
            site: parse_some("site", &of.site)?,
            namespace: parse_some("namespace", &of.namespace)?,
            account: parse_some("account", &of.account)?,
        })
    }
}
