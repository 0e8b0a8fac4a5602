//! What the sources of a site say: the truth that its catalog must become.

use model::catalog::{GatewayAddress, OwnKey, OwnValue, Scope, ServiceSpec, SiteInfo};
use model::endpoint::{Endpoint, Health, Reach};
use model::ids::{EndpointId, SiteId, SiteUid};
use model::service::{AppProtocol, PortKey, ServiceKind, ServiceName, ServicePort, Subset};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// Services that exist in the world.
pub const SERVICES: u8 = 6;
/// Endpoints that a service can have in one site.
pub const ENDPOINTS: u8 = 5;
/// Places where an endpoint can be: locality and subset.
pub const PLACES: u8 = 3;

/// A change of what the sources of a site say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An endpoint is there, or is now like this.
    Endpoint {
        /// Service.
        service: u8,
        /// Endpoint.
        id: u8,
        /// Place.
        place: u8,
        /// 0 healthy, 1 unhealthy, 2 draining.
        health: u8,
        /// Weight.
        weight: u32,
    },
    /// An endpoint is gone.
    EndpointGone {
        /// Service.
        service: u8,
        /// Endpoint.
        id: u8,
    },
    /// A service is there, or is now like this.
    Service {
        /// Service.
        service: u8,
        /// Whether it is headless.
        headless: bool,
        /// Number of its ports.
        ports: u8,
    },
    /// A service is gone.
    ServiceGone {
        /// Service.
        service: u8,
    },
    /// A service is offered.
    Export {
        /// Service.
        service: u8,
        /// When, by the own clock.
        at_ms: u64,
    },
    /// A service is no longer offered.
    ExportGone {
        /// Service.
        service: u8,
    },
    /// The site has this many gateways.
    Gateways {
        /// How many.
        count: u8,
    },
}

/// Name of a site.
pub fn site_name(site: usize) -> SiteId {
    let name = ["east", "west", "north", "south", "dc"].get(site).map(|name| (*name).to_owned());
    name.unwrap_or_else(|| format!("site-{site}")).parse().expect("a label")
}

/// Uid of a site. Their order is not that of the names, so that both sides get to dial.
pub fn site_uid(site: usize) -> SiteUid {
    let mut uid = [0; 16];
    uid[0] = u8::try_from(site * 97 % 251).expect("below 251");
    uid[15] = u8::try_from(site % 256).expect("below 256");
    SiteUid(uid)
}

/// What a site says of itself.
pub fn site_info(site: usize, gateways: u8) -> SiteInfo {
    let name = site_name(site);
    SiteInfo {
        trust_domain: format!("{name}.mesh").parse().expect("valid"),
        uid: site_uid(site),
        locality: format!("region-{}/zone-{site}", site % 3).parse().expect("valid"),
        clusterset: "meshfed".parse().expect("valid"),
        gateways: (0..gateways)
            .map(|gateway| GatewayAddress {
                name: format!("gw-{gateway}").parse().expect("valid"),
                address: (Ipv4Addr::new(127, 0, 1, gateway + 1), 4430).into(),
            })
            .collect(),
        id: name,
    }
}

/// Name of a service; its namespace is one of two.
pub fn service_name(service: u8) -> ServiceName {
    format!("{}/s{service}", if service.is_multiple_of(2) { "shop" } else { "bank" }).parse().expect("valid")
}

fn endpoint_id(id: u8) -> EndpointId {
    format!("vm-{id}").parse().expect("valid")
}

/// The key and the value that a change makes; no value: the key is gone.
pub fn change_of(site: usize, change: &Change) -> (OwnKey, Option<OwnValue>) {
    match *change {
        Change::Endpoint { service, id, place, health, weight } => {
            let endpoint = Endpoint {
                id: endpoint_id(id),
                locality: format!("region-{}/zone-{}", site % 3, place / 2).parse().expect("valid"),
                network: "default".parse().expect("valid"),
                subset: Subset(if place.is_multiple_of(2) { String::new() } else { "v2".to_owned() }),
                weight,
                health: [Health::Healthy, Health::Unhealthy, Health::Draining][usize::from(health % 3)],
                reach: Reach::Direct(IpAddr::V4(Ipv4Addr::new(
                    10,
                    u8::try_from(site % 256).unwrap_or(0),
                    service,
                    id,
                ))),
                ports: BTreeMap::from([(PortKey::tcp(80), 8080)]),
                hostname: None,
            };
            (OwnKey::Endpoint(service_name(service), endpoint_id(id)), Some(OwnValue::Endpoint(endpoint)))
        }
        Change::EndpointGone { service, id } => {
            (OwnKey::Endpoint(service_name(service), endpoint_id(id)), None)
        }
        Change::Service { service, headless, ports } => {
            let spec = ServiceSpec {
                ports: (0..ports)
                    .map(|port| ServicePort {
                        key: PortKey::tcp(80 + u16::from(port)),
                        name: None,
                        app: AppProtocol::Tcp,
                        retry_safe: false,
                    })
                    .collect(),
                kind: if headless { ServiceKind::Headless } else { ServiceKind::ClusterSetIp },
                declared_total: None,
            };
            (OwnKey::Service(service_name(service)), Some(OwnValue::Service(spec)))
        }
        Change::ServiceGone { service } => (OwnKey::Service(service_name(service)), None),
        Change::Export { service, at_ms } => {
            (OwnKey::Export(service_name(service)), Some(OwnValue::Export { created_at_ms: at_ms }))
        }
        Change::ExportGone { service } => (OwnKey::Export(service_name(service)), None),
        Change::Gateways { count } => (OwnKey::Site, Some(OwnValue::Site(site_info(site, count)))),
    }
}

/// A scope by a small number: all, nothing, a namespace, or a few services.
pub fn scope(number: u8) -> Scope {
    match number % 5 {
        0 | 1 => Scope::All,
        2 => Scope::Only {
            namespaces: BTreeSet::from(["shop".parse().expect("valid")]),
            services: BTreeSet::new(),
        },
        3 => Scope::Only {
            namespaces: BTreeSet::new(),
            services: (0..SERVICES).filter(|service| service % 3 != 1).map(service_name).collect(),
        },
        _ => Scope::none(),
    }
}
