//! What peers are told, in which pieces, and when.

use crate::bench::*;
use federation_core::event::{Event, Withdrawal};
use federation_core::settings::Settings;
use model::catalog::{EntryKey, EntryValue, OwnKey, OwnValue, Scope, View};
use model::exchange::PeerMessage;
use model::service::ServiceKind;
use std::time::Duration;

#[test]
fn a_change_is_told_after_the_coalescing_time_and_not_before() {
    let mut bench = Bench::new(&["east", "west"]);
    bench.connect("east", "west");
    bench.export("east", "shop/cart", &["vm-1", "vm-2"]);
    bench.run_for(Duration::from_millis(4));
    assert!(!bench.holds_export("west", "east", "shop/cart"));
    bench.run_for(Duration::from_millis(1));
    assert_eq!(bench.group("west", "east", "shop/cart"), Some((2, 2)));
}

#[test]
fn changes_within_the_coalescing_time_are_one_batch_with_the_last_values() {
    let mut bench = Bench::new(&["east", "west"]);
    bench.connect("east", "west");
    bench.settle();
    bench.take_batches("east", "west");
    for _ in 0..10 {
        bench.export("east", "shop/cart", &["vm-1", "vm-2", "vm-3"]);
        bench.remove_endpoint("east", "shop/cart", "vm-3");
    }
    bench.settle();
    let batches = bench.take_batches("east", "west");
    assert_eq!(batches.len(), 1, "{batches:?}");
    assert_eq!(batches[0].entries.len(), 2, "the export and its group");
    assert_eq!(bench.group("west", "east", "shop/cart"), Some((2, 2)));
}

#[test]
fn nothing_is_sent_before_what_it_rests_on_is_stored() {
    let mut bench = Bench::new(&["east", "west"]);
    bench.connect("east", "west");
    bench.settle();
    let now = bench.now;
    let core = bench.core("east");
    let value = OwnValue::Service(spec(ServiceKind::ClusterSetIp));
    core.handle_own(OwnKey::Service(name("shop/cart")), Some(value), now).expect("valid");
    core.handle_own(OwnKey::Export(name("shop/cart")), Some(OwnValue::Export { created_at_ms: 1 }), now)
        .expect("valid");
    core.handle_timeout(now + Duration::from_millis(5));
    assert_eq!(core.poll_transmit(), None);
    assert!(core.poll_persist().is_some());
    assert!(matches!(core.poll_transmit(), Some((_, _, PeerMessage::Batch(_)))));
}

#[test]
fn a_large_catalog_comes_in_parts_and_counts_when_it_is_complete() {
    let settings = Settings { batch_bytes: 300, ..Settings::default() };
    let mut bench = Bench::with(&["east", "west"], settings);
    for service in 0..20 {
        bench.export("east", &format!("shop/s{service}"), &["vm-1"]);
    }
    bench.settle();
    bench.take_batches("east", "west");
    bench.connect("east", "west");
    let batches = bench.take_batches("east", "west");
    assert!(batches.len() > 5, "{}", batches.len());
    let (last, parts) = batches.split_last().expect("some");
    assert!(last.complete && last.snapshot);
    assert!(parts.iter().all(|part| part.snapshot && !part.complete));
    assert_eq!(bench.held("west", "east").len(), 41);
    assert!(bench.core("west").peer(&site("east")).expect("linked").complete_once);
}

#[test]
fn a_slow_peer_is_sent_newer_values_and_no_longer_queue() {
    let settings = Settings { window_batches: 3, ..Settings::default() };
    let mut bench = Bench::with(&["east", "west"], settings);
    bench.connect("east", "west");
    bench.export("east", "shop/cart", &["vm-1"]);
    bench.settle();
    bench.take_batches("east", "west");
    bench.deaf.insert(site("west"));
    for round in 0..50 {
        if round % 2 == 0 {
            bench.remove_endpoint("east", "shop/cart", "vm-1");
        } else {
            bench.export("east", "shop/cart", &["vm-1"]);
        }
        bench.settle();
    }
    assert_eq!(bench.take_batches("east", "west").len(), 3);
    let backlog = bench.core("east").backlog();
    assert_eq!((backlog.in_flight, backlog.messages, backlog.records), (3, 0, 0));
}

#[test]
fn a_service_that_is_no_longer_shared_is_withdrawn_at_that_peer_alone() {
    let mut bench = Bench::new(&["dc", "east", "west"]);
    bench.connect("east", "west");
    bench.connect("east", "dc");
    bench.export("east", "shop/cart", &["vm-1"]);
    bench.export("east", "shop/pay", &["vm-1"]);
    bench.settle();
    bench.take_events("west");
    bench.take_batches("east", "west");
    let narrower = federation_core::peer::PeerLink { offer: only(&["shop/pay"]), ..link("west") };
    bench.with_core("east", |core, now| core.handle_link(narrower, now));
    bench.settle();
    assert!(!bench.holds_export("west", "east", "shop/cart"));
    assert!(bench.holds_export("west", "east", "shop/pay"));
    assert!(bench.holds_export("dc", "east", "shop/cart"));
    let batches = bench.take_batches("east", "west");
    assert!(batches.iter().all(|batch| !batch.snapshot), "tombstones, no snapshot: {batches:?}");
    let gone = Event::Withdrawn {
        site: site("east"),
        key: EntryKey::Export(name("shop/cart")),
        cause: Withdrawal::Tombstone,
    };
    assert!(bench.take_events("west").contains(&gone));

    bench.with_core("east", |core, now| core.handle_link(link("west"), now));
    bench.settle();
    assert_eq!(bench.group("west", "east", "shop/cart"), Some((1, 1)));
}

#[test]
fn what_ceased_to_be_shared_while_a_peer_was_away_is_withdrawn_when_it_comes_back() {
    let mut bench = Bench::new(&["east", "west"]);
    let session = bench.connect("east", "west");
    bench.export("east", "shop/cart", &["vm-1"]);
    bench.settle();
    bench.down(&site("east"), &site("west"), session);
    bench.down(&site("west"), &site("east"), session);
    let narrower = federation_core::peer::PeerLink { offer: Scope::none(), ..link("west") };
    bench.with_core("east", |core, now| core.handle_link(narrower, now));
    bench.settle();
    assert!(bench.holds_export("west", "east", "shop/cart"));
    bench.connect("east", "west");
    assert!(!bench.holds_export("west", "east", "shop/cart"));
}

#[test]
fn another_view_is_asked_for_in_a_new_session_and_nothing_is_missing_meanwhile() {
    let mut bench = Bench::new(&["east", "west"]);
    bench.connect("east", "west");
    bench.export("east", "shop/cart", &["vm-1", "vm-2"]);
    bench.settle();
    let endpoints = federation_core::peer::PeerLink { view: View::Endpoints, ..link("east") };
    bench.with_core("west", |core, now| core.handle_link(endpoints, now));
    assert!(bench.seat("west").open.is_empty(), "the session is closed");
    assert_eq!(bench.group("west", "east", "shop/cart"), Some((2, 2)));
    bench.connect("west", "east");
    assert_eq!(bench.group("west", "east", "shop/cart"), None);
    let keys: Vec<EntryKey> = bench.held("west", "east").into_keys().collect();
    assert!(
        keys.contains(&EntryKey::Endpoint(name("shop/cart"), "vm-2".parse().expect("valid"))),
        "{keys:?}"
    );
}

#[test]
fn what_is_no_longer_accepted_is_dropped_at_once() {
    let mut bench = Bench::new(&["east", "west"]);
    bench.connect("east", "west");
    bench.export("east", "shop/cart", &["vm-1"]);
    bench.export("east", "shop/pay", &["vm-1"]);
    bench.settle();
    let narrower = federation_core::peer::PeerLink { want: only(&["shop/pay"]), ..link("east") };
    bench.with_core("west", |core, now| core.handle_link(narrower, now));
    assert!(!bench.holds_export("west", "east", "shop/cart"));
    assert!(bench.holds_export("west", "east", "shop/pay"));
    assert!(bench.core("west").names_complete(), "what is wanted was complete before");
    bench.with_core("west", |core, now| core.handle_link(link("east"), now));
    assert!(!bench.core("west").names_complete(), "more is wanted than ever was complete");
    bench.connect("west", "east");
    assert!(bench.holds_export("west", "east", "shop/cart"));
    assert!(bench.core("west").names_complete());
}

#[test]
fn endpoints_of_a_headless_service_are_named_also_in_the_summary() {
    let mut bench = Bench::new(&["east", "west"]);
    bench.connect("east", "west");
    bench.export("east", "shop/db", &["vm-1"]);
    bench.say("east", OwnKey::Service(name("shop/db")), Some(OwnValue::Service(spec(ServiceKind::Headless))));
    bench.settle();
    let held = bench.held("west", "east");
    assert!(!held.contains_key(&group_key("shop/db")));
    let key = EntryKey::Endpoint(name("shop/db"), "vm-1".parse().expect("valid"));
    assert_eq!(held.get(&key), Some(&EntryValue::Endpoint(endpoint("vm-1"))));
}

#[test]
fn a_peer_behind_the_tombstones_gets_a_snapshot() {
    let settings = Settings { tombstones_max: 2, ..Settings::default() };
    let mut bench = Bench::with(&["east", "west"], settings);
    for service in 0..5 {
        bench.export("east", &format!("shop/s{service}"), &[]);
    }
    let session = bench.connect("east", "west");
    bench.settle();
    for (away, snapshot) in [(0..2, false), (2..5, true)] {
        bench.down(&site("east"), &site("west"), session);
        bench.down(&site("west"), &site("east"), session);
        for service in away {
            bench.say("east", OwnKey::Export(name(&format!("shop/s{service}"))), None);
        }
        bench.settle();
        bench.take_batches("east", "west");
        bench.connect("east", "west");
        let batches = bench.take_batches("east", "west");
        assert_eq!(batches.iter().any(|batch| batch.snapshot), snapshot, "{batches:?}");
        let sessions: Vec<_> = bench.seat("east").open.keys().copied().collect();
        for session in sessions {
            bench.down(&site("east"), &site("west"), session);
            bench.down(&site("west"), &site("east"), session);
        }
    }
    assert_eq!(bench.held("west", "east").len(), 1, "the site alone");
}

#[test]
fn old_tombstones_are_forgotten_at_the_horizon() {
    let mut bench = Bench::new(&["east", "west"]);
    bench.connect("east", "west");
    bench.export("east", "shop/cart", &["vm-1"]);
    bench.say("east", OwnKey::Export(name("shop/cart")), None);
    bench.settle();
    assert!(bench.core("east").backlog().tombstones > 0);
    bench.run_for(Duration::from_secs(25 * 60 * 60));
    assert_eq!(bench.core("east").backlog().tombstones, 0);
}

#[test]
fn a_difference_is_found_by_its_digest_repaired_and_counted() {
    let mut bench = Bench::new(&["east", "west"]);
    bench.connect("east", "west");
    bench.export("east", "shop/cart", &["vm-1"]);
    bench.settle();
    // A disk that lies: the entry is gone and the head says that nothing is.
    let mut store = bench.seat("west").store.clone();
    store.held.get_mut(&site("east")).expect("held").entries.remove(&group_key("shop/cart"));
    bench.restart("west", store, &["east"]);
    bench.connect("west", "east");
    assert_eq!(bench.group("west", "east", "shop/cart"), None);
    bench.run_for(Duration::from_secs(11));
    assert_eq!(bench.group("west", "east", "shop/cart"), Some((1, 1)));
    let counters = bench.core("west").counters();
    assert_eq!((counters.digests_differed, counters.digests_repaired), (1, 1));
    let status = bench.core("west").peer(&site("east")).expect("linked");
    assert_eq!(status.repaired, 1, "it is told of the peer that it was");
    let events = bench.take_events("west");
    assert!(events.iter().any(|event| matches!(event, Event::DigestRepaired { .. })));
    bench.run_for(Duration::from_secs(60));
    assert_eq!(bench.core("west").counters().digests_differed, 1, "once repaired it stays so");
}

#[test]
fn too_many_events_are_dropped_and_counted_and_entries_are_not_among_them() {
    let settings = Settings { events_max: 4, ..Settings::default() };
    let mut bench = Bench::with(&["east", "west"], settings);
    let now = bench.now;
    let core = bench.core("east");
    for round in 0..20 {
        let paths = federation_core::peer::PathsSummary { live: round % 2, total: 1, ..Default::default() };
        core.handle_paths(&site("west"), &paths, now);
    }
    let events: Vec<Event> = std::iter::from_fn(|| core.poll_event()).collect();
    assert_eq!(events.len(), 5, "{events:?}");
    assert!(matches!(events[0], Event::EventsLost { count: 15 }), "{events:?}");
}

#[test]
fn what_was_deleted_and_then_no_longer_shared_is_withdrawn_at_a_slow_peer_too() {
    let settings = Settings { window_batches: 1, ..Settings::default() };
    let mut bench = Bench::with(&["east", "west"], settings);
    let session = bench.connect("east", "west");
    bench.export("east", "shop/cart", &["vm-1"]);
    bench.settle();
    bench.deaf.insert(site("east"));
    bench.export("east", "shop/other", &[]);
    bench.settle();
    bench.say("east", OwnKey::Export(name("shop/cart")), None);
    bench.settle();
    let nothing = federation_core::peer::PeerLink { offer: Scope::none(), ..link("west") };
    bench.with_core("east", |core, now| core.handle_link(nothing, now));
    bench.settle();
    assert!(bench.holds_export("west", "east", "shop/cart"), "no acknowledgement came, so nothing was sent");
    bench.deaf.clear();
    let held = bench.core("west").peer(&site("east")).expect("linked").held.expect("something");
    let ack = PeerMessage::Ack(held);
    bench.with_core("east", |core, now| core.handle_message(&site("west"), session, ack, now));
    bench.settle();
    assert_eq!(bench.held("west", "east").len(), 1, "the site alone");
}

#[test]
fn a_peer_that_is_linked_anew_is_told_everything_whatever_it_says_it_holds() {
    let mut bench = Bench::new(&["east", "west"]);
    bench.connect("east", "west");
    bench.export("east", "shop/cart", &["vm-1"]);
    bench.settle();
    let old = bench.seat("west").store.clone();
    // East offers less, both unlink and link anew; then west comes back with its old store.
    let nothing = federation_core::peer::PeerLink { offer: Scope::none(), ..link("west") };
    bench.with_core("east", |core, now| core.handle_unlink(&site("west"), now));
    bench.with_core("east", |core, now| core.handle_link(nothing, now));
    bench.with_core("west", |core, now| core.handle_link(link("east"), now));
    bench.connect("east", "west");
    bench.settle();
    assert_eq!(bench.held("west", "east").len(), 1);
    bench.restart("west", old, &["east"]);
    assert!(bench.holds_export("west", "east", "shop/cart"));
    bench.connect("east", "west");
    bench.settle();
    assert_eq!(bench.held("west", "east").len(), 1);
}
