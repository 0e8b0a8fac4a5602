//! Epochs, recovering, and stores that were lost or restored.

use crate::bench::*;
use federation_core::event::{Event, RaiseCause};
use federation_core::store::Restored;
use model::catalog::{Epoch, OwnKey};
use model::exchange::PeerMessage;

fn running() -> Bench {
    let mut bench = Bench::new(&["east", "west"]);
    bench.connect("east", "west");
    bench.export("east", "shop/cart", &["vm-1", "vm-2", "vm-3"]);
    bench.export("east", "shop/pay", &["vm-1"]);
    bench.settle();
    bench
}

#[test]
fn a_restart_with_its_store_sends_nothing_that_is_known() {
    let mut bench = running();
    let store = bench.seat("east").store.clone();
    bench.restart("east", store, &["west"]);
    bench.connect("east", "west");
    bench.settle();
    assert_eq!(bench.take_batches("east", "west"), []);
    bench.with_core("east", |core, now| core.handle_recovered(now));
    bench.settle();
    assert_eq!(bench.take_batches("east", "west"), []);
    assert_eq!(bench.core("east").own_version().epoch, Epoch(1));
}

#[test]
fn a_lost_store_takes_a_new_epoch_and_withdraws_nothing_before_it_has_recovered() {
    let mut bench = running();
    bench.restart("east", Restored::default(), &["west"]);
    bench.connect("east", "west");
    bench.settle();
    assert_eq!(bench.core("east").own_version().epoch, Epoch(2));
    let raised = bench.take_events("east").into_iter().find_map(|event| match event {
        Event::EpochRaised { why, .. } => Some(why),
        _ => None,
    });
    assert_eq!(raised, Some(RaiseCause::Ahead));
    assert_eq!(bench.group("west", "east", "shop/cart"), Some((3, 3)));
    assert!(bench.core("west").names_complete());

    bench.export("east", "shop/cart", &["vm-1"]);
    bench.settle();
    assert_eq!(
        bench.group("west", "east", "shop/cart"),
        Some((3, 3)),
        "one of three is no reason to forget two"
    );
    bench.export("east", "shop/cart", &["vm-2"]);
    bench.with_core("east", |core, now| core.handle_recovered(now));
    bench.settle();
    assert_eq!(bench.group("west", "east", "shop/cart"), Some((2, 2)));
    assert!(!bench.holds_export("west", "east", "shop/pay"));
}

#[test]
fn an_old_store_overwrites_nothing_that_is_newer() {
    let mut bench = running();
    let backup = bench.seat("east").store.clone();
    bench.say("east", OwnKey::Export(name("shop/pay")), None);
    bench.remove_endpoint("east", "shop/cart", "vm-3");
    bench.settle();
    assert!(!bench.holds_export("west", "east", "shop/pay"));

    bench.restart("east", backup, &["west"]);
    bench.connect("east", "west");
    bench.settle();
    assert!(!bench.holds_export("west", "east", "shop/pay"), "the old store knows better, and is not asked");
    assert_eq!(bench.group("west", "east", "shop/cart"), Some((2, 2)));
    assert_eq!(bench.core("east").own_version().epoch, Epoch(2));

    // Nor after another start, before the sources have said everything.
    let store = bench.seat("east").store.clone();
    bench.restart("east", store, &["west"]);
    bench.connect("east", "west");
    bench.settle();
    assert!(!bench.holds_export("west", "east", "shop/pay"));
    assert!(bench.core("east").own_version().epoch > Epoch(2));

    bench.export("east", "shop/cart", &["vm-1", "vm-2"]);
    for key in [
        OwnKey::Export(name("shop/pay")),
        OwnKey::Endpoint(name("shop/cart"), "vm-3".parse().expect("valid")),
    ] {
        bench.say("east", key, None);
    }
    bench.with_core("east", |core, now| core.handle_recovered(now));
    bench.settle();
    assert!(!bench.holds_export("west", "east", "shop/pay"));
    assert_eq!(bench.group("west", "east", "shop/cart"), Some((2, 2)));
}

#[test]
fn a_peer_that_is_met_later_and_holds_more_makes_a_new_epoch_again() {
    let mut bench = Bench::new(&["dc", "east", "west"]);
    bench.connect("east", "west");
    bench.connect("east", "dc");
    bench.export("east", "shop/cart", &["vm-1"]);
    bench.settle();
    bench.restart("east", Restored::default(), &["dc", "west"]);
    bench.export("east", "shop/cart", &["vm-1"]);
    bench.with_core("east", |core, now| core.handle_recovered(now));
    bench.connect("east", "west");
    bench.settle();
    assert_eq!(bench.core("east").own_version().epoch, Epoch(2));
    bench.connect("east", "dc");
    bench.settle();
    assert_eq!(bench.core("east").own_version().epoch, Epoch(2), "an older epoch is no reason");

    // Once more, and now the peer that comes second holds the same epoch of the store that was lost.
    bench.restart("east", Restored::default(), &["dc", "west"]);
    bench.export("east", "shop/cart", &["vm-1"]);
    bench.with_core("east", |core, now| core.handle_recovered(now));
    bench.connect("east", "dc");
    bench.connect("east", "west");
    bench.settle();
    assert_eq!(bench.core("east").own_version().epoch, Epoch(3));
    for peer in ["dc", "west"] {
        let held = bench.core(peer).peer(&site("east")).expect("linked").held.expect("something");
        assert_eq!(held, bench.core("east").own_version());
    }
}

#[test]
fn while_recovering_only_adds_are_told() {
    let mut bench = running();
    let store = bench.seat("east").store.clone();
    bench.restart("east", store, &["west"]);
    bench.connect("east", "west");
    bench.say("east", OwnKey::Export(name("shop/pay")), None);
    bench.remove_endpoint("east", "shop/cart", "vm-1");
    bench.export("east", "shop/new", &["vm-1"]);
    let mut moved = endpoint("vm-2");
    moved.locality = "us/sjc".parse().expect("valid");
    let key = OwnKey::Endpoint(name("shop/cart"), "vm-2".parse().expect("valid"));
    bench.say("east", key, Some(model::catalog::OwnValue::Endpoint(moved)));
    bench.settle();
    assert!(bench.holds_export("west", "east", "shop/pay"));
    assert!(bench.holds_export("west", "east", "shop/new"));
    assert_eq!(bench.group("west", "east", "shop/cart"), Some((3, 3)));
    bench.with_core("east", |core, now| core.handle_recovered(now));
    bench.settle();
    assert!(!bench.holds_export("west", "east", "shop/pay"));
    assert_eq!(bench.group("west", "east", "shop/cart"), Some((1, 1)));
}

#[test]
fn a_new_peer_of_a_recovering_site_waits_for_complete() {
    let mut bench = running();
    let store = bench.seat("east").store.clone();
    bench.restart("east", store, &["west"]);
    bench.start("dc", Restored::default(), &["east"]);
    bench.with_core("east", |core, now| core.handle_link(link("dc"), now));
    bench.connect("dc", "east");
    bench.settle();
    assert!(bench.holds_export("dc", "east", "shop/cart"), "what is known is used");
    assert!(!bench.core("dc").names_complete());
    bench.with_core("east", |core, now| core.handle_recovered(now));
    bench.settle();
    assert!(bench.core("dc").names_complete());
}

#[test]
fn a_snapshot_that_broke_off_withdraws_nothing_and_is_sent_again() {
    let mut bench = running();
    bench.restart("east", Restored::default(), &["west"]);
    let session = bench.connect("east", "west");
    bench.export("east", "shop/new", &["vm-1"]);
    bench.settle();
    bench.down(&site("west"), &site("east"), session);
    bench.down(&site("east"), &site("west"), session);
    assert_eq!(bench.group("west", "east", "shop/cart"), Some((3, 3)));
    assert_eq!(bench.group("west", "east", "shop/new"), Some((1, 1)));

    // The reader restarts in between, and says that what it holds is not whole.
    let store = bench.seat("west").store.clone();
    bench.restart("west", store, &["east"]);
    bench.connect("west", "east");
    let held = bench.seat("west").sent.iter().find_map(|(_, _, message)| match message {
        PeerMessage::Hello { held, .. } => *held,
        _ => None,
    });
    assert_eq!(held.expect("something is held").digest, [0; 32]);
    bench.with_core("east", |core, now| core.handle_recovered(now));
    bench.settle();
    assert!(!bench.holds_export("west", "east", "shop/cart"));
    assert_eq!(bench.group("west", "east", "shop/new"), Some((1, 1)));
}

#[test]
fn what_the_store_holds_of_sites_that_are_not_linked_is_deleted_when_recovered() {
    let mut bench = running();
    let store = bench.seat("west").store.clone();
    assert!(store.held.contains_key(&site("east")));
    bench.restart("west", store, &[]);
    assert!(bench.seat("west").store.held.contains_key(&site("east")));
    bench.with_core("west", |core, now| core.handle_recovered(now));
    let store = &bench.seat("west").store;
    assert!(store.held.is_empty() && store.given.is_empty(), "{store:?}");
}

#[test]
fn a_process_that_dies_while_recovering_tells_the_same_at_the_same_revision() {
    let mut bench = running();
    for life in 0..2 {
        let store = bench.seat("east").store.clone();
        bench.restart("east", store, &["west"]);
        bench.connect("east", "west");
        let mut moved = endpoint("vm-2");
        moved.locality = "us/sjc".parse().expect("valid");
        moved.weight = 2 + life;
        let key = OwnKey::Endpoint(name("shop/cart"), "vm-2".parse().expect("valid"));
        bench.say("east", key, Some(model::catalog::OwnValue::Endpoint(moved)));
        bench.settle();
    }
    assert_eq!(bench.core("east").own_version().epoch, Epoch(1), "no reason for a new one");
    bench.run_for(std::time::Duration::from_secs(21));
    assert_eq!(bench.core("west").counters().digests_differed, 0);
}

#[test]
fn a_peer_with_half_a_snapshot_still_shows_an_old_store_for_what_it_is() {
    let mut bench = Bench::new(&["east", "west"]);
    bench.export("east", "shop/cart", &["vm-1"]);
    bench.settle();
    let backup = bench.seat("east").store.clone();
    bench.export("east", "shop/pay", &["vm-1"]);
    let store = bench.seat("east").store.clone();
    bench.restart("east", store, &["west"]);
    bench.connect("east", "west");
    bench.settle();
    assert!(!bench.core("west").names_complete(), "east is recovering");
    bench.restart("east", backup, &["west"]);
    bench.connect("east", "west");
    bench.settle();
    assert_eq!(bench.core("east").own_version().epoch, Epoch(2));
}
