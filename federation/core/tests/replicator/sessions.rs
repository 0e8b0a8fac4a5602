//! Which of two sessions stays, and who is a clone.

use crate::bench::*;
use federation_core::event::{CloseCause, Event};
use federation_core::session::{Dialled, SessionId};
use model::exchange::{PeerMessage, RefusedSession};
use model::ids::Incarnation;
use std::time::Duration;

fn closes(events: &[Event]) -> Vec<(u64, CloseCause)> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Close { session, why, .. } => Some((session.0, why.clone())),
            _ => None,
        })
        .collect()
}

#[test]
fn two_sessions_that_cross_are_settled_alike() {
    for dialled_first in ["east", "west"] {
        let mut bench = Bench::new(&["east", "west"]);
        let (east, west) = (SessionId(1), SessionId(2));
        // Each end sees its own session first, before anything was heard.
        bench.up("east", "west", east, Dialled::Here);
        bench.up("west", "east", west, Dialled::Here);
        let order = if dialled_first == "east" {
            [("west", east), ("east", west)]
        } else {
            [("east", west), ("west", east)]
        };
        for (at, session) in order {
            let peer = if at == "east" { "west" } else { "east" };
            bench.up(at, peer, session, Dialled::There);
        }
        bench.drive();
        bench.settle();
        let used = |bench: &mut Bench, at: &str, peer: &str| {
            bench.core(at).peer(&site(peer)).expect("linked").session
        };
        assert_eq!(used(&mut bench, "east", "west"), Some(east), "the lower uid dialled it");
        assert_eq!(used(&mut bench, "west", "east"), Some(east));
        assert!(bench.core("west").names_complete() && bench.core("east").names_complete());
    }
}

#[test]
fn a_new_session_of_the_same_process_takes_the_place_of_the_old_one() {
    let mut bench = Bench::new(&["east", "west"]);
    let first = bench.connect("east", "west");
    // East noticed that the first is dead; west did not.
    bench.down(&site("east"), &site("west"), first);
    let second = bench.connect("east", "west");
    assert_eq!(bench.core("west").peer(&site("east")).expect("linked").session, Some(second));
    assert_eq!(closes(&bench.take_events("west")), [(first.0, CloseCause::Duplicate)]);
    bench.export("east", "shop/cart", &["vm-1"]);
    bench.settle();
    assert!(bench.holds_export("west", "east", "shop/cart"));
}

fn hello(incarnation: u64) -> PeerMessage {
    PeerMessage::Hello {
        uid: uid("east"),
        incarnation: Incarnation(incarnation),
        held: None,
        scope: model::catalog::Scope::All,
        view: model::catalog::View::Summary,
    }
}

/// West with a session of a living east, and a second one from a clone of it.
fn with_clone() -> (Bench, SessionId, SessionId) {
    let mut bench = Bench::new(&["east", "west"]);
    let first = bench.connect("east", "west");
    bench.settle();
    let clone = SessionId(99);
    bench.up("west", "east", clone, Dialled::There);
    bench.with_core("west", |core, now| core.handle_message(&site("east"), clone, hello(77), now));
    (bench, first, clone)
}

#[test]
fn of_two_live_processes_with_one_uid_the_second_is_refused_and_said_so() {
    let (mut bench, first, clone) = with_clone();
    assert_eq!(
        closes(&bench.take_events("west")),
        [],
        "nobody is accused before the first has shown that it lives"
    );
    bench.run_for(Duration::from_secs(6));
    let events = bench.take_events("west");
    assert_eq!(closes(&events), [(clone.0, CloseCause::Clone)]);
    let said = Event::CloneRefused { site: site("east"), kept: Incarnation(1), refused: Incarnation(77) };
    assert!(events.contains(&said), "{events:?}");
    let refused = PeerMessage::Refused { reason: RefusedSession::Clone };
    assert!(bench.seat("west").sent.contains(&(site("east"), clone, refused)));
    assert_eq!(bench.core("west").peer(&site("east")).expect("linked").session, Some(first));
}

#[test]
fn a_process_that_comes_back_is_no_clone() {
    let (mut bench, first, clone) = with_clone();
    bench.down(&site("west"), &site("east"), first);
    assert_eq!(bench.core("west").peer(&site("east")).expect("linked").session, Some(clone));
    bench.drive();
    assert_eq!(bench.core("west").counters().clones_refused, 0);
}

#[test]
fn a_process_that_died_in_silence_makes_room_after_two_keepalives() {
    let (mut bench, first, clone) = with_clone();
    bench.deaf.insert(site("west"));
    bench.run_for(Duration::from_secs(9));
    assert_eq!(bench.core("west").peer(&site("east")).expect("linked").session, Some(first));
    bench.run_for(Duration::from_secs(2));
    assert_eq!(bench.core("west").peer(&site("east")).expect("linked").session, Some(clone));
    assert_eq!(closes(&bench.take_events("west")), [(first.0, CloseCause::Silent)]);
}

#[test]
fn a_silent_session_is_closed() {
    let mut bench = Bench::new(&["east", "west"]);
    let session = bench.connect("east", "west");
    bench.run_for(Duration::from_secs(600));
    assert_eq!(bench.seat("west").open.len(), 1, "keepalives and digests keep it");
    bench.deaf.insert(site("west"));
    bench.run_for(Duration::from_secs(16));
    assert_eq!(closes(&bench.take_events("west")), [(session.0, CloseCause::Silent)]);
}

#[test]
fn a_site_without_a_link_is_refused() {
    let mut bench = Bench::new(&["east", "west"]);
    bench.with_core("west", |core, now| core.handle_unlink(&site("east"), now));
    bench.take_events("east");
    let session = bench.connect("east", "west");
    assert_eq!(
        closes(&bench.take_events("east")),
        [(session.0, CloseCause::RefusedByPeer(RefusedSession::NotLinked))]
    );
    assert_eq!(closes(&bench.take_events("west"))[0], (session.0, CloseCause::NotLinked));
    assert!(bench.core("east").peer(&site("west")).is_some(), "only a person, or its word, ends a link");
}

#[test]
fn every_wake_up_says_why_and_is_in_the_future() {
    let mut bench = Bench::new(&["east", "west"]);
    bench.connect("east", "west");
    bench.export("east", "shop/cart", &["vm-1"]);
    for _ in 0..200 {
        let Some((at, why)) = bench.core("east").poll_timeout() else { panic!("a session has timers") };
        assert!(!why.is_empty());
        bench.now = bench.now.max(at);
        let now = bench.now;
        bench.with_core("east", |core, _| core.handle_timeout(now));
        bench.with_core("west", |core, _| core.handle_timeout(now));
        let (next, why) = bench.core("east").poll_timeout().expect("a session has timers");
        assert!(next > now, "`{why}` is due again at once: the shell would spin");
    }
}

#[test]
fn a_second_session_that_takes_over_late_is_no_sign_of_life() {
    let (mut bench, first, clone) = with_clone();
    bench.deaf.insert(site("west"));
    let lease_ends = bench.core("west").peer(&site("east")).expect("linked").lease_ends;
    bench.run_for(Duration::from_secs(9));
    bench.down(&site("west"), &site("east"), first);
    let status = bench.core("west").peer(&site("east")).expect("linked");
    assert_eq!(status.session, Some(clone));
    assert!(lease_ends.is_some() && status.lease_ends == lease_ends);
}
