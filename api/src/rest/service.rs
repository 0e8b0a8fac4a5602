//! Services, as a site sees them.

use super::ms;
use model::endpoint::{Endpoint, Health, Reach};
use model::ids::SiteId;
use model::routing::{Import, PeerView};
use model::service::ServicePort;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `GET /v1/services`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceList {
    /// All services, ordered by name.
    pub services: Vec<ServiceView>,
}

/// One service; `GET /v1/services/{ns}/{name}`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceView {
    /// `NAMESPACE/NAME`.
    pub service: String,
    /// Its ports.
    pub ports: Vec<PortView>,
    /// `ClusterSetIP` or `Headless`.
    pub kind: String,
    /// Sites that serve it, ordered: own site first, then by name.
    pub sites: Vec<ServiceSiteView>,
    /// Healthy endpoints of all sites that can be reached.
    pub healthy: u32,
    /// Endpoints of all sites.
    pub total: u32,
    /// Its name in DNS.
    pub dns_name: String,
    /// Its virtual IP; none for headless services.
    pub vip: Option<String>,
    /// A command that calls it from a host with an agent or a gateway.
    pub curl: Option<String>,
    /// This site offers it to linked sites.
    pub exported: bool,
    /// Sites that are offered it; with `exported`.
    pub offered_to: Vec<String>,
    /// Who may call, in words: `everyone`, or one line for each rule.
    pub access: Vec<String>,
    /// How load moves between sites, in words.
    pub failover: Vec<String>,
    /// Endpoints of the own site, ordered by id.
    pub endpoints: Vec<EndpointView>,
    /// What an operator should know: conflicts, endpoints that fail their check, VIPs that cannot be bound.
    pub notes: Vec<String>,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PortView {
    /// Number.
    pub port: u16,
    /// `tcp` or `udp`.
    pub transport: String,
    /// `tcp`, `http`, `http2`, `grpc`, `tls`.
    pub protocol: String,
    /// Name; may be empty.
    pub name: String,
    /// The first bytes of a client may be sent to more than one endpoint.
    pub retry_safe: bool,
}

/// What one site contributes to a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceSiteView {
    /// Site.
    pub site: String,
    /// Localities of its endpoints.
    pub localities: Vec<String>,
    /// Healthy endpoints.
    pub healthy: u32,
    /// Endpoints.
    pub total: u32,
    /// State of the peer; `own` for the own site.
    pub state: String,
    /// Round trip to it.
    pub rtt_ms: Option<f64>,
}

/// An endpoint of the own site.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointView {
    /// Id.
    pub id: String,
    /// `healthy`, `unhealthy` or `draining`.
    pub health: String,
    /// Its address, or `agent HOST`.
    pub reach: String,
    /// Ports that it listens on, `8080→80` when they differ from the service's.
    pub ports: Vec<String>,
    /// Locality.
    pub locality: String,
    /// Subset; may be empty.
    pub subset: String,
    /// Share of the load.
    pub weight: u32,
    /// Why it is not healthy; may be empty.
    pub why: String,
}

impl ServiceView {
    /// What an import says; `own` is this site, `peers` what is known of the others. What
    /// only the federation knows (exports, conflicts) is left empty.
    pub fn of(import: &Import, own: &SiteId, peers: &BTreeMap<SiteId, PeerView>) -> Self {
        let mut sites: BTreeMap<&SiteId, ServiceSiteView> = BTreeMap::new();
        for group in &import.groups {
            let peer = peers.get(&group.id.site);
            let is_own = group.id.site == *own;
            let state = || peer.map_or("unreachable".to_owned(), |peer| peer.state.to_string());
            let view = sites.entry(&group.id.site).or_insert_with(|| ServiceSiteView {
                site: group.id.site.to_string(),
                state: if is_own { "own".to_owned() } else { state() },
                rtt_ms: peer.and_then(|peer| peer.rtt).map(ms),
                ..ServiceSiteView::default()
            });
            view.healthy += group.healthy;
            view.total += group.total;
            let locality = group.id.locality.to_string();
            if !locality.is_empty() && !view.localities.contains(&locality) {
                view.localities.push(locality);
            }
        }
        let reachable =
            |site: &SiteId| site == own || peers.get(site).is_some_and(|peer| peer.state.is_usable());
        let healthy = sites.iter().filter(|(site, _)| reachable(site)).map(|(_, view)| view.healthy).sum();
        let total = sites.values().map(|view| view.total).sum();
        let notes = sites.iter().filter_map(|(site, view)| note(view, reachable(site))).collect();
        let first = sites.remove(own);
        let groups = import.groups.iter().filter(|group| group.id.site == *own);
        let mut endpoints: Vec<EndpointView> =
            groups.flat_map(|group| &group.endpoints).map(EndpointView::of).collect();
        endpoints.sort_by(|a, b| a.id.cmp(&b.id));
        Self {
            service: import.service.to_string(),
            ports: import.ports.iter().map(PortView::of).collect(),
            kind: import.kind.to_string(),
            sites: first.into_iter().chain(sites.into_values()).collect(),
            healthy,
            total,
            dns_name: import.service.dns_name(),
            vip: import.vip.map(|vip| vip.to_string()),
            curl: curl(import),
            access: access(import),
            failover: failover(import),
            endpoints,
            notes,
            ..Self::default()
        }
    }
}

impl PortView {
    /// A port.
    pub fn of(port: &ServicePort) -> Self {
        Self {
            port: port.key.number,
            transport: port.key.protocol.to_string(),
            protocol: port.app.to_string(),
            name: port.name.as_ref().map(ToString::to_string).unwrap_or_default(),
            retry_safe: port.retry_safe,
        }
    }

    /// `8080/http`.
    pub fn text(&self) -> String {
        format!("{}/{}", self.port, self.protocol)
    }
}

impl EndpointView {
    /// An endpoint.
    pub fn of(endpoint: &Endpoint) -> Self {
        let ports = endpoint.ports.iter().map(|(port, target)| {
            if port.number == *target { target.to_string() } else { format!("{}→{target}", port.number) }
        });
        Self {
            id: endpoint.id.to_string(),
            health: match endpoint.health {
                Health::Healthy => "healthy",
                Health::Unhealthy => "unhealthy",
                Health::Draining => "draining",
            }
            .to_owned(),
            reach: match &endpoint.reach {
                Reach::Direct(address) => address.to_string(),
                Reach::Agent(host) => format!("agent {host}"),
            },
            ports: ports.collect(),
            locality: endpoint.locality.to_string(),
            subset: endpoint.subset.0.clone(),
            weight: endpoint.weight,
            why: String::new(),
        }
    }
}

/// What is wrong with what a site contributes.
fn note(view: &ServiceSiteView, reachable: bool) -> Option<String> {
    if !reachable {
        return Some(format!("{} is {}", view.site, view.state));
    }
    match view.total.saturating_sub(view.healthy) {
        0 => None,
        1 => Some(format!("1 endpoint of {} fails its check", view.site)),
        many => Some(format!("{many} endpoints of {} fail their check", view.site)),
    }
}

/// A line that can be pasted; only where curl speaks the port's protocol.
fn curl(import: &Import) -> Option<String> {
    use model::service::AppProtocol::{Grpc, Http, Http2, Tcp, Tls};
    let vip = import.vip?;
    import.ports.iter().find_map(|port| match port.app {
        Http => Some(format!("curl http://{vip}:{}/", port.key.number)),
        Http2 => Some(format!("curl --http2-prior-knowledge http://{vip}:{}/", port.key.number)),
        // Most of what speaks plain TCP on a mesh is HTTP; where it is not, curl shows what the server says first.
        Tcp => Some(format!("curl --http0.9 http://{vip}:{}/", port.key.number)),
        Grpc | Tls => None,
    })
}

fn access(import: &Import) -> Vec<String> {
    if import.access.is_empty() {
        return vec!["everyone".to_owned()];
    }
    let rule = |rule: &model::routing::AccessRule| {
        let action = if rule.allow { "allow" } else { "deny" };
        let from: Vec<String> = rule.from.iter().map(caller_match).collect();
        let from = if from.is_empty() { "everyone".to_owned() } else { from.join("; ") };
        let proof = match rule.min_proof {
            model::identity::Proof::Host => String::new(),
            level => format!(", proven by {level} or better"),
        };
        format!("{action} {from}{proof} (AccessPolicy {})", rule.policy)
    };
    import.access.iter().map(rule).collect()
}

/// `namespace web, site west`.
pub(crate) fn caller_match(from: &model::routing::CallerMatch) -> String {
    let parts = [
        from.trust_domain.as_ref().map(|domain| format!("trust domain {domain}")),
        from.site.as_ref().map(|site| format!("site {site}")),
        from.namespace.as_ref().map(|namespace| format!("namespace {namespace}")),
        from.account.as_ref().map(|account| format!("account {account}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "everyone".to_owned() } else { parts.join(", ") }
}

fn failover(import: &Import) -> Vec<String> {
    let policy = &import.failover;
    let order = policy.order.iter().map(ToString::to_string).collect::<Vec<_>>().join(", then ");
    let mut lines = vec![if order.is_empty() {
        "nearest first: own zone, own region, then by round trip".to_owned()
    } else {
        format!("own zone, own region, then {order}, then by round trip")
    }];
    lines.push(if policy.strict {
        "the nearest takes everything until it is empty".to_owned()
    } else {
        format!("spills below {} % healthy", 10_000 / policy.overprovisioning_pct.max(1))
    });
    let (delay, ramp) = (policy.failback_delay.as_secs_f64(), policy.failback_ramp.as_secs_f64());
    lines.push(format!("load returns {delay} s after recovery, over {ramp} s"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::routing::{FailoverPolicy, Group, GroupId, PeerState};
    use model::service::{AppProtocol, PortKey, ServiceKind, Subset};

    #[test]
    fn a_service_shows_its_sites_own_first_and_counts_only_what_can_be_reached() {
        let group = |site: &str, healthy| Group {
            id: GroupId {
                site: site.parse().expect("valid"),
                locality: "eu/fra".parse().expect("valid"),
                subset: Subset::default(),
            },
            healthy,
            total: 3,
            declared_total: None,
            capacity: u64::from(healthy),
            endpoints: Vec::new(),
        };
        let import = Import {
            service: "shop/cart".parse().expect("valid"),
            ports: vec![ServicePort {
                key: PortKey::tcp(8080),
                name: None,
                app: AppProtocol::Http,
                retry_safe: false,
            }],
            kind: ServiceKind::ClusterSetIp,
            vip: Some([127, 64, 0, 7].into()),
            groups: vec![group("east", 3), group("lab", 2), group("west", 1)],
            failover: FailoverPolicy::default(),
            access: Vec::new(),
        };
        let peer = |state| PeerView { state, rtt: None };
        let peers = BTreeMap::from([
            ("east".parse().expect("valid"), peer(PeerState::Connected)),
            ("lab".parse().expect("valid"), peer(PeerState::Unreachable)),
        ]);
        let view = ServiceView::of(&import, &"west".parse().expect("valid"), &peers);
        let sites: Vec<_> = view.sites.iter().map(|site| (site.site.as_str(), site.state.as_str())).collect();
        assert_eq!(sites, [("west", "own"), ("east", "connected"), ("lab", "unreachable")]);
        assert_eq!((view.healthy, view.total), (4, 9));
        assert_eq!(view.curl.as_deref(), Some("curl http://127.64.0.7:8080/"));
        assert_eq!(view.notes, ["lab is unreachable", "2 endpoints of west fail their check"]);
        assert_eq!(view.failover[1], "spills below 71 % healthy");
    }
}
