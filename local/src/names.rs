//! What a name or a virtual IP means.

mod instances;

pub use instances::NamedInstance;
use instances::instances_of;
use model::ids::{EndpointId, Label, Namespace, SiteId};
use model::routing::Import;
use model::service::{PortKey, Protocol, ServiceKind, ServiceName, ServicePort};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

/// Zone of names that mean a service wherever it runs (MCS DNS specification 1.0.0).
pub const ZONE: &str = "clusterset.local";
/// Zone of names that pin one site: `NAME.NAMESPACE.svc.SITE.meshfed.internal`. They lie outside the other zone, where
/// the specification forbids them.
pub const PINNED_ZONE: &str = "meshfed.internal";
/// The range of all virtual IPs, 127.64.0.0/10.
const VIP_NETWORK: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 0);
const VIP_PREFIX: u32 = 10;

/// Whether an address is one that could be a virtual IP.
pub fn is_vip(address: Ipv4Addr) -> bool {
    let mask = u32::MAX << (32 - VIP_PREFIX);
    address.to_bits() & mask == VIP_NETWORK.to_bits()
}

/// A service as names need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedService {
    /// Name.
    pub service: ServiceName,
    /// How it is reached.
    pub kind: ServiceKind,
    /// Its virtual IP; none for headless services.
    pub vip: Option<Ipv4Addr>,
    /// Ports, ordered by key.
    pub ports: Vec<ServicePort>,
    /// Sites that have endpoints of it.
    pub sites: BTreeSet<SiteId>,
    /// For headless services: the endpoints of the own site that have a name and an address, those that may get
    /// traffic; when none may, all of them, since an empty answer is the one that surely fails.
    pub instances: Vec<NamedInstance>,
}

/// A virtual IP with a TCP port on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vip {
    /// Where callers connect to.
    pub address: SocketAddrV4,
    /// What they mean.
    pub service: ServiceName,
    /// Its port.
    pub port: PortKey,
}

/// What a caller wants to be connected to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Service; it need not exist.
    pub service: ServiceName,
    /// Port; the service need not have it.
    pub port: PortKey,
    /// Only this site will do.
    pub site: Option<SiteId>,
    /// Only this endpoint will do; of the own site.
    pub endpoint: Option<EndpointId>,
}

impl Target {
    /// A port of a service, wherever it is served.
    pub fn new(service: ServiceName, port: PortKey) -> Self {
        Self { service, port, site: None, endpoint: None }
    }
}

/// Why a host that a caller named is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotServed {
    /// It is no name of ours.
    #[error("`{host}` is not served here: only *.clusterset.local, *.meshfed.internal and virtual IPs are")]
    Foreign {
        /// As named, cut to 80 characters.
        host: String,
    },
    /// It is a virtual IP that belongs to no service.
    #[error("virtual IP {address} belongs to no service")]
    UnknownVip {
        /// The address.
        address: Ipv4Addr,
    },
    /// It names an instance that is not known.
    #[error("`{host}` names no instance that is known here")]
    UnknownInstance {
        /// As named, cut to 80 characters.
        host: String,
    },
    /// It has the form of no name that could exist.
    #[error("`{host}` is not a name of the form NAME.NAMESPACE.svc.clusterset.local")]
    Malformed {
        /// As named, cut to 80 characters.
        host: String,
    },
    /// Port 0.
    #[error("port 0 of `{host}` cannot be connected to")]
    NoPort {
        /// As named, cut to 80 characters.
        host: String,
    },
}

/// All names that a process serves: an immutable table, replaced as a whole when imports change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameTable {
    complete: bool,
    site: SiteId,
    services: BTreeMap<ServiceName, NamedService>,
    vips: BTreeMap<Ipv4Addr, ServiceName>,
    namespaces: BTreeSet<Namespace>,
}

impl NameTable {
    /// Builds the table. `site` is the own site; `complete` says that every linked peer's catalog has been complete at
    /// least once, so a name that is not here does not exist.
    pub fn new<'i>(site: SiteId, complete: bool, imports: impl IntoIterator<Item = &'i Import>) -> Self {
        let mut table = Self::empty(site);
        table.complete = complete;
        for import in imports {
            let named = NamedService {
                service: import.service.clone(),
                kind: import.kind,
                vip: import.vip,
                ports: import.ports.clone(),
                sites: import.groups.iter().map(|group| group.id.site.clone()).collect(),
                instances: match import.kind {
                    ServiceKind::Headless => instances_of(&table.site, import),
                    ServiceKind::ClusterSetIp => Vec::new(),
                },
            };
            if let Some(vip) = import.vip {
                table.vips.insert(vip, import.service.clone());
            }
            table.namespaces.insert(import.service.namespace.clone());
            table.services.insert(import.service.clone(), named);
        }
        table
    }

    /// The table of a process that knows nothing yet: unknown names are not said to be missing.
    pub fn empty(site: SiteId) -> Self {
        Self {
            complete: false,
            site,
            services: BTreeMap::new(),
            vips: BTreeMap::new(),
            namespaces: BTreeSet::new(),
        }
    }

    /// Whether a name that is not here does not exist.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The own site.
    pub fn site(&self) -> &SiteId {
        &self.site
    }

    /// A service by name.
    pub fn service(&self, service: &ServiceName) -> Option<&NamedService> {
        self.services.get(service)
    }

    /// Whether any service has this namespace.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        namespace.parse::<Namespace>().is_ok_and(|namespace| self.namespaces.contains(&namespace))
    }

    /// Whether any service has endpoints in this site.
    pub fn has_site(&self, site: &str) -> bool {
        site.parse::<SiteId>()
            .is_ok_and(|site| self.services.values().any(|service| service.sites.contains(&site)))
    }

    /// All TCP ports on virtual IPs, for [`crate::vip::VipListeners`].
    pub fn vips(&self) -> BTreeMap<SocketAddrV4, Vip> {
        let mut vips = BTreeMap::new();
        for service in self.services.values() {
            let Some(vip) = service.vip else { continue };
            for port in service.ports.iter().filter(|port| port.key.protocol == Protocol::Tcp) {
                let address = SocketAddrV4::new(vip, port.key.number);
                vips.insert(address, Vip { address, service: service.service.clone(), port: port.key });
            }
        }
        vips
    }

    /// What a caller means that connects to this virtual IP and port.
    ///
    /// # Errors
    /// The address belongs to no service. Whether the service has the port is not asked here.
    pub fn vip_target(&self, address: SocketAddrV4) -> Result<Target, NotServed> {
        let service =
            self.vips.get(address.ip()).ok_or(NotServed::UnknownVip { address: *address.ip() })?.clone();
        Ok(Target::new(service, PortKey::tcp(address.port())))
    }

    /// What a caller means that names this host and port to a proxy: a name of ours, or a virtual IP.
    ///
    /// # Errors
    /// The host is not ours, or could not exist. Whether the service exists is not asked here: who decides where a
    /// connection goes has a better answer to that.
    pub fn target(&self, host: &str, port: u16) -> Result<Target, NotServed> {
        // It ends in logs.
        let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        let shown = || host.chars().take(80).map(plain).collect::<String>();
        if port == 0 {
            return Err(NotServed::NoPort { host: shown() });
        }
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return match address {
                IpAddr::V4(address) if is_vip(address) => self.vip_target(SocketAddrV4::new(address, port)),
                IpAddr::V4(_) | IpAddr::V6(_) => Err(NotServed::Foreign { host: shown() }),
            };
        }
        let lower = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let labels: Vec<&str> = lower.split('.').collect();
        let key = PortKey::tcp(port);
        match labels.as_slice() {
            [name, namespace, "svc", "clusterset", "local"] => {
                let service =
                    service_name(namespace, name).ok_or_else(|| NotServed::Malformed { host: shown() })?;
                Ok(Target::new(service, key))
            }
            [hostname, cluster, name, namespace, "svc", "clusterset", "local"] => {
                let service =
                    service_name(namespace, name).ok_or_else(|| NotServed::Malformed { host: shown() })?;
                let instance = self
                    .instance(&service, cluster, hostname)
                    .ok_or_else(|| NotServed::UnknownInstance { host: shown() })?;
                let endpoint = Some(instance.endpoint.clone());
                Ok(Target { site: Some(self.site.clone()), endpoint, ..Target::new(service, key) })
            }
            [name, namespace, "svc", site, "meshfed", "internal"] => {
                let (Some(service), Ok(site)) = (service_name(namespace, name), site.parse()) else {
                    return Err(NotServed::Malformed { host: shown() });
                };
                Ok(Target { site: Some(site), ..Target::new(service, key) })
            }
            [.., "clusterset", "local"] | [.., "meshfed", "internal"] => {
                Err(NotServed::Malformed { host: shown() })
            }
            _ => Err(NotServed::Foreign { host: shown() }),
        }
    }

    /// An instance of a headless service by the cluster and the host name that stand before the service's name.
    pub fn instance(&self, service: &ServiceName, cluster: &str, hostname: &str) -> Option<&NamedInstance> {
        let service = self.services.get(service)?;
        if service.kind != ServiceKind::Headless || cluster != self.site.as_str() {
            return None;
        }
        service.instances.iter().find(|instance| instance.hostname.as_str() == hostname)
    }
}

/// A table that can be handed to several tasks.
pub type SharedNames = Arc<NameTable>;

/// Builds the name of a service from two labels of a DNS name.
pub fn service_name(namespace: &str, name: &str) -> Option<ServiceName> {
    Some(ServiceName { namespace: namespace.parse().ok()?, name: name.parse::<Label>().ok()? })
}

#[cfg(test)]
pub(crate) use instances::tests as tests_support;

#[cfg(test)]
mod tests {
    use super::tests_support::{headless, import};
    use super::*;

    fn table() -> NameTable {
        let cart = import("shop/cart", Some([127, 64, 0, 2].into()), &[80, 8080]);
        let site = "east".parse().expect("valid");
        NameTable::new(site, true, [&cart, &headless("data/db", &[("db.0", true), ("db.1", false)])])
    }

    fn name(text: &str) -> ServiceName {
        text.parse().expect("valid")
    }

    #[test]
    fn every_name_of_ours_has_a_target() {
        let table = table();
        let cart = Target::new(name("shop/cart"), PortKey::tcp(8080));
        for host in [
            "cart.shop.svc.clusterset.local",
            "cart.shop.svc.clusterset.local.",
            "CART.Shop.svc.ClusterSet.local",
            "127.64.0.2",
        ] {
            assert_eq!(table.target(host, 8080), Ok(cart.clone()), "{host}");
        }
        let pinned = table.target("cart.shop.svc.west.meshfed.internal", 8080).expect("ours");
        assert_eq!(pinned, Target { site: Some("west".parse().expect("valid")), ..cart });
        let unknown =
            table.target("new.shop.svc.clusterset.local", 1).expect("whether it exists is not asked");
        assert_eq!(unknown.service, name("shop/new"));
        let instance = table.target("db-0.east.db.data.svc.clusterset.local", 5432).expect("known");
        assert_eq!(instance.endpoint, Some("db.0".parse().expect("valid")));
    }

    #[test]
    fn other_hosts_are_not_served() {
        let table = table();
        for (host, port) in [
            ("example.com", 80),
            ("127.0.0.1", 80),
            ("10.0.0.1", 80),
            ("::1", 80),
            ("localhost", 80),
            ("127.64.9.9", 80),
            ("clusterset.local", 80),
            ("svc.clusterset.local", 80),
            ("shop.svc.clusterset.local", 80),
            ("east.cart.shop.svc.clusterset.local", 80),
            ("x.east.cart.shop.svc.clusterset.local", 80),
            ("db-9.east.db.data.svc.clusterset.local", 80),
            ("db-0.west.db.data.svc.clusterset.local", 80),
            ("ca_rt.shop.svc.clusterset.local", 80),
            ("cart.shop.svc.clusterset.local", 0),
            ("cart.shop.svc.cluster.local", 80),
            ("", 80),
            (".", 80),
        ] {
            let refused = table.target(host, port).expect_err(host);
            assert!(refused.to_string().len() < 200, "{refused}");
        }
    }

    #[test]
    fn a_virtual_ip_carries_every_tcp_port_of_its_service() {
        let vips = table().vips();
        let ports: Vec<u16> = vips.keys().map(SocketAddrV4::port).collect();
        assert_eq!(ports, [80, 8080]);
        assert!(is_vip([127, 64, 0, 1].into()) && is_vip([127, 127, 255, 255].into()));
        assert!(!is_vip([127, 0, 0, 1].into()) && !is_vip([127, 128, 0, 0].into()));
    }
}
