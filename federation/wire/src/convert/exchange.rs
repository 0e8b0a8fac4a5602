//! Messages between federations, and the entries of a catalog.

use super::check::*;
use super::common::subset;
use super::{Cause, WireError, limits};
use crate::pb;
use model::catalog::{Entry, EntryKey, EntryValue, ExportInfo, GroupSummary, View};
use model::endpoint::Endpoint;
use model::exchange::{Batch, Held, PeerMessage, RefusedSession};
use model::ids::{EndpointId, Incarnation, SiteUid};
use model::service::ServiceName;

words!(pb::View, View, { Summary = Summary, Endpoints = Endpoints });
words!(pb::SessionRefusal, RefusedSession, {
    WrongUid = WrongUid,
    Clone = Clone,
    NotLinked = NotLinked,
    Protocol = Protocol,
});

impl From<&PeerMessage> for pb::PeerMessage {
    fn from(message: &PeerMessage) -> Self {
        use pb::peer_message::Message as Wire;
        Self {
            message: Some(match message {
                PeerMessage::Hello { uid, incarnation, held, scope, view } => Wire::Hello(pb::PeerHello {
                    uid: uid.0.to_vec(),
                    incarnation: incarnation.0,
                    held: held.as_ref().map(Into::into),
                    scope: Some(scope.into()),
                    view: pb::View::from(*view) as i32,
                }),
                PeerMessage::Batch(batch) => Wire::Batch(batch.into()),
                PeerMessage::Ack(version) => Wire::Ack(version.into()),
                PeerMessage::Digest { version, digest } => {
                    Wire::Digest(pb::Digest { version: Some(version.into()), digest: digest.to_vec() })
                }
                PeerMessage::Resync { reason } => {
                    Wire::Resync(pb::Resync { reason: clean(reason, limits::REASON_MAX) })
                }
                PeerMessage::Refused { reason } => {
                    let reason = pb::SessionRefusal::from(*reason) as i32;
                    Wire::Refused(pb::RefusedSession { reason })
                }
                PeerMessage::KeepAlive => Wire::KeepAlive(pb::KeepAlive::default()),
                PeerMessage::Trust { bundle, vouchers, holds } => Wire::KeepAlive(pb::KeepAlive {
                    bundle: Some(bundle.into()),
                    vouchers: vouchers.clone(),
                    holds: *holds,
                }),
                PeerMessage::Unlinked => Wire::Unlinked(pb::Unlinked {}),
            }),
        }
    }
}

impl TryFrom<pb::PeerMessage> for PeerMessage {
    type Error = WireError;

    fn try_from(message: pb::PeerMessage) -> Result<Self, WireError> {
        use pb::peer_message::Message as Wire;
        Ok(match need("message", message.message)? {
            Wire::Hello(hello) => hello_of(hello).in_field("hello")?,
            Wire::Batch(batch) => Self::Batch(batch.try_into().in_field("batch")?),
            Wire::Ack(version) => Self::Ack(version.into()),
            Wire::Digest(digest) => Self::Digest {
                version: need("digest.version", digest.version)?.into(),
                digest: bytes("digest.digest", &digest.digest)?,
            },
            Wire::Resync(resync) => {
                Self::Resync { reason: text("resync.reason", resync.reason, limits::REASON_MAX)? }
            }
            Wire::Refused(refused) => {
                Self::Refused { reason: word::<pb::SessionRefusal, _>("refused.reason", refused.reason)? }
            }
            Wire::KeepAlive(alive) => alive_of(alive).in_field("keep_alive")?,
            Wire::Unlinked(_) => Self::Unlinked,
        })
    }
}

fn hello_of(hello: pb::PeerHello) -> Result<PeerMessage, WireError> {
    Ok(PeerMessage::Hello {
        uid: SiteUid(bytes("uid", &hello.uid)?),
        incarnation: Incarnation(hello.incarnation),
        held: hello.held.map(|held| held.try_into().in_field("held")).transpose()?,
        scope: convert("scope", hello.scope)?,
        view: word::<pb::View, _>("view", hello.view)?,
    })
}

fn alive_of(alive: pb::KeepAlive) -> Result<PeerMessage, WireError> {
    let Some(bundle) = alive.bundle else { return Ok(PeerMessage::KeepAlive) };
    Ok(PeerMessage::Trust {
        bundle: bundle.try_into().in_field("bundle")?,
        vouchers: certificates("vouchers", alive.vouchers, limits::VOUCHERS_MAX)?,
        holds: alive.holds,
    })
}

impl From<&Held> for pb::Held {
    fn from(held: &Held) -> Self {
        Self { version: Some((&held.version).into()), digest: held.digest.to_vec() }
    }
}

impl TryFrom<pb::Held> for Held {
    type Error = WireError;

    fn try_from(held: pb::Held) -> Result<Self, WireError> {
        Ok(Self { version: need("version", held.version)?.into(), digest: bytes("digest", &held.digest)? })
    }
}

impl From<&Batch> for pb::Batch {
    fn from(batch: &Batch) -> Self {
        Self {
            base: Some((&batch.base).into()),
            version: Some((&batch.version).into()),
            snapshot: batch.snapshot,
            complete: batch.complete,
            entries: batch.entries.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::Batch> for Batch {
    type Error = WireError;

    fn try_from(batch: pb::Batch) -> Result<Self, WireError> {
        let entries: Vec<Entry> = list("entries", batch.entries, limits::ENTRIES_MAX)?;
        ordered("entries", &entries, |entry| &entry.key)?;
        Ok(Self {
            base: need("base", batch.base)?.into(),
            version: need("version", batch.version)?.into(),
            snapshot: batch.snapshot,
            complete: batch.complete,
            entries,
        })
    }
}

impl From<&Entry> for pb::Entry {
    fn from(entry: &Entry) -> Self {
        use pb::entry::Value as Wire;
        Self {
            key: Some((&entry.key).into()),
            value: entry.value.as_ref().map(|value| match value {
                EntryValue::Site(site) => Wire::Site(site.into()),
                EntryValue::Export(export) => Wire::Export(export.into()),
                EntryValue::Group(group) => Wire::Group(group.into()),
                EntryValue::Endpoint(endpoint) => Wire::Endpoint(endpoint.into()),
            }),
        }
    }
}

impl TryFrom<pb::Entry> for Entry {
    type Error = WireError;

    fn try_from(entry: pb::Entry) -> Result<Self, WireError> {
        let key: EntryKey = convert("key", entry.key)?;
        let value = entry.value.map(|value| value_of(&key, value).in_field("value")).transpose()?;
        Ok(Self { key, value })
    }
}

/// A value, which must be one that belongs to its key.
fn value_of(key: &EntryKey, value: pb::entry::Value) -> Result<EntryValue, WireError> {
    use pb::entry::Value as Wire;
    match (key, value) {
        (EntryKey::Site, Wire::Site(site)) => Ok(EntryValue::Site(site.try_into()?)),
        (EntryKey::Export(_), Wire::Export(export)) => Ok(EntryValue::Export(export.try_into()?)),
        (EntryKey::Group(..), Wire::Group(group)) => Ok(EntryValue::Group(group.try_into()?)),
        (EntryKey::Endpoint(_, id), Wire::Endpoint(endpoint)) => {
            let endpoint: Endpoint = endpoint.try_into()?;
            if endpoint.id != *id {
                return Err(WireError::new("id", Cause::Rule("it is not that of the key")));
            }
            Ok(EntryValue::Endpoint(endpoint))
        }
        (
            EntryKey::Site | EntryKey::Export(_) | EntryKey::Group(..) | EntryKey::Endpoint(..),
            Wire::Site(_) | Wire::Export(_) | Wire::Group(_) | Wire::Endpoint(_),
        ) => Err(WireError::new("", Cause::Rule("it is not of the kind of its key"))),
    }
}

impl From<&EntryKey> for pb::EntryKey {
    fn from(key: &EntryKey) -> Self {
        use pb::entry_key::Key as Wire;
        Self {
            key: Some(match key {
                EntryKey::Site => Wire::Site(pb::SiteKey {}),
                EntryKey::Export(service) => Wire::Export(service.into()),
                EntryKey::Group(service, locality, subset) => Wire::Group(pb::GroupKey {
                    service: Some(service.into()),
                    locality: locality.to_string(),
                    subset: subset.0.clone(),
                }),
                EntryKey::Endpoint(service, id) => Wire::Endpoint(endpoint_key(service, id)),
            }),
        }
    }
}

impl TryFrom<pb::EntryKey> for EntryKey {
    type Error = WireError;

    fn try_from(key: pb::EntryKey) -> Result<Self, WireError> {
        use pb::entry_key::Key as Wire;
        Ok(match need("key", key.key)? {
            Wire::Site(_) => Self::Site,
            Wire::Export(service) => Self::Export(service.try_into().in_field("export")?),
            Wire::Group(group) => Self::Group(
                convert("service", group.service).in_field("group")?,
                parse("group.locality", &group.locality)?,
                subset(group.subset).in_field("group")?,
            ),
            Wire::Endpoint(key) => {
                let (service, id) = endpoint_key_of(key).in_field("endpoint")?;
                Self::Endpoint(service, id)
            }
        })
    }
}

pub(super) fn endpoint_key(service: &ServiceName, id: &EndpointId) -> pb::EndpointKey {
    pb::EndpointKey { service: Some(service.into()), endpoint: id.to_string() }
}

pub(super) fn endpoint_key_of(key: pb::EndpointKey) -> Result<(ServiceName, EndpointId), WireError> {
    Ok((convert("service", key.service)?, parse("endpoint", &key.endpoint)?))
}

impl From<&ExportInfo> for pb::ExportInfo {
    fn from(export: &ExportInfo) -> Self {
        Self { spec: Some((&export.spec).into()), created_at_ms: export.created_at_ms }
    }
}

impl TryFrom<pb::ExportInfo> for ExportInfo {
    type Error = WireError;

    fn try_from(export: pb::ExportInfo) -> Result<Self, WireError> {
        Ok(Self { spec: convert("spec", export.spec)?, created_at_ms: export.created_at_ms })
    }
}

impl From<&GroupSummary> for pb::GroupSummary {
    fn from(group: &GroupSummary) -> Self {
        Self { healthy: group.healthy, total: group.total, capacity: group.capacity }
    }
}

impl TryFrom<pb::GroupSummary> for GroupSummary {
    type Error = WireError;

    fn try_from(group: pb::GroupSummary) -> Result<Self, WireError> {
        counted(group.healthy, group.total, group.capacity)?;
        Ok(Self { healthy: group.healthy, total: group.total, capacity: group.capacity })
    }
}

/// The counts of a group agree with each other.
pub(super) fn counted(healthy: u32, total: u32, capacity: u64) -> Result<(), WireError> {
    let total = endpoints("total", total)?;
    let healthy = range("healthy", healthy, 0, total)?;
    let max = u64::from(healthy) * u64::from(limits::WEIGHT_MAX);
    if capacity > max {
        return Err(WireError::new("capacity", Cause::Range { found: capacity, min: 0, max }));
    }
    Ok(())
}
