//! The agent's connections, when gateways fall silent, restart, come and go.

use crate::federation::{eventually, soon};
use crate::imports::{far_group, import, name, on_host, peer, service};
use crate::tunnels::Relay;
use crate::world::{Gateway, World, begin, site, world};
use agent::gateways::STEADY_AFTER;
use agent::ways::AgentWays;
use model::ids::SiteId;
use model::routing::Import;
use node::route::Ways;
use std::time::Duration;
use tokio::time::Instant;
use tunnel::{CloseCode, State};

fn names(world: &World, site: Option<&SiteId>) -> Vec<String> {
    let candidates = world.handle.gateways.candidates(site);
    let mut names: Vec<String> = candidates.into_iter().map(|(name, _)| name.to_string()).collect();
    names.sort();
    names
}

/// Two gateways, each behind a relay.
async fn relayed() -> (World, Vec<Relay>) {
    let (site, federation, gateways) = site(&["gw-0", "gw-1"]).await;
    let mut relays = Vec::new();
    for gateway in &gateways {
        relays.push(Relay::to(gateway.tunnel.local_address()).await);
    }
    let addresses = gateways.iter().zip(&relays).map(|(gateway, relay)| gateway.at(relay.address)).collect();
    let east = crate::federation::Site::new("east");
    let cart = Import { groups: vec![far_group(&east.id, 1)], ..import("shop/cart") };
    let entries = vec![crate::imports::entry(cart), peer(&east)];
    let world = begin(site, federation, gateways, addresses, entries).await;
    world.gateways.iter().for_each(|gateway| gateway.sees(&[("east", 20)]));
    world.connected().await;
    (world, relays)
}

/// Which gateway carries the config stream: the one with more streams.
async fn carrier(world: &World) -> usize {
    let [first, second] = [world.gateways[0].connection().await, world.gateways[1].connection().await];
    soon("the config stream", async {
        loop {
            match first.load().streams.cmp(&second.load().streams) {
                std::cmp::Ordering::Less => return 1,
                std::cmp::Ordering::Greater => return 0,
                std::cmp::Ordering::Equal => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_gateway_that_falls_silent_gets_nothing_more_and_config_moves_to_the_other() {
    let (world, relays) = relayed().await;
    let at = carrier(&world).await;
    let silent = world.gateways[at].connection().await;
    relays[at].cut();
    let left = [["gw-1"], ["gw-0"]][at];
    eventually("the loss", || names(&world, None) == left).await;
    let mut node = world.federation.node().await;
    // The transport holds on to the connection for much longer: it is not what told the agent.
    assert!(silent.close_reason().is_none());
    let version = node.send(world.federation.change(vec![service("shop/orders")]));
    node.acked(version).await;
    eventually("the views of it", || names(&world, Some(&"east".parse().expect("valid"))) == left).await;
}

#[tokio::test]
async fn a_gateway_that_comes_back_is_used_again_over_one_connection() {
    let (world, relays) = relayed().await;
    let before = world.gateways[0].connection().await;
    relays[0].cut();
    // Silence of a moment would not do: the connection would be the same.
    eventually("the loss", || world.handle.gateways.connections().len() == 1).await;
    relays[0].lead_to(world.gateways[0].tunnel.local_address());
    eventually("its return", || names(&world, None) == ["gw-0", "gw-1"]).await;
    eventually("its view", || names(&world, Some(&"east".parse().expect("valid"))).len() == 2).await;
    // The old one, which has answered again, is given up for the new one.
    soon("the end of the old one", before.closed()).await;
    let gateway = &world.gateways[0];
    eventually("one connection", || gateway.connections().len() == 1).await;
    let held = world.handle.gateways.connections();
    assert!(held.iter().all(|(_, connection)| connection.health().state == State::Live), "{held:?}");
}

#[tokio::test]
async fn a_connection_that_has_just_come_back_does_not_take_the_streams_of_its_sister() {
    let (world, relays) = relayed().await;
    let east: SiteId = "east".parse().expect("valid");
    let ways = ways(&world);
    let elsewhere = on_host(&world.site.id, "e-1", "vm-2", 80);
    let steady =
        || (ways.has_steady_way(&east, 0), ways.has_steady_way_to(&name("shop/cart"), &elsewhere, 80, 0));
    eventually("two steady connections", || steady() == (true, true)).await;
    relays.iter().for_each(Relay::cut);
    eventually("the loss", || world.handle.gateways.connections().is_empty()).await;
    assert_eq!(steady(), (false, false));
    relays[1].lead_to(world.gateways[1].tunnel.local_address());
    let mut gone = Instant::now();
    soon("its return", async {
        while world.handle.gateways.candidates(Some(&east)).is_empty() {
            gone = Instant::now();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // It was not there at this moment, so it has not been there for long: new streams take it, others wait.
    let gateways = &world.handle.gateways;
    assert!(!gateways.has_steady_way(Some(&east), gone + STEADY_AFTER - Duration::from_millis(250)));
    let seen = steady();
    if gone.elapsed() < Duration::from_millis(100) {
        assert_eq!(seen, (false, false));
    }
    eventually("a steady way", || steady() == (true, true)).await;
}

/// The ways of its agent, over the connections that it holds.
fn ways(world: &World) -> AgentWays {
    AgentWays {
        host: "vm-1".parse().expect("valid"),
        network: "west".parse().expect("valid"),
        workloads: tokio::sync::watch::channel(Default::default()).1,
        gateways: world.handle.gateways.clone(),
    }
}

#[tokio::test]
async fn a_gateway_that_was_killed_and_started_again_gets_its_agent_back() {
    let (mut world, relays) = relayed().await;
    relays[0].cut();
    eventually("the loss", || names(&world, None) == ["gw-1"]).await;
    let again = Gateway::start(&world.site, "gw-0", world.federation.address);
    again.sees(&[("east", 20)]);
    relays[0].lead_to(again.tunnel.local_address());
    world.gateways[0] = again;
    world.connected().await;
    assert_eq!(names(&world, None), ["gw-0", "gw-1"]);
}

#[tokio::test]
async fn with_no_gateway_left_the_config_stream_waits_for_one_and_config_stays() {
    let (mut world, relays) = relayed().await;
    relays.iter().for_each(Relay::cut);
    world.node.ended().await;
    eventually("the loss", || names(&world, None).is_empty()).await;
    assert!(world.handle.gateways.views().is_empty());
    relays[1].lead_to(world.gateways[1].tunnel.local_address());
    let node = world.federation.node().await;
    assert!(node.holds.is_some());
}

#[tokio::test]
async fn an_agent_uses_two_gateways_of_many_and_changes_one_that_is_gone() {
    let (site, federation, gateways) = site(&["gw-0", "gw-1", "gw-2", "gw-3"]).await;
    let addresses: Vec<_> = gateways.iter().map(Gateway::address).collect();
    let world = begin(site, federation, gateways, addresses, Vec::new()).await;
    eventually("two", || names(&world, None).len() == 2).await;
    let before = names(&world, None);
    let gone =
        world.gateways.iter().find(|gateway| before.contains(&gateway.name.to_owned())).expect("one of them");
    gone.tunnel.close(CloseCode::Drained, "it leaves");
    let name = gone.name.to_owned();
    eventually("another", || {
        let now = names(&world, None);
        now.len() == 2 && !now.contains(&name)
    })
    .await;
    let kept = before.iter().find(|kept| **kept != name).expect("the other one");
    assert!(names(&world, None).contains(kept), "the other one is kept");
}

#[tokio::test]
async fn a_gateway_that_is_no_longer_listed_is_left_once_its_streams_are_done() {
    let mut world = world(Vec::new()).await;
    world.connected().await;
    let leaving = world.gateways[0].connection().await;
    let listed = vec![world.gateways[1].address()];
    let on_it = carrier(&world).await == 0;
    let version = world.node.send(world.federation.change(vec![world.site.entry(listed)]));
    soon("the end of the connection", leaving.closed()).await;
    assert_eq!(names(&world, None), ["gw-1"]);
    if on_it {
        world.node = world.federation.node().await;
        assert_eq!(world.node.holds, Some(version));
    }
    world.change(vec![service("shop/orders")]).await;
}
