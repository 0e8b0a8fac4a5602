//! Properties: any order of changes, sessions and scopes ends in the same catalogs; no message does harm.

use crate::bench::*;
use federation_core::peer::PeerLink;
use federation_core::session::Dialled;
use federation_core::settings::Settings;
use model::catalog::{
    Entry, EntryKey, EntryValue, Epoch, ExportInfo, GroupSummary, OwnKey, OwnValue, Revision, Scope, Version,
    View,
};
use model::endpoint::Health;
use model::exchange::{Batch, Held, PeerMessage, RefusedSession};
use model::ids::Incarnation;
use model::service::ServiceKind;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Step {
    Service(u8, bool),
    Export(u8, bool),
    Endpoint(u8, u8, Option<(bool, bool)>),
    Offer(u8),
    Want(u8, bool),
    Disconnect,
    Connect,
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..3, any::<bool>()).prop_map(|(s, headless)| Step::Service(s, headless)),
        (0u8..3, any::<bool>()).prop_map(|(s, there)| Step::Export(s, there)),
        (0u8..3, 0u8..3, proptest::option::of(any::<(bool, bool)>()))
            .prop_map(|(s, e, v)| Step::Endpoint(s, e, v)),
        (0u8..4).prop_map(Step::Offer),
        (0u8..4, any::<bool>()).prop_map(|(s, endpoints)| Step::Want(s, endpoints)),
        Just(Step::Disconnect),
        Just(Step::Connect),
        Just(Step::Settle),
    ]
}

fn scope(number: u8) -> Scope {
    match number {
        0 | 1 => Scope::All,
        2 => only(&["shop/s0", "shop/s2"]),
        _ => Scope::none(),
    }
}

/// What west should hold, counted slowly.
fn expected(
    truth: &BTreeMap<OwnKey, OwnValue>,
    offer: &Scope,
    want: &Scope,
    view: View,
) -> BTreeMap<EntryKey, EntryValue> {
    let mut told = BTreeMap::from([(EntryKey::Site, EntryValue::Site(info("east")))]);
    for service in (0..3).map(|n| name(&format!("shop/s{n}"))) {
        let spec = truth.get(&OwnKey::Service(service.clone()));
        let export = truth.get(&OwnKey::Export(service.clone()));
        let (Some(OwnValue::Service(spec)), Some(OwnValue::Export { created_at_ms })) = (spec, export) else {
            continue;
        };
        if !offer.contains(&service) || !want.contains(&service) {
            continue;
        }
        let info = ExportInfo { spec: spec.clone(), created_at_ms: *created_at_ms };
        told.insert(EntryKey::Export(service.clone()), EntryValue::Export(info));
        for (key, value) in truth {
            let (OwnKey::Endpoint(of, id), OwnValue::Endpoint(endpoint)) = (key, value) else { continue };
            if *of != service {
                continue;
            }
            if view == View::Endpoints || spec.kind == ServiceKind::Headless {
                let key = EntryKey::Endpoint(service.clone(), id.clone());
                told.insert(key, EntryValue::Endpoint(endpoint.clone()));
            } else {
                let key =
                    EntryKey::Group(service.clone(), endpoint.locality.clone(), endpoint.subset.clone());
                let group = told.entry(key).or_insert(EntryValue::Group(GroupSummary {
                    healthy: 0,
                    total: 0,
                    capacity: 0,
                }));
                let EntryValue::Group(group) = group else { continue };
                group.total += 1;
                if endpoint.health == Health::Healthy {
                    group.healthy += 1;
                    group.capacity += u64::from(endpoint.weight);
                }
            }
        }
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_changes_ends_in_the_projection_of_the_origin(
        steps in proptest::collection::vec(step(), 1..40),
        small in any::<bool>(),
    ) {
        let settings = if small {
            Settings { batch_bytes: 200, window_batches: 1, tombstones_max: 2, ..Settings::default() }
        } else {
            Settings::default()
        };
        let mut bench = Bench::with(&["east", "west"], settings);
        let mut truth: BTreeMap<OwnKey, OwnValue> = BTreeMap::new();
        let (mut offer, mut want, mut view) = (Scope::All, Scope::All, View::Summary);
        for step in steps {
            let change = match step {
                Step::Service(s, headless) => {
                    let kind = if headless { ServiceKind::Headless } else { ServiceKind::ClusterSetIp };
                    Some((OwnKey::Service(name(&format!("shop/s{s}"))), Some(OwnValue::Service(spec(kind)))))
                }
                Step::Export(s, there) => {
                    let value = there.then_some(OwnValue::Export { created_at_ms: 3 });
                    Some((OwnKey::Export(name(&format!("shop/s{s}"))), value))
                }
                Step::Endpoint(s, e, value) => {
                    let id = format!("vm-{e}");
                    let value = value.map(|(healthy, far)| {
                        let mut endpoint = endpoint(&id);
                        endpoint.health = if healthy { Health::Healthy } else { Health::Unhealthy };
                        endpoint.locality = if far { "us/sjc" } else { "eu/fra" }.parse().expect("valid");
                        OwnValue::Endpoint(endpoint)
                    });
                    Some((OwnKey::Endpoint(name(&format!("shop/s{s}")), id.parse().expect("valid")), value))
                }
                Step::Offer(number) => {
                    offer = scope(number);
                    let link = PeerLink { offer: offer.clone(), ..link("west") };
                    bench.with_core("east", |core, now| core.handle_link(link, now));
                    None
                }
                Step::Want(number, endpoints) => {
                    want = scope(number);
                    view = if endpoints { View::Endpoints } else { View::Summary };
                    let link = PeerLink { want: want.clone(), view, ..link("east") };
                    bench.with_core("west", |core, now| core.handle_link(link, now));
                    None
                }
                Step::Disconnect => {
                    let open: Vec<_> = bench.seat("west").open.keys().copied().collect();
                    for session in open {
                        bench.down(&site("east"), &site("west"), session);
                        bench.down(&site("west"), &site("east"), session);
                    }
                    None
                }
                Step::Connect => {
                    bench.connect("east", "west");
                    None
                }
                Step::Settle => {
                    bench.settle();
                    None
                }
            };
            if let Some((key, value)) = change {
                match &value {
                    Some(value) => { truth.insert(key.clone(), value.clone()); }
                    None => { truth.remove(&key); }
                }
                bench.say("east", key, value);
            }
        }
        bench.connect("west", "east");
        bench.settle();
        prop_assert_eq!(bench.held("west", "east"), expected(&truth, &offer, &want, view));
        bench.run_for(std::time::Duration::from_secs(21));
        prop_assert_eq!(bench.core("west").counters().digests_differed, 0);
        prop_assert_eq!(bench.core("west").counters().messages_refused, 0);
        // What is stored is what is held.
        let record = bench.seat("west").store.held.get(&site("east")).cloned().expect("something is held");
        prop_assert_eq!(record.entries, expected(&truth, &offer, &want, view));
    }

    #[test]
    fn no_message_panics_and_what_is_refused_changes_nothing(
        messages in proptest::collection::vec(message(), 1..25),
        greeted in any::<bool>(),
    ) {
        let mut bench = Bench::new(&["east", "west"]);
        if greeted {
            bench.connect("east", "west");
            bench.export("east", "shop/s0", &["vm-1"]);
            bench.settle();
        }
        for message in messages {
            let session = match bench.seat("west").open.keys().next() {
                Some(session) => *session,
                None => {
                    let session = federation_core::session::SessionId(1_000);
                    bench.up("west", "east", session, Dialled::There);
                    session
                }
            };
            let before = (bench.held("west", "east"), bench.core("west").counters().messages_refused);
            bench.with_core("west", |core, now| core.handle_message(&site("east"), session, message, now));
            let after = (bench.held("west", "east"), bench.core("west").counters().messages_refused);
            if after.1 > before.1 {
                prop_assert_eq!(before.0, after.0);
            }
        }
    }
}

fn version() -> impl Strategy<Value = Version> {
    (0u64..4, 0u64..9)
        .prop_map(|(epoch, revision)| Version { epoch: Epoch(epoch), revision: Revision(revision) })
}

fn entry() -> impl Strategy<Value = Entry> {
    let key = prop_oneof![
        Just(EntryKey::Site),
        (0u8..3).prop_map(|s| EntryKey::Export(name(&format!("shop/s{s}")))),
        (0u8..3).prop_map(|s| group_key(&format!("shop/s{s}"))),
        (0u8..3)
            .prop_map(|s| EntryKey::Endpoint(name(&format!("shop/s{s}")), "vm-1".parse().expect("valid"))),
    ];
    let value = prop_oneof![
        Just(EntryValue::Site(info("east"))),
        Just(EntryValue::Export(ExportInfo { spec: spec(ServiceKind::ClusterSetIp), created_at_ms: 1 })),
        (0u32..3, 0u32..3)
            .prop_map(|(healthy, total)| GroupSummary { healthy, total, capacity: u64::from(healthy) })
            .prop_map(EntryValue::Group),
        Just(EntryValue::Endpoint(endpoint("vm-1"))),
    ];
    (key, proptest::option::of(value)).prop_map(|(key, value)| Entry { key, value })
}

fn message() -> impl Strategy<Value = PeerMessage> {
    let held = proptest::option::of((version(), any::<bool>()).prop_map(|(version, zero)| {
        let digest = if zero { [0; 32] } else { [7; 32] };
        Held { version, digest }
    }));
    let hello = (held, any::<u8>()).prop_map(|(held, n)| PeerMessage::Hello {
        uid: uid(if n < 240 { "east" } else { "dc" }),
        incarnation: Incarnation(u64::from(n % 3)),
        held,
        scope: scope(n % 4),
        view: if n % 2 == 0 { View::Summary } else { View::Endpoints },
    });
    let batch = (version(), version(), any::<(bool, bool)>(), proptest::collection::vec(entry(), 0..4));
    let batch = batch.prop_map(|(base, version, (snapshot, complete), mut entries)| {
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries.dedup_by(|a, b| a.key == b.key);
        let base = if snapshot { version } else { Version { epoch: version.epoch, ..base } };
        PeerMessage::Batch(Batch { base, version, snapshot, complete, entries })
    });
    prop_oneof![
        3 => hello,
        8 => batch,
        1 => version().prop_map(PeerMessage::Ack),
        1 => (version(), any::<u8>()).prop_map(|(version, n)| PeerMessage::Digest { version, digest: [n; 32] }),
        1 => Just(PeerMessage::Resync { reason: "x".repeat(1_000) }),
        1 => Just(PeerMessage::Refused { reason: RefusedSession::Protocol }),
        1 => Just(PeerMessage::KeepAlive),
    ]
}
