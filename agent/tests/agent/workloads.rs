//! Callers from outside, on their way to workloads of the host; and what the host registers.

use crate::federation::eventually;
use crate::imports::{PORT, name, service};
use crate::tunnels::{endpoint, nobody};
use crate::world::{call, call_port, header, workload, workload_of, world};
use model::config::{ConfigEntry, ConfigKey, HealthProbe};
use model::decision::RefusalCode;
use model::endpoint::{Health, Reach};
use model::node::{FederationMessage, Instance, NodeMessage, SourceChange, SourceEvent};
use model::tunnel::{Answer, HOPS_MAX, StreamKind, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn code(answer: &Answer) -> Option<(RefusalCode, bool)> {
    match answer {
        Answer::Accepted { .. } => None,
        Answer::Refused(refusal) => Some((refusal.code, refusal.retryable)),
    }
}

#[tokio::test]
async fn a_stream_of_a_gateway_reaches_the_workload_and_comes_back() {
    let at = endpoint("vm-1").await;
    let world = world(vec![service("shop/cart"), workload("vm-1", at, HealthProbe::None)]).await;
    for gateway in &world.gateways {
        let (opened, answer) = gateway.ask(&call("west", "vm-1")).await;
        let Answer::Accepted { endpoint, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(endpoint.as_str(), "vm-1");
        let mut stream = opened.into_stream();
        stream.write_all(b"ping").await.expect("writes");
        stream.shutdown().await.expect("ends");
        let mut text = String::new();
        crate::federation::soon("the answer", stream.read_to_string(&mut text))
            .await
            .expect("a FIN and no reset");
        assert_eq!(text, "vm-1\nping");
    }
}

#[tokio::test]
async fn what_is_not_for_this_host_is_refused_with_the_reason() {
    let at = endpoint("vm-1").await;
    let dead = nobody().await;
    let world = world(vec![
        service("shop/cart"),
        workload("vm-1", at, HealthProbe::None),
        workload("dead", dead, HealthProbe::None),
        workload_of("shop/cart", "vm-2", "vm-2", at, HealthProbe::None),
    ])
    .await;
    let gateway = &world.gateways[0];
    let mut far = call("west", "vm-1");
    far.hops = HOPS_MAX + 1;
    let mut vague = call("west", "vm-1");
    if let StreamKind::Service(stream) = &mut vague.kind {
        stream.target = Target::Site("west".parse().expect("valid"));
    }
    let cases = [
        ("another site's", call("east", "vm-1"), RefusalCode::BadHeader, false),
        ("no endpoint named", vague, RefusalCode::BadHeader, false),
        ("unknown workload", call("west", "vm-9"), RefusalCode::NoEndpoint, true),
        ("a workload of another host", call("west", "vm-2"), RefusalCode::NoEndpoint, true),
        ("another service", call_port("west", "shop/orders", "vm-1", PORT), RefusalCode::NoEndpoint, true),
        ("unknown port", call_port("west", "shop/cart", "vm-1", 1), RefusalCode::UnknownPort, true),
        ("nobody listens", call("west", "dead"), RefusalCode::EndpointFailed, true),
        ("too many hops", far, RefusalCode::TooManyHops, true),
        ("a federation's", header(StreamKind::Federation), RefusalCode::BadHeader, false),
        ("config", header(StreamKind::Config), RefusalCode::BadHeader, false),
    ];
    for (what, header, expected, retryable) in cases {
        let (_, answer) = gateway.ask(&header).await;
        assert_eq!(code(&answer), Some((expected, retryable)), "{what}: {answer:?}");
    }
    let (_, answer) = gateway.ask(&call("west", "vm-1")).await;
    assert_eq!(code(&answer), None, "the connection is as good as before");
}

#[tokio::test]
async fn an_agent_that_drains_takes_nothing_new_until_that_is_taken_back() {
    let at = endpoint("vm-1").await;
    let world = world(vec![service("shop/cart"), workload("vm-1", at, HealthProbe::None)]).await;
    world.connected().await;
    let gateway = &world.gateways[0];
    let (opened, answer) = gateway.ask(&call("west", "vm-1")).await;
    assert_eq!(code(&answer), None);
    let mut open = opened.into_stream();
    world.node.tell(FederationMessage::Drain(true));
    for gateway in &world.gateways {
        let connection = gateway.connection().await;
        eventually("the word of it", || connection.health().peer_draining).await;
        let (_, answer) = gateway.ask(&call("west", "vm-1")).await;
        assert_eq!(code(&answer), Some((RefusalCode::Draining, true)));
    }
    open.write_all(b"still").await.expect("writes");
    let mut text = [0; 10];
    crate::federation::soon("what is open", open.read_exact(&mut text)).await.expect("reads");
    assert_eq!(&text, b"vm-1\nstill");

    world.node.tell(FederationMessage::Drain(false));
    let connection = gateway.connection().await;
    eventually("the word of it", || !connection.health().peer_draining).await;
    let (_, answer) = gateway.ask(&call("west", "vm-1")).await;
    assert_eq!(code(&answer), None);
}

fn source(message: NodeMessage) -> Option<SourceEvent> {
    match message {
        NodeMessage::Source(event) => Some(event),
        _ => None,
    }
}

fn instance(change: SourceChange) -> Option<Instance> {
    match change {
        SourceChange::InitApply(instance) | SourceChange::Apply(instance) => Some(instance),
        _ => None,
    }
}

#[tokio::test]
async fn a_workload_of_the_config_is_registered_with_its_health_and_again_on_each_stream() {
    let at = endpoint("vm-1").await;
    let probe = HealthProbe::Tcp { port: at.port() };
    let mut world = world(vec![service("shop/cart"), workload("vm-1", at, probe)]).await;
    for round in 0..2 {
        if round == 1 {
            world.federation.kill();
            world.federation = crate::federation::Federation::start(&world.site).await;
            world.gateways.iter().for_each(|gateway| gateway.carries_to(world.federation.address));
            world.node = world.federation.node().await;
        }
        let listed =
            world.node.wait("the list", |message| source(message).and_then(|e| instance(e.change))).await;
        assert_eq!(listed.service, name("shop/cart"));
        assert_eq!(listed.endpoint.reach, Reach::Agent("vm-1".parse().expect("valid")));
        assert_eq!(listed.endpoint.health, Health::Healthy);
        let done = |message| source(message).filter(|event| event.change == SourceChange::InitDone).map(drop);
        world.node.wait("its end", done).await;
    }
    let renewed = |message| source(message).filter(|event| event.change == SourceChange::Renew).map(drop);
    world.node.wait("a renewal of the lease", renewed).await;
}

#[tokio::test]
async fn a_workload_that_is_no_longer_exposed_is_withdrawn_and_refused() {
    let at = endpoint("vm-1").await;
    let mut world = world(vec![service("shop/cart"), workload("vm-1", at, HealthProbe::None)]).await;
    let done = |message| source(message).filter(|event| event.change == SourceChange::InitDone).map(drop);
    world.node.wait("the list", done).await;
    let key = ConfigKey::Workload(name("shop/cart"), "vm-1".parse().expect("valid"));
    world.change(vec![ConfigEntry { key, value: None }]).await;
    let gone =
        |message| source(message).filter(|event| matches!(event.change, SourceChange::Delete(..))).map(drop);
    world.node.wait("the word of it", gone).await;
    let (_, answer) = world.gateways[0].ask(&call("west", "vm-1")).await;
    assert_eq!(code(&answer), Some((RefusalCode::NoEndpoint, true)));
}
