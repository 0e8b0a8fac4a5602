//! Properties: telling changes one by one gives what telling the end state at once gives, and addresses are stable.

use super::accept::Accept;
use super::tests::{RANGE, endpoint, name, own, site, spec, terms};
use super::vips::VipPool;
use super::*;
use model::endpoint::Health;
use proptest::prelude::*;

const SITES: [&str; 3] = ["west", "dc", "gcp"];

#[derive(Debug, Clone)]
enum Step {
    Own(u8, Option<(bool, u8)>),
    Link(usize, bool),
    Unlink(usize),
    Expired(usize, bool),
    Export(usize, u8, Option<u8>),
    Group(usize, u8, u8, bool),
    Poll,
}

fn step() -> impl Strategy<Value = Step> {
    let service = 0u8..4;
    let peer = 0usize..SITES.len();
    prop_oneof![
        (service.clone(), proptest::option::of((any::<bool>(), 0u8..3))).prop_map(|(s, o)| Step::Own(s, o)),
        (peer.clone(), any::<bool>()).prop_map(|(p, all)| Step::Link(p, all)),
        peer.clone().prop_map(Step::Unlink),
        (peer.clone(), any::<bool>()).prop_map(|(p, e)| Step::Expired(p, e)),
        (peer.clone(), service.clone(), proptest::option::of(0u8..3))
            .prop_map(|(p, s, e)| Step::Export(p, s, e)),
        (peer, service, 0u8..2, any::<bool>()).prop_map(|(p, s, l, there)| Step::Group(p, s, l, there)),
        Just(Step::Poll),
    ]
}

fn service(at: u8) -> ServiceName {
    name(&format!("shop/s{at}"))
}

fn apply(imports: &mut Imports, step: &Step, now_ms: u64) {
    match step {
        Step::Own(at, what) => {
            let service_now =
                what.map(|(exported, ports)| own(&[8000 + u16::from(ports)], exported.then_some(now_ms)));
            imports.set_own(&service(*at), service_now, now_ms);
        }
        Step::Link(peer, all) => {
            let accept = if *all { Accept::all() } else { Accept::new_names() };
            imports.set_peer(&site(SITES[*peer]), terms(accept));
        }
        Step::Unlink(peer) => imports.remove_peer(&site(SITES[*peer])),
        Step::Expired(peer, expired) => imports.set_expired(&site(SITES[*peer]), *expired),
        Step::Export(peer, at, ports) => {
            let value = ports.map(|ports| {
                EntryValue::Export(ExportInfo {
                    spec: spec(&[8000 + u16::from(ports)]),
                    created_at_ms: now_ms / 2,
                })
            });
            imports.apply_entry(&site(SITES[*peer]), &EntryKey::Export(service(*at)), value.as_ref(), now_ms);
        }
        Step::Group(peer, at, locality, there) => {
            let locality = format!("r{locality}").parse().expect("valid");
            let key = EntryKey::Group(service(*at), locality, Subset::default());
            let value = EntryValue::Group(GroupSummary { healthy: 1, total: 2, capacity: 1 });
            imports.apply_entry(&site(SITES[*peer]), &key, there.then_some(&value), now_ms);
        }
        Step::Poll => while imports.poll_change().is_some() {},
    }
}

/// A new `Imports`, told the state that another one has, all at once.
fn retold(old: &Imports) -> Imports {
    let vips = VipPool::restore(RANGE, &old.vips.record());
    let mut new = Imports::new(old.own_site.clone(), vips, old.seen.clone());
    for (service, own) in &old.own {
        new.set_own(service, Some(own.clone()), 0);
    }
    for (peer, catalog) in &old.peers {
        if let Some(terms) = &catalog.terms {
            new.set_peer(peer, terms.clone());
        }
        let exports =
            catalog.exports.iter().map(|(s, e)| (EntryKey::Export(s.clone()), EntryValue::Export(e.clone())));
        let groups = catalog.groups.iter().flat_map(|(s, groups)| {
            groups.iter().map(|((l, sub), g)| {
                (EntryKey::Group(s.clone(), l.clone(), sub.clone()), EntryValue::Group(*g))
            })
        });
        let entries: Vec<_> = exports.chain(groups).collect();
        new.replace_catalog(peer, entries.iter().map(|(k, v)| (k, v)), 0);
        new.set_expired(peer, catalog.expired);
    }
    while new.poll_change().is_some() {}
    new
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn changes_one_by_one_give_what_the_end_state_gives(steps in proptest::collection::vec(step(), 1..60)) {
        let mut imports = Imports::new(site("east"), VipPool::new(RANGE), FirstSeen::new());
        let mut told: BTreeMap<ServiceName, Import> = BTreeMap::new();
        for (at, step) in steps.iter().enumerate() {
            apply(&mut imports, step, 1_000 + at as u64);
        }
        while let Some(change) = imports.poll_change() {
            match change {
                Change::Set(import) => drop(told.insert(import.service.clone(), *import)),
                Change::Gone(service) => drop(told.remove(&service)),
            }
        }
        let now: Vec<&Import> = imports.iter().collect();
        let again = retold(&imports);
        prop_assert_eq!(&now, &again.iter().collect::<Vec<_>>());
        prop_assert_eq!(imports.conditions().collect::<Vec<_>>(), again.conditions().collect::<Vec<_>>());
        // Whatever was told is true.
        for (service, import) in &told {
            prop_assert_eq!(imports.import(service), Some(import));
        }
        // Settling when everyone is there changes nothing.
        imports.settle();
        prop_assert_eq!(imports.poll_change(), None);
        // No two names share an address; every usable name of the default kind has one.
        let vips: BTreeSet<_> = imports.iter().filter_map(|import| import.vip).collect();
        prop_assert_eq!(vips.len(), imports.iter().count());
    }

    #[test]
    fn peers_that_expire_and_return_change_no_name_and_no_address(
        steps in proptest::collection::vec(step(), 1..40),
        flaps in proptest::collection::vec((0usize..SITES.len(), any::<bool>()), 1..20),
    ) {
        let mut imports = Imports::new(site("east"), VipPool::new(RANGE), FirstSeen::new());
        for (at, step) in steps.iter().enumerate() {
            apply(&mut imports, step, 1_000 + at as u64);
        }
        while imports.poll_change().is_some() {}
        let heads = |imports: &Imports| -> Vec<_> {
            imports.iter().map(|i| (i.service.clone(), i.vip, i.ports.clone(), i.kind)).collect()
        };
        let before = heads(&imports);
        for (peer, expired) in flaps {
            imports.set_expired(&site(SITES[peer]), expired);
            while imports.poll_change().is_some() {}
            prop_assert_eq!(&heads(&imports), &before);
            for import in imports.iter() {
                let gone = |site: &SiteId| imports.peers.get(site).is_some_and(|catalog| catalog.expired);
                prop_assert!(!import.groups.iter().any(|group| gone(&group.id.site)));
            }
        }
    }

    #[test]
    fn a_partner_with_new_names_alone_never_stands_beside_an_earlier_holder(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut imports = Imports::new(site("east"), VipPool::new(RANGE), FirstSeen::new());
        for (at, step) in steps.iter().enumerate() {
            apply(&mut imports, step, 1_000 + at as u64);
        }
        while imports.poll_change().is_some() {}
        for import in imports.iter() {
            for group in &import.groups {
                let Some(catalog) = imports.peers.get(&group.id.site) else { continue };
                let all = catalog.terms.as_ref().is_some_and(|terms| terms.accept == Accept::all());
                let since = imports.seen[&(group.id.site.clone(), import.service.clone())];
                let own_since = imports.seen.get(&(imports.own_site.clone(), import.service.clone()));
                prop_assert!(all || own_since.is_none_or(|own| since < *own));
            }
        }
    }

    #[test]
    fn addresses_are_distinct_in_range_and_survive_a_restart(
        steps in proptest::collection::vec((0u8..12, any::<bool>(), any::<bool>()), 1..200),
    ) {
        let mut pool = VipPool::new(RANGE);
        let mut freed_last: Option<std::net::Ipv4Addr> = None;
        for (at, assign, restart) in steps {
            let service = service(at);
            if assign {
                let had = pool.find(&service);
                let mine = pool.record().freed.iter().any(|(name, _)| *name == service);
                let vip = pool.assign(&service).expect("the range is large");
                prop_assert!(had.is_none_or(|had| had == vip));
                prop_assert!(mine || had.is_some() || Some(vip) != freed_last, "a freed address was given at once");
            } else {
                freed_last = pool.find(&service).or(freed_last);
                pool.release(&service);
            }
            if restart {
                let record = pool.record();
                pool = VipPool::restore(RANGE, &record);
                prop_assert_eq!(&pool.record(), &record);
            }
            let record = pool.record();
            let all: BTreeSet<_> = record.assigned.iter().chain(&record.freed).map(|(_, vip)| *vip).collect();
            prop_assert_eq!(all.len(), record.assigned.len() + record.freed.len());
            prop_assert!(all.iter().all(|vip| vip.octets()[..2] == [127, 64] && vip.octets()[2..] != [0, 0]));
        }
    }

    #[test]
    fn counting_loses_no_endpoint(health in proptest::collection::vec(0u8..3, 0..40)) {
        let endpoints: Vec<_> = health.iter().enumerate().map(|(at, health)| {
            let health = [Health::Healthy, Health::Unhealthy, Health::Draining][usize::from(*health)];
            endpoint(&format!("e{at}"), &format!("r{}", at % 3), health)
        }).collect();
        let groups = merge::count(&site("east"), endpoints.iter(), None, true);
        prop_assert_eq!(groups.iter().map(|g| g.total as usize).sum::<usize>(), endpoints.len());
        prop_assert_eq!(groups.iter().map(|g| g.endpoints.len()).sum::<usize>(), endpoints.len());
        prop_assert!(groups.is_sorted_by(|a, b| a.id < b.id));
    }
}
