//! A peer that says well-formed things without any sense: epochs and revisions at the borders of their numbers, entries
//! of other origins, batches that are too large, snapshots that never end or have nothing in them, sessions upon
//! sessions. The own catalog and those of other peers stay as they are, and everything that grows keeps to its bound.

use crate::bench::*;
use federation_core::session::{Dialled, SessionId};
use federation_core::settings::Settings;
use model::catalog::{
    Entry, EntryKey, EntryValue, Epoch, ExportInfo, GroupSummary, OwnKey, Revision, Scope, Version, View,
};
use model::exchange::{Batch, Held, PeerMessage, RefusedSession};
use model::ids::Incarnation;
use model::service::ServiceKind;
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

const ENTRIES_MAX: usize = 20;
const WINDOW: usize = 4;

fn settings() -> Settings {
    Settings {
        held_entries_max: ENTRIES_MAX,
        batch_bytes_max: 3_000,
        window_batches: WINDOW,
        events_max: 16,
        tombstones_max: 8,
        ..Settings::default()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Say(Box<PeerMessage>),
    Up(bool),
    Down,
    Wait(u16),
    /// West changes its own catalog.
    Own(u8, bool),
}

/// Numbers at borders, and plain ones.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0_u64..6,
        1 => Just(u64::MAX),
        1 => Just(u64::MAX - 1),
        1 => Just(1 << 32),
        1 => Just(1 << 63),
        1 => any::<u64>(),
    ]
}

fn version() -> impl Strategy<Value = Version> {
    (number(), number())
        .prop_map(|(epoch, revision)| Version { epoch: Epoch(epoch), revision: Revision(revision) })
}

fn entry() -> impl Strategy<Value = Entry> {
    let service = || (0_u16..60).prop_map(|n| name(&format!("shop/s{n:03}")));
    let key = prop_oneof![
        1 => Just(EntryKey::Site),
        4 => service().prop_map(EntryKey::Export),
        2 => service().prop_map(|of| EntryKey::Group(of, "eu/fra".parse().expect("valid"), Default::default())),
        2 => (service(), 0_u8..4)
            .prop_map(|(of, n)| EntryKey::Endpoint(of, format!("vm-{n}").parse().expect("valid"))),
    ];
    (key, 0_u8..20, number()).prop_map(|(key, what, number)| {
        let fitting = match &key {
            // Of the speaker, or of another origin.
            EntryKey::Site => EntryValue::Site(info(if what % 4 == 0 { "dc" } else { "east" })),
            EntryKey::Export(_) => EntryValue::Export(ExportInfo {
                spec: spec(ServiceKind::ClusterSetIp),
                created_at_ms: number,
            }),
            EntryKey::Group(..) => {
                let healthy = number as u32;
                EntryValue::Group(GroupSummary { healthy, total: healthy.max(1), capacity: number })
            }
            EntryKey::Endpoint(_, id) => EntryValue::Endpoint(endpoint(id.as_str())),
        };
        let value = match what {
            0 => Some(EntryValue::Site(info("west"))),
            1..4 => None,
            _ => Some(fitting),
        };
        Entry { key, value }
    })
}

fn message() -> impl Strategy<Value = PeerMessage> {
    let held = proptest::option::of(
        (version(), any::<u8>()).prop_map(|(version, n)| Held { version, digest: [n; 32] }),
    );
    let hello = (held, any::<u8>(), any::<u64>()).prop_map(|(held, n, incarnation)| PeerMessage::Hello {
        uid: uid(if n < 240 { "east" } else { "dc" }),
        incarnation: Incarnation(incarnation % 4),
        held,
        scope: if n % 2 == 0 { Scope::All } else { only(&["shop/s001", "bank/x"]) },
        view: if n % 3 == 0 { View::Endpoints } else { View::Summary },
    });
    let batch = (version(), version(), any::<(bool, bool)>(), vec(entry(), 0..40), 0_u8..8).prop_map(
        |(base, version, (snapshot, complete), mut entries, sense)| {
            if sense > 0 {
                entries.sort_by(|a, b| a.key.cmp(&b.key));
                entries.dedup_by(|a, b| a.key == b.key);
            }
            let base = match sense {
                0 | 1 => base,
                _ if snapshot => version,
                _ => {
                    Version { epoch: version.epoch, revision: Revision(version.revision.0.saturating_sub(1)) }
                }
            };
            PeerMessage::Batch(Batch { base, version, snapshot, complete, entries })
        },
    );
    prop_oneof![
        3 => hello,
        9 => batch,
        1 => version().prop_map(PeerMessage::Ack),
        1 => (version(), any::<u8>()).prop_map(|(version, n)| PeerMessage::Digest { version, digest: [n; 32] }),
        2 => "\\PC{0,300}".prop_map(|reason| PeerMessage::Resync { reason }),
        1 => Just(PeerMessage::Refused { reason: RefusedSession::Clone }),
        1 => Just(PeerMessage::KeepAlive),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => message().prop_map(|message| Step::Say(Box::new(message))),
        3 => any::<bool>().prop_map(Step::Up),
        1 => Just(Step::Down),
        2 => (0_u16..40_000).prop_map(Step::Wait),
        1 => (0_u8..3, any::<bool>()).prop_map(|(n, there)| Step::Own(n, there)),
    ]
}

/// West, which is linked with east and dc and holds a catalog of dc. East is whoever speaks in its name.
fn west() -> Bench {
    let mut bench = Bench::with(&["west", "dc"], settings());
    bench.with_core("west", |core, now| core.handle_link(link("east"), now));
    bench.connect("dc", "west");
    bench.export("dc", "shop/s001", &["vm-1"]);
    bench.settle();
    assert!(bench.holds_export("west", "dc", "shop/s001"));
    bench
}

/// Everything that can grow is within its bound, whether or not the shell has taken out what waits.
fn bounded(bench: &mut Bench) {
    let held = bench.core("west").held(&site("east")).count();
    // While a snapshot comes in, what was held before stands beside it.
    assert!(held <= 2 * ENTRIES_MAX, "{held} entries are held of a peer that may have {ENTRIES_MAX}");
    let backlog = bench.core("west").backlog();
    assert!(backlog.staged <= ENTRIES_MAX, "{backlog:?}");
    assert!(backlog.events <= settings().events_max, "{backlog:?}");
    // Last words to closed sessions, batches and acknowledgements of two sessions, and one of each other kind.
    assert!(backlog.messages <= 64 + 4 * WINDOW + 16, "{backlog:?}");
    assert!(backlog.in_flight <= 4 * WINDOW, "{backlog:?}");
    assert!(backlog.private <= 100, "{backlog:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_peer_says_only_its_own_catalog_changes_and_everything_keeps_to_its_bound(
        steps in vec(step(), 1..60),
        greeted in any::<bool>(),
    ) {
        let mut bench = west();
        let mut own: Vec<OwnKey> = bench.core("west").own().map(|(key, _)| key.clone()).collect();
        let of_dc = bench.held("west", "dc");
        let mut last = 1_000;
        if greeted {
            bench.up("west", "east", SessionId(last), Dialled::There);
            let hello = PeerMessage::Hello {
                uid: uid("east"), incarnation: Incarnation(1), held: None, scope: Scope::All, view: View::Endpoints,
            };
            bench.with_core("west", |core, now| core.handle_message(&site("east"), SessionId(last), hello, now));
        }
        for step in steps {
            match step {
                Step::Say(message) => {
                    let open = bench.seat("west").open.iter().filter(|(_, of)| **of == site("east"));
                    let session = open.map(|(id, _)| *id).next_back().unwrap_or(SessionId(9));
                    let (east, now) = (site("east"), bench.now);
                    let refused = bench.core("west").counters().messages_refused;
                    let before = bench.held("west", "east");
                    bench.core("west").handle_message(&east, session, *message, now);
                    bounded(&mut bench);
                    if bench.core("west").counters().messages_refused > refused {
                        prop_assert_eq!(before, bench.held("west", "east"));
                    }
                    bench.drive();
                }
                Step::Up(here) => {
                    last += 1;
                    let dialled = if here { Dialled::Here } else { Dialled::There };
                    bench.up("west", "east", SessionId(last), dialled);
                    bounded(&mut bench);
                    bench.drive();
                }
                Step::Down => {
                    let open = bench.seat("west").open.iter().find(|(_, of)| **of == site("east"));
                    if let Some(session) = open.map(|(id, _)| *id) {
                        bench.down(&site("west"), &site("east"), session);
                    }
                }
                Step::Wait(ms) => bench.run_for(Duration::from_millis(ms.into())),
                Step::Own(n, there) => {
                    let service = format!("shop/own{n}");
                    if there {
                        bench.export("west", &service, &["vm-1"]);
                    } else {
                        bench.remove_endpoint("west", &service, "vm-1");
                    }
                    own = bench.core("west").own().map(|(key, _)| key.clone()).collect();
                }
            }
            bounded(&mut bench);
            // What is stored is bounded with what is held: nothing of a peer stays that it has not.
            let stored = bench.seat("west").store.held.get(&site("east")).map_or(0, |held| held.entries.len());
            prop_assert!(stored <= 2 * ENTRIES_MAX, "{} entries are stored", stored);
            let now: Vec<OwnKey> = bench.core("west").own().map(|(key, _)| key.clone()).collect();
            prop_assert_eq!(&own, &now);
        }
        prop_assert_eq!(of_dc, bench.held("west", "dc"));
    }
}

#[test]
fn a_peer_at_the_end_of_its_numbers_is_followed_and_then_stands_still() {
    let mut bench = west();
    let session = SessionId(1_000);
    bench.up("west", "east", session, Dialled::There);
    let hello = PeerMessage::Hello {
        uid: uid("east"),
        incarnation: Incarnation(1),
        held: None,
        scope: Scope::All,
        view: View::Summary,
    };
    let at = |revision: u64| Version { epoch: Epoch(u64::MAX), revision: Revision(revision) };
    let site_entry = Entry { key: EntryKey::Site, value: Some(EntryValue::Site(info("east"))) };
    let last = Batch {
        base: at(u64::MAX),
        version: at(u64::MAX),
        snapshot: true,
        complete: true,
        entries: vec![site_entry],
    };
    for message in [hello, PeerMessage::Batch(last.clone()), PeerMessage::Batch(last)] {
        bench.with_core("west", |core, now| core.handle_message(&site("east"), session, message, now));
    }
    assert_eq!(bench.core("west").counters().messages_refused, 0);
    assert_eq!(bench.held("west", "east").len(), 1);
    bench.run_for(Duration::from_secs(60));
}

#[test]
fn a_complete_snapshot_without_entries_withdraws_what_was_held_and_nothing_else() {
    let mut bench = Bench::with(&["east", "west", "dc"], settings());
    let session = bench.connect("east", "west");
    bench.connect("dc", "west");
    bench.export("east", "shop/cart", &["vm-1"]);
    bench.export("dc", "shop/cart", &["vm-1"]);
    bench.settle();
    let at = Version { epoch: Epoch(u64::MAX), revision: Revision(1) };
    let nothing = Batch { base: at, version: at, snapshot: true, complete: true, entries: Vec::new() };
    let now = bench.now;
    bench.core("west").handle_message(&site("east"), session, PeerMessage::Batch(nothing), now);
    assert!(bench.held("west", "east").is_empty(), "an origin is believed about itself");
    assert_eq!(bench.group("west", "dc", "shop/cart"), Some((1, 1)));
}
