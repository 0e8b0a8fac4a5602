//! Worlds for the tests: small enough to read, and random ones.

use model::endpoint::{Endpoint, Health, Reach};
use model::identity::Proof;
use model::ids::{EndpointId, SiteId};
use model::locality::Locality;
use model::routing::{Caller, FailoverPolicy, Group, GroupId, Import, PeerState, PeerView};
use model::service::{AppProtocol, PortKey, ServiceKind, ServiceName, ServicePort, Subset};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// So many cases; a failing one is printed whole, so nothing is written beside the source.
pub fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// The port of all services here.
pub const PORT: PortKey = PortKey::tcp(8080);

#[expect(clippy::disallowed_methods, reason = "an Instant can be made in no other way")]
pub fn start() -> Instant {
    Instant::now()
}

pub fn site(name: &str) -> SiteId {
    name.parse().expect("valid")
}

pub fn service() -> ServiceName {
    "shop/cart".parse().expect("valid")
}

pub fn caller(locality: &str) -> Caller {
    Caller {
        identity: None,
        proof: Proof::Host,
        site: site("west"),
        locality: locality.parse().expect("valid"),
        affinity: None,
    }
}

pub fn endpoint(id: &str, health: Health) -> Endpoint {
    Endpoint {
        id: id.parse().expect("valid"),
        locality: Locality::default(),
        network: "net".parse().expect("valid"),
        subset: Subset::default(),
        weight: 1,
        health,
        reach: Reach::Direct([10, 0, 0, 1].into()),
        ports: BTreeMap::from([(PORT, 8080)]),
        hostname: None,
    }
}

/// A group of the own site, `west`; one letter for each endpoint: `h`ealthy, `u`nhealthy, `d`raining.
pub fn own_group(locality: &str, endpoints: &str) -> Group {
    let health = |letter| match letter {
        'h' => Health::Healthy,
        'd' => Health::Draining,
        _ => Health::Unhealthy,
    };
    let tag = locality.replace('/', "-");
    let endpoints: Vec<Endpoint> = endpoints
        .chars()
        .enumerate()
        .map(|(at, letter)| endpoint(&format!("west-{tag}-{at}"), health(letter)))
        .collect();
    group_of("west", locality, endpoints)
}

fn group_of(name: &str, locality: &str, endpoints: Vec<Endpoint>) -> Group {
    let healthy = endpoints.iter().filter(|endpoint| endpoint.health == Health::Healthy);
    Group {
        id: GroupId {
            site: site(name),
            locality: locality.parse().expect("valid"),
            subset: Subset::default(),
        },
        healthy: u32::try_from(healthy.clone().count()).expect("few"),
        total: u32::try_from(endpoints.len()).expect("few"),
        declared_total: None,
        capacity: healthy.map(|endpoint| u64::from(endpoint.weight)).sum(),
        endpoints,
    }
}

/// A counted group of another site.
pub fn group(name: &str, locality: &str, healthy: u32, total: u32) -> Group {
    Group { healthy, total, capacity: healthy.into(), ..group_of(name, locality, Vec::new()) }
}

pub fn import(groups: Vec<Group>) -> Import {
    Import {
        service: service(),
        ports: vec![ServicePort { key: PORT, name: None, app: AppProtocol::Http, retry_safe: false }],
        kind: ServiceKind::ClusterSetIp,
        vip: None,
        groups,
        failover: FailoverPolicy::default(),
        access: Vec::new(),
    }
}

pub fn view(state: PeerState, rtt_ms: u64) -> PeerView {
    PeerView { state, rtt: Some(Duration::from_millis(rtt_ms)) }
}

/// No endpoint has an open stream.
pub fn idle(_: &EndpointId) -> u32 {
    0
}

const LOCALITIES: [&str; 6] = ["", "us", "us/sjc", "us/lax", "eu/fra", "eu/ams"];
const SITES: [&str; 5] = ["west", "east", "dc", "lab", "gcp"];

fn any_health() -> impl Strategy<Value = Health> {
    prop_oneof![3 => Just(Health::Healthy), 2 => Just(Health::Unhealthy), 1 => Just(Health::Draining)]
}

/// A random import of site `west`.
pub fn any_import() -> impl Strategy<Value = Import> {
    let own = prop::collection::btree_map(
        0..LOCALITIES.len(),
        prop::collection::vec((any_health(), 1_u32..5, 0..8), 0..4),
        0..3,
    );
    let others =
        prop::collection::btree_map((1..SITES.len(), 0..LOCALITIES.len()), (0_u32..4, 0_u32..4), 0..5);
    let order = prop::sample::subsequence(SITES.to_vec(), 0..3).prop_shuffle();
    (own, others, order, 1_u32..3, any::<bool>()).prop_map(|(own, others, order, min_healthy, strict)| {
        let mut groups = Vec::new();
        for (locality, endpoints) in own {
            let endpoints = endpoints.into_iter().enumerate().map(|(at, (health, weight, portless))| {
                let ports = if portless == 0 { BTreeMap::new() } else { BTreeMap::from([(PORT, 1)]) };
                Endpoint { weight, ports, ..endpoint(&format!("e{locality}-{at}"), health) }
            });
            groups.push(group_of("west", LOCALITIES[locality], endpoints.collect()));
        }
        for ((site, locality), (healthy, more)) in others {
            groups.push(group(SITES[site], LOCALITIES[locality], healthy, healthy + more));
        }
        groups.sort_by(|a, b| a.id.cmp(&b.id));
        let order = order.into_iter().map(site).collect();
        Import {
            failover: FailoverPolicy { order, min_healthy, strict, ..FailoverPolicy::default() },
            ..import(groups)
        }
    })
}

fn any_state() -> impl Strategy<Value = PeerState> {
    prop_oneof![
        3 => Just(PeerState::Connected),
        2 => Just(PeerState::Degraded),
        2 => Just(PeerState::Unreachable),
        1 => Just(PeerState::Expired),
        1 => Just(PeerState::Removed),
    ]
}

/// Random states of the other sites; some are not linked.
pub fn any_peers() -> impl Strategy<Value = BTreeMap<SiteId, PeerView>> {
    prop::collection::btree_map(1..SITES.len(), (any_state(), 1_u64..100), 0..5).prop_map(|peers| {
        peers.into_iter().map(|(at, (state, rtt_ms))| (site(SITES[at]), view(state, rtt_ms))).collect()
    })
}

/// A caller somewhere.
pub fn any_caller() -> impl Strategy<Value = Caller> {
    (0..LOCALITIES.len(), prop::option::of(any::<u64>()))
        .prop_map(|(locality, affinity)| Caller { affinity, ..caller(LOCALITIES[locality]) })
}
