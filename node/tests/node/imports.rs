//! Services, as a federation tells its nodes of them.
#![allow(dead_code)]

use crate::federation::Site;
use model::config::{ConfigEntry, ConfigKey, ConfigValue, PeerConfig};
use model::endpoint::{Endpoint, Health, Reach};
use model::ids::SiteId;
use model::routing::{FailoverPolicy, Group, GroupId, Import};
use model::service::{AppProtocol, PortKey, ServiceKind, ServiceName, ServicePort, Subset};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

/// The port of all services.
pub const PORT: u16 = 8080;

pub fn name(service: &str) -> ServiceName {
    service.parse().expect("valid")
}

pub fn port(number: u16) -> ServicePort {
    ServicePort { key: PortKey::tcp(number), name: None, app: AppProtocol::Tcp, retry_safe: false }
}

/// A service without endpoints.
pub fn import(service: &str) -> Import {
    Import {
        service: name(service),
        ports: vec![port(PORT)],
        kind: ServiceKind::ClusterSetIp,
        vip: None,
        groups: Vec::new(),
        failover: FailoverPolicy::default(),
        access: Vec::new(),
    }
}

pub fn service(service: &str) -> ConfigEntry {
    entry(import(service))
}

pub fn entry(import: Import) -> ConfigEntry {
    ConfigEntry { key: ConfigKey::Service(import.service.clone()), value: Some(ConfigValue::Service(import)) }
}

pub fn peer(site: &Site) -> ConfigEntry {
    let config = PeerConfig { site: site.info(Vec::new()), bundle: site.bundle(), expired: false };
    ConfigEntry { key: ConfigKey::Peer(site.id.clone()), value: Some(ConfigValue::Peer(config)) }
}

fn group(site: &SiteId, healthy: u32, endpoints: Vec<Endpoint>) -> Group {
    Group {
        id: GroupId {
            site: site.clone(),
            locality: format!("{site}/a").parse().expect("valid"),
            subset: Subset::default(),
        },
        healthy,
        total: healthy,
        declared_total: None,
        capacity: healthy.into(),
        endpoints,
    }
}

/// A group as its own site sees it.
pub fn own_group(site: &SiteId, endpoints: Vec<Endpoint>) -> Group {
    group(site, endpoints.len() as u32, endpoints)
}

/// A group as other sites see it.
pub fn far_group(site: &SiteId, healthy: u32) -> Group {
    group(site, healthy, Vec::new())
}

fn endpoint(site: &SiteId, id: &str, reach: Reach, port: u16) -> Endpoint {
    Endpoint {
        id: id.parse().expect("valid"),
        locality: format!("{site}/a").parse().expect("valid"),
        network: site.as_str().parse().expect("valid"),
        subset: Subset::default(),
        weight: 1,
        health: Health::Healthy,
        reach,
        ports: BTreeMap::from([(PortKey::tcp(PORT), port)]),
        hostname: None,
    }
}

pub fn direct(site: &SiteId, id: &str, address: SocketAddr) -> Endpoint {
    endpoint(site, id, Reach::Direct(address.ip()), address.port())
}

pub fn on_host(site: &SiteId, id: &str, host: &str, port: u16) -> Endpoint {
    endpoint(site, id, Reach::Agent(host.parse().expect("valid")), port)
}

/// The virtual IP of the service with this number, in the site's range.
pub fn vip(number: u8) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::new(127, 64, 0, number))
}
