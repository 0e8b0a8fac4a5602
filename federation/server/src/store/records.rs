//! Records of the replicator as bytes.
//!
//! A key is its parts, joined by zero bytes; only the last part of a key may be free text. A value is a message of
//! the wire, or numbers in big-endian order where no message exists.

use federation_core::store::{Given, HeldHead, Record, RecordKey, RecordValue};
use model::catalog::{Entry, EntryKey, OwnKey, OwnValue, Scope, Version, View};
use model::catalog::{Epoch, Revision};
use model::ids::SiteUid;
use model::service::{ServiceName, Subset};
use prost::Message;
use std::str::FromStr;
use wire::pb;

/// Why a row is no record.
#[derive(Debug, thiserror::Error)]
#[error("the row `{row}` {what}")]
pub struct BadRow {
    row: String,
    what: String,
}

/// The key as bytes.
pub fn encode_key(key: &RecordKey) -> Vec<u8> {
    let service = |kind: &str, name: &ServiceName| format!("{kind}\0{}\0{}", name.namespace, name.name);
    match key {
        RecordKey::OwnVersion => "version".to_owned(),
        RecordKey::Own(OwnKey::Site) => "own\0site".to_owned(),
        RecordKey::Own(OwnKey::Service(name)) => service("own\0service", name),
        RecordKey::Own(OwnKey::Export(name)) => service("own\0export", name),
        RecordKey::Own(OwnKey::Endpoint(name, id)) => format!("{}\0{id}", service("own\0endpoint", name)),
        RecordKey::Given(site) => format!("given\0{site}"),
        RecordKey::HeldHead(site) => format!("head\0{site}"),
        RecordKey::Held(site, EntryKey::Site) => format!("held\0{site}\0site"),
        RecordKey::Held(site, EntryKey::Export(name)) => service(&format!("held\0{site}\0export"), name),
        RecordKey::Held(site, EntryKey::Group(name, locality, subset)) => {
            format!("{}\0{locality}\0{}", service(&format!("held\0{site}\0group"), name), subset.0)
        }
        RecordKey::Held(site, EntryKey::Endpoint(name, id)) => {
            format!("{}\0{id}", service(&format!("held\0{site}\0endpoint"), name))
        }
    }
    .into_bytes()
}

/// The value as bytes.
pub fn encode_value(key: &RecordKey, value: &RecordValue) -> Vec<u8> {
    match value {
        RecordValue::OwnVersion(version) => put_version(version),
        RecordValue::Own(OwnValue::Site(site)) => pb::SiteInfo::from(site).encode_to_vec(),
        RecordValue::Own(OwnValue::Service(spec)) => pb::ServiceSpec::from(spec).encode_to_vec(),
        RecordValue::Own(OwnValue::Export { created_at_ms }) => created_at_ms.to_be_bytes().to_vec(),
        RecordValue::Own(OwnValue::Endpoint(endpoint)) => pb::Endpoint::from(endpoint).encode_to_vec(),
        RecordValue::Given(given) => {
            let mut bytes = put_version(&given.version);
            bytes.extend(pb::Scope::from(&given.offer).encode_to_vec());
            bytes
        }
        RecordValue::HeldHead(head) => {
            let mut bytes = head.uid.0.to_vec();
            bytes.extend(put_version(&head.version));
            bytes.extend(head.digest);
            bytes.push(match head.view {
                View::Summary => 0,
                View::Endpoints => 1,
            });
            bytes.push(u8::from(head.complete_once));
            bytes.extend(pb::Scope::from(&head.scope).encode_to_vec());
            bytes
        }
        RecordValue::Held(value) => {
            let RecordKey::Held(_, key) = key else { return Vec::new() };
            pb::Entry::from(&Entry { key: key.clone(), value: Some(value.clone()) }).encode_to_vec()
        }
    }
}

/// A row as a record.
pub fn decode(key: &[u8], value: &[u8]) -> Result<Record, BadRow> {
    let bad = |what: String| BadRow {
        row: String::from_utf8_lossy(key).replace('\0', " ").chars().take(200).collect(),
        what,
    };
    let text = std::str::from_utf8(key).map_err(|_| bad("is not text".to_owned()))?;
    let key = decode_key(text).ok_or_else(|| bad("is of no known kind".to_owned()))?;
    let value = decode_value(&key, value).map_err(|what| bad(format!("cannot be read: {what}")))?;
    Ok(Record { key, value: Some(value) })
}

fn decode_key(text: &str) -> Option<RecordKey> {
    let (kind, rest) = text.split_once('\0').unwrap_or((text, ""));
    match kind {
        "version" => Some(RecordKey::OwnVersion),
        "given" => Some(RecordKey::Given(parse(rest)?)),
        "head" => Some(RecordKey::HeldHead(parse(rest)?)),
        "own" => {
            let parts: Vec<&str> = rest.splitn(4, '\0').collect();
            Some(RecordKey::Own(match parts.as_slice() {
                ["site"] => OwnKey::Site,
                ["service", namespace, name] => OwnKey::Service(service(namespace, name)?),
                ["export", namespace, name] => OwnKey::Export(service(namespace, name)?),
                ["endpoint", namespace, name, id] => OwnKey::Endpoint(service(namespace, name)?, parse(id)?),
                _ => return None,
            }))
        }
        "held" => {
            let (site, rest) = rest.split_once('\0')?;
            let parts: Vec<&str> = rest.splitn(5, '\0').collect();
            let key = match parts.as_slice() {
                ["site"] => EntryKey::Site,
                ["export", namespace, name] => EntryKey::Export(service(namespace, name)?),
                ["group", namespace, name, locality, subset] => {
                    EntryKey::Group(service(namespace, name)?, parse(locality)?, Subset((*subset).to_owned()))
                }
                ["endpoint", namespace, name, id] => {
                    EntryKey::Endpoint(service(namespace, name)?, parse(id)?)
                }
                _ => return None,
            };
            Some(RecordKey::Held(parse(site)?, key))
        }
        _ => None,
    }
}

fn decode_value(key: &RecordKey, bytes: &[u8]) -> Result<RecordValue, String> {
    Ok(match key {
        RecordKey::OwnVersion => RecordValue::OwnVersion(version(bytes)?),
        RecordKey::Own(OwnKey::Site) => RecordValue::Own(OwnValue::Site(message::<pb::SiteInfo, _>(bytes)?)),
        RecordKey::Own(OwnKey::Service(_)) => {
            RecordValue::Own(OwnValue::Service(message::<pb::ServiceSpec, _>(bytes)?))
        }
        RecordKey::Own(OwnKey::Export(_)) => {
            RecordValue::Own(OwnValue::Export { created_at_ms: u64::from_be_bytes(part(bytes, 0)?) })
        }
        RecordKey::Own(OwnKey::Endpoint(..)) => {
            RecordValue::Own(OwnValue::Endpoint(message::<pb::Endpoint, _>(bytes)?))
        }
        RecordKey::Given(_) => {
            RecordValue::Given(Given { version: version(bytes)?, offer: scope(bytes, 16)? })
        }
        RecordKey::HeldHead(_) => RecordValue::HeldHead(HeldHead {
            uid: SiteUid(part(bytes, 0)?),
            version: version(bytes.get(16..).ok_or("it is too short")?)?,
            digest: part(bytes, 32)?,
            view: if part::<1>(bytes, 64)? == [0] { View::Summary } else { View::Endpoints },
            complete_once: part::<1>(bytes, 65)? != [0],
            scope: scope(bytes, 66)?,
        }),
        RecordKey::Held(..) => {
            let entry: Entry = message::<pb::Entry, _>(bytes)?;
            RecordValue::Held(entry.value.ok_or("it has no value")?)
        }
    })
}

fn put_version(version: &Version) -> Vec<u8> {
    let mut bytes = version.epoch.0.to_be_bytes().to_vec();
    bytes.extend(version.revision.0.to_be_bytes());
    bytes
}

fn version(bytes: &[u8]) -> Result<Version, String> {
    Ok(Version {
        epoch: Epoch(u64::from_be_bytes(part(bytes, 0)?)),
        revision: Revision(u64::from_be_bytes(part(bytes, 8)?)),
    })
}

fn scope(bytes: &[u8], from: usize) -> Result<Scope, String> {
    message::<pb::Scope, _>(bytes.get(from..).ok_or("it is too short")?)
}

fn part<const N: usize>(bytes: &[u8], from: usize) -> Result<[u8; N], String> {
    let part = bytes.get(from..from + N).ok_or("it is too short")?;
    part.try_into().map_err(|_| "it is too short".to_owned())
}

fn message<M: Message + Default, T: TryFrom<M, Error = wire::convert::WireError>>(
    bytes: &[u8],
) -> Result<T, String> {
    let message = M::decode(bytes).map_err(|error| error.to_string())?;
    T::try_from(message).map_err(|error| error.to_string())
}

fn parse<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn service(namespace: &str, name: &str) -> Option<ServiceName> {
    Some(ServiceName { namespace: parse(namespace)?, name: parse(name)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::catalog::{EntryValue, ExportInfo, GroupSummary, ServiceSpec, SiteInfo};
    use model::endpoint::{Endpoint, Health, Reach};
    use model::service::{AppProtocol, PortKey, ServiceKind, ServicePort};
    use std::collections::BTreeSet;

    fn records() -> Vec<Record> {
        let cart: ServiceName = "shop/cart".parse().expect("valid");
        let west: model::ids::SiteId = "west".parse().expect("valid");
        let version = Version { epoch: Epoch(3), revision: Revision(9) };
        let endpoint = Endpoint {
            id: "10.2.0.14:8080".parse().expect("valid"),
            locality: "eu/fra".parse().expect("valid"),
            network: "east".parse().expect("valid"),
            subset: Subset("v2".to_owned()),
            weight: 3,
            health: Health::Unhealthy,
            reach: Reach::Agent("vm-1".parse().expect("valid")),
            ports: [(PortKey::tcp(80), 8080)].into(),
            hostname: None,
        };
        let port =
            ServicePort { key: PortKey::tcp(80), name: None, app: AppProtocol::Http, retry_safe: true };
        let spec = ServiceSpec { ports: vec![port], kind: ServiceKind::Headless, declared_total: Some(2) };
        let site = SiteInfo {
            id: west.clone(),
            uid: SiteUid([7; 16]),
            trust_domain: "west.mesh".parse().expect("valid"),
            locality: "us/sjc".parse().expect("valid"),
            clusterset: "meshfed".parse().expect("valid"),
            gateways: Vec::new(),
        };
        let some: BTreeSet<_> = [cart.clone()].into();
        let offer = Scope::Only { namespaces: BTreeSet::new(), services: some };
        let head = HeldHead {
            uid: SiteUid([7; 16]),
            version,
            digest: [5; 32],
            scope: Scope::All,
            view: View::Endpoints,
            complete_once: true,
        };
        let group =
            EntryKey::Group(cart.clone(), "us/sjc/a".parse().expect("valid"), Subset("a b".to_owned()));
        let summary = GroupSummary { healthy: 1, total: 2, capacity: 3 };
        let export = ExportInfo { spec: spec.clone(), created_at_ms: 12 };
        let id = endpoint.id.clone();
        let held = |key: EntryKey, value| (RecordKey::Held(west.clone(), key), RecordValue::Held(value));
        [
            (RecordKey::OwnVersion, RecordValue::OwnVersion(version)),
            (RecordKey::Own(OwnKey::Site), RecordValue::Own(OwnValue::Site(site.clone()))),
            (RecordKey::Own(OwnKey::Service(cart.clone())), RecordValue::Own(OwnValue::Service(spec))),
            (
                RecordKey::Own(OwnKey::Export(cart.clone())),
                RecordValue::Own(OwnValue::Export { created_at_ms: 8 }),
            ),
            (
                RecordKey::Own(OwnKey::Endpoint(cart.clone(), id.clone())),
                RecordValue::Own(OwnValue::Endpoint(endpoint.clone())),
            ),
            (RecordKey::Given(west.clone()), RecordValue::Given(Given { version, offer })),
            (RecordKey::HeldHead(west.clone()), RecordValue::HeldHead(head)),
            held(EntryKey::Site, EntryValue::Site(site)),
            held(EntryKey::Export(cart.clone()), EntryValue::Export(export)),
            held(group, EntryValue::Group(summary)),
            held(EntryKey::Endpoint(cart, id), EntryValue::Endpoint(endpoint)),
        ]
        .map(|(key, value)| Record { key, value: Some(value) })
        .into()
    }

    #[test]
    fn every_kind_of_record_survives_bytes() {
        for record in records() {
            let key = encode_key(&record.key);
            let value = encode_value(&record.key, record.value.as_ref().expect("there"));
            assert_eq!(decode(&key, &value).expect("reads"), record);
        }
    }

    #[test]
    fn a_row_that_is_cut_is_an_error_and_never_a_panic() {
        for record in records() {
            let key = encode_key(&record.key);
            let value = encode_value(&record.key, record.value.as_ref().expect("there"));
            for to in 0..value.len() {
                let _ = decode(&key, &value[..to]);
            }
            for to in 0..key.len() {
                let _ = decode(&key[..to], &value);
            }
        }
        assert!(decode(b"held", b"").is_err());
        assert!(decode(&[0xff], b"").is_err());
    }
}
