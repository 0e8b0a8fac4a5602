//! One client connection on its way, with gateways that refuse, accept and fall silent.

use crate::federation::{Site, soon};
use crate::imports::{PORT, direct, entry, far_group, import, name, on_host, own_group, peer};
use crate::tunnels::{Client, any, connect, dialler, endpoint, gateway, incoming, nobody, refusal};
use model::config::{ConfigUpdate, ConfigVersion};
use model::decision::{ExplainRequest, RefusalCode};
use model::endpoint::{Endpoint, Reach};
use model::identity::Proof;
use model::ids::SiteId;
use model::routing::{Caller, Group, PeerState, PeerView};
use model::service::{PortKey, ServiceName};
use model::tunnel::{StreamHeader, StreamKind, Target};
use node::config::NodeConfig;
use node::route::{Asked, ClientRoute, Way, Ways};
use node::routes::Routes;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tunnel::originate::{self, Finish, Request, Route};
use tunnel::{Client as Caught, CloseCode, Connection, Tunnel};

/// Everything but what is dialled goes to these connections, in this order.
struct Through(Mutex<Vec<Connection>>);

impl Through {
    fn open(&self) -> Vec<Way> {
        let held = self.0.lock().expect("no panic");
        held.iter().filter(|held| held.close_reason().is_none()).cloned().map(Way::Open).collect()
    }
}

impl Ways for Through {
    fn to_endpoint(&self, _: &ServiceName, endpoint: &Endpoint, target_port: u16, _: u8) -> Vec<Way> {
        match &endpoint.reach {
            Reach::Direct(address) => vec![Way::Dial(SocketAddr::new(*address, target_port))],
            Reach::Agent(_) => self.open(),
        }
    }

    fn to_site(&self, _: &SiteId, _: u8) -> Vec<Way> {
        self.open()
    }
}

/// A host of west with connections to two gateways of it.
struct World {
    _tunnels: Vec<Tunnel>,
    ways: Arc<Through>,
    routes: Arc<Routes>,
    /// The far ends of the connections.
    first: Connection,
    second: Connection,
}

fn id(text: &str) -> SiteId {
    text.parse().expect("valid")
}

fn caller() -> Caller {
    Caller {
        identity: None,
        proof: Proof::Host,
        site: id("west"),
        locality: "west/a".parse().expect("valid"),
        affinity: None,
    }
}

/// With one service, and east and dc linked and connected.
async fn world(groups: Vec<Group>) -> World {
    let site = Site::new("west");
    let tunnels =
        vec![dialler(&site, "agent/vm-1"), gateway(&site, "gw-0", any()), gateway(&site, "gw-1", any())];
    let (near_0, first) = connect(&site, &tunnels[0], &tunnels[1]).await;
    let (near_1, second) = connect(&site, &tunnels[0], &tunnels[2]).await;
    let routes = Routes::new(id("west"), "agent vm-1".to_owned());
    let mut config = NodeConfig::default();
    let mut cart = import("shop/cart");
    cart.groups = groups;
    let version = ConfigVersion { incarnation: 1, revision: 1 };
    let entries = vec![entry(cart), peer(&Site::new("east")), peer(&Site::new("dc"))];
    config.apply(ConfigUpdate { version, snapshot: true, complete: true, entries }).expect("applies");
    routes.handle_config(&config);
    let (east, dc) = (id("east"), id("dc"));
    let view = |ms| PeerView { state: PeerState::Connected, rtt: Some(std::time::Duration::from_millis(ms)) };
    routes.handle_views([(&east, view(10)), (&dc, view(100))]);
    let ways = Arc::new(Through(Mutex::new(vec![near_0, near_1])));
    World { _tunnels: tunnels, ways, routes, first, second }
}

impl World {
    fn route(&self, target: Option<Target>) -> Arc<ClientRoute> {
        let asked = Asked::here(name("shop/cart"), PortKey::tcp(PORT), caller(), target);
        ClientRoute::new(self.routes.clone(), self.ways.clone(), asked)
    }

    /// A client, and what becomes of it.
    async fn client(&self) -> (Client, JoinHandle<Finish>) {
        let listener = TcpListener::bind(any()).await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let client = Client(tokio::io::BufReader::new(client.expect("connects")));
        let tcp = accepted.expect("accepts").0;
        let route = self.route(None);
        let request =
            Request { client: Caught::Tcp(tcp.into()), retry_safe: false, settings: Default::default() };
        (client, tokio::spawn(originate::run(request, route)))
    }
}

fn target(header: &StreamHeader) -> Target {
    match &header.kind {
        StreamKind::Service(stream) => stream.target.clone(),
        other => panic!("not of a service: {other:?}"),
    }
}

fn east() -> Target {
    Target::Locality(id("east"), "east/a".parse().expect("valid"))
}

/// Accepts as endpoint `name`, which says its name.
async fn accept(stream: tunnel::IncomingStream, name: &str) -> tunnel::Stream {
    use tokio::io::AsyncWriteExt;
    let accepted = stream.accept(name.parse().expect("valid"), "east/a".parse().expect("valid")).await;
    let mut accepted = accepted.expect("the client waits");
    accepted.write_all(format!("{name}\n").as_bytes()).await.expect("writes");
    accepted
}

#[tokio::test]
async fn a_gateway_that_cannot_carry_a_stream_is_followed_by_another_to_the_same_candidate() {
    let codes =
        [RefusalCode::Draining, RefusalCode::NoPath, RefusalCode::Overloaded, RefusalCode::TooManyHops];
    for code in codes {
        let world = world(vec![far_group(&id("east"), 1), far_group(&id("dc"), 1)]).await;
        let (mut client, _finish) = world.client().await;
        let refused = incoming(&world.first).await;
        let (header, stream) = (refused.header().clone(), target(refused.header()));
        assert_eq!(stream, east());
        refused.refuse(refusal(code, true)).await;
        let again = incoming(&world.second).await;
        assert_eq!((target(again.header()), again.header().stream), (east(), header.stream), "{code}");
        let _stream = accept(again, "e-1").await;
        assert_eq!(client.line().await.as_deref(), Some("e-1"), "the client has seen nothing of it");
    }
}

#[tokio::test]
async fn a_site_that_refuses_is_followed_by_the_next_site_and_not_asked_again_by_another_way() {
    let codes = [
        RefusalCode::EndpointFailed,
        RefusalCode::NoEndpoint,
        RefusalCode::UnknownService,
        RefusalCode::UnknownPort,
    ];
    for code in codes {
        let world = world(vec![far_group(&id("east"), 1), far_group(&id("dc"), 1)]).await;
        let (mut client, _finish) = world.client().await;
        let refused = incoming(&world.first).await;
        assert_eq!(target(refused.header()), east());
        refused.refuse(refusal(code, true)).await;
        let next = incoming(&world.first).await;
        assert_eq!(target(next.header()).site(), &id("dc"), "{code}");
        let _stream = accept(next, "d-1").await;
        assert_eq!(client.line().await.as_deref(), Some("d-1"));
    }
}

#[tokio::test]
async fn a_path_that_dies_before_the_answer_is_followed_by_another() {
    let world = world(vec![far_group(&id("east"), 1)]).await;
    let (mut client, _finish) = world.client().await;
    let unanswered = incoming(&world.first).await;
    world.first.close(CloseCode::Done, "gone");
    let again = incoming(&world.second).await;
    assert_eq!(target(again.header()), east());
    let _stream = accept(again, "e-1").await;
    assert_eq!(client.line().await.as_deref(), Some("e-1"));
    drop(unanswered);
}

#[tokio::test]
async fn what_was_accepted_is_never_tried_again() {
    let world = world(vec![far_group(&id("east"), 1), far_group(&id("dc"), 1)]).await;
    let (mut client, finish) = world.client().await;
    let stream = accept(incoming(&world.first).await, "e-1").await;
    assert_eq!(client.line().await.as_deref(), Some("e-1"));
    assert_eq!(world.routes.open_streams(), [(name("shop/cart"), id("east"), 1)]);
    drop(stream);
    assert_eq!(client.line().await, None, "the client is told at once");
    assert!(matches!(soon("the end", finish).await.expect("no panic"), Finish::Served { .. }));
    assert!(world.routes.open_streams().is_empty());
    for connection in [&world.first, &world.second] {
        let another = tokio::time::timeout(std::time::Duration::from_millis(200), connection.accept_stream());
        another.await.expect_err("nobody else is asked");
    }
}

#[tokio::test]
async fn a_denial_holds_everywhere() {
    let world = world(vec![far_group(&id("east"), 1), far_group(&id("dc"), 1)]).await;
    let (mut client, finish) = world.client().await;
    incoming(&world.first).await.refuse(refusal(RefusalCode::Denied, false)).await;
    assert_eq!(client.line().await, None);
    let Finish::Refused(refused) = soon("the end", finish).await.expect("no panic") else { panic!("served") };
    assert_eq!(refused.code, RefusalCode::Denied);
}

/// Endpoints of the own site that are set aside.
fn set_aside(world: &World) -> u32 {
    let request = ExplainRequest {
        service: name("shop/cart"),
        port: None,
        caller: caller(),
        without: Default::default(),
    };
    world.routes.explain(&request).decision.reason.tiers[0].groups[0].outliers
}

#[tokio::test]
async fn an_endpoint_that_fails_is_followed_by_the_others_and_in_the_end_not_tried() {
    let west = id("west");
    let (dead, alive) = (nobody().await, endpoint("here").await);
    let ids = ["w-1", "w-2", "w-3", "w-4"];
    let at = |id: &&str| direct(&west, id, if *id == "w-1" { dead } else { alive });
    let world = world(vec![own_group(&west, ids.iter().map(at).collect())]).await;
    soon("three failures", async {
        while set_aside(&world) == 0 {
            let (mut client, _finish) = world.client().await;
            assert_eq!(client.line().await.as_deref(), Some("here"));
            assert!(client.echoes().await);
        }
    })
    .await;
}

#[tokio::test]
async fn a_refusal_about_the_config_of_a_gateway_does_not_count_against_the_endpoint() {
    let west = id("west");
    let ids = ["vm-2", "vm-3", "vm-4"];
    let world = world(vec![own_group(&west, ids.map(|host| on_host(&west, host, host, 80)).to_vec())]).await;
    for code in [RefusalCode::UnknownService, RefusalCode::NoPath, RefusalCode::EndpointFailed] {
        for _ in 0..3 {
            let (mut client, finish) = world.client().await;
            while !finish.is_finished() {
                tokio::select! {
                    stream = world.first.accept_stream() => stream.expect("open").refuse(refusal(code, true)).await,
                    stream = world.second.accept_stream() => stream.expect("open").refuse(refusal(code, true)).await,
                    () = tokio::time::sleep(std::time::Duration::from_millis(5)) => {}
                }
            }
            assert_eq!(client.line().await, None);
        }
        // Of three that failed, at most half are set aside.
        assert_eq!(set_aside(&world), u32::from(code == RefusalCode::EndpointFailed), "{code}");
    }
}

#[tokio::test]
async fn a_candidate_without_a_way_is_passed_over_and_if_it_is_the_only_one_that_is_said() {
    let west = id("west");
    let world = world(vec![own_group(&west, vec![on_host(&west, "vm-2", "vm-2", 80)])]).await;
    world.ways.0.lock().expect("no panic").clear();
    let (mut client, finish) = world.client().await;
    assert_eq!(client.line().await, None);
    let Finish::Refused(refused) = soon("the end", finish).await.expect("no panic") else { panic!("served") };
    assert_eq!((refused.code, refused.retryable), (RefusalCode::NoPath, true), "{refused:?}");
}

#[tokio::test]
async fn elsewhere_is_where_a_healthy_endpoint_is_and_a_way_that_is_open() {
    let (west, dc) = (id("west"), id("dc"));
    let near = own_group(&west, vec![direct(&west, "w-1", nobody().await)]);
    let world = world(vec![near, far_group(&id("east"), 1), far_group(&dc, 0)]).await;
    assert!(world.route(None).elsewhere());
    assert!(world.route(Some(east())).elsewhere(), "by another way");
    assert!(!world.route(Some(Target::Site(dc))).elsewhere(), "a client that wants no other site gets none");
    let down = PeerView { state: PeerState::Unreachable, rtt: None };
    world.routes.handle_views([(&id("east"), down)]);
    assert!(!world.route(Some(east())).elsewhere(), "no path leads there");
    let up = PeerView { state: PeerState::Connected, rtt: None };
    world.routes.handle_views([(&id("east"), up)]);
    world.ways.0.lock().expect("no panic").clear();
    assert!(!world.route(Some(east())).elsewhere(), "no way is open");
    assert!(world.route(None).elsewhere(), "the endpoint here can be dialled");
}
