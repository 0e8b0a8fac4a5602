//! Peers and strangers that want more than their share: each limit is refused with a reason and counted, and the others
//! are served.

use crate::support::{
    Node, Pair, Site, accepted_stream, connect, header, incoming, lan, locality, pair, pair_with, raw_peer,
    soon,
};
use bytes::Bytes;
use model::decision::RefusalCode;
use model::tunnel::{ALPN, Answer};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tunnel::{Config, Connection, Roles, Stream};

/// A new stream over the connection carries bytes there and back.
async fn is_served(dialled: &Connection, accepted: &Connection) {
    let mut opened =
        soon("an open", dialled.open(&header(), Bytes::from_static(b"ask"))).await.expect("opens");
    let far = incoming(accepted).await.accept("vm-1".parse().expect("valid"), locality("eu")).await;
    assert!(matches!(soon("an answer", opened.answer()).await, Ok(Answer::Accepted { .. })));
    let (mut near, mut far) = (opened.into_stream(), far.expect("accepts"));
    let mut three = [0; 3];
    soon("the question", far.read_exact(&mut three)).await.expect("reads");
    soon("the answer", far.write_all(&three)).await.expect("writes");
    soon("the answer's bytes", near.read_exact(&mut three)).await.expect("reads");
    assert_eq!(&three, b"ask");
}

/// East, which takes gateways of west, with these settings; and west.
fn sites(config: Config) -> (Site, Site, Node) {
    let (west, east) = (Site::new("west"), Site::new("east"));
    let config = config.accepting(Roles::of_gateway());
    let to = Node::new(east.credentials("gateway/gw-0"), east.trust(&[&west]), config);
    (west, east, to)
}

/// Writes until nothing more fits, since nobody reads.
async fn fill(stream: &mut Stream) {
    let block = vec![1; 64 << 10];
    while tokio::time::timeout(Duration::from_millis(100), stream.write_all(&block)).await.is_ok() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_slow_readers_among_five_thousand_open_streams_stop_nobody_else() {
    const STREAMS: usize = 5_000;
    const SLOW: usize = 50;
    // What the slow ones hold fits into the credit of the connection.
    let config = Config { streams_max: 4_096, stream_window: 64 << 10, connection_window: 16 << 20, ..lan() };
    let pairs: Vec<Pair> = vec![pair_with(config.clone()).await, pair_with(config).await];
    let mut open = Vec::new();
    for number in 0..STREAMS {
        open.push(accepted_stream(&pairs[number % pairs.len()]).await);
    }
    let mut filling = JoinSet::new();
    let mut unread = Vec::new();
    for (mut near, far) in open.drain(..SLOW) {
        unread.push(far);
        filling.spawn(async move {
            fill(&mut near).await;
            near
        });
    }
    let stuck = soon("fifty full streams", filling.join_all()).await;
    for pair in &pairs {
        is_served(&pair.dialled, &pair.accepted).await;
    }
    for (near, far) in &mut open {
        soon("a write", near.write_all(b"x")).await.expect("writes");
        let mut one = [0];
        soon("a read", far.read_exact(&mut one)).await.expect("reads");
    }
    assert_eq!((stuck.len(), unread.len()), (SLOW, SLOW));
}

#[tokio::test]
async fn writers_of_one_byte_at_a_time_lose_nothing_and_stop_nobody() {
    const WRITERS: usize = 20;
    const BYTES: usize = 500;
    let pair = pair().await;
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (mut near, mut far) = accepted_stream(&pair).await;
        writers.spawn(async move {
            for number in 0..BYTES {
                near.write_all(&[number as u8]).await.expect("writes");
                tokio::task::yield_now().await;
            }
            near.shutdown().await.expect("finishes");
            0
        });
        writers.spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.expect("reads");
            all.len()
        });
    }
    is_served(&pair.dialled, &pair.accepted).await;
    let read: usize = soon("all bytes", writers.join_all()).await.into_iter().sum();
    assert_eq!(read, WRITERS * BYTES);
    assert!(pair.east.tunnel.counters().bytes_received >= (WRITERS * BYTES) as u64);
}

#[tokio::test]
async fn streams_whose_header_never_ends_are_refused_and_give_their_places_back() {
    const PLACES: u32 = 64;
    let config = Config { streams_max: PLACES, header_timeout: Duration::from_millis(300), ..lan() };
    let (west, east, to) = sites(config);
    let (raw, accepted) =
        tokio::join!(raw_peer(Some(west.credentials("gateway/gw-0")), &to, &east, ALPN), to.accept());
    let raw = raw.expect("connects");
    let mut held = Vec::new();
    for _ in 0..PLACES {
        let (mut send, recv) = soon("a place", raw.open_bi()).await.expect("opens");
        send.write_all(&[0]).await.expect("writes");
        held.push((send, recv));
    }
    // Another peer is served meanwhile.
    let other = west.gateway(&[&east]);
    let (dialled, other_accepted) = connect(&other, &east, &to, to.address()).await;
    is_served(&dialled, &other_accepted).await;
    // Each is answered with a refusal and ended by the side that waited in vain.
    for (_send, recv) in &mut held {
        let answer = soon("a refusal", recv.read_to_end(1_000)).await.expect("an answer and its end");
        assert!(!answer.is_empty());
    }
    drop(held);
    soon("a place again", raw.open_bi()).await.expect("opens");
    assert_eq!(to.tunnel.counters().streams_refused.get(&RefusalCode::BadHeader), Some(&u64::from(PLACES)));
    drop(accepted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_handshakes_is_refused_and_counted_and_a_peer_still_gets_in() {
    const FLOOD: usize = 100;
    let (west, east, to) = sites(Config { handshakes_max: 2, retry_above: 2, ..lan() });
    let from = west.gateway(&[&east]);
    let strangers = futures_util::future::join_all((0..FLOOD).map(|_| raw_peer(None, &to, &east, ALPN)));
    let gets_in = async {
        loop {
            if let Ok(connection) = from.tunnel.connect(to.address(), from.expects(&east)).await {
                return connection;
            }
        }
    };
    let (strangers, dialled, accepted) =
        tokio::join!(soon("the flood", strangers), soon("a connection", gets_in), to.accept());
    is_served(&dialled, &accepted).await;
    let counters = to.tunnel.counters();
    assert!(counters.handshakes_refused + counters.handshakes_failed >= 1, "{counters:?}");
    assert!(counters.handshakes_retried + counters.handshakes_refused >= 1, "{counters:?}");
    drop(strangers);
}

#[tokio::test]
async fn a_flood_of_datagrams_is_dropped_and_the_others_are_served() {
    const FLOOD: usize = 5_000;
    let (west, east, to) = sites(lan());
    let (raw, _accepted) =
        tokio::join!(raw_peer(Some(west.credentials("gateway/gw-0")), &to, &east, ALPN), to.accept());
    let raw = raw.expect("connects");
    let other = west.gateway(&[&east]);
    let (dialled, accepted) = connect(&other, &east, &to, to.address()).await;
    // Of a stranger, which are not even QUIC, and of a peer, which are no probes.
    let stranger = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
    for _ in 0..FLOOD {
        let _ = stranger.send_to(&[0xff; 1_200], to.address()).await;
        raw.send_datagram(Bytes::from_static(&[0xff; 600])).expect("is sent or replaces an older one");
    }
    is_served(&dialled, &accepted).await;
    soon("a count", async {
        while to.tunnel.counters().datagrams_dropped == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(dialled.close_reason().is_none());
}

#[tokio::test]
async fn a_peer_with_all_its_connections_is_told_so_and_another_peer_gets_in() {
    let (west, east, to) = sites(Config { connections_per_peer_max: 2, ..lan() });
    let from = west.gateway(&[&east]);
    let first = connect(&from, &east, &to, to.address()).await;
    let _second = connect(&from, &east, &to, to.address()).await;
    let error = from.tunnel.connect(to.address(), from.expects(&east)).await.expect_err("it has two");
    assert!(error.to_string().contains("2 connections of one peer"), "{error}");
    assert_eq!(to.tunnel.counters().connections_refused, 1);
    let another = Node::new(west.credentials("gateway/gw-1"), west.trust(&[&east]), lan());
    connect(&another, &east, &to, to.address()).await;
    drop(first);
    soon("a place again", async {
        while from.tunnel.connect(to.address(), from.expects(&east)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
