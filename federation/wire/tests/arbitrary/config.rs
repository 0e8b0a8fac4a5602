//! Config.

use super::*;
use model::config::*;
use model::routing::{AccessRule, CallerMatch, FailoverPolicy, Group, Import};
use std::net::Ipv4Addr;

pub fn config_version() -> impl Strategy<Value = ConfigVersion> {
    (any::<u64>(), any::<u64>()).prop_map(|(incarnation, revision)| ConfigVersion { incarnation, revision })
}

prop_compose! {
    fn failover()(
        order in vec(label(), 0..4),
        overprovisioning_pct in 1_u32..1000,
        min_healthy in any::<u32>(),
        strict in any::<bool>(),
        failback_delay in duration(),
        failback_ramp in duration(),
    ) -> FailoverPolicy {
        FailoverPolicy { order, overprovisioning_pct, min_healthy, strict, failback_delay, failback_ramp }
    }
}

prop_compose! {
    fn caller_match()(
        trust_domain in option::of(trust_domain()),
        site in option::of(label()),
        namespace in option::of(label()),
        account in option::of(label()),
    ) -> CallerMatch {
        CallerMatch { trust_domain, site, namespace, account }
    }
}

prop_compose! {
    fn rule()(
        policy in "[a-z]{1,9}/[a-z]{1,9}",
        allow in any::<bool>(),
        from in vec(caller_match(), 0..3),
        min_proof in proof(),
    ) -> AccessRule {
        AccessRule { policy, allow, from, min_proof }
    }
}

prop_compose! {
    fn group()(
        counts in summary(),
        declared_total in option::of(0_u32..1_000_000),
        endpoints in vec(endpoint(), 0..3),
    ) -> Group {
        let (healthy, total, capacity) = (counts.healthy, counts.total, counts.capacity);
        let id = model::routing::GroupId {
            site: "x".parse().expect("valid"),
            locality: Default::default(),
            subset: Default::default(),
        };
        Group { id, healthy, total, declared_total, capacity, endpoints }
    }
}

prop_compose! {
    pub fn import()(
        service in service(),
        ports in ports(),
        kind in kind(),
        vip in option::of(any::<Ipv4Addr>()),
        groups in btree_map(group_id(), group(), 0..3),
        failover in failover(),
        access in vec(rule(), 0..3),
    ) -> Import {
        let groups = groups.into_iter().map(|(id, group)| Group { id, ..group }).collect();
        Import { service, ports, kind, vip, groups, failover, access }
    }
}

fn health_probe() -> impl Strategy<Value = HealthProbe> {
    prop_oneof![
        Just(HealthProbe::None),
        (1..=u16::MAX).prop_map(|port| HealthProbe::Tcp { port }),
        (1..=u16::MAX, "/[ -~]{0,40}").prop_map(|(port, path)| HealthProbe::Http { port, path }),
        (1..=u16::MAX, "[ -~]{0,40}").prop_map(|(port, service)| HealthProbe::Grpc { port, service }),
        vec("[^\0]{0,20}", 1..4).prop_map(|command| HealthProbe::Exec { command }),
    ]
}

prop_compose! {
    fn check()(
        probe in health_probe(),
        interval in 50_000_u64..1_000_000_000,
        timeout in 1000_u64..1_000_000_000,
        healthy_threshold in 1_u32..10,
        unhealthy_threshold in 1_u32..10,
    ) -> HealthCheck {
        let (interval, timeout) = (Duration::from_micros(interval), Duration::from_micros(timeout));
        HealthCheck { probe, interval, timeout, healthy_threshold, unhealthy_threshold }
    }
}

prop_compose! {
    fn workload()(
        service in service(),
        id in id(),
        host in label(),
        address in any::<IpAddr>(),
        ports in vec((service_port(), 1..=u16::MAX), 0..4),
        locality in locality(),
        weight in 1_u32..=1000,
        check in check(),
        account in option::of(label()),
    ) -> WorkloadSpec {
        WorkloadSpec { service, id, host, address, ports, locality, weight, check, account }
    }
}

pub fn config_entry() -> impl Strategy<Value = ConfigEntry> {
    let signer = option::of(any::<[u8; 32]>());
    let own = (site(), bundle(), any::<bool>(), any::<bool>(), signer).prop_map(
        |(site, bundle, link_open, names_complete, signer)| {
            let config = SiteConfig { site, bundle, link_open, names_complete, signer };
            (ConfigKey::Site, ConfigValue::Site(config))
        },
    );
    let peer = (site(), bundle(), any::<bool>()).prop_map(|(site, bundle, expired)| {
        (ConfigKey::Peer(site.id.clone()), ConfigValue::Peer(PeerConfig { site, bundle, expired }))
    });
    let pair = prop_oneof![
        own,
        peer,
        import()
            .prop_map(|import| (ConfigKey::Service(import.service.clone()), ConfigValue::Service(import))),
        workload().prop_map(|workload| {
            let key = ConfigKey::Workload(workload.service.clone(), workload.id.clone());
            (key, ConfigValue::Workload(workload))
        }),
    ];
    (pair, any::<bool>()).prop_map(|((key, value), there)| ConfigEntry { key, value: there.then_some(value) })
}

pub fn config_entries() -> impl Strategy<Value = Vec<ConfigEntry>> {
    vec(config_entry(), 0..6).prop_map(|mut entries| {
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries.dedup_by(|a, b| a.key == b.key);
        entries
    })
}

prop_compose! {
    pub fn config_update()(
        version in config_version(),
        snapshot in any::<bool>(),
        complete in any::<bool>(),
        entries in config_entries(),
    ) -> ConfigUpdate {
        ConfigUpdate { version, snapshot, complete, entries }
    }
}
