//! Instances of a headless service, which have names of their own.

use model::endpoint::{Endpoint, Health, Reach};
use model::ids::{EndpointId, Label, SiteId};
use model::routing::Import;
use model::service::PortKey;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Most instances of one service that DNS names: more do not fit in an answer, and the specification allows a subset.
const INSTANCES_MAX: usize = 256;

/// An instance of a headless service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedInstance {
    /// Its endpoint.
    pub endpoint: EndpointId,
    /// Its site, which is the cluster id in its name.
    pub site: SiteId,
    /// Its host name: as given, or made from the endpoint's id. Unique within the service.
    pub hostname: Label,
    /// Where it is dialled.
    pub address: IpAddr,
    /// For each port of the service, the port that it listens on.
    pub ports: BTreeMap<PortKey, u16>,
}

/// The instances of the own site that a DNS answer may name.
pub(super) fn instances_of(site: &SiteId, import: &Import) -> Vec<NamedInstance> {
    let local =
        import.groups.iter().filter(|group| group.id.site == *site).flat_map(|group| &group.endpoints);
    let mut endpoints: Vec<&Endpoint> = local.collect();
    endpoints.sort_by(|a, b| a.id.cmp(&b.id));
    let ready = |endpoint: &&Endpoint| endpoint.health == Health::Healthy;
    // When nobody here is ready and nobody elsewhere could be, the last known ones are better than none.
    if endpoints.iter().any(ready) || import.groups.iter().any(|group| group.healthy > 0) {
        endpoints.retain(ready);
    }
    let mut taken = BTreeSet::new();
    let mut instances = Vec::new();
    for endpoint in endpoints.into_iter().take(INSTANCES_MAX) {
        let Reach::Direct(address) = &endpoint.reach else { continue };
        let Some(hostname) = hostname(endpoint, &taken) else { continue };
        taken.insert(hostname.clone());
        instances.push(NamedInstance {
            endpoint: endpoint.id.clone(),
            site: site.clone(),
            hostname,
            address: *address,
            ports: endpoint.ports.clone(),
        });
    }
    instances
}

/// The host name as given; else the id with `-` for what a label may not have; with a number when that is taken.
fn hostname(endpoint: &Endpoint, taken: &BTreeSet<Label>) -> Option<Label> {
    if let Some(given) = endpoint.hostname.as_ref().filter(|given| !taken.contains(*given)) {
        return Some(given.clone());
    }
    let id = endpoint.id.as_str().to_ascii_lowercase();
    let made: String = id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let made = made.trim_matches('-');
    let stem = if made.is_empty() { "endpoint" } else { made };
    (1..=INSTANCES_MAX).find_map(|number| {
        let tail = if number == 1 { String::new() } else { format!("-{number}") };
        let stem = stem.get(..63 - tail.len()).unwrap_or(stem).trim_end_matches('-');
        format!("{stem}{tail}").parse().ok().filter(|label| !taken.contains(label))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use model::routing::{Group, GroupId};
    use model::service::{AppProtocol, ServiceKind, ServicePort};
    use std::net::Ipv4Addr;

    /// An import with these TCP ports, the first of them named `http`, served by `west`.
    pub(crate) fn import(service: &str, vip: Option<Ipv4Addr>, ports: &[u16]) -> Import {
        let port = |(at, number): (usize, &u16)| ServicePort {
            key: PortKey::tcp(*number),
            name: (at == 0).then(|| "http".parse().expect("valid")),
            app: AppProtocol::Http,
            retry_safe: false,
        };
        Import {
            service: service.parse().expect("valid"),
            ports: ports.iter().enumerate().map(port).collect(),
            kind: if vip.is_some() { ServiceKind::ClusterSetIp } else { ServiceKind::Headless },
            vip,
            groups: vec![group("west", 1, Vec::new())],
            failover: Default::default(),
            access: Vec::new(),
        }
    }

    /// A headless import with port 5432, with these endpoints in `east` and whether each is ready.
    pub(crate) fn headless(service: &str, endpoints: &[(&str, bool)]) -> Import {
        let endpoint = |(at, (id, ready)): (usize, &(&str, bool))| Endpoint {
            id: id.parse().expect("valid"),
            locality: Default::default(),
            network: "net".parse().expect("valid"),
            subset: Default::default(),
            weight: 1,
            health: if *ready { Health::Healthy } else { Health::Unhealthy },
            reach: Reach::Direct([10, 0, 0, u8::try_from(at).expect("few")].into()),
            ports: BTreeMap::from([(PortKey::tcp(5432), 6543)]),
            hostname: None,
        };
        let healthy = u32::try_from(endpoints.iter().filter(|of| of.1).count()).expect("few");
        let endpoints = endpoints.iter().enumerate().map(endpoint).collect();
        Import { groups: vec![group("east", healthy, endpoints)], ..import(service, None, &[5432]) }
    }

    fn group(site: &str, healthy: u32, endpoints: Vec<Endpoint>) -> Group {
        let id = GroupId {
            site: site.parse().expect("valid"),
            locality: Default::default(),
            subset: Default::default(),
        };
        Group { id, healthy, total: healthy, declared_total: None, capacity: healthy.into(), endpoints }
    }

    fn names(import: &Import) -> Vec<String> {
        let site = "east".parse().expect("valid");
        instances_of(&site, import).iter().map(|instance| instance.hostname.to_string()).collect()
    }

    #[test]
    fn a_host_name_is_made_from_the_id_and_is_unique() {
        let long = "x".repeat(100);
        let made = names(&headless(
            "data/db",
            &[("10.2.0.14:80", true), ("10-2-0-14-80", true), ("_", true), (&long, true), ("A", true)],
        ));
        assert_eq!(made, ["10-2-0-14-80", "10-2-0-14-80-2", "a", "endpoint", &"x".repeat(63)]);
    }

    #[test]
    fn instances_that_are_not_ready_are_named_only_when_nobody_is() {
        assert_eq!(names(&headless("data/db", &[("a", true), ("b", false)])), ["a"]);
        assert_eq!(names(&headless("data/db", &[("a", false), ("b", false)])), ["a", "b"]);
        let mut elsewhere = headless("data/db", &[("a", false)]);
        elsewhere.groups.push(group("west", 1, Vec::new()));
        assert_eq!(names(&elsewhere), Vec::<String>::new());
    }
}
