//! Any valid value of the model, as far as it travels.

#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

mod config;
mod decision;
mod encoded;
mod exchange;
mod node;

pub use config::*;
pub use decision::*;
pub use encoded::*;
pub use exchange::*;
pub use node::*;

use model::catalog::{Epoch, GatewayAddress, Revision, Scope, ServiceSpec, SiteInfo, Version};
use model::endpoint::{Endpoint, Health, Reach};
use model::identity::{Bundle, Proof, TrustDomain};
use model::ids::SiteUid;
use model::locality::Locality;
use model::routing::{Caller, GroupId, PeerState, PeerView};
use model::service::{AppProtocol, PortKey, Protocol, ServiceKind, ServiceName, ServicePort, Subset};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// A text that its type takes.
pub fn label<T: FromStr<Err: Debug> + Debug>() -> impl Strategy<Value = T> {
    "[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?".prop_map(|text| text.parse().expect("valid"))
}

pub fn id<T: FromStr<Err: Debug> + Debug>() -> impl Strategy<Value = T> {
    "[!-+\\--.0-~]{1,128}".prop_map(|text| text.parse().expect("valid"))
}

pub fn reason() -> impl Strategy<Value = String> {
    "\\PC{0,200}"
}

pub fn trust_domain() -> impl Strategy<Value = TrustDomain> {
    "[a-z0-9_.-]{1,40}".prop_map(|text| text.parse().expect("valid"))
}

pub fn locality() -> impl Strategy<Value = Locality> {
    prop_oneof![Just(String::new()), "[a-zA-Z0-9_.-]{1,9}(/[a-zA-Z0-9_.-]{1,9}){0,2}"]
        .prop_map(|text| text.parse().expect("valid"))
}

/// Whole microseconds, which is what the wire carries.
pub fn duration() -> impl Strategy<Value = Duration> {
    (0_u64..300_000_000_000_000).prop_map(Duration::from_micros)
}

pub fn socket() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
}

pub fn uid() -> impl Strategy<Value = SiteUid> {
    any::<[u8; 16]>().prop_map(SiteUid)
}

pub fn version() -> impl Strategy<Value = Version> {
    (any::<u64>(), any::<u64>())
        .prop_map(|(epoch, revision)| Version { epoch: Epoch(epoch), revision: Revision(revision) })
}

pub fn service() -> impl Strategy<Value = ServiceName> {
    (label(), label()).prop_map(|(namespace, name)| ServiceName { namespace, name })
}

pub fn subset() -> impl Strategy<Value = Subset> {
    prop_oneof![Just(String::new()), "[a-z0-9-]{1,63}"].prop_map(Subset)
}

pub fn port_key() -> impl Strategy<Value = PortKey> {
    (prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)], 1..=u16::MAX)
        .prop_map(|(protocol, number)| PortKey { protocol, number })
}

prop_compose! {
    pub fn service_port()(
        key in port_key(),
        name in option::of(label()),
        app in prop_oneof![
            Just(AppProtocol::Tcp), Just(AppProtocol::Http), Just(AppProtocol::Http2), Just(AppProtocol::Grpc),
            Just(AppProtocol::Tls),
        ],
        retry_safe in any::<bool>(),
    ) -> ServicePort {
        ServicePort { key, name, app, retry_safe }
    }
}

pub fn ports() -> impl Strategy<Value = Vec<ServicePort>> {
    btree_map(port_key(), service_port(), 0..4)
        .prop_map(|ports| ports.into_iter().map(|(key, port)| ServicePort { key, ..port }).collect())
}

pub fn kind() -> impl Strategy<Value = ServiceKind> {
    prop_oneof![Just(ServiceKind::ClusterSetIp), Just(ServiceKind::Headless)]
}

prop_compose! {
    pub fn spec()(ports in ports(), kind in kind(), declared_total in option::of(0_u32..1_000_000)) -> ServiceSpec {
        ServiceSpec { ports, kind, declared_total }
    }
}

prop_compose! {
    pub fn endpoint()(
        id in id(),
        locality in locality(),
        network in label(),
        subset in subset(),
        weight in 1_u32..=1000,
        health in prop_oneof![Just(Health::Healthy), Just(Health::Unhealthy), Just(Health::Draining)],
        reach in prop_oneof![any::<IpAddr>().prop_map(Reach::Direct), label().prop_map(Reach::Agent)],
        ports in btree_map(port_key(), 1..=u16::MAX, 0..4),
        hostname in option::of(label()),
    ) -> Endpoint {
        Endpoint { id, locality, network, subset, weight, health, reach, ports, hostname }
    }
}

pub fn gateways() -> impl Strategy<Value = Vec<GatewayAddress>> {
    btree_map(label(), socket(), 0..4).prop_map(|gateways| {
        gateways.into_iter().map(|(name, address)| GatewayAddress { name, address }).collect()
    })
}

prop_compose! {
    pub fn site()(
        id in label(),
        uid in uid(),
        trust_domain in trust_domain(),
        locality in locality(),
        clusterset in label(),
        gateways in gateways(),
    ) -> SiteInfo {
        SiteInfo { id, uid, trust_domain, locality, clusterset, gateways }
    }
}

prop_compose! {
    pub fn bundle()(
        trust_domain in trust_domain(),
        sequence in any::<u64>(),
        anchors in vec(vec(any::<u8>(), 1..50), 1..4),
    ) -> Bundle {
        Bundle { trust_domain, sequence, anchors }
    }
}

pub fn scope() -> impl Strategy<Value = Scope> {
    let only = (btree_set(label(), 0..4), btree_set(service(), 0..4))
        .prop_map(|(namespaces, services)| Scope::Only { namespaces, services });
    prop_oneof![Just(Scope::All), only]
}

pub fn proof() -> impl Strategy<Value = Proof> {
    prop_oneof![Just(Proof::Host), Just(Proof::PodIp), Just(Proof::Uid), Just(Proof::Mtls)]
}

prop_compose! {
    pub fn caller()(
        path in option::of((trust_domain(), prop_oneof![
            "/gateway/[a-z]{1,9}", "/federation/[a-z]{1,9}", "/agent/[a-z]{1,9}", "/admin/[a-z]{1,9}",
            "/ns/[a-z]{1,9}/sa/[a-z]{1,9}",
        ])),
        proof in proof(),
        site in label(),
        locality in locality(),
        affinity in option::of(any::<u64>()),
    ) -> Caller {
        let identity = path.map(|(domain, path)| format!("spiffe://{domain}{path}").parse().expect("valid"));
        Caller { identity, proof, site, locality, affinity }
    }
}

prop_compose! {
    pub fn group_id()(site in label(), locality in locality(), subset in subset()) -> GroupId {
        GroupId { site, locality, subset }
    }
}

pub fn peer_state() -> impl Strategy<Value = PeerState> {
    prop_oneof![
        Just(PeerState::Connected),
        Just(PeerState::Degraded),
        Just(PeerState::Unreachable),
        Just(PeerState::Expired),
        Just(PeerState::Removed),
    ]
}

prop_compose! {
    pub fn peer_view()(state in peer_state(), rtt in option::of(duration())) -> PeerView {
        PeerView { state, rtt }
    }
}
