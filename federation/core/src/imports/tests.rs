use super::accept::Accept;
use super::merge::ConditionKind;
use super::vips::{VipPool, VipRecord};
use super::*;
use model::catalog::ExportInfo;
use model::config::VipRange;
use model::endpoint::{Health, Reach};
use model::service::{AppProtocol, PortKey, ServicePort};
use std::net::Ipv4Addr;

pub(super) const RANGE: VipRange = VipRange { base: Ipv4Addr::new(127, 64, 0, 0) };

pub(super) fn site(name: &str) -> SiteId {
    name.parse().expect("valid")
}

pub(super) fn name(text: &str) -> ServiceName {
    text.parse().expect("valid")
}

pub(super) fn spec(ports: &[u16]) -> ServiceSpec {
    let port = |number: &u16| ServicePort {
        key: PortKey::tcp(*number),
        name: None,
        app: AppProtocol::Http,
        retry_safe: false,
    };
    ServiceSpec {
        ports: ports.iter().map(port).collect(),
        kind: ServiceKind::ClusterSetIp,
        declared_total: None,
    }
}

pub(super) fn endpoint(id: &str, locality: &str, health: Health) -> Endpoint {
    Endpoint {
        id: id.parse().expect("valid"),
        locality: locality.parse().expect("valid"),
        network: "east".parse().expect("valid"),
        subset: Subset::default(),
        weight: 1,
        health,
        reach: Reach::Direct([10, 0, 0, 1].into()),
        ports: BTreeMap::new(),
        hostname: None,
    }
}

pub(super) fn own(ports: &[u16], exported_at_ms: Option<u64>) -> OwnService {
    let one = endpoint("a", "eu/fra", Health::Healthy);
    OwnService { spec: spec(ports), exported_at_ms, endpoints: BTreeMap::from([(one.id.clone(), one)]) }
}

pub(super) fn terms(accept: Accept) -> PeerTerms {
    PeerTerms { accept, linked_at_ms: 100 }
}

fn imports() -> Imports {
    Imports::new(site("east"), VipPool::new(RANGE), FirstSeen::new())
}

fn export(imports: &mut Imports, peer: &str, service: &str, ports: &[u16], claimed_ms: u64, now_ms: u64) {
    let info = ExportInfo { spec: spec(ports), created_at_ms: claimed_ms };
    imports.apply_entry(
        &site(peer),
        &EntryKey::Export(name(service)),
        Some(&EntryValue::Export(info)),
        now_ms,
    );
    let key = EntryKey::Group(name(service), "us/sjc".parse().expect("valid"), Subset::default());
    let summary = GroupSummary { healthy: 2, total: 2, capacity: 2 };
    imports.apply_entry(&site(peer), &key, Some(&EntryValue::Group(summary)), now_ms);
}

fn drain(imports: &mut Imports) -> Vec<Change> {
    std::iter::from_fn(|| imports.poll_change()).collect()
}

fn sites_of(imports: &Imports, service: &str) -> Vec<String> {
    let import = imports.import(&name(service));
    import.map_or(Vec::new(), |import| import.groups.iter().map(|group| group.id.site.to_string()).collect())
}

fn kinds_of(imports: &Imports, service: &str) -> Vec<(String, ConditionKind)> {
    imports.conditions_of(&name(service)).iter().map(|c| (c.site.to_string(), c.kind)).collect()
}

#[test]
fn exports_of_one_name_are_one_import() {
    let mut imports = imports();
    imports.set_own(&name("shop/cart"), Some(own(&[8080], Some(500))), 500);
    imports.set_peer(&site("west"), terms(Accept::all()));
    export(&mut imports, "west", "shop/cart", &[8080], 600, 700);
    assert_eq!(drain(&mut imports).len(), 1);
    assert_eq!(sites_of(&imports, "shop/cart"), ["east", "west"]);
    assert_eq!(imports.import(&name("shop/cart")).expect("there").vip, Some(Ipv4Addr::new(127, 64, 0, 1)));
    assert_eq!(kinds_of(&imports, "shop/cart"), []);
}

#[test]
fn a_partner_may_not_join_a_name_without_a_line() {
    let mut imports = imports();
    imports.set_own(&name("payments/api"), Some(own(&[443], None)), 500);
    imports.set_peer(&site("west"), terms(Accept::new_names()));
    export(&mut imports, "west", "payments/api", &[443], 200, 700);
    export(&mut imports, "west", "west/own", &[443], 200, 700);
    drain(&mut imports);
    assert_eq!(sites_of(&imports, "payments/api"), ["east"]);
    assert_eq!(kinds_of(&imports, "payments/api"), [("west".to_owned(), ConditionKind::NotAccepted)]);
    assert_eq!(sites_of(&imports, "west/own"), ["west"]);

    let line = Scope::Only { namespaces: BTreeSet::new(), services: BTreeSet::from([name("payments/api")]) };
    imports.set_peer(&site("west"), terms(Accept::NewNames { joins: line }));
    drain(&mut imports);
    assert_eq!(sites_of(&imports, "payments/api"), ["east", "west"]);
}

#[test]
fn a_claim_to_be_older_does_not_take_a_name() {
    let mut imports = imports();
    imports.set_peer(&site("west"), terms(Accept::new_names()));
    imports.set_own(&name("payments/api"), Some(own(&[443], Some(500))), 500);
    export(&mut imports, "west", "payments/api", &[443], 150, 700);
    drain(&mut imports);
    assert_eq!(sites_of(&imports, "payments/api"), ["east"]);
}

#[test]
fn a_name_is_held_for_its_owner_during_a_restart() {
    let mut before = imports();
    before.set_own(&name("payments/api"), Some(own(&[443], Some(500))), 500);
    drain(&mut before);
    let vips = VipPool::restore(RANGE, &before.vips().record());
    let mut after = Imports::new(site("east"), vips, before.seen.clone());
    after.set_peer(&site("west"), terms(Accept::new_names()));
    export(&mut after, "west", "payments/api", &[443], 150, 700);
    drain(&mut after);
    assert_eq!(sites_of(&after, "payments/api"), Vec::<String>::new());
    assert_eq!(kinds_of(&after, "payments/api"), [("west".to_owned(), ConditionKind::NotAccepted)]);

    // The owner is really gone: once everyone was heard, the name is free.
    after.settle();
    drain(&mut after);
    assert_eq!(sites_of(&after, "payments/api"), ["west"]);
}

#[test]
fn the_oldest_export_wins_and_the_others_are_told() {
    let mut imports = imports();
    imports.set_own(&name("shop/cart"), Some(own(&[8080], Some(500))), 500);
    imports.set_peer(&site("west"), terms(Accept::all()));
    export(&mut imports, "west", "shop/cart", &[8080, 9090], 300, 700);
    drain(&mut imports);
    assert_eq!(imports.import(&name("shop/cart")).expect("there").ports.len(), 2);
    assert_eq!(kinds_of(&imports, "shop/cart"), [("east".to_owned(), ConditionKind::PortConflict)]);
    // A claim from before the link, or from the future, is not believed: the time we first saw it counts.
    for claimed in [1, 900] {
        export(&mut imports, "west", "shop/cart", &[8080, 9090], claimed, 700);
        drain(&mut imports);
        assert_eq!(imports.import(&name("shop/cart")).expect("there").ports.len(), 1, "claimed {claimed}");
    }
}

#[test]
fn endpoints_without_a_common_port_are_left_out() {
    let mut imports = imports();
    imports.set_own(&name("shop/cart"), Some(own(&[8080], Some(500))), 500);
    imports.set_peer(&site("west"), terms(Accept::all()));
    export(&mut imports, "west", "shop/cart", &[9090], 600, 700);
    drain(&mut imports);
    assert_eq!(sites_of(&imports, "shop/cart"), ["east"]);
}

#[test]
fn first_bytes_may_be_repeated_only_when_all_say_so() {
    let mut imports = imports();
    let mut safe = own(&[8080], Some(500));
    safe.spec.ports[0].retry_safe = true;
    imports.set_own(&name("shop/cart"), Some(safe), 500);
    drain(&mut imports);
    assert!(imports.import(&name("shop/cart")).expect("there").ports[0].retry_safe);
    imports.set_peer(&site("west"), terms(Accept::all()));
    export(&mut imports, "west", "shop/cart", &[8080], 600, 700);
    drain(&mut imports);
    assert!(!imports.import(&name("shop/cart")).expect("there").ports[0].retry_safe);
}

#[test]
fn an_expired_peer_keeps_its_names_and_loses_its_endpoints() {
    let mut imports = imports();
    imports.set_peer(&site("west"), terms(Accept::all()));
    export(&mut imports, "west", "shop/cart", &[8080], 600, 700);
    drain(&mut imports);
    let vip = imports.import(&name("shop/cart")).expect("there").vip;
    imports.set_expired(&site("west"), true);
    assert_eq!(drain(&mut imports).len(), 1);
    let import = imports.import(&name("shop/cart")).expect("still there");
    assert_eq!((import.vip, import.groups.len()), (vip, 0));
    imports.set_expired(&site("west"), false);
    drain(&mut imports);
    assert_eq!(sites_of(&imports, "shop/cart"), ["west"]);

    imports.remove_peer(&site("west"));
    assert_eq!(drain(&mut imports), [Change::Gone(name("shop/cart"))]);
    assert_eq!(imports.vips().find(&name("shop/cart")), None);
}

#[test]
fn a_complete_catalog_removes_what_it_does_not_name() {
    let mut imports = imports();
    imports.set_peer(&site("west"), terms(Accept::all()));
    export(&mut imports, "west", "shop/cart", &[8080], 600, 700);
    export(&mut imports, "west", "shop/orders", &[5432], 600, 700);
    drain(&mut imports);
    let info = EntryValue::Export(ExportInfo { spec: spec(&[8080]), created_at_ms: 600 });
    let key = EntryKey::Export(name("shop/cart"));
    imports.replace_catalog(&site("west"), [(&key, &info)], 800);
    drain(&mut imports);
    assert_eq!(imports.import(&name("shop/cart")).expect("kept").groups, []);
    assert!(imports.import(&name("shop/orders")).is_none());
}

#[test]
fn one_change_costs_one_merge() {
    let mut imports = imports();
    for at in 0..50 {
        imports.set_own(&name(&format!("shop/s{at}")), Some(own(&[8080], Some(500))), 500);
    }
    drain(&mut imports);
    let before = imports.merges();
    imports.set_own(&name("shop/s7"), Some(own(&[8081], Some(500))), 600);
    assert_eq!(drain(&mut imports).len(), 1);
    assert_eq!(imports.merges() - before, 1);
}

#[test]
fn policies_are_attached_by_scope() {
    let mut imports = imports();
    imports.set_own(&name("shop/cart"), Some(own(&[8080], None)), 500);
    imports.set_own(&name("web/front"), Some(own(&[8080], None)), 500);
    drain(&mut imports);
    let scope = Scope::Only {
        namespaces: BTreeSet::from(["shop".parse().expect("valid")]),
        services: BTreeSet::new(),
    };
    let policy = FailoverPolicy { strict: true, ..FailoverPolicy::default() };
    imports.set_policies(Policies { failover: vec![(scope, policy)], access: Vec::new() });
    assert_eq!(drain(&mut imports).len(), 1);
    assert!(imports.import(&name("shop/cart")).expect("there").failover.strict);
    assert!(!imports.import(&name("web/front")).expect("there").failover.strict);
}

#[test]
fn a_draining_or_failing_endpoint_counts_in_the_total_alone() {
    let endpoints = [
        endpoint("a", "eu/fra", Health::Healthy),
        endpoint("b", "eu/fra", Health::Unhealthy),
        endpoint("c", "eu/fra", Health::Draining),
        endpoint("d", "eu/ams", Health::Healthy),
    ];
    let groups = merge::count(&site("east"), endpoints.iter(), None, true);
    let counted: Vec<_> =
        groups.iter().map(|g| (g.id.locality.to_string(), g.healthy, g.total, g.capacity)).collect();
    assert_eq!(counted, [("eu/ams".to_owned(), 1, 1, 1), ("eu/fra".to_owned(), 1, 3, 1)]);
}

#[test]
fn a_freed_address_rests_while_others_are_free_and_comes_back_to_its_name() {
    let mut pool = VipPool::new(RANGE);
    let first = pool.assign(&name("shop/cart")).expect("free");
    pool.release(&name("shop/cart"));
    let other = pool.assign(&name("shop/orders")).expect("free");
    assert_ne!(first, other);
    assert_eq!(pool.assign(&name("shop/cart")), Ok(first));
}

#[test]
fn a_full_range_reuses_the_address_freed_longest_ago_and_then_says_so() {
    let mut pool = VipPool::new(RANGE);
    for at in 0..vips::CAPACITY {
        pool.assign(&name(&format!("shop/s{at}"))).expect("free");
    }
    assert!(pool.assign(&name("shop/more")).is_err());
    let longest_ago = pool.find(&name("shop/s9"));
    for freed in ["shop/s9", "shop/s3"] {
        pool.release(&name(freed));
    }
    assert_eq!(pool.assign(&name("shop/more")).ok(), longest_ago);
}

#[test]
fn a_record_with_foreign_or_doubled_addresses_is_taken_as_far_as_it_goes() {
    let record = VipRecord {
        assigned: vec![
            (name("a/a"), Ipv4Addr::new(127, 64, 0, 5)),
            (name("a/b"), Ipv4Addr::new(127, 64, 0, 5)),
            (name("a/c"), Ipv4Addr::new(127, 65, 0, 6)),
        ],
        freed: vec![
            (name("a/d"), Ipv4Addr::new(127, 64, 0, 5)),
            (name("a/e"), Ipv4Addr::new(127, 64, 255, 255)),
        ],
    };
    let pool = VipPool::restore(RANGE, &record);
    assert_eq!(pool.record().assigned, [(name("a/a"), Ipv4Addr::new(127, 64, 0, 5))]);
    assert_eq!(pool.record().freed, []);
}
