//! Streams from site to site, over real QUIC on loopback.

mod support;

use model::catalog::SiteInfo;
use model::config::{ConfigEntry, ConfigValue};
use std::net::SocketAddr;
use std::time::Duration;
use support::{Agent, Call, Gateway, Site, endpoint, nobody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Two sites; `shop/cart` is served in east only.
struct World {
    west: Site,
    east: Site,
}

impl World {
    fn new(west: usize, east: usize) -> Self {
        Self { west: Site::new("west", 1, west), east: Site::new("east", 2, east) }
    }

    fn west_config(&self) -> Vec<ConfigEntry> {
        self.west.config(&[&self.east], vec![self.east.summary(1)])
    }

    fn east_config(&self, endpoints: &[(&str, SocketAddr)]) -> Vec<ConfigEntry> {
        let endpoints = endpoints.iter().map(|(id, address)| self.east.direct(id, *address));
        self.east.config(&[&self.west], vec![self.east.endpoints(endpoints.collect())])
    }

    async fn west(&self) -> Gateway {
        Gateway::start(&self.west, 0, self.west_config()).await
    }

    async fn east(&self, number: usize, endpoints: &[(&str, SocketAddr)]) -> Gateway {
        Gateway::start(&self.east, number, self.east_config(endpoints)).await
    }

    /// Both gateways of east, each with an endpoint of its own, so that a call tells which one it went through.
    async fn two_of_east(&self) -> [Gateway; 2] {
        let (first, second) = (endpoint("by-0").await, endpoint("by-1").await);
        [self.east(0, &[("by-0", first)]).await, self.east(1, &[("by-1", second)]).await]
    }
}

/// Calls until both gateways of east have served some.
async fn call_through_both(west: &Gateway) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let enough = async {
        while ["by-0", "by-1"].iter().any(|by| calls.iter().filter(|call| call.served_by == *by).count() < 3)
        {
            calls.push(west.call_until_served().await);
        }
    };
    tokio::time::timeout(support::PATIENCE, enough).await.expect("streams are spread over both gateways");
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_reaches_an_endpoint_of_the_linked_site_which_may_speak_first() {
    let world = World::new(1, 1);
    let (_east, west) = (world.east(0, &[("vm-1", endpoint("vm-1").await)]).await, world.west().await);
    let mut call = west.call_until_served().await;
    assert_eq!(call.served_by, "vm-1");
    assert!(call.echoes().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_refuses_is_followed_by_the_next_unseen_by_the_client() {
    let world = World::new(1, 1);
    let endpoints = [("dead", nobody()), ("alive", endpoint("alive").await)];
    let (_east, west) = (world.east(0, &endpoints).await, world.west().await);
    west.call_until_served().await;
    for _ in 0..20 {
        let call = west.call().await.expect("no client sees the endpoint that refuses");
        assert_eq!(call.served_by, "alive");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_service_is_refused() {
    let world = World::new(1, 1);
    let (_east, west) = (world.east(0, &[("vm-1", endpoint("vm-1").await)]).await, world.west().await);
    west.call_until_served().await;
    assert!(west.call_name("none.shop.svc.clusterset.local").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_loses_what_it_had_accepted_and_nothing_else() {
    let world = World::new(1, 2);
    let [mut first, _second] = world.two_of_east().await;
    let west = world.west().await;
    let mut calls = call_through_both(&west).await;
    first.kill();
    for call in &mut calls {
        assert_eq!(call.echoes().await, call.served_by == "by-1", "{}", call.served_by);
    }
    for _ in 0..20 {
        let call = west.call().await.expect("new calls go through the other gateway");
        assert_eq!(call.served_by, "by-1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_gateway_loses_its_streams_before_its_connections_time_out() {
    let world = World::new(1, 2);
    let [first, _second] = world.two_of_east().await;
    let west = world.west().await;
    let mut calls = call_through_both(&west).await;
    first.freeze(Duration::from_secs(60));
    let began = std::time::Instant::now();
    for call in &mut calls {
        assert_eq!(call.echoes().await, call.served_by == "by-1", "{}", call.served_by);
    }
    assert!(began.elapsed() < Duration::from_secs(9), "the idle timeout is 10 s: {:?}", began.elapsed());
    for _ in 0..20 {
        assert_eq!(west.call().await.expect("served by the other").served_by, "by-1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blip_does_not_kill_a_session_that_has_nowhere_to_go() {
    let world = World::new(1, 1);
    let (east, west) = (world.east(0, &[("vm-1", endpoint("vm-1").await)]).await, world.west().await);
    west.call_until_served().await;
    let agent = Agent::connect(&world.west, "host-1", west.tunnel).await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let stream = agent.open(&agent.header("shop/cart", &world.east)).await.expect("accepted");
        sessions.push(stream);
    }
    east.freeze(Duration::from_secs(3));
    for session in &mut sessions {
        session.write_all(b"ping").await.expect("it waits");
        let mut heard = [0; 9];
        session.read_exact(&mut heard).await.expect("it goes on");
        assert_eq!(&heard, b"vm-1\nping");
    }
    assert!(west.call_until_served().await.echoes().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_comes_back_is_found() {
    let world = World::new(1, 1);
    let vm = endpoint("vm-1").await;
    let mut east = world.east(0, &[("vm-1", vm)]).await;
    let west = world.west().await;
    west.call_until_served().await;
    east.kill();
    support::eventually("the port is free again", || async {
        let socket = std::net::UdpSocket::bind(east.tunnel);
        socket.is_ok().then_some(())
    })
    .await;
    let _east = world.east(0, &[("vm-1", vm)]).await;
    assert!(west.call_until_served().await.echoes().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_fails_nobody_and_finishes_what_is_open() {
    let world = World::new(1, 2);
    let [mut first, _second] = world.two_of_east().await;
    let west = world.west().await;
    let mut open = call_through_both(&west).await;
    first.leave();
    for _ in 0..40 {
        assert!(west.call().await.is_some(), "a new call goes elsewhere");
    }
    for call in &mut open {
        assert!(call.echoes().await, "an open stream finishes");
    }
    drop(open);
    first.left().await;
    for _ in 0..20 {
        assert_eq!(west.call().await.expect("served").served_by, "by-1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_leaves_still_serves_who_has_nobody_else() {
    let world = World::new(1, 1);
    let vm = endpoint("vm-1").await;
    let mut only = world.east(0, &[("vm-1", vm)]).await;
    let west = world.west().await;
    let mut open = west.call_until_served().await;
    only.leave();
    // While a stream is open it lingers for two seconds.
    let begin = std::time::Instant::now();
    while begin.elapsed() < std::time::Duration::from_millis(600) {
        let mut late = west.call().await.expect("there is nobody else");
        assert!(late.echoes().await);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(open.echoes().await);
    drop(open);
    only.left().await;
}

/// The same config, with another idea of where the peer's gateways are.
fn with_peer(config: Vec<ConfigEntry>, change: impl Fn(&mut SiteInfo)) -> Vec<ConfigEntry> {
    let changed = config.into_iter().map(|mut entry| {
        if let Some(ConfigValue::Peer(peer)) = &mut entry.value {
            change(&mut peer.site);
        }
        entry
    });
    changed.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_a_path_passes_streams_to_a_sibling() {
    let world = World::new(2, 1);
    let vm = endpoint("vm-1").await;
    // east dials gw-1 of west only, and gw-0 of west is told an address at which nobody answers.
    let east = with_peer(world.east_config(&[("vm-1", vm)]), |west| drop(west.gateways.remove(0)));
    let blind = with_peer(world.west_config(), |east| east.gateways[0].address = nobody());
    let _east = Gateway::start(&world.east, 0, east).await;
    let _sibling = Gateway::start(&world.west, 1, world.west_config()).await;
    let blind = Gateway::start(&world.west, 0, blind).await;
    let mut call = blind.call_until_served().await;
    assert_eq!(call.served_by, "vm-1");
    assert!(call.echoes().await);
}
