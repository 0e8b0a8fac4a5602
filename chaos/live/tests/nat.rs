//! What a topology says of links before any process runs: NATs, and cuts that begin later.

use live::place::Block;
use live::relays::Relays;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use topologies::plan::{Plan, TUNNEL_PORT, plan};

fn planned(text: &str, block: &Block) -> Plan {
    plan(&topologies::read("x.yaml", text).expect("valid"), block.number())
}

/// Whether a datagram from an address gets through the relay of a gateway to where the gateway listens.
async fn arrives(from: Ipv4Addr, relay: SocketAddr, gateway: &UdpSocket) -> bool {
    let sender = UdpSocket::bind((from, 0)).await.expect("a socket");
    let mut buffer = [0; 16];
    // UDP may lose one also on loopback, when the host is busy.
    for _ in 0..5 {
        sender.send_to(b"hello", relay).await.expect("sent");
        if timeout(Duration::from_millis(200), gateway.recv_from(&mut buffer)).await.is_ok() {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn nobody_outside_can_dial_a_gateway_behind_a_nat() {
    let block = Block::take().expect("a free block");
    let plan = planned(
        "kind: Topology\nsites: { edge: { nat: true, hosts: { vm: {} } }, hub: {} }\n\
         links: [{ between: [edge, hub] }]\n",
        &block,
    );
    let _relays = Relays::start(&plan, 1).await.expect("relays");
    let (edge, hub) = (&plan.sites[0], &plan.sites[1]);
    let listens = |gateway: &topologies::plan::GatewayPlan| (gateway.address, TUNNEL_PORT);
    let at_edge = UdpSocket::bind(listens(&edge.gateways[0])).await.expect("a socket");
    let at_hub = UdpSocket::bind(listens(&hub.gateways[0])).await.expect("a socket");
    let (of_edge, of_hub) = (edge.gateways[0].advertise, hub.gateways[0].advertise);

    assert!(!arrives(hub.gateways[0].address, of_edge, &at_edge).await, "hub can dial edge");
    assert!(arrives(edge.gateways[0].address, of_hub, &at_hub).await, "edge cannot dial hub");
    assert!(arrives(edge.hosts[0].address, of_edge, &at_edge).await, "the site's own agents must");
}

#[tokio::test]
async fn a_link_that_is_cut_passes_until_the_sites_have_met() {
    let block = Block::take().expect("a free block");
    let plan = planned(
        "kind: Topology\nsites: { east: {}, west: {} }\n\
         links: [{ between: [east, west], from: { west: { cut: true } } }]\n",
        &block,
    );
    let relays = Relays::start(&plan, 1).await.expect("relays");
    let is_cut = |from: &str, to: &str| {
        let links = relays.between(from, to);
        assert_eq!(links.len(), 1);
        links.iter().all(|(link, direction)| link.is_cut(*direction))
    };
    assert!(!is_cut("west", "east"));
    relays.cut(&plan);
    assert!(is_cut("west", "east") && !is_cut("east", "west"));
}
