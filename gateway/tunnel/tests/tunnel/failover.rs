//! Silence and restarts of a peer.

use crate::support::{
    Node, PATIENCE, Relay, Site, accepted_stream, connect, header, incoming, lan, locality, pair, relayed,
    soon, tcp_pair,
};
use bytes::Bytes;
use identity::live::LiveCredentials;
use identity::secret::Secret;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tunnel::splice::{End, Leg, copy};
use tunnel::{Closed, Config, Roles, State};

#[tokio::test]
async fn a_peer_that_was_killed_and_started_again_resets_its_old_connections() {
    killed_and_started_again(lan(), false).await;
}

#[tokio::test]
async fn a_peer_whose_certificate_was_renewed_before_it_was_killed_resets_them_too() {
    let reset_secret = Some(Secret::random().expect("random"));
    killed_and_started_again(Config { reset_secret, ..lan() }, true).await;
}

async fn killed_and_started_again(config: Config, renewed: bool) {
    let (west, east) = (Site::new("west"), Site::new("east"));
    let from = west.gateway(&[&east]);
    let credentials = LiveCredentials::new(east.credentials("gateway/gw-0"));
    let config = config.accepting(Roles::of_gateway());

    // A runtime of its own, so that it can be stopped without a word.
    let process = tokio::runtime::Runtime::new().expect("a runtime");
    let to = {
        let _inside = process.enter();
        let any = "127.0.0.1:0".parse().expect("valid");
        Node::at(any, credentials.clone(), east.trust(&[&west]), config.clone())
    };
    let address = to.address();
    let (dialled, accepted) = connect(&from, &east, &to, address).await;
    let stopped = tokio::task::spawn_blocking(move || process.shutdown_timeout(PATIENCE));
    soon("the stop", stopped).await.expect("no panic");
    drop((accepted, to));
    assert!(dialled.close_reason().is_none(), "it was told");
    if renewed {
        credentials.replace(east.credentials("gateway/gw-0"));
    }

    let again = soon("the port", async {
        loop {
            let bound = std::net::UdpSocket::bind(address);
            if bound.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Node::at(address, credentials, east.trust(&[&west]), config)
    })
    .await;
    assert_eq!(soon("the reset", dialled.closed()).await, Closed::Restarted);
    connect(&from, &east, &again, address).await;
}

#[tokio::test]
async fn a_silent_peer_is_suspect_then_dead_then_back() {
    let (_from, _to, relay, dialled, accepted) = relayed().await;
    let _stream = dialled.open(&header(), Bytes::new()).await.expect("opens");
    let _incoming = incoming(&accepted).await;
    let mut states = dialled.states();
    assert_eq!(*states.borrow_and_update(), State::Live);
    relay.cut();
    soon("suspicion", states.wait_for(|state| *state >= State::Suspect)).await.expect("still there");
    soon("death", dialled.dead()).await;
    soon("death at the other end", accepted.dead()).await;
    relay.mend();
    soon("life", states.wait_for(|state| *state == State::Live)).await.expect("still there");
    assert!(dialled.close_reason().is_none());
}

/// A copied client over a connection that falls silent after it was accepted.
async fn silent_client(
    elsewhere: bool,
) -> (
    tokio::net::TcpStream,
    tokio::task::JoinHandle<tunnel::splice::Transfer>,
    Relay,
    (Node, Node, tunnel::Stream),
) {
    let (from, to, relay, dialled, accepted) = relayed().await;
    let mut opened = dialled.open(&header(), Bytes::new()).await.expect("opens");
    let accept = incoming(&accepted).await.accept("vm-1".parse().expect("valid"), locality("eu"));
    let east = accept.await.expect("accepts");
    soon("an answer", opened.answer()).await.expect("an answer");
    let (client, tcp) = tcp_pair().await;
    let elsewhere: tunnel::splice::Elsewhere = Arc::new(move || elsewhere);
    let second = Leg::Stream(opened.into_stream());
    let task = tokio::spawn(copy(Leg::Tcp(tcp.into()), second, Bytes::new(), Some(elsewhere)));
    relay.cut();
    soon("death", dialled.dead()).await;
    (client, task, relay, (from, to, east))
}

#[tokio::test]
async fn a_stream_over_a_dead_connection_is_reset_when_there_is_another_way() {
    let (mut client, task, _relay, _held) = silent_client(true).await;
    let error = soon("the reset", client.read(&mut [0; 8])).await.expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(task.await.expect("no panic").end, End::Silent);
}

#[tokio::test]
async fn a_stream_that_has_nowhere_to_go_outlives_a_blip() {
    let (mut client, _task, relay, (_from, _to, mut east)) = silent_client(false).await;
    relay.mend();
    client.write_all(b"still here").await.expect("writes");
    let mut got = [0; 10];
    soon("the bytes", east.read_exact(&mut got)).await.expect("reads");
    assert_eq!(&got, b"still here");
}

#[tokio::test]
async fn a_busy_connection_without_loss_stays_live() {
    let pair = pair().await;
    let (mut west, mut east) = accepted_stream(&pair).await;
    let died = Arc::new(AtomicBool::new(false));
    let watch = {
        let (died, connection) = (Arc::clone(&died), pair.dialled.clone());
        tokio::spawn(async move {
            connection.dead().await;
            died.store(true, Ordering::SeqCst);
        })
    };
    let writer = tokio::spawn(async move {
        let block = vec![1; 64 << 10];
        for _ in 0..512 {
            west.write_all(&block).await.expect("writes");
        }
        west.shutdown().await.expect("ends");
        west
    });
    let mut sink = tokio::io::sink();
    let copied = tokio::io::copy(&mut east, &mut sink);
    assert_eq!(soon("all bytes", copied).await.expect("reads"), 512 * (64 << 10));
    assert!(!died.load(Ordering::SeqCst));
    watch.abort();
    drop(writer.await);
}

/// A stream over a relay whose path has shown that it carries full packets.
async fn warm() -> (Node, Node, Relay, tunnel::Connection, tunnel::Stream, tunnel::Stream) {
    let (from, to, relay, dialled, accepted) = relayed().await;
    let mut opened = dialled.open(&header(), Bytes::new()).await.expect("opens");
    let accept = incoming(&accepted).await.accept("vm-1".parse().expect("valid"), locality("eu"));
    let mut east = accept.await.expect("accepts");
    soon("an answer", opened.answer()).await.expect("an answer");
    let mut west = opened.into_stream();
    let block = vec![7; 256 << 10];
    let mut got = vec![0; block.len()];
    soon("a large MTU", async {
        while dialled.mtu() < 1_400 {
            west.write_all(&block).await.expect("writes");
            east.read_exact(&mut got).await.expect("reads");
        }
    })
    .await;
    (from, to, relay, dialled, west, east)
}

#[tokio::test]
async fn full_packets_that_vanish_are_replaced_by_smaller_ones() {
    let (_from, _to, relay, _dialled, mut west, mut east) = warm().await;
    relay.pass(1_250);
    let block = vec![7; 64 << 10];
    let mut got = vec![0; block.len()];
    let (wrote, read) =
        soon("the bytes", async { tokio::join!(west.write_all(&block), east.read_exact(&mut got)) }).await;
    wrote.expect("writes");
    read.expect("reads");
    assert_eq!(got, block);
}

#[tokio::test]
async fn a_path_that_passes_nothing_but_probes_is_dead() {
    let (_from, _to, relay, dialled, mut west, _east) = warm().await;
    relay.pass(300);
    west.write_all(&vec![7; 64 << 10]).await.expect("writes");
    soon("death", dialled.dead()).await;
}

#[tokio::test]
async fn loss_alone_kills_no_connection() {
    let (_from, _to, relay, dialled, mut west, mut east) = warm().await;
    relay.lose(5);
    let talk = async {
        let mut got = [0; 1_000];
        for _ in 0..40 {
            west.write_all(&[7; 1_000]).await.expect("writes");
            east.read_exact(&mut got).await.expect("reads");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = dialled.dead() => panic!("dead of loss"),
        () = soon("the talk", talk) => {}
    }
}
