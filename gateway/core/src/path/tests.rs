use super::*;
use crate::some_instant;
use model::catalog::GatewayAddress;
use model::ids::SiteUid;
use std::collections::BTreeSet;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn id(name: &str) -> SiteId {
    name.parse().expect("valid")
}

fn key(site: &str, gateway: &str) -> PathKey {
    PathKey { site: id(site), gateway: gateway.parse().expect("valid") }
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, number], 4430))
}

fn site(name: &str, uid: u8, gateways: &[(&str, u8)]) -> Site {
    let gateways = gateways.iter().map(|(name, number)| GatewayAddress {
        name: name.parse().expect("valid"),
        address: address(*number),
    });
    Site { id: id(name), uid: SiteUid([uid; 16]), gateways: gateways.collect() }
}

/// A table of gateway gw-1 of site `own` with uid 5.
fn table(sites: Vec<Site>) -> (PathTable, Instant) {
    let now = some_instant();
    let own = Own { site: id("own"), uid: SiteUid([5; 16]), gateway: "gw-1".parse().expect("valid") };
    let mut table = PathTable::new(own, Settings { connections: 1, ..Settings::default() }, 7);
    table.handle_sites(sites, now);
    (table, now)
}

fn actions(table: &mut PathTable) -> Vec<Action> {
    std::iter::from_fn(|| table.poll_action()).collect()
}

fn dials(table: &mut PathTable) -> Vec<PathKey> {
    let dialled = |action| match action {
        Action::Dial { path, .. } => Some(path),
        Action::Close { .. } => None,
    };
    actions(table).into_iter().filter_map(dialled).collect()
}

fn connect(table: &mut PathTable, site: &str, gateway: &str, number: u64, dialled: bool, now: Instant) {
    table
        .handle_connected(&key(site, gateway), ConnectionId(number), dialled, address(1), now)
        .expect("welcome");
}

fn dead() -> Health {
    Health { state: State::Dead, ..Health::default() }
}

fn place(table: &mut PathTable, site: &str, tried: &[u64]) -> Option<u64> {
    let tried: BTreeSet<ConnectionId> = tried.iter().map(|id| ConnectionId(*id)).collect();
    table.place(&id(site), &tried, &|_| Load::default()).map(|id| id.0)
}

#[test]
fn every_gateway_of_a_linked_site_is_dialled_and_greater_siblings_only() {
    let own = site("own", 5, &[("gw-0", 10), ("gw-1", 11), ("gw-2", 12)]);
    let (mut table, _) = table(vec![own, site("west", 9, &[("gw-0", 1), ("gw-1", 2)])]);
    assert_eq!(dials(&mut table), [key("own", "gw-2"), key("west", "gw-0"), key("west", "gw-1")]);
}

#[test]
fn a_failed_dial_is_repeated_later_and_later() {
    let (mut table, mut now) = table(vec![site("west", 9, &[("gw-0", 1)])]);
    let mut waits = Vec::new();
    for _ in 0..8 {
        assert_eq!(dials(&mut table).len(), 1);
        assert_eq!(table.poll_timeout(), None, "one dial at a time");
        table.handle_dial_failed(&key("west", "gw-0"), "nobody answers", now);
        let (due, _) = table.poll_timeout().expect("dials again");
        waits.push(due - now);
        table.handle_timeout(due - Duration::from_micros(1));
        assert_eq!(dials(&mut table), []);
        now = due;
        table.handle_timeout(now);
    }
    assert!(
        waits[0] <= Duration::from_millis(100) && waits[7] > SECOND && waits[7] <= 2 * SECOND,
        "{waits:?}"
    );
    let report = &table.reports()[0];
    assert_eq!((report.state, report.problem.as_str()), (PathState::Dead, "nobody answers"));
}

#[test]
fn a_lost_connection_is_dialled_again_at_once() {
    let (mut table, now) = table(vec![site("west", 9, &[("gw-0", 1)])]);
    actions(&mut table);
    connect(&mut table, "west", "gw-0", 1, true, now);
    assert_eq!(dials(&mut table), []);
    assert_eq!(table.view(&id("west")).state, PeerState::Connected);
    table.handle_health(ConnectionId(1), dead(), now);
    assert_eq!(dials(&mut table), [key("west", "gw-0")], "a dead one is replaced before it is over");
    assert_eq!(table.view(&id("west")).state, PeerState::Unreachable);
    table.handle_closed(ConnectionId(1), "timed out", now);
    let events: Vec<Event> = std::iter::from_fn(|| table.poll_event()).collect();
    let states: Vec<PeerState> = events
        .iter()
        .filter_map(|event| match event {
            Event::Peer { view, .. } => Some(view.state),
            Event::Path { .. } => None,
        })
        .collect();
    assert_eq!(states, [PeerState::Connected, PeerState::Unreachable]);
}

#[test]
fn where_both_dial_the_connection_of_the_lower_uid_stays() {
    // Own uid is 5: lower than west's, greater than east's.
    let (mut table, now) = table(vec![site("west", 9, &[("gw-0", 1)]), site("east", 1, &[("gw-0", 2)])]);
    actions(&mut table);
    for (number, site) in [(1, "west"), (3, "east")] {
        connect(&mut table, site, "gw-0", number, true, now);
        connect(&mut table, site, "gw-0", number + 1, false, now);
    }
    table.handle_timeout(now);
    let close = Action::Close { connection: ConnectionId(3), why: CloseReason::Duplicate };
    assert_eq!(actions(&mut table), [close], "only its own, and only towards the lower uid");
    assert_eq!(place(&mut table, "west", &[]), Some(1), "the other side will close 2");
    assert_eq!(place(&mut table, "east", &[]), Some(4));
}

#[test]
fn a_duplicate_with_streams_goes_when_they_are_done() {
    let (mut table, now) = table(vec![site("east", 1, &[("gw-0", 2)])]);
    actions(&mut table);
    connect(&mut table, "east", "gw-0", 1, true, now);
    table.handle_load(ConnectionId(1), Load { bulk: 0, streams: 1 });
    connect(&mut table, "east", "gw-0", 2, false, now);
    table.handle_timeout(now);
    assert_eq!(actions(&mut table), []);
    assert_eq!(place(&mut table, "east", &[]), Some(2));
    table.handle_health(ConnectionId(2), dead(), now);
    assert_eq!(place(&mut table, "east", &[]), Some(1), "it serves again while the other one is dead");
    table.handle_health(ConnectionId(2), Health::default(), now);
    table.handle_load(ConnectionId(1), Load::default());
    table.handle_timeout(now);
    let close = Action::Close { connection: ConnectionId(1), why: CloseReason::Duplicate };
    assert!(actions(&mut table).contains(&close));
}

#[test]
fn a_peer_with_a_dead_path_is_degraded() {
    let (mut table, now) = table(vec![site("west", 9, &[("gw-0", 1), ("gw-1", 2)])]);
    connect(&mut table, "west", "gw-0", 1, true, now);
    connect(&mut table, "west", "gw-1", 2, true, now);
    assert_eq!(table.view(&id("west")).state, PeerState::Connected);
    table.handle_health(ConnectionId(1), dead(), now);
    assert_eq!(table.view(&id("west")).state, PeerState::Degraded);
    assert_eq!(place(&mut table, "west", &[]), Some(2));
    table.handle_health(ConnectionId(1), Health::default(), now);
    assert_eq!(table.view(&id("west")).state, PeerState::Connected);
}

#[test]
fn loss_and_slowness_degrade_after_three_seconds_and_pass_after_three() {
    let ms = Duration::from_millis;
    let good = Health { rtt: Some(ms(40)), ..Health::default() };
    for bad in [Health { loss_permille: 30, ..good }, Health { rtt: Some(ms(90)), ..good }] {
        let (mut table, mut now) = table(vec![site("west", 9, &[("gw-0", 1)])]);
        connect(&mut table, "west", "gw-0", 1, true, now);
        table.handle_health(ConnectionId(1), good, now);
        let mut state_after = |table: &mut PathTable, health, time: Duration| {
            table.handle_health(ConnectionId(1), health, now);
            now += time;
            table.handle_timeout(now);
            table.view(&id("west")).state
        };
        assert_eq!(state_after(&mut table, bad, ms(2_900)), PeerState::Connected);
        assert_eq!(state_after(&mut table, bad, ms(200)), PeerState::Degraded);
        assert!(!table.reports()[0].problem.is_empty());
        assert_eq!(state_after(&mut table, good, ms(2_900)), PeerState::Degraded);
        assert_eq!(state_after(&mut table, good, ms(200)), PeerState::Connected);
    }
}

#[test]
fn a_busy_host_on_a_lan_is_no_bad_path() {
    let (mut table, now) = table(vec![site("west", 9, &[("gw-0", 1)])]);
    connect(&mut table, "west", "gw-0", 1, true, now);
    for (second, us) in [(0, 200), (1, 5_000), (10, 5_000)] {
        let health = Health { rtt: Some(Duration::from_micros(us)), ..Health::default() };
        table.handle_health(ConnectionId(1), health, now + second * SECOND);
    }
    assert_eq!(table.view(&id("west")).state, PeerState::Connected);
}

#[test]
fn streams_go_to_live_connections_with_the_least_bulk_and_to_those_that_drain_last() {
    let (mut table, now) = table(vec![site("west", 9, &[("gw-0", 1), ("gw-1", 2)])]);
    for (number, gateway) in [(1, "gw-0"), (2, "gw-0"), (3, "gw-1"), (4, "gw-1")] {
        connect(&mut table, "west", gateway, number, true, now);
    }
    let loads = [(1, 0, 9), (2, 1, 1), (3, 0, 2), (4, 0, 2)];
    let load = |id: ConnectionId| {
        let (_, bulk, streams) = loads.into_iter().find(|(number, ..)| *number == id.0).expect("known");
        Load { bulk, streams }
    };
    let mut picked = BTreeSet::new();
    for _ in 0..10 {
        picked.extend(table.place(&id("west"), &BTreeSet::new(), &load));
    }
    assert_eq!(picked, BTreeSet::from([ConnectionId(3), ConnectionId(4)]));
    let draining = Health { peer_draining: true, ..Health::default() };
    let suspect = Health { state: State::Suspect, ..Health::default() };
    table.handle_health(ConnectionId(3), draining, now);
    table.handle_health(ConnectionId(4), suspect, now);
    assert_eq!(table.place(&id("west"), &BTreeSet::new(), &load), Some(ConnectionId(1)));
    assert_eq!(table.place(&id("west"), &BTreeSet::from([ConnectionId(1)]), &load), Some(ConnectionId(2)));
    let without = |numbers: &[u64]| numbers.iter().copied().map(ConnectionId).collect::<BTreeSet<_>>();
    // Nobody else is left: a gateway that leaves is still better than none, one that is silent is not.
    assert_eq!(table.place(&id("west"), &without(&[1, 2]), &load), Some(ConnectionId(3)));
    assert_eq!(table.place(&id("west"), &without(&[1, 2, 3]), &load), None);
}

#[test]
fn a_stream_that_failed_on_one_gateway_tries_another_first() {
    let (mut table, now) = table(vec![site("west", 9, &[("gw-0", 1), ("gw-1", 2)])]);
    for (number, gateway) in [(1, "gw-0"), (2, "gw-0"), (3, "gw-1")] {
        connect(&mut table, "west", gateway, number, true, now);
    }
    assert_eq!(place(&mut table, "west", &[1]), Some(3));
    assert_eq!(place(&mut table, "west", &[1, 3]), Some(2));
    assert_eq!(place(&mut table, "west", &[1, 2, 3]), None);
}

#[test]
fn a_sibling_with_a_path_is_used_once() {
    let own = site("own", 5, &[("gw-1", 11), ("gw-2", 12)]);
    let (mut table, now) = table(vec![own, site("west", 9, &[("gw-0", 1)])]);
    connect(&mut table, "own", "gw-2", 1, true, now);
    let hop = |table: &mut PathTable, from_sibling, tried: &[u64]| {
        let tried = tried.iter().map(|id| ConnectionId(*id)).collect();
        table.next_hop(&id("west"), from_sibling, &tried, &|_| Load::default())
    };
    assert_eq!(hop(&mut table, false, &[]), None, "the sibling has not said that it reaches it");
    let view = PeerView { state: PeerState::Connected, rtt: Some(Duration::from_millis(20)) };
    table.handle_sibling_view(&"gw-2".parse().expect("valid"), vec![(id("west"), view)], false);
    assert_eq!(hop(&mut table, false, &[]), Some(Hop::Sibling(ConnectionId(1))));
    assert_eq!(table.view(&id("west")).state, PeerState::Degraded);
    assert_eq!(table.own_views()[0].1.state, PeerState::Unreachable);
    assert_eq!(hop(&mut table, true, &[]), None, "one hop, never two");
    assert_eq!(hop(&mut table, false, &[1]), None);
    connect(&mut table, "west", "gw-0", 2, true, now);
    assert_eq!(hop(&mut table, true, &[]), Some(Hop::Path(ConnectionId(2))), "an own path comes first");
    table.handle_sibling_view(&"gw-2".parse().expect("valid"), vec![(id("west"), view)], true);
    assert_eq!(hop(&mut table, false, &[2]), None, "a sibling that drains takes nothing");
}

#[test]
fn unlinking_closes_at_once_and_a_gateway_that_left_goes_when_idle() {
    let (mut table, now) = table(vec![site("west", 9, &[("gw-0", 1), ("gw-1", 2)])]);
    connect(&mut table, "west", "gw-0", 1, true, now);
    connect(&mut table, "west", "gw-1", 2, true, now);
    actions(&mut table);
    table.handle_load(ConnectionId(2), Load { bulk: 0, streams: 1 });
    table.handle_sites(vec![site("west", 9, &[("gw-0", 1)])], now);
    table.handle_timeout(now);
    assert_eq!(actions(&mut table), []);
    assert_eq!(place(&mut table, "west", &[]), Some(1));
    table.handle_load(ConnectionId(2), Load::default());
    table.handle_timeout(now);
    let gone = Action::Close { connection: ConnectionId(2), why: CloseReason::GatewayGone };
    assert_eq!(actions(&mut table), [gone]);
    assert_eq!(table.reports().len(), 1);
    table.handle_sites(Vec::new(), now);
    let unlinked = Action::Close { connection: ConnectionId(1), why: CloseReason::Unlinked };
    assert_eq!(actions(&mut table), [unlinked]);
    let refused = table.handle_connected(&key("west", "gw-0"), ConnectionId(3), false, address(1), now);
    assert_eq!(refused, Err(Unwelcome::UnknownSite));
}

#[test]
fn a_path_has_a_bounded_number_of_connections() {
    let (mut table, now) = table(vec![site("west", 9, &[("gw-0", 1)])]);
    for number in 0..8 {
        connect(&mut table, "west", "gw-0", number, false, now);
    }
    let more = |table: &mut PathTable| {
        table.handle_connected(&key("west", "gw-0"), ConnectionId(9), false, address(1), now)
    };
    assert_eq!(more(&mut table), Err(Unwelcome::TooMany));
    table.handle_health(ConnectionId(0), dead(), now);
    assert_eq!(more(&mut table), Ok(()), "dead ones do not keep a restarted gateway out");
}

#[test]
fn a_connection_with_many_streams_gets_another_beside_it() {
    let (mut table, now) = table(vec![site("west", 9, &[("gw-0", 1)]), site("east", 1, &[("gw-0", 2)])]);
    actions(&mut table);
    let busy = Load { bulk: 0, streams: Settings::default().streams_busy };
    let load = |table: &mut PathTable, load: Load, ids: std::ops::Range<u64>| {
        ids.for_each(|number| table.handle_load(ConnectionId(number), load));
        table.handle_timeout(now);
        dials(table)
    };
    // West keeps what we dial; east keeps what it dials itself, and has one of each here.
    connect(&mut table, "west", "gw-0", 0, true, now);
    connect(&mut table, "east", "gw-0", 100, true, now);
    connect(&mut table, "east", "gw-0", 101, false, now);
    assert_eq!(load(&mut table, Load { streams: busy.streams - 1, ..busy }, 0..200), []);
    for number in 1..Settings::default().connections_max as u64 {
        assert_eq!(load(&mut table, busy, 0..200), [key("west", "gw-0")], "{number}");
        assert_eq!(load(&mut table, busy, 0..200), [], "one at a time");
        connect(&mut table, "west", "gw-0", number, true, now);
    }
    assert_eq!(load(&mut table, busy, 0..200), [], "no more than the other side takes");
}

#[test]
fn connections_that_come_back_do_not_take_each_others_streams() {
    let (mut table, now) = table(vec![site("west", 9, &[("gw-0", 1), ("gw-1", 2)])]);
    connect(&mut table, "west", "gw-0", 1, true, now);
    connect(&mut table, "west", "gw-1", 2, true, now);
    let later = now + 10 * SECOND;
    table.handle_health(ConnectionId(1), dead(), later);
    assert!(table.has_steady_way(&id("west"), false, later), "the other one has been live all the time");
    table.handle_health(ConnectionId(2), dead(), later);
    assert!(!table.has_steady_way(&id("west"), false, later));
    let back = later + 3 * SECOND;
    table.handle_health(ConnectionId(2), Health::default(), back);
    assert_eq!(place(&mut table, "west", &[]), Some(2), "new streams go there at once");
    assert!(!table.has_steady_way(&id("west"), false, back));
    assert!(table.has_steady_way(&id("west"), false, back + SECOND));
}
