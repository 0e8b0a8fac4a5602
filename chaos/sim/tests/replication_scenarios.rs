//! Scenarios written by hand: what a reader can say that five sites do when something breaks.

use federation_core::settings::Settings;
use model::catalog::{EntryKey, EntryValue};
use model::routing::PeerState;
use sim::fabric;
use sim::transition::Transition;
use sim::truth::{self, Change};
use sim::world::World;
use std::time::Duration;

const EAST: usize = 0;
const WEST: usize = 1;
const NORTH: usize = 2;
const SOUTH: usize = 3;
const DC: usize = 4;
const ALL: [usize; 5] = [EAST, WEST, NORTH, SOUTH, DC];
const MINUTE: Duration = Duration::from_secs(60);

/// Five sites that have converged; each exports `shop/s0` with two endpoints, and east also `bank/s1`.
fn five_sites(seed: u64) -> World {
    let mut world = World::new(seed, 5, Settings::default());
    for site in ALL {
        offer(&mut world, site, 0, 2);
    }
    offer(&mut world, EAST, 1, 1);
    world.converge(MINUTE);
    world
}

fn offer(world: &mut World, site: usize, service: u8, endpoints: u8) {
    world.change(site, &Change::Service { service, headless: false, ports: 1 });
    world.change(site, &Change::Export { service, at_ms: 5 });
    for id in 0..endpoints {
        add(world, site, service, id);
    }
}

fn add(world: &mut World, site: usize, service: u8, id: u8) {
    world.change(site, &Change::Endpoint { service, id, place: 0, health: 0, weight: 1 });
}

fn state(world: &World, site: usize, peer: usize) -> PeerState {
    let process = world.sites[site].process.as_ref().expect("runs");
    process.peer(&truth::site_name(peer)).expect("linked").state
}

/// Endpoints of a service of a peer, as a site counts them; none: it does not know the service.
fn endpoints(world: &World, site: usize, peer: usize, service: u8) -> Option<u32> {
    let process = world.sites[site].process.as_ref().expect("runs");
    let name = truth::service_name(service);
    let mut known = None;
    for (key, value) in process.held(&truth::site_name(peer)) {
        match (key, value) {
            (EntryKey::Export(export), _) if *export == name => *known.get_or_insert(0) += 0,
            (EntryKey::Group(group, ..), EntryValue::Group(summary)) if *group == name => {
                *known.get_or_insert(0) += summary.total;
            }
            _ => {}
        }
    }
    known
}

fn sound(world: &World) {
    if let Some(violation) = &world.violation {
        panic!("{violation}");
    }
}

#[test]
fn a_split_brain_keeps_both_halves_and_heals_within_seconds() {
    let mut world = five_sites(1);
    let cut = world.fault(fabric::partition(&[EAST, WEST], &[NORTH, SOUTH, DC]));
    world.run_for(5 * MINUTE);
    add(&mut world, EAST, 0, 3);
    world.run_for(Duration::from_secs(1));
    assert_eq!(endpoints(&world, WEST, EAST, 0), Some(3), "on this side it is known");
    assert_eq!(endpoints(&world, DC, EAST, 0), Some(2), "on the other side what was known is kept");
    assert_eq!(state(&world, DC, EAST), PeerState::Unreachable);
    assert_eq!(state(&world, WEST, EAST), PeerState::Connected);
    drop(cut);
    world.converge(Duration::from_secs(5));
    assert_eq!(endpoints(&world, DC, EAST, 0), Some(3));
}

#[test]
fn a_one_way_cut_is_a_dead_path_on_both_sides_and_removes_nothing() {
    let mut world = five_sites(2);
    let cut = world.fault(fabric::cut_one_way(EAST, WEST));
    world.run_for(MINUTE);
    assert_eq!(state(&world, WEST, EAST), PeerState::Unreachable);
    assert_eq!(state(&world, EAST, WEST), PeerState::Unreachable);
    assert_eq!(endpoints(&world, WEST, EAST, 0), Some(2));
    assert_eq!(endpoints(&world, EAST, WEST, 0), Some(2));
    drop(cut);
    world.converge(Duration::from_secs(5));
}

#[test]
fn one_dead_path_of_two_degrades_and_stops_nothing() {
    let mut world = five_sites(3);
    let _cut = world.fault(fabric::cut_path(EAST, WEST, 0));
    world.run_for(Duration::from_secs(5));
    assert_eq!(state(&world, WEST, EAST), PeerState::Degraded);
    add(&mut world, EAST, 0, 3);
    world.run_for(Duration::from_secs(1));
    assert_eq!(endpoints(&world, WEST, EAST, 0), Some(3));
}

#[test]
fn a_federation_that_loses_its_store_while_it_is_cut_off_withdraws_nothing() {
    let mut world = five_sites(4);
    let cut = world.fault(fabric::isolate(EAST));
    world.run_for(Duration::from_secs(20));
    world.apply(&Transition::LoseStore { site: EAST, down_ms: 500 });
    world.run_for(Duration::from_secs(20));
    drop(cut);
    for _ in 0..200 {
        world.run_for(Duration::from_millis(50));
        for peer in [WEST, NORTH, SOUTH, DC] {
            assert_eq!(endpoints(&world, peer, EAST, 0), Some(2), "at every moment");
            assert_eq!(endpoints(&world, peer, EAST, 1), Some(1), "at every moment");
        }
    }
    world.converge(Duration::from_secs(1));
    let epoch = world.sites[EAST].process.as_ref().expect("runs").own_version().epoch.0;
    assert_eq!(epoch, 2);
}

#[test]
fn a_restart_during_an_outage_of_all_peers_loses_nothing_of_them() {
    let mut world = five_sites(5);
    let _cut = world.fault(fabric::isolate(EAST));
    world.run_for(Duration::from_secs(30));
    world.apply(&Transition::Restart { site: EAST, down_ms: 100, silent: true });
    world.run_for(Duration::from_secs(10));
    for peer in [WEST, NORTH, SOUTH, DC] {
        assert_eq!(endpoints(&world, EAST, peer, 0), Some(2));
        assert_eq!(state(&world, EAST, peer), PeerState::Unreachable);
    }
    sound(&world);
}

#[test]
fn a_site_that_is_gone_for_good_expires_after_its_lease_and_is_unlinked_without_it() {
    let mut world = five_sites(6);
    let _cut = world.fault(fabric::isolate(DC));
    world.run_for(14 * MINUTE);
    assert_eq!(endpoints(&world, EAST, DC, 0), Some(2), "kept for the lease");
    world.run_for(2 * MINUTE);
    assert_eq!(state(&world, EAST, DC), PeerState::Expired);
    assert_eq!(endpoints(&world, EAST, DC, 0), Some(0), "its name stays, its endpoints do not");
    world.apply(&Transition::Unlink { site: EAST, peer: DC });
    assert_eq!(endpoints(&world, EAST, DC, 0), None);
    sound(&world);
}

#[test]
fn thirty_percent_loss_delays_and_loses_nothing() {
    let mut world = five_sites(7);
    let _loss = world.fault(fabric::lossy(EAST, WEST, 30));
    for round in 0..20 {
        add(&mut world, EAST, 0, round % 5);
        world.change(EAST, &Change::EndpointGone { service: 0, id: (round + 2) % 5 });
        world.run_for(Duration::from_millis(300));
    }
    let expected = world.expected(EAST, WEST).expect("linked");
    world.run_for(Duration::from_secs(10));
    let process = world.sites[WEST].process.as_ref().expect("runs");
    let held =
        process.held(&truth::site_name(EAST)).map(|(key, value)| (key.clone(), value.clone())).collect();
    assert_eq!(expected, held);
    sound(&world);
}
