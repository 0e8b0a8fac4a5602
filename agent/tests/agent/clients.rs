//! Programs of the host, on their way out.

use crate::federation::{eventually, soon};
use crate::imports::{PORT, direct, entry, far_group, import, on_host, own_group, peer, vip};
use crate::tunnels::{Client, endpoint, refusal};
use crate::world::{World, workload, world};
use model::config::{ConfigEntry, HealthProbe};
use model::decision::RefusalCode;
use model::identity::Proof;
use model::ids::SiteId;
use model::routing::{Group, Import, PeerState};
use model::tunnel::{ServiceStream, StreamKind, Target};
use node::way_in::own_vip;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tunnel::IncomingStream;

fn id(text: &str) -> SiteId {
    text.parse().expect("valid")
}

fn cart(mut groups: Vec<Group>) -> ConfigEntry {
    groups.sort_by_key(|group| group.id.clone());
    entry(Import { vip: vip(2), groups, ..import("shop/cart") })
}

/// East is linked and has the service; both gateways see it.
async fn with_east(mut groups: Vec<Group>, more: Vec<ConfigEntry>) -> World {
    groups.push(far_group(&id("east"), 1));
    let mut entries = vec![cart(groups), peer(&crate::federation::Site::new("east"))];
    entries.extend(more);
    let world = world(entries).await;
    world.gateways.iter().for_each(|gateway| gateway.sees(&[("east", 20)]));
    world.connected().await;
    eventually("both views", || world.handle.gateways.candidates(Some(&id("east"))).len() == 2).await;
    world
}

/// A client of the service's virtual IP.
async fn client(world: &World) -> Client {
    let address = SocketAddr::new(own_vip(vip(2).expect("one"), Some(world.range)).into(), PORT);
    soon("a listener", async {
        loop {
            if let Ok(tcp) = TcpStream::connect(address).await {
                return Client(BufReader::new(tcp));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

fn asked(stream: &IncomingStream) -> ServiceStream {
    match &stream.header().kind {
        StreamKind::Service(stream) => stream.clone(),
        other => panic!("not of a service: {other:?}"),
    }
}

/// The next stream, at either gateway, and at which.
async fn stream(world: &World) -> (usize, IncomingStream) {
    tokio::select! {
        stream = world.gateways[0].stream() => (0, stream),
        stream = world.gateways[1].stream() => (1, stream),
    }
}

async fn accept(stream: IncomingStream) -> tunnel::Stream {
    let accepted = stream.accept("e-1".parse().expect("valid"), "east/a".parse().expect("valid")).await;
    let mut accepted = accepted.expect("the client waits");
    accepted.write_all(b"e-1\n").await.expect("writes");
    accepted
}

#[tokio::test]
async fn a_client_of_a_virtual_ip_becomes_a_stream_with_the_right_target() {
    let world = with_east(Vec::new(), Vec::new()).await;
    let mut client = client(&world).await;
    let (_, stream) = stream(&world).await;
    let asked = asked(&stream);
    assert_eq!(asked.service.to_string(), "shop/cart");
    assert_eq!(asked.target, Target::Locality(id("east"), "east/a".parse().expect("valid")));
    let caller = asked.caller;
    let host = caller.identity.expect("the host").to_string();
    assert_eq!(
        (host.as_str(), caller.proof, caller.site),
        ("spiffe://west.mesh/agent/vm-1", Proof::Host, id("west"))
    );
    let _stream = accept(stream).await;
    assert_eq!(client.line().await.as_deref(), Some("e-1"));
}

#[tokio::test]
async fn a_gateway_that_refuses_is_followed_by_the_other_unseen_by_the_client() {
    for code in [RefusalCode::NoPath, RefusalCode::Draining] {
        let world = with_east(Vec::new(), Vec::new()).await;
        let mut client = client(&world).await;
        let (at, first) = stream(&world).await;
        let id = first.header().stream;
        first.refuse(refusal(code, true)).await;
        let second = world.gateways[1 - at].stream().await;
        assert_eq!(second.header().stream, id, "one stream on all of its ways");
        let _stream = accept(second).await;
        assert_eq!(client.line().await.as_deref(), Some("e-1"));
    }
}

#[tokio::test]
async fn a_gateway_that_sees_the_site_better_is_preferred_and_one_that_does_not_is_left_out() {
    let world = with_east(Vec::new(), Vec::new()).await;
    world.gateways[0].sees(&[("east", 200)]);
    let order = || {
        let candidates = world.handle.gateways.candidates(Some(&id("east")));
        candidates.into_iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>()
    };
    eventually("the order", || order() == ["gw-1", "gw-0"]).await;
    world.gateways[1].sees(&[]);
    eventually("the loss", || order() == ["gw-0"]).await;
    let mut client = client(&world).await;
    let _stream = accept(world.gateways[0].stream().await).await;
    assert_eq!(client.line().await.as_deref(), Some("e-1"));
}

#[tokio::test]
async fn an_endpoint_of_the_own_network_is_dialled_and_one_of_this_host_too() {
    let west = id("west");
    let near = direct(&west, "w-1", endpoint("near").await);
    let world = with_east(vec![own_group(&west, vec![near])], Vec::new()).await;
    let mut client_1 = client(&world).await;
    assert_eq!(client_1.line().await.as_deref(), Some("near"));
    assert!(client_1.echoes().await);
    drop(world);

    let here = endpoint("here").await;
    let own = on_host(&west, "vm-1", "vm-1", here.port());
    let more = vec![workload("vm-1", here, HealthProbe::None)];
    let world = with_east(vec![own_group(&west, vec![own])], more).await;
    let mut client_2 = client(&world).await;
    assert_eq!(client_2.line().await.as_deref(), Some("here"));
}

#[tokio::test]
async fn an_endpoint_of_another_host_is_asked_of_a_gateway_by_name() {
    let west = id("west");
    let other = on_host(&west, "vm-2", "vm-2", 80);
    let world = with_east(vec![own_group(&west, vec![other])], Vec::new()).await;
    let mut client = client(&world).await;
    let (_, stream) = stream(&world).await;
    assert_eq!(asked(&stream).target, Target::Endpoint(west, "vm-2".parse().expect("valid")));
    let _stream = accept(stream).await;
    assert_eq!(client.line().await.as_deref(), Some("e-1"));
}

#[tokio::test]
async fn of_two_workloads_with_one_name_each_service_gets_its_own() {
    let west = id("west");
    // Two programs with one port, on two addresses of the host.
    let cart_at =
        crate::tunnels::endpoint_at("cart", SocketAddr::new(crate::federation::address().into(), 0)).await;
    let orders_at = SocketAddr::new(crate::federation::address().into(), cart_at.port());
    crate::tunnels::endpoint_at("orders", orders_at).await;
    let own = |at: SocketAddr| own_group(&west, vec![on_host(&west, "vm-1", "vm-1", at.port())]);
    let orders = Import { vip: vip(3), groups: vec![own(orders_at)], ..import("shop/orders") };
    let world = world(vec![
        cart(vec![own(cart_at)]),
        entry(orders),
        workload("vm-1", cart_at, HealthProbe::None),
        crate::world::workload_of("shop/orders", "vm-1", "vm-1", orders_at, HealthProbe::None),
    ])
    .await;
    for (name, says) in [("cart", "cart"), ("orders", "orders")] {
        let mut client = through_proxy(&world, &format!("{name}.shop.svc.clusterset.local")).await;
        assert_eq!(client.line().await.as_deref(), Some(says));
    }
}

async fn through_proxy(world: &World, name: &str) -> Client {
    let mut client = Client::dial(world.handle.proxy).await;
    let request = format!("CONNECT {name}:{PORT} HTTP/1.1\r\nhost: x\r\n\r\n");
    client.0.write_all(request.as_bytes()).await.expect("writes");
    let head = client.line().await;
    assert!(head.as_ref().is_some_and(|line| line.starts_with("HTTP/1.1 200")), "{head:?}");
    while client.line().await.is_some_and(|line| !line.is_empty()) {}
    client
}

#[tokio::test]
async fn a_pinned_name_goes_to_its_site_and_nowhere_else() {
    let west = id("west");
    let near = direct(&west, "w-1", endpoint("near").await);
    let world = with_east(vec![own_group(&west, vec![near])], Vec::new()).await;
    let (client, served) =
        tokio::join!(through_proxy(&world, "cart.shop.svc.east.meshfed.internal"), async {
            let (_, stream) = stream(&world).await;
            assert_eq!(asked(&stream).target.site(), &id("east"));
            accept(stream).await
        });
    let (mut client, _stream) = (client, served);
    assert_eq!(client.line().await.as_deref(), Some("e-1"));
}

#[tokio::test]
async fn the_port_of_a_workload_is_not_taken_by_a_virtual_ip() {
    let here = SocketAddr::new(crate::federation::address().into(), PORT);
    crate::tunnels::endpoint_at("here", here).await;
    let world = with_east(Vec::new(), vec![workload("vm-1", here, HealthProbe::None)]).await;
    let problems = world.handle.problems.clone();
    eventually("the word of it", || {
        problems.borrow().iter().any(|told| told.contains("a workload of this host"))
    })
    .await;
    let address = SocketAddr::new(own_vip(vip(2).expect("one"), Some(world.range)).into(), PORT);
    TcpListener::bind(address).await.expect("it is free");
    let (client, served) = tokio::join!(through_proxy(&world, "cart.shop.svc.clusterset.local"), async {
        accept(stream(&world).await.1).await
    });
    let (mut client, _stream) = (client, served);
    assert_eq!(client.line().await.as_deref(), Some("e-1"), "the proxy serves it all the same");
}

#[tokio::test]
async fn a_site_that_no_gateway_sees_any_more_is_unreachable_for_the_agent() {
    let mut world = with_east(Vec::new(), Vec::new()).await;
    let state = |explanation: &model::decision::Explanation| {
        explanation.decision.reason.tiers.iter().flat_map(|tier| &tier.groups).find_map(|group| group.peer)
    };
    for (expected, seen) in [(PeerState::Connected, true), (PeerState::Unreachable, false)] {
        let sites: &[(&str, u64)] = if seen { &[("east", 20)] } else { &[] };
        world.gateways.iter().for_each(|gateway| gateway.sees(sites));
        soon("the view", async {
            while world.explain().await.as_ref().and_then(state) != Some(expected) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

impl World {
    /// What the agent says that it would do with a client of `shop/cart`.
    async fn explain(&mut self) -> Option<model::decision::Explanation> {
        use model::node::{FederationMessage, NodeMessage};
        let caller = model::routing::Caller {
            identity: None,
            proof: Proof::Host,
            site: id("west"),
            locality: Default::default(),
            affinity: None,
        };
        let service = "shop/cart".parse().expect("valid");
        let request =
            model::decision::ExplainRequest { service, port: None, caller, without: Default::default() };
        self.node.tell(FederationMessage::Explain { id: 1, request });
        let explained = self.node.wait("an explanation", |message| match message {
            NodeMessage::Explained { explanation, .. } => Some(*explanation),
            _ => None,
        });
        Some(explained.await)
    }
}
