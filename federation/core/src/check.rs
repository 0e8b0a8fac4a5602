//! What a peer may say: every rule by which a message is refused before it changes anything.

use crate::digest::{Measure, key_bytes};
use crate::settings::Settings;
use model::catalog::{Entry, EntryKey, EntryValue, GatewayAddress, Scope, ServiceSpec, SiteInfo, Version};
use model::endpoint::Endpoint;
use model::exchange::Batch;
use model::identity::TrustDomain;
use model::ids::{SiteId, SiteUid};
use model::locality::Locality;
use model::service::ServiceName;

/// Most gateways of one site, and most ports of one service or endpoint.
const LIST_MAX: usize = 64;
/// Longest part of a locality, and longest subset.
const TEXT_MAX: usize = 63;
/// Greatest weight of an endpoint.
const WEIGHT_MAX: u32 = 1_000;

/// A message of a peer that was refused; nothing was changed by it. Always the peer's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// There is no such session, or it was closed.
    #[error("there is no such session")]
    UnknownSession,
    /// Something came before `Hello`.
    #[error("the peer sent something before its Hello")]
    BeforeHello,
    /// A second `Hello` in one session.
    #[error("the peer sent a second Hello in one session")]
    SecondHello,
    /// The uid is not the one that was pinned.
    #[error("the peer says that its uid is {said}, the link pins {pinned}")]
    WrongUid {
        /// Uid that it says.
        said: SiteUid,
        /// Uid that was pinned.
        pinned: SiteUid,
    },
    /// It claims to hold an epoch of ours that is out of all reason.
    #[error("the peer says that it holds epoch {said} of this site, which is at {own}")]
    WildEpoch {
        /// What it says.
        said: u64,
        /// Own epoch.
        own: u64,
    },
    /// It acknowledged what was never sent.
    #[error("the peer acknowledged a batch that was never sent to it")]
    FalseAck,
    /// It sent more batches than the window allows.
    #[error("the peer sent more than {limit} batches without waiting for an acknowledgement")]
    WindowExceeded {
        /// The limit.
        limit: usize,
    },
    /// The batch is of an older epoch or an older position than what is held.
    #[error("the peer sent position {said:?}, older than {held:?}, which is held")]
    Backwards {
        /// Position in the batch.
        said: Version,
        /// Position held.
        held: Version,
    },
    /// The positions of a batch do not fit together.
    #[error("the positions of the batch do not fit: {what}")]
    Positions {
        /// What does not fit.
        what: &'static str,
    },
    /// The batch is larger than allowed.
    #[error("the batch has an estimated {bytes} bytes, at most {limit} are taken")]
    BatchTooLarge {
        /// Its estimate.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The catalog of the peer would be larger than allowed.
    #[error(
        "the catalog of the peer would have {entries} entries and an estimated {bytes} bytes, which is too much"
    )]
    CatalogTooLarge {
        /// Entries.
        entries: usize,
        /// Estimated bytes.
        bytes: usize,
    },
    /// Keys are out of order or come twice.
    #[error("the entries are not in order at {key:?}")]
    Unordered {
        /// Where.
        key: Box<EntryKey>,
    },
    /// The service was not asked for.
    #[error("the peer tells of {service}, which this site does not accept from it")]
    OutOfScope {
        /// The service.
        service: ServiceName,
    },
    /// The kind of value does not belong to the key.
    #[error("the value under {key:?} is of another kind than its key")]
    WrongKind {
        /// Key.
        key: Box<EntryKey>,
    },
    /// A value breaks a rule.
    #[error("the value under {key:?} is not valid: {what}")]
    BadValue {
        /// Key.
        key: Box<EntryKey>,
        /// Which rule.
        what: &'static str,
    },
}

/// Who a peer must be, and what may be said in its name.
pub(crate) struct Expected<'a> {
    pub site: &'a SiteId,
    pub uid: SiteUid,
    pub trust_domain: &'a TrustDomain,
    pub scope: &'a Scope,
}

/// A batch that breaks no rule that can be checked without knowing what is held.
#[derive(Debug)]
pub(crate) struct CheckedBatch {
    pub base: Version,
    pub version: Version,
    pub snapshot: bool,
    pub complete: bool,
    /// Ordered by key, no key twice.
    pub entries: Vec<(EntryKey, Option<(EntryValue, Measure)>)>,
}

/// Checks all of a batch that can be checked without knowing what is held.
pub(crate) fn batch(
    batch: Batch,
    expected: &Expected<'_>,
    settings: &Settings,
) -> Result<CheckedBatch, MessageError> {
    positions(&batch)?;
    let Batch { base, version, snapshot, complete, entries } = batch;
    let mut checked: Vec<(EntryKey, Option<(EntryValue, Measure)>)> = Vec::with_capacity(entries.len());
    let mut bytes = 0;
    for Entry { key, value } in entries {
        if checked.last().is_some_and(|(last, _)| *last >= key) {
            return Err(MessageError::Unordered { key: Box::new(key) });
        }
        if let Some(service) = key.service()
            && !expected.scope.contains(service)
        {
            return Err(MessageError::OutOfScope { service: service.clone() });
        }
        self::key(&key)?;
        let value = match value {
            None if key == EntryKey::Site => return Err(bad(&key, "a site does not withdraw itself")),
            None => {
                bytes += key_bytes(&key);
                None
            }
            Some(value) => {
                self::value(&key, &value, expected)?;
                let measure = Measure::of(&key, &value);
                bytes += measure.bytes as usize;
                Some((value, measure))
            }
        };
        if bytes > settings.batch_bytes_max {
            return Err(MessageError::BatchTooLarge { bytes, limit: settings.batch_bytes_max });
        }
        checked.push((key, value));
    }
    Ok(CheckedBatch { base, version, snapshot, complete, entries: checked })
}

fn positions(batch: &Batch) -> Result<(), MessageError> {
    let wrong = |what| Err(MessageError::Positions { what });
    if batch.base.epoch != batch.version.epoch {
        return wrong("base and version are of two epochs");
    }
    if batch.base > batch.version {
        return wrong("base is after version");
    }
    if batch.version.epoch.0 == 0 || batch.version.revision.0 == 0 {
        return wrong("epochs and revisions begin at 1");
    }
    if !batch.snapshot && !batch.complete {
        return wrong("only a snapshot may be incomplete");
    }
    if !batch.snapshot && batch.base == batch.version && !batch.entries.is_empty() {
        return wrong("entries without a new position");
    }
    Ok(())
}

fn bad(key: &EntryKey, what: &'static str) -> MessageError {
    MessageError::BadValue { key: Box::new(key.clone()), what }
}

fn key(key: &EntryKey) -> Result<(), MessageError> {
    match key {
        EntryKey::Site | EntryKey::Export(_) | EntryKey::Endpoint(..) => Ok(()),
        EntryKey::Group(_, locality, subset) => place(locality, &subset.0).map_err(|what| bad(key, what)),
    }
}

fn place(locality: &Locality, subset: &str) -> Result<(), &'static str> {
    let parts = [&locality.region, &locality.zone, &locality.sub_zone];
    if parts.iter().any(|part| part.len() > TEXT_MAX) || subset.len() > TEXT_MAX {
        return Err("a locality's part or a subset is longer than 63 characters");
    }
    Ok(())
}

fn value(key: &EntryKey, value: &EntryValue, expected: &Expected<'_>) -> Result<(), MessageError> {
    match (key, value) {
        (EntryKey::Site, EntryValue::Site(site)) => self::site(key, site, expected),
        (EntryKey::Export(_), EntryValue::Export(export)) => {
            spec(&export.spec).map_err(|what| bad(key, what))
        }
        (EntryKey::Group(..), EntryValue::Group(group)) => {
            if group.healthy > group.total {
                return Err(bad(key, "more endpoints are healthy than there are"));
            }
            if group.total == 0 {
                return Err(bad(key, "a group without endpoints is withdrawn, not told"));
            }
            if group.capacity > u64::from(group.healthy) * u64::from(WEIGHT_MAX)
                || group.capacity < u64::from(group.healthy)
            {
                return Err(bad(key, "each healthy endpoint weighs 1 to 1 000"));
            }
            Ok(())
        }
        (EntryKey::Endpoint(_, id), EntryValue::Endpoint(endpoint)) => {
            if *id != endpoint.id {
                return Err(bad(key, "the endpoint has another id than its key"));
            }
            self::endpoint(endpoint).map_err(|what| bad(key, what))
        }
        (
            EntryKey::Site | EntryKey::Export(_) | EntryKey::Group(..) | EntryKey::Endpoint(..),
            EntryValue::Site(_) | EntryValue::Export(_) | EntryValue::Group(_) | EntryValue::Endpoint(_),
        ) => Err(MessageError::WrongKind { key: Box::new(key.clone()) }),
    }
}

fn site(key: &EntryKey, site: &SiteInfo, expected: &Expected<'_>) -> Result<(), MessageError> {
    if site.id != *expected.site || site.uid != expected.uid || site.trust_domain != *expected.trust_domain {
        return Err(bad(
            key,
            "a site speaks only of itself: name, uid and trust domain are those of the link",
        ));
    }
    place(&site.locality, "").map_err(|what| bad(key, what))?;
    gateways(&site.gateways).map_err(|what| bad(key, what))
}

pub(crate) fn gateways(gateways: &[GatewayAddress]) -> Result<(), &'static str> {
    if gateways.len() > LIST_MAX {
        return Err("it has more than 64 gateways");
    }
    if !gateways.is_sorted_by(|a, b| a.name < b.name) {
        return Err("its gateways are not ordered by name");
    }
    Ok(())
}

/// Checks what a service may be.
pub(crate) fn spec(spec: &ServiceSpec) -> Result<(), &'static str> {
    if spec.ports.len() > LIST_MAX {
        return Err("it has more than 64 ports");
    }
    if !spec.ports.is_sorted_by(|a, b| a.key < b.key) {
        return Err("its ports are not ordered, or one comes twice");
    }
    if spec.ports.iter().any(|port| port.key.number == 0) {
        return Err("port 0 does not exist");
    }
    Ok(())
}

/// Checks what an endpoint may be.
pub(crate) fn endpoint(endpoint: &Endpoint) -> Result<(), &'static str> {
    place(&endpoint.locality, &endpoint.subset.0)?;
    if !(1..=WEIGHT_MAX).contains(&endpoint.weight) {
        return Err("its weight is not in 1 to 1 000");
    }
    if endpoint.ports.len() > LIST_MAX {
        return Err("it has more than 64 ports");
    }
    if endpoint.ports.iter().any(|(port, target)| port.number == 0 || *target == 0) {
        return Err("port 0 does not exist");
    }
    Ok(())
}
