//! States of a peer, and its lease.

use crate::bench::*;
use federation_core::event::{Event, Withdrawal};
use federation_core::peer::PathsSummary;
use model::exchange::PeerMessage;
use model::routing::PeerState;
use std::time::Duration;

fn state(bench: &mut Bench) -> PeerState {
    bench.core("west").peer(&site("east")).expect("linked").state
}

fn running() -> Bench {
    let mut bench = Bench::new(&["east", "west"]);
    bench.connect("east", "west");
    bench.export("east", "shop/cart", &["vm-1"]);
    bench.settle();
    bench.paths("west", "east", 2, 2);
    bench
}

fn disconnect(bench: &mut Bench) {
    let sessions: Vec<_> = bench.seat("west").open.keys().copied().collect();
    for session in sessions {
        bench.down(&site("east"), &site("west"), session);
        bench.down(&site("west"), &site("east"), session);
    }
}

#[test]
fn the_state_of_a_peer_follows_its_paths() {
    let mut bench = running();
    let degraded = |degraded| PathsSummary { live: 2, total: 2, degraded, problem: "loss 5 %".to_owned() };
    let rows = [
        (
            PathsSummary { live: 2, total: 2, ..Default::default() },
            PeerState::Connected,
            "2 of 2 paths answer",
        ),
        (
            PathsSummary { live: 1, total: 2, ..Default::default() },
            PeerState::Degraded,
            "1 of 2 paths to it are dead",
        ),
        (degraded(true), PeerState::Degraded, "loss or round trip is high: loss 5 %"),
        (degraded(false), PeerState::Connected, "2 of 2 paths answer"),
        (
            PathsSummary { live: 0, total: 2, ..Default::default() },
            PeerState::Unreachable,
            "all 2 paths to it are dead",
        ),
        (PathsSummary::default(), PeerState::Unreachable, "there is no path to it"),
    ];
    for (paths, expected, reason) in rows {
        bench.with_core("west", |core, now| core.handle_paths(&site("east"), &paths, now));
        let status = bench.core("west").peer(&site("east")).expect("linked");
        assert_eq!((status.state, status.reason.as_str()), (expected, reason), "{paths:?}");
        assert_eq!(status.lease_ends.is_some(), expected == PeerState::Unreachable, "{paths:?}");
    }
}

#[test]
fn a_catalog_without_news_takes_nothing_from_a_peer_whose_paths_answer() {
    let mut bench = running();
    disconnect(&mut bench);
    bench.run_for(Duration::from_secs(24 * 60 * 60));
    assert_eq!(state(&mut bench), PeerState::Connected);
    assert_eq!(bench.group("west", "east", "shop/cart"), Some((1, 1)));
}

#[test]
fn an_unreachable_peer_is_kept_for_the_lease_and_then_keeps_its_names() {
    let mut bench = running();
    disconnect(&mut bench);
    bench.paths("west", "east", 0, 2);
    bench.take_events("west");
    bench.run_for(Duration::from_secs(15 * 60 - 1));
    assert_eq!(state(&mut bench), PeerState::Unreachable);
    assert_eq!(bench.group("west", "east", "shop/cart"), Some((1, 1)), "kept, marked");
    bench.run_for(Duration::from_secs(2));
    assert_eq!(state(&mut bench), PeerState::Expired);
    assert_eq!(bench.group("west", "east", "shop/cart"), None);
    assert!(bench.holds_export("west", "east", "shop/cart"), "names stay");
    let events = bench.take_events("west");
    assert!(events.contains(&Event::LeaseExpired { site: site("east"), withdrawn: 1 }), "{events:?}");
    let gone = Event::Withdrawn { site: site("east"), key: group_key("shop/cart"), cause: Withdrawal::Lease };
    assert!(events.contains(&gone));

    // Another word that every path is dead changes nothing; a path that answers brings everything back.
    bench.paths("west", "east", 0, 2);
    assert_eq!(state(&mut bench), PeerState::Expired);
    bench.paths("west", "east", 1, 2);
    assert_eq!(state(&mut bench), PeerState::Degraded);
    assert_eq!(bench.group("west", "east", "shop/cart"), Some((1, 1)));
}

#[test]
fn a_message_renews_the_lease() {
    let mut bench = running();
    bench.paths("west", "east", 0, 2);
    // Keepalives and digests still come.
    bench.run_for(Duration::from_secs(60 * 60));
    assert_eq!(state(&mut bench), PeerState::Unreachable);
    disconnect(&mut bench);
    bench.run_for(Duration::from_secs(16 * 60));
    assert_eq!(state(&mut bench), PeerState::Expired);
    bench.connect("east", "west");
    assert_eq!(state(&mut bench), PeerState::Unreachable, "heard again, by no path of the own gateways");
    assert_eq!(bench.group("west", "east", "shop/cart"), Some((1, 1)));
}

#[test]
fn a_lease_starts_anew_with_its_holder() {
    let mut bench = running();
    disconnect(&mut bench);
    bench.paths("west", "east", 0, 2);
    bench.run_for(Duration::from_secs(14 * 60));
    let store = bench.seat("west").store.clone();
    bench.restart("west", store, &["east"]);
    bench.run_for(Duration::from_secs(14 * 60));
    assert_eq!(state(&mut bench), PeerState::Unreachable);
    assert_eq!(bench.group("west", "east", "shop/cart"), Some((1, 1)));
    bench.run_for(Duration::from_secs(2 * 60));
    assert_eq!(state(&mut bench), PeerState::Expired);
}

#[test]
fn unlink_works_at_once_when_the_peer_is_dead() {
    let mut bench = running();
    bench.deaf.insert(site("east"));
    bench.paths("west", "east", 0, 2);
    bench.take_events("west");
    bench.with_core("west", |core, now| core.handle_unlink(&site("east"), now));
    assert_eq!(bench.core("west").peer(&site("east")), None);
    assert_eq!(bench.held("west", "east").len(), 0);
    let store = &bench.seat("west").store;
    assert!(store.held.is_empty() && store.given.is_empty());
    let events = bench.take_events("west");
    let withdrawn = |event: &&Event| matches!(event, Event::Withdrawn { cause: Withdrawal::Unlink, .. });
    assert_eq!(events.iter().filter(withdrawn).count(), 3, "{events:?}");
    assert!(events.iter().any(|event| matches!(event, Event::PeerChanged { to: PeerState::Removed, .. })));
}

#[test]
fn a_peer_that_hears_of_unlink_forgets_the_link_too() {
    let mut bench = running();
    bench.with_core("west", |core, now| core.handle_unlink(&site("east"), now));
    assert!(bench.take_events("east").contains(&Event::UnlinkedByPeer { site: site("west") }));
    assert_eq!(bench.core("east").peer(&site("west")), None);
    // It says that it has heard it, which the other side takes as no breach, although the session is over for it.
    let mut said =
        |at: &str| bench.seat(at).sent.iter().filter(|sent| sent.2 == PeerMessage::Unlinked).count();
    assert_eq!((said("west"), said("east")), (1, 1));
    let session = bench.seat("west").sent[0].1;
    bench.with_core("west", |core, now| {
        core.handle_message(&site("east"), session, PeerMessage::Unlinked, now);
    });
    assert_eq!(bench.core("west").counters().messages_refused, 0);
}
