//! From a topology to processes with addresses, all within 127.0.0.0/8.
//!
//! | addresses of site number S in block B | of |
//! |---|---|
//! | 127.B.S.1 | federation |
//! | 127.B.S.10 to .17 | gateways |
//! | 127.B.S.40 to .71 | hosts: their agent, and what runs on them |
//! | 127.B.S.100 to .107 | relays in front of the gateways: what other sites dial |
//! | 127.B.S.128 to .191 | workloads that are dialled directly |

mod processes;

pub use processes::{Listen, Process};

use crate::impairment::Impairment;
use crate::schema::{Check, HostKind, Link, SiteKind, Topology, Workload};
use api::resource::port::{Port, Retry};
use api::resource::service::{EndpointSpec, Service, ServiceSpec, ServiceType};
use api::resource::workload::{CheckKind, CheckSpec};
use api::resource::{Kind, Resource};
use api::text::{Span, Text};
use model::ids::{GatewayName, HostName, NetworkName, SiteId};
use model::locality::Locality;
use model::service::{AppProtocol, ServiceName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// UDP port of the tunnel.
pub const TUNNEL_PORT: u16 = 4430;
/// TCP port of config and enrolment.
pub const CONFIG_PORT: u16 = 15010;
/// TCP port of the API.
pub const API_PORT: u16 = 15080;
/// TCP port of a federation's health and metrics.
pub const FEDERATION_HEALTH_PORT: u16 = 15081;
/// The same of a gateway.
pub const GATEWAY_HEALTH_PORT: u16 = 15082;
/// The same of an agent.
pub const AGENT_HEALTH_PORT: u16 = 15083;
/// UDP and TCP port of DNS.
pub const DNS_PORT: u16 = 15053;
/// TCP port of SOCKS5 and HTTP CONNECT.
pub const PROXY_PORT: u16 = 15054;
/// How long a client waits that does not say so.
pub const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);

const FEDERATION: u8 = 1;
const GATEWAYS: u8 = 10;
const HOSTS: u8 = 40;
const RELAYS: u8 = 100;
const WORKLOADS: u8 = 128;

/// All that must run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Name of the topology.
    pub name: String,
    /// Sites, in order of name.
    pub sites: Vec<SitePlan>,
    /// Programs that serve.
    pub workloads: Vec<WorkloadPlan>,
    /// Linked pairs of sites.
    pub links: Vec<LinkPlan>,
    /// Resources, and the site where each is applied.
    pub policies: Vec<(SiteId, Resource)>,
    /// Loads.
    pub clients: Vec<ClientPlan>,
}

/// A site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SitePlan {
    /// Name.
    pub name: SiteId,
    /// Where it is.
    pub locality: Locality,
    /// What it is, when that is said.
    pub kind: Option<SiteKind>,
    /// Network of its endpoints, when it is not the site's own.
    pub network: Option<NetworkName>,
    /// Nobody can dial its gateways.
    pub nat: bool,
    /// Address of the federation.
    pub federation: Ipv4Addr,
    /// Its gateways.
    pub gateways: Vec<GatewayPlan>,
    /// Its hosts with an agent.
    pub hosts: Vec<HostPlan>,
}

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayPlan {
    /// Name.
    pub name: GatewayName,
    /// Where it listens.
    pub address: Ipv4Addr,
    /// The relay in front of it, which it advertises. Behind a NAT nothing of other sites comes through it.
    pub advertise: SocketAddr,
    /// Where it is.
    pub locality: Locality,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPlan {
    /// Name.
    pub name: HostName,
    /// Address of its agent and of what runs on it.
    pub address: Ipv4Addr,
    /// What it is.
    pub kind: HostKind,
    /// Where it is.
    pub locality: Locality,
}

/// A running instance of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadPlan {
    /// Service.
    pub service: ServiceName,
    /// Site.
    pub site: SiteId,
    /// Host, when it stands behind an agent.
    pub host: Option<HostName>,
    /// Unique within the topology: `SITE-NAME-N`, with the first number that is free.
    pub instance: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Port that callers use.
    pub port: u16,
    /// What flows over it.
    pub protocol: AppProtocol,
    /// The first bytes may be sent twice.
    pub retry_safe: bool,
    /// Program and arguments, filled in; none: the built-in echo.
    pub command: Option<Vec<String>>,
    /// Health check.
    pub check: Check,
    /// From one check to the next; none: the default.
    pub check_interval: Option<Span>,
    /// Offered to linked sites.
    pub export: bool,
}

/// A link of two sites.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkPlan {
    /// The site that invites. It is never one behind a NAT: the other dials it.
    pub one: SiteId,
    /// The site that accepts.
    pub other: SiteId,
    /// What is done to packets from the first to the second. A cut begins when everything is linked and serves.
    pub forth: Impairment,
    /// The same from the second to the first.
    pub back: Impairment,
}

/// A load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientPlan {
    /// Name.
    pub name: String,
    /// Site.
    pub site: SiteId,
    /// Host whose VIP it calls.
    pub host: HostName,
    /// Service.
    pub service: ServiceName,
    /// Port of the service.
    pub port: u16,
    /// Path of the requests.
    pub path: String,
    /// Requests per second.
    pub rate: u32,
    /// Use connections again.
    pub keepalive: bool,
    /// How long it waits for a complete answer.
    pub timeout: Duration,
}

/// Plans a checked topology in `block`, the second number of all its addresses.
pub fn plan(topology: &Topology, block: u8) -> Plan {
    let sites: Vec<SitePlan> = (1..=u8::MAX)
        .zip(&topology.sites)
        .map(|(number, (name, site))| site_plan(name, site, block, number))
        .collect();
    let workloads = workloads(topology, &sites);
    let links = topology.links.iter().map(|link| link_plan(topology, link)).collect();
    let policies = topology
        .policies
        .iter()
        .flat_map(|policy| {
            let named: Vec<SiteId> = policy.sites.iter().map(|site| site.0.clone()).collect();
            let all = || sites.iter().map(|site| site.name.clone()).collect();
            let chosen = if named.is_empty() { all() } else { named };
            chosen.into_iter().map(|site| (site, policy.resource.clone()))
        })
        .collect();
    let clients = topology
        .clients
        .iter()
        .map(|client| {
            let only = topology.workloads.iter().find(|w| w.service == client.service).map(|w| w.port);
            ClientPlan {
                name: client.name.to_string(),
                site: client.site.0.clone(),
                host: client.host.0.clone(),
                service: client.service.0.clone(),
                port: client.port.or(only).expect("the check found the service"),
                path: client.path.clone(),
                rate: client.rate,
                keepalive: client.keepalive,
                timeout: client.timeout.map_or(CLIENT_TIMEOUT, |timeout| timeout.0),
            }
        })
        .collect();
    Plan { name: topology.name.clone(), sites, workloads, links, policies, clients }
}

fn site_plan(name: &SiteId, site: &crate::schema::Site, block: u8, number: u8) -> SitePlan {
    let at = |last: u8| Ipv4Addr::new(127, block, number, last);
    let gateways = (0..)
        .zip(site.gateways.each())
        .map(|(n, (name, gateway))| GatewayPlan {
            name,
            address: at(GATEWAYS + n),
            advertise: SocketAddr::new(at(RELAYS + n).into(), TUNNEL_PORT),
            locality: gateway.locality.as_ref().unwrap_or(&site.locality).0.clone(),
        })
        .collect();
    let hosts = (HOSTS..)
        .zip(&site.hosts)
        .map(|(last, (name, host))| HostPlan {
            name: name.0.clone(),
            address: at(last),
            kind: host.kind,
            locality: host.locality.as_ref().unwrap_or(&site.locality).0.clone(),
        })
        .collect();
    SitePlan {
        name: name.clone(),
        locality: site.locality.0.clone(),
        kind: site.kind,
        network: site.network.as_ref().map(|network| network.0.clone()),
        nat: site.nat,
        federation: at(FEDERATION),
        gateways,
        hosts,
    }
}

fn workloads(topology: &Topology, sites: &[SitePlan]) -> Vec<WorkloadPlan> {
    let mut plans: Vec<WorkloadPlan> = Vec::new();
    let mut taken = Taken::default();
    for workload in &topology.workloads {
        let site = sites.iter().find(|site| site.name == workload.site.0).expect("the check found the site");
        for _ in 0..workload.replicas.unwrap_or(1) {
            let address = match &workload.host {
                Some(host) => {
                    site.hosts.iter().find(|h| h.name == host.0).expect("the check found the host").address
                }
                None => {
                    let before = taken.direct.entry(site.federation).or_default();
                    let last = WORKLOADS + *before;
                    *before += 1;
                    let [a, b, c, _] = site.federation.octets();
                    Ipv4Addr::new(a, b, c, last)
                }
            };
            plans.push(instance(workload, address, &mut taken));
        }
    }
    plans
}

/// What workloads have that were planned before.
#[derive(Default)]
struct Taken {
    /// Addresses of each site; at most [`crate::schema::REPLICAS_MAX`].
    direct: BTreeMap<Ipv4Addr, u8>,
    listening: BTreeSet<SocketAddr>,
    instances: BTreeSet<String>,
    /// The next number to try for an instance that begins like this.
    next: BTreeMap<String, usize>,
}

fn instance(workload: &Workload, address: Ipv4Addr, taken: &mut Taken) -> WorkloadPlan {
    let stem = format!("{}-{}", workload.site, workload.service.name);
    let next = taken.next.entry(stem.clone()).or_default();
    // Two services of one name in different namespaces, and `a-b` in `c` beside `b` in `c-a`, begin alike.
    let instance = loop {
        let instance = format!("{stem}-{next}");
        *next += 1;
        if taken.instances.insert(instance.clone()) {
            break instance;
        }
    };
    // Programs on one host share its address; each gets a port of its own next to that of its service.
    let free = |port: &u16| !taken.listening.contains(&SocketAddr::new(address.into(), *port));
    let port = (workload.port..=u16::MAX).find(free).unwrap_or(workload.port);
    let listen = SocketAddr::new(address.into(), port);
    taken.listening.insert(listen);
    let fill = |text: &String| {
        text.replace("${ADDRESS}", &address.to_string())
            .replace("${PORT}", &port.to_string())
            .replace("${SITE}", workload.site.as_str())
            .replace("${INSTANCE}", &instance)
    };
    WorkloadPlan {
        service: workload.service.0.clone(),
        site: workload.site.0.clone(),
        host: workload.host.as_ref().map(|host| host.0.clone()),
        listen,
        port: workload.port,
        protocol: workload.protocol.0,
        retry_safe: workload.retry_safe,
        command: workload.command.as_ref().map(|command| command.iter().map(fill).collect()),
        check: workload.check.0.clone(),
        check_interval: workload.check_interval,
        export: workload.export,
        instance,
    }
}

fn link_plan(topology: &Topology, link: &Link) -> LinkPlan {
    let [forth, back] = link.ways().expect("the check found that they fit");
    let (one, other) = (link.between.0.0.clone(), link.between.1.0.clone());
    let plan = LinkPlan { one, other, forth, back };
    // Who invites must be one that can be dialled.
    if topology.sites.get(&link.between.0).is_some_and(|site| site.nat) { plan.turned() } else { plan }
}

impl LinkPlan {
    /// The same link, named from its other end.
    #[must_use]
    pub fn turned(self) -> Self {
        Self { one: self.other, other: self.one, forth: self.back, back: self.forth }
    }

    /// Round trip, on top of the host's own.
    pub fn rtt(&self) -> Duration {
        self.forth.delay + self.back.delay
    }
}

/// The resource for all instances of a service in one site; there is at least one.
fn service(name: &ServiceName, instances: &[&WorkloadPlan], network: Option<&NetworkName>) -> Service {
    let first = instances.first().expect("a service of the plan has an instance");
    let port = Port {
        protocol: first.protocol.into(),
        retry: if first.retry_safe { Retry::Safe } else { Retry::Never },
        ..Port::new(first.port)
    };
    let endpoints = instances
        .iter()
        .map(|w| EndpointSpec {
            address: Text(w.listen.ip()),
            id: w.instance.parse().ok().map(Text),
            ports: if w.listen.port() == w.port {
                BTreeMap::new()
            } else {
                BTreeMap::from([(w.port, w.listen.port())])
            },
            locality: None,
            network: network.cloned().map(Text),
            subset: None,
            weight: None,
            hostname: None,
        })
        .collect();
    let kind = match first.check {
        Check::Tcp => CheckKind::Tcp,
        Check::Http(_) => CheckKind::Http,
        Check::None => CheckKind::None,
    };
    let mut check = CheckSpec { interval: first.check_interval, ..CheckSpec::new(kind) };
    if let Check::Http(path) = &first.check {
        check.path = Some(path.clone());
    }
    let spec = ServiceSpec {
        ports: vec![port],
        kind: ServiceType::ClusterSetIp,
        endpoints,
        check: Some(check),
        declared_total: None,
    };
    Service::new(Kind::Service, Some(name.namespace.clone()), name.name.clone(), spec)
}

impl Plan {
    /// Finds a site.
    pub fn site(&self, name: &SiteId) -> Option<&SitePlan> {
        self.sites.iter().find(|site| site.name == *name)
    }

    /// The link of two sites, and whether `from` is its first end.
    pub fn link(&self, from: &SiteId, to: &SiteId) -> Option<(&LinkPlan, bool)> {
        self.links.iter().find_map(|link| {
            let forth = link.one == *from && link.other == *to;
            let back = link.one == *to && link.other == *from;
            (forth || back).then_some((link, forth))
        })
    }

    /// The services that a site reads from a file: those that its gateways dial directly.
    pub fn services(&self, site: &SiteId) -> Vec<Resource> {
        let network = self.site(site).and_then(|site| site.network.as_ref());
        self.direct(site)
            .into_iter()
            .map(|(name, instances)| Resource::Service(service(name, &instances, network)))
            .collect()
    }

    /// Those of them that it offers to linked sites.
    pub fn exports(&self, site: &SiteId) -> Vec<&ServiceName> {
        let direct = self.direct(site).into_iter();
        direct.filter(|(_, instances)| instances.iter().any(|w| w.export)).map(|(name, _)| name).collect()
    }

    fn direct(&self, site: &SiteId) -> BTreeMap<&ServiceName, Vec<&WorkloadPlan>> {
        let mut services: BTreeMap<&ServiceName, Vec<&WorkloadPlan>> = BTreeMap::new();
        for workload in self.workloads.iter().filter(|w| w.site == *site && w.host.is_none()) {
            services.entry(&workload.service).or_default().push(workload);
        }
        services
    }
}
