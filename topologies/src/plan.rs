//! From a topology to processes with addresses, all within 127.0.0.0/8.
//!
//! | addresses of site number S in block B | of |
//! |---|---|
//! | 127.B.S.1 | federation |
//! | 127.B.S.10 to .17 | gateways |
//! | 127.B.S.40 to .71 | hosts: their agent, and what runs on them |
//! | 127.B.S.100 to .107 | relays in front of the gateways: what other sites dial |
//! | 127.B.S.128 to .191 | workloads that are dialled directly |

use crate::schema::{Check, Link, Topology, Workload};
use api::resource::port::{Port, Retry};
use api::resource::service::{EndpointSpec, Service, ServiceSpec, ServiceType};
use api::resource::workload::{CheckKind, CheckSpec};
use api::resource::{Kind, Resource};
use api::text::{Span, Text};
use model::ids::{GatewayName, HostName, SiteId};
use model::locality::Locality;
use model::service::{AppProtocol, ServiceName};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// UDP port of the tunnel.
pub const TUNNEL_PORT: u16 = 4430;
/// TCP port of the API.
pub const API_PORT: u16 = 15080;

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
    /// The relay in front of it, which it advertises.
    pub advertise: SocketAddr,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPlan {
    /// Name.
    pub name: HostName,
    /// Address of its agent and of what runs on it.
    pub address: Ipv4Addr,
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
    /// Unique within the topology: `SITE-NAME-N`.
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
    /// The site that invites.
    pub one: SiteId,
    /// The site that accepts.
    pub other: SiteId,
    /// Round trip.
    pub rtt: Duration,
    /// Share that is lost each way, 0 to 1.
    pub loss: f64,
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
}

/// Plans a checked topology in `block`, the second number of all its addresses.
pub fn plan(topology: &Topology, block: u8) -> Plan {
    let sites: Vec<SitePlan> = (1..=u8::MAX)
        .zip(&topology.sites)
        .map(|(number, (name, site))| site_plan(name, site, block, number))
        .collect();
    let workloads = workloads(topology, &sites);
    let links = topology.links.iter().map(link_plan).collect();
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
            }
        })
        .collect();
    Plan { name: topology.name.clone(), sites, workloads, links, policies, clients }
}

fn site_plan(name: &SiteId, site: &crate::schema::Site, block: u8, number: u8) -> SitePlan {
    let at = |last: u8| Ipv4Addr::new(127, block, number, last);
    let gateways = (0..site.gateways)
        .map(|n| GatewayPlan {
            name: format!("gw-{n}").parse().expect("a valid label"),
            address: at(GATEWAYS + n),
            advertise: SocketAddr::new(at(RELAYS + n).into(), TUNNEL_PORT),
        })
        .collect();
    let hosts = (HOSTS..)
        .zip(&site.hosts)
        .map(|(last, (name, host))| HostPlan {
            name: name.0.clone(),
            address: at(last),
            locality: host.locality.as_ref().unwrap_or(&site.locality).0.clone(),
        })
        .collect();
    SitePlan {
        name: name.clone(),
        locality: site.locality.0.clone(),
        federation: at(FEDERATION),
        gateways,
        hosts,
    }
}

fn workloads(topology: &Topology, sites: &[SitePlan]) -> Vec<WorkloadPlan> {
    let mut plans: Vec<WorkloadPlan> = Vec::new();
    for workload in &topology.workloads {
        let site = sites.iter().find(|site| site.name == workload.site.0).expect("the check found the site");
        for _ in 0..workload.replicas.unwrap_or(1) {
            let address = match &workload.host {
                Some(host) => {
                    site.hosts.iter().find(|h| h.name == host.0).expect("the check found the host").address
                }
                None => {
                    let before = plans.iter().filter(|p| p.site == site.name && p.host.is_none()).count();
                    let last = WORKLOADS + u8::try_from(before).expect("the check bounds them");
                    let [a, b, c, _] = site.federation.octets();
                    Ipv4Addr::new(a, b, c, last)
                }
            };
            plans.push(instance(workload, address, &plans));
        }
    }
    plans
}

fn instance(workload: &Workload, address: Ipv4Addr, before: &[WorkloadPlan]) -> WorkloadPlan {
    let number =
        before.iter().filter(|p| p.site == workload.site.0 && p.service == workload.service.0).count();
    let instance = format!("{}-{}-{number}", workload.site, workload.service.name);
    // Programs on one host share its address; each gets a port of its own next to that of its service.
    let taken = |port: u16| before.iter().any(|p| p.listen == SocketAddr::new(address.into(), port));
    let port = (workload.port..=u16::MAX).find(|port| !taken(*port)).unwrap_or(workload.port);
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
        listen: SocketAddr::new(address.into(), port),
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

fn link_plan(link: &Link) -> LinkPlan {
    LinkPlan {
        one: link.between.0.0.clone(),
        other: link.between.1.0.clone(),
        rtt: link.rtt.map_or(Duration::ZERO, |rtt| rtt.0),
        loss: link.loss_pct / 100.0,
    }
}

/// The resource for all instances of a service in one site; there is at least one.
fn service(name: &ServiceName, instances: &[&WorkloadPlan]) -> Service {
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
            network: None,
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
        self.direct(site)
            .into_iter()
            .map(|(name, instances)| Resource::Service(service(name, &instances)))
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

    /// One line per process and link, for `meshfed up --dry-run`.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for site in &self.sites {
            let locality = if site.locality == Locality::default() {
                "–".to_owned()
            } else {
                site.locality.to_string()
            };
            lines.push(format!("site {} · {locality} · API {}:{API_PORT}", site.name, site.federation));
            for gateway in &site.gateways {
                let address = SocketAddr::new(IpAddr::V4(gateway.address), TUNNEL_PORT);
                lines.push(format!(
                    "  gateway {}  {address}/udp, advertised as {}/udp",
                    gateway.name, gateway.advertise
                ));
            }
            lines.extend(site.hosts.iter().map(|host| format!("  agent {}  {}", host.name, host.address)));
            for workload in self.workloads.iter().filter(|w| w.site == site.name) {
                let what = workload.command.as_ref().map_or_else(|| "echo".to_owned(), |c| c.join(" "));
                let place = workload.host.as_ref().map_or_else(String::new, |host| format!(" on {host}"));
                let export = if workload.export { "" } else { ", not exported" };
                let service = &workload.service;
                lines.push(format!("  workload {service}{place}  {}: {what}{export}", workload.listen));
            }
        }
        for link in &self.links {
            let ms = link.rtt.as_secs_f64() * 1000.0;
            lines.push(format!(
                "link {} – {} · RTT {ms} ms · loss {} %",
                link.one,
                link.other,
                link.loss * 100.0
            ));
        }
        for client in &self.clients {
            lines.push(format!(
                "client {} on {} of {} · {} requests/s to {}:{}",
                client.name, client.host, client.site, client.rate, client.service, client.port
            ));
        }
        lines
    }
}
