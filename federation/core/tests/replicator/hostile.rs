//! Peers that break the protocol: each message is refused with its reason and changes nothing.

use crate::bench::*;
use federation_core::check::MessageError;
use federation_core::event::{CloseCause, Event};
use federation_core::session::SessionId;
use federation_core::settings::Settings;
use model::catalog::{
    Entry, EntryKey, EntryValue, Epoch, ExportInfo, GroupSummary, Revision, Scope, ServiceSpec, SiteInfo,
    Version, View,
};
use model::exchange::{Batch, Held, PeerMessage, RefusedSession};
use model::ids::Incarnation;
use model::service::{ServiceKind, Subset};

fn version(epoch: u64, revision: u64) -> Version {
    Version { epoch: Epoch(epoch), revision: Revision(revision) }
}

fn changes(base: u64, to: u64, entries: Vec<Entry>) -> PeerMessage {
    let (base, version) = (version(1, base), version(1, to));
    PeerMessage::Batch(Batch { base, version, snapshot: false, complete: true, entries })
}

fn entry(key: EntryKey, value: EntryValue) -> Entry {
    Entry { key, value: Some(value) }
}

fn export_entry(service: &str) -> Entry {
    let export = ExportInfo { spec: spec(ServiceKind::ClusterSetIp), created_at_ms: 1 };
    entry(EntryKey::Export(name(service)), EntryValue::Export(export))
}

fn group_entry(healthy: u32, total: u32, capacity: u64) -> Entry {
    entry(group_key("shop/cart"), EntryValue::Group(GroupSummary { healthy, total, capacity }))
}

fn endpoint_entry(change: impl FnOnce(&mut model::endpoint::Endpoint)) -> Entry {
    let mut endpoint = endpoint("vm-1");
    change(&mut endpoint);
    entry(
        EntryKey::Endpoint(name("shop/cart"), "vm-1".parse().expect("valid")),
        EntryValue::Endpoint(endpoint),
    )
}

fn site_entry(change: impl FnOnce(&mut SiteInfo)) -> Entry {
    let mut site = info("east");
    change(&mut site);
    entry(EntryKey::Site, EntryValue::Site(site))
}

/// West with a session in which east has told its catalog up to this revision.
fn running() -> (Bench, SessionId, u64) {
    let mut bench = Bench::new(&["east", "west"]);
    let session = bench.connect("east", "west");
    bench.export("east", "shop/cart", &["vm-1"]);
    bench.settle();
    let held = bench.core("west").peer(&site("east")).expect("linked").held.expect("something");
    (bench, session, held.revision.0)
}

/// What west says of a message, after checking that it changed nothing.
fn refused(bench: &mut Bench, session: SessionId, message: PeerMessage) -> Option<MessageError> {
    let (store, held) = (bench.seat("west").store.clone(), bench.held("west", "east"));
    let own = bench.core("west").own_version();
    bench.take_events("west");
    let text = format!("{message:?}");
    bench.with_core("west", |core, now| core.handle_message(&site("east"), session, message, now));
    let events = bench.take_events("west");
    let error = events.iter().find_map(|event| match event {
        Event::Close { why: CloseCause::Broken(error), .. } => Some(error.clone()),
        _ => None,
    });
    if error.is_some() {
        assert_eq!(bench.seat("west").store, store, "{text}");
        assert_eq!(bench.held("west", "east"), held, "{text}");
        assert_eq!(bench.core("west").own_version(), own, "{text}");
        assert_eq!(events.len(), 1, "{text}: {events:?}");
        let used = bench.core("west").peer(&site("east")).expect("linked").session;
        assert_ne!(used, Some(session), "{text}");
    }
    error
}

#[test]
fn wrong_entries_are_refused_and_change_nothing() {
    let long = "x".repeat(64);
    let bad: Vec<(&str, Vec<Entry>)> = vec![
        ("order", vec![export_entry("shop/b"), export_entry("shop/a")]),
        ("twice", vec![export_entry("shop/a"), export_entry("shop/a")]),
        ("kind", vec![entry(EntryKey::Export(name("shop/a")), EntryValue::Site(info("east")))]),
        (
            "kind",
            vec![entry(
                EntryKey::Site,
                EntryValue::Group(GroupSummary { healthy: 0, total: 1, capacity: 0 }),
            )],
        ),
        ("scope", vec![export_entry("bank/secret")]),
        ("scope", vec![Entry { key: EntryKey::Export(name("bank/secret")), value: None }]),
        ("site withdrawn", vec![Entry { key: EntryKey::Site, value: None }]),
        ("other site", vec![site_entry(|site| site.id = "west".parse().expect("valid"))]),
        ("other uid", vec![site_entry(|site| site.uid = uid("west"))]),
        (
            "other trust domain",
            vec![site_entry(|site| site.trust_domain = "west.mesh".parse().expect("valid"))],
        ),
        ("more healthy than total", vec![group_entry(2, 1, 2)]),
        ("empty group", vec![group_entry(0, 0, 0)]),
        ("too much capacity", vec![group_entry(1, 1, 1_001)]),
        ("too little capacity", vec![group_entry(2, 2, 1)]),
        ("weight 0", vec![endpoint_entry(|endpoint| endpoint.weight = 0)]),
        ("weight 1001", vec![endpoint_entry(|endpoint| endpoint.weight = 1_001)]),
        ("other id", vec![endpoint_entry(|endpoint| endpoint.id = "vm-2".parse().expect("valid"))]),
        ("subset", vec![endpoint_entry(|endpoint| endpoint.subset = Subset(long.clone()))]),
        ("locality", vec![endpoint_entry(|endpoint| endpoint.locality.zone = long.clone())]),
        ("port 0", vec![endpoint_entry(|endpoint| endpoint.ports.values_mut().for_each(|port| *port = 0))]),
        (
            "ports out of order",
            vec![entry(
                EntryKey::Export(name("shop/a")),
                EntryValue::Export(ExportInfo {
                    spec: ServiceSpec {
                        ports: vec![spec(ServiceKind::ClusterSetIp).ports.remove(0); 2],
                        ..spec(ServiceKind::ClusterSetIp)
                    },
                    created_at_ms: 1,
                }),
            )],
        ),
    ];
    for (what, entries) in bad {
        let (mut bench, _, _) = running();
        let want = Scope::Only { namespaces: [("shop".parse().expect("valid"))].into(), services: [].into() };
        let narrow = federation_core::peer::PeerLink { want, ..link("east") };
        bench.with_core("west", |core, now| core.handle_link(narrow, now));
        let session = bench.connect("east", "west");
        let held =
            bench.core("west").peer(&site("east")).expect("linked").held.expect("something").revision.0;
        let count = entries.len() as u64;
        let error = refused(&mut bench, session, changes(held, held + count, entries));
        assert!(error.is_some(), "{what}");
        let sent = &bench.seat("west").sent;
        let protocol = PeerMessage::Refused { reason: RefusedSession::Protocol };
        assert!(sent.iter().any(|(_, _, message)| *message == protocol), "{what}");
    }
}

#[test]
fn positions_that_do_not_fit_are_refused() {
    let batch = |base: Version, to: Version, snapshot, complete| {
        let entries = vec![export_entry("shop/new")];
        PeerMessage::Batch(Batch { base, version: to, snapshot, complete, entries })
    };
    let (_, _, held) = running();
    let bad = [
        batch(version(1, held), version(1, held + 1), false, false),
        batch(version(1, held + 2), version(1, held + 1), false, true),
        batch(version(1, held), version(2, held + 1), false, true),
        batch(version(2, held), version(2, held + 1), false, true),
        batch(version(0, 0), version(0, 0), true, true),
        batch(version(1, held), version(1, held), false, true),
        batch(version(1, held - 1), version(1, held - 1), true, true),
        batch(version(1, held), version(1, held + 1), true, true),
    ];
    for message in bad {
        let (mut bench, session, _) = running();
        let text = format!("{message:?}");
        assert!(refused(&mut bench, session, message).is_some(), "{text}");
    }
}

#[test]
fn an_older_epoch_is_refused() {
    let (mut bench, _, _) = running();
    bench.restart("east", Default::default(), &["west"]);
    let session = bench.connect("east", "west");
    bench.with_core("east", |core, now| core.handle_recovered(now));
    let error = refused(&mut bench, session, changes(1, 2, Vec::new()));
    assert!(matches!(error, Some(MessageError::Backwards { .. })), "{error:?}");
}

#[test]
fn messages_out_of_turn_are_refused() {
    let hello = |uid, held| PeerMessage::Hello {
        uid,
        incarnation: Incarnation(1),
        held,
        scope: Scope::All,
        view: View::Summary,
    };
    let (mut bench, session, _) = running();
    let error = refused(&mut bench, session, hello(uid("east"), None));
    assert_eq!(error, Some(MessageError::SecondHello));

    let (mut bench, session, _) = running();
    let error = refused(&mut bench, session, PeerMessage::Ack(version(1, 1)));
    assert_eq!(error, Some(MessageError::FalseAck));

    let (mut bench, session, _) = running();
    let error = refused(&mut bench, SessionId(session.0 + 50), PeerMessage::KeepAlive);
    assert_eq!(error, Some(MessageError::UnknownSession));
    assert_eq!(bench.seat("west").open.len(), 1);

    for early in [PeerMessage::KeepAlive, PeerMessage::Ack(version(1, 1)), changes(1, 2, Vec::new())] {
        let mut bench = Bench::new(&["east", "west"]);
        let session = SessionId(5);
        bench.up("west", "east", session, federation_core::session::Dialled::There);
        assert_eq!(refused(&mut bench, session, early), Some(MessageError::BeforeHello));
    }

    let mut bench = Bench::new(&["east", "west"]);
    let session = SessionId(5);
    bench.up("west", "east", session, federation_core::session::Dialled::There);
    let error = refused(&mut bench, session, hello(uid("dc"), None));
    assert!(matches!(error, Some(MessageError::WrongUid { .. })), "{error:?}");
    let refusal = PeerMessage::Refused { reason: RefusedSession::WrongUid };
    assert!(bench.seat("west").sent.iter().any(|(_, _, message)| *message == refusal));

    let mut bench = Bench::new(&["east", "west"]);
    bench.up("west", "east", session, federation_core::session::Dialled::There);
    let wild = Held { version: version(u64::MAX, 1), digest: [1; 32] };
    let error = refused(&mut bench, session, hello(uid("east"), Some(wild)));
    assert!(matches!(error, Some(MessageError::WildEpoch { .. })), "{error:?}");
}

#[test]
fn a_peer_that_does_not_wait_for_acknowledgements_is_refused() {
    let (mut bench, session, held) = running();
    let limit = bench.settings.window_batches as u64;
    let now = bench.now;
    let core = bench.core("west");
    for count in 0..limit + 1 {
        core.handle_message(&site("east"), session, changes(held + count, held + count + 1, Vec::new()), now);
    }
    assert_eq!(core.counters().messages_refused, 1);
    assert!(core.backlog().messages <= bench.settings.window_batches + 2);
}

#[test]
fn a_catalog_that_is_too_large_is_refused() {
    let settings = Settings { held_entries_max: 20, batch_bytes_max: 4_000, ..Settings::default() };
    let mut bench = Bench::with(&["east", "west"], settings);
    let session = bench.connect("east", "west");
    bench.settle();
    let held = bench.core("west").peer(&site("east")).expect("linked").held.expect("something").revision.0;
    let services =
        |count: u32| (0..count).map(|n| export_entry(&format!("shop/s{n:03}"))).collect::<Vec<_>>();
    let error = refused(&mut bench, session, changes(held, held + 21, services(21)));
    assert!(matches!(error, Some(MessageError::CatalogTooLarge { entries: 22, .. })), "{error:?}");

    let session = bench.connect("east", "west");
    let error = refused(&mut bench, session, changes(held, held + 200, services(200)));
    assert!(matches!(error, Some(MessageError::BatchTooLarge { .. })), "{error:?}");
}

#[test]
fn a_gap_is_closed_by_a_snapshot() {
    let (mut bench, session, held) = running();
    let error = refused(&mut bench, session, changes(held + 3, held + 4, vec![export_entry("shop/zzz")]));
    assert_eq!(error, None, "it could be the fault of either side");
    bench.settle();
    assert!(!bench.holds_export("west", "east", "shop/zzz"));
    assert_eq!(bench.group("west", "east", "shop/cart"), Some((1, 1)));
}

#[test]
fn own_changes_that_peers_would_refuse_are_refused_here() {
    use model::catalog::{OwnKey, OwnValue};
    let mut bench = Bench::new(&["east", "west"]);
    let vm = || OwnKey::Endpoint(name("shop/cart"), "vm-1".parse().expect("valid"));
    let mut heavy = endpoint("vm-1");
    heavy.weight = 5_000;
    let bad = [
        (OwnKey::Site, None),
        (OwnKey::Site, Some(OwnValue::Site(info("west")))),
        (OwnKey::Site, Some(OwnValue::Export { created_at_ms: 1 })),
        (vm(), Some(OwnValue::Endpoint(endpoint("vm-2")))),
        (vm(), Some(OwnValue::Endpoint(heavy))),
        (vm(), Some(OwnValue::Service(spec(ServiceKind::Headless)))),
    ];
    for (key, value) in bad {
        let before = bench.core("east").own_version();
        let outcome = bench.with_core("east", |core, now| core.handle_own(key.clone(), value.clone(), now));
        assert!(outcome.is_err(), "{key:?} {value:?}");
        assert_eq!(bench.core("east").own_version(), before);
    }
}
