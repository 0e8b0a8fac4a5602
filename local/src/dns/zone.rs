//! Answers for the zones of the mesh: what names exist, and what they are (MCS DNS specification 1.0.0).

use super::Answer;
use crate::names::{NameTable, NamedInstance, NamedService, PINNED_ZONE, ZONE, service_name};
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::rdata::{A, AAAA, SOA, SRV, TXT};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use model::service::{Protocol, ServiceKind, ServicePort};
use std::net::IpAddr;

/// How long an answer may be kept, the negative ones too: a failover must not wait for caches.
const TTL: u32 = 5;

/// What a name is.
enum Found<'t> {
    /// The top of a zone.
    Apex,
    /// A name that exists because something lies below it.
    Parent,
    /// `dns-version.clusterset.local`.
    Version,
    /// A service.
    Service(&'t NamedService),
    /// `_PORT._PROTOCOL` before a service.
    Port(&'t NamedService, &'t ServicePort),
    /// One instance of a headless service.
    Instance(&'t NamedInstance),
    /// A service that pins a site: it exists and has no address of its own; the proxy serves it.
    Pinned,
    /// It does not exist.
    Nothing,
    /// It may exist in a catalog that was never complete.
    Unknown,
}

/// Answers a question about the zones of the mesh; none: the name lies outside of them.
pub(super) fn answer(names: &NameTable, name: &Name, kind: RecordType) -> Option<Answer> {
    let text = name.to_ascii().to_ascii_lowercase();
    let text = text.strip_suffix('.').unwrap_or(&text);
    let (zone, found) = if let Some(rest) = below(text, ZONE) {
        (ZONE, find(names, &rest))
    } else {
        (PINNED_ZONE, find_pinned(names, &below(text, PINNED_ZONE)?))
    };
    Some(reply(name, zone, kind, found))
}

/// The labels before a zone; none: the name is not of the zone.
fn below<'n>(name: &'n str, zone: &str) -> Option<Vec<&'n str>> {
    let rest = name.strip_suffix(zone)?;
    if rest.is_empty() {
        return Some(Vec::new());
    }
    let rest = rest.strip_suffix('.')?;
    // A dot behind a backslash stands within a label; the backslash itself is written twice.
    let escaped = rest.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
    (!escaped).then(|| rest.split('.').collect())
}

fn find<'t>(names: &'t NameTable, labels: &[&str]) -> Found<'t> {
    let missing = || if names.is_complete() { Found::Nothing } else { Found::Unknown };
    let service =
        |namespace: &str, name: &str| service_name(namespace, name).map(|name| names.service(&name));
    match labels {
        [] => Found::Apex,
        ["svc"] => Found::Parent,
        ["dns-version"] => Found::Version,
        [namespace, "svc"] => {
            if names.has_namespace(namespace) {
                Found::Parent
            } else {
                missing()
            }
        }
        [name, namespace, "svc"] => match service(namespace, name) {
            Some(Some(service)) if is_empty(service) => missing(),
            Some(Some(service)) => Found::Service(service),
            Some(None) => missing(),
            None => Found::Nothing,
        },
        [protocol, name, namespace, "svc"] if protocol.starts_with('_') => match service(namespace, name) {
            Some(Some(service)) => {
                if named_ports(service).any(|port| protocol_label(port) == *protocol) {
                    Found::Parent
                } else {
                    Found::Nothing
                }
            }
            Some(None) => missing(),
            None => Found::Nothing,
        },
        [port, protocol, name, namespace, "svc"] if protocol.starts_with('_') => {
            match service(namespace, name) {
                Some(Some(service)) if is_empty(service) => missing(),
                Some(Some(service)) => named_ports(service)
                    .find(|of| protocol_label(of) == *protocol && port_label(of) == *port)
                    .map_or(Found::Nothing, |port| Found::Port(service, port)),
                Some(None) => missing(),
                None => Found::Nothing,
            }
        }
        [hostname, cluster, name, namespace, "svc"] => match service_name(namespace, name) {
            Some(service) => match (names.instance(&service, cluster, hostname), names.service(&service)) {
                (Some(instance), _) => Found::Instance(instance),
                (None, Some(of)) if of.kind == ServiceKind::ClusterSetIp => Found::Nothing,
                (None, _) => missing(),
            },
            None => Found::Nothing,
        },
        // Among them `CLUSTER.NAME.NAMESPACE.svc`, which MUST NOT exist.
        _ => Found::Nothing,
    }
}

fn find_pinned<'t>(names: &'t NameTable, labels: &[&str]) -> Found<'t> {
    let missing = || if names.is_complete() { Found::Nothing } else { Found::Unknown };
    let parent = |exists: bool| if exists { Found::Parent } else { missing() };
    match labels {
        [] => Found::Apex,
        [site] | ["svc", site] => parent(names.has_site(site)),
        [namespace, "svc", site] => parent(names.has_site(site) && names.has_namespace(namespace)),
        [name, namespace, "svc", site] => {
            match service_name(namespace, name).map(|name| names.service(&name)) {
                Some(Some(service)) if service.sites.iter().any(|of| of.as_str() == *site) => Found::Pinned,
                Some(_) => missing(),
                None => Found::Nothing,
            }
        }
        _ => Found::Nothing,
    }
}

/// A headless service without an instance to name does not exist, says the specification.
fn is_empty(service: &NamedService) -> bool {
    service.kind == ServiceKind::Headless && service.instances.is_empty()
}

fn named_ports(service: &NamedService) -> impl Iterator<Item = &ServicePort> {
    service.ports.iter().filter(|port| port.name.is_some())
}

fn protocol_label(port: &ServicePort) -> &'static str {
    match port.key.protocol {
        Protocol::Tcp => "_tcp",
        Protocol::Udp => "_udp",
    }
}

fn port_label(port: &ServicePort) -> String {
    port.name.as_ref().map(|name| format!("_{name}")).unwrap_or_default()
}

fn reply(name: &Name, zone: &str, kind: RecordType, found: Found<'_>) -> Answer {
    let mut answer = Answer { authoritative: true, ..Answer::default() };
    let of = |data| Record::from_rdata(name.clone(), TTL, data);
    match found {
        Found::Unknown => return Answer::failed(ResponseCode::ServFail),
        Found::Nothing => answer.code = ResponseCode::NXDomain,
        Found::Parent | Found::Pinned => {}
        Found::Apex => answer.answers.extend((kind == RecordType::SOA).then(|| soa(zone))),
        Found::Version => {
            let version = || of(RData::TXT(TXT::new(vec!["1.0.0".to_owned()])));
            answer.answers.extend((kind == RecordType::TXT).then(version));
        }
        Found::Service(service) => {
            answer.answers.extend(addresses(service).filter_map(|address| data(address, kind)).map(of));
        }
        Found::Instance(instance) => answer.answers.extend(data(instance.address, kind).map(of)),
        Found::Port(service, port) if kind == RecordType::SRV => {
            srv(service, port, &mut answer, |data| Record::from_rdata(name.clone(), TTL, data));
        }
        Found::Port(..) => {}
    }
    if answer.answers.is_empty() {
        answer.authorities.push(soa(zone));
    }
    answer
}

fn addresses(service: &NamedService) -> impl Iterator<Item = IpAddr> {
    let instances = service.instances.iter().map(|instance| instance.address);
    service.vip.map(IpAddr::V4).into_iter().chain(instances)
}

fn data(address: IpAddr, kind: RecordType) -> Option<RData> {
    match (address, kind) {
        (IpAddr::V4(address), RecordType::A) => Some(RData::A(A(address))),
        (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA(AAAA(address))),
        _ => None,
    }
}

fn address_record(name: Name, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    Record::from_rdata(name, TTL, data)
}

fn srv(service: &NamedService, port: &ServicePort, answer: &mut Answer, of: impl Fn(RData) -> Record) {
    /// All targets are alike: whoever serves a connection is decided behind the name.
    const PRIORITY: u16 = 0;
    const WEIGHT: u16 = 100;
    let name = service.service.dns_name();
    let target_of = |hostname: &str, site: &str| parse(&format!("{hostname}.{site}.{name}"));
    match service.kind {
        ServiceKind::ClusterSetIp => {
            let Some(target) = parse(&name) else { return };
            answer.answers.push(of(RData::SRV(SRV::new(PRIORITY, WEIGHT, port.key.number, target.clone()))));
            answer
                .additionals
                .extend(addresses(service).map(|address| address_record(target.clone(), address)));
        }
        ServiceKind::Headless => {
            for instance in &service.instances {
                let Some(number) = instance.ports.get(&port.key) else { continue };
                let Some(target) = target_of(instance.hostname.as_str(), instance.site.as_str()) else {
                    continue;
                };
                answer.answers.push(of(RData::SRV(SRV::new(PRIORITY, WEIGHT, *number, target.clone()))));
                answer.additionals.push(address_record(target, instance.address));
            }
        }
    }
}

/// The SOA of a zone. Its minimum is how long a negative answer may be kept (RFC 2308).
fn soa(zone: &str) -> Record {
    const SERIAL: u32 = 1;
    const NEVER_TRANSFERRED: i32 = 86_400;
    let origin = parse(zone).expect("a zone is a valid name");
    let server = parse(&format!("ns.dns.{zone}")).expect("a valid name");
    let person = parse(&format!("hostmaster.{zone}")).expect("a valid name");
    let never = NEVER_TRANSFERRED;
    let data = SOA::new(server, person, SERIAL, never, never, never, TTL);
    Record::from_rdata(origin, TTL, RData::SOA(data))
}

/// A full name; none when it would be too long.
fn parse(name: &str) -> Option<Name> {
    Name::from_ascii(format!("{name}.")).ok()
}

#[cfg(test)]
mod tests;
