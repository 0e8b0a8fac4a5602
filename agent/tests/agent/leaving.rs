//! How an agent leaves, in order and not.

use crate::federation::{eventually, soon, vip_range};
use crate::imports::service;
use crate::tunnels::endpoint;
use crate::world::{call, member, options, site, workload, world};
use model::config::HealthProbe;
use model::decision::RefusalCode;
use model::node::{FederationMessage, NodeMessage, SourceChange, SourceEvent};
use model::tunnel::Answer;
use runtime::shutdown::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tunnel::{CloseCode, Closed};

fn source(message: NodeMessage) -> Option<SourceEvent> {
    match message {
        NodeMessage::Source(event) => Some(event),
        _ => None,
    }
}

fn done(message: NodeMessage) -> Option<()> {
    source(message).filter(|event| event.change == SourceChange::InitDone).map(drop)
}

fn withdrawal(message: NodeMessage) -> Option<u64> {
    source(message)
        .filter(|event| matches!(event.change, SourceChange::Delete(..)))
        .map(|event| event.sequence)
}

#[tokio::test]
async fn an_agent_that_leaves_withdraws_then_refuses_then_finishes_then_closes() {
    let at = endpoint("vm-1").await;
    let mut world = world(vec![service("shop/cart"), workload("vm-1", at, HealthProbe::None)]).await;
    world.node.wait("the list", done).await;
    world.connected().await;
    let gateway = &world.gateways[0];
    let connection = gateway.connection().await;
    let (opened, _) = gateway.ask(&call("west", "vm-1")).await;
    let mut open = opened.into_stream();

    world.shutdown.begin();
    let sequence = world.node.wait("the withdrawal", withdrawal).await;
    let (_, answer) = world.gateways[0].ask(&call("west", "vm-1")).await;
    assert!(
        matches!(answer, Answer::Accepted { .. }),
        "callers who have not heard of it are served: {answer:?}"
    );

    world.node.tell(FederationMessage::SourceTaken { sequence, refused: None });
    eventually("the word of it", || connection.health().peer_draining).await;
    let (_, answer) = world.gateways[0].ask(&call("west", "vm-1")).await;
    let Answer::Refused(refusal) = answer else { panic!("{answer:?}") };
    assert_eq!((refusal.code, refusal.retryable), (RefusalCode::Draining, true));

    open.write_all(b"last").await.expect("writes");
    open.shutdown().await.expect("ends");
    let mut text = String::new();
    soon("what is open", open.read_to_string(&mut text)).await.expect("a FIN and no reset");
    assert_eq!(text, "vm-1\nlast");
    drop(open);
    let closed = soon("the close", connection.closed()).await;
    assert!(matches!(closed, Closed::Peer { code: CloseCode::Drained, .. }), "{closed:?}");
}

#[tokio::test]
async fn an_agent_without_a_federation_leaves_all_the_same() {
    let at = endpoint("vm-1").await;
    let mut world = world(vec![service("shop/cart"), workload("vm-1", at, HealthProbe::None)]).await;
    world.node.wait("the list", done).await;
    let connection = world.gateways[0].connection().await;
    world.federation.kill();
    world.shutdown.begin();
    let closed = soon("the close", connection.closed()).await;
    assert!(matches!(closed, Closed::Peer { code: CloseCode::Drained, .. }), "{closed:?}");
}

#[tokio::test]
async fn streams_that_do_not_end_are_cut_off_at_the_drain_timeout() {
    let at = endpoint("vm-1").await;
    let (site, federation, gateways) = site(&["gw-0"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let list = vec![gateways[0].address()];
    member(&site, folder.path(), "vm-1", list.clone(), vip_range());
    let shutdown = Shutdown::new();
    let mut options = options("vm-1", folder.path(), None);
    options.drain_timeout = std::time::Duration::from_millis(500);
    let handle = agent::run(options, shutdown.clone()).await.expect("runs");
    let mut node = federation.node().await;
    let entries = vec![site.entry(list), service("shop/cart"), workload("vm-1", at, HealthProbe::None)];
    let version = node.send(federation.snapshot(true, entries));
    node.acked(version).await;
    let (opened, answer) = gateways[0].ask(&call("west", "vm-1")).await;
    assert!(matches!(answer, Answer::Accepted { .. }), "{answer:?}");
    let mut open = opened.into_stream();
    shutdown.begin();
    soon("the end", handle.ended()).await;
    let mut text = String::new();
    soon("the reset", open.read_to_string(&mut text)).await.expect_err("it was cut off");
}

#[tokio::test]
async fn an_agent_that_is_killed_says_nothing_so_its_lease_runs_on() {
    let at = endpoint("vm-1").await;
    let (site, federation, gateways) = site(&["gw-0"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let list = vec![gateways[0].address()];
    member(&site, folder.path(), "vm-1", list.clone(), vip_range());
    let options = options("vm-1", folder.path(), None);
    // A runtime of its own, so that it can be stopped without a word.
    let process = tokio::task::spawn_blocking(move || {
        let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let process = process.expect("a runtime");
        process.block_on(agent::run(options, Shutdown::new())).expect("runs");
        process
    });
    let process = process.await.expect("no panic");
    let mut node = federation.node().await;
    let entries = vec![site.entry(list), service("shop/cart"), workload("vm-1", at, HealthProbe::None)];
    let version = node.send(federation.snapshot(true, entries));
    node.acked(version).await;
    node.wait("the list", done).await;
    process.shutdown_background();
    while let Some(message) = node.next().await {
        assert!(withdrawal(message).is_none(), "it had no time for that");
    }
}
