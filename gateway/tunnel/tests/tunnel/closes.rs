//! One test per row of the table in `splice`, and what holds for all of them.

use crate::support::{Pair, accepted_stream, pair, soon, tcp_pair};
use bytes::Bytes;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tunnel::splice::{Elsewhere, End, Leg, Transfer, copy};
use tunnel::{CloseCode, StreamCode};

/// client - west - tunnel - east - server, all copied.
struct Way {
    pair: Pair,
    client: TcpStream,
    server: TcpStream,
    west: JoinHandle<Transfer>,
    east: JoinHandle<Transfer>,
}

async fn way() -> Way {
    way_with(None).await
}

async fn way_with(elsewhere: Option<Elsewhere>) -> Way {
    let pair = pair().await;
    let (west, east) = accepted_stream(&pair).await;
    let (client, west_tcp) = tcp_pair().await;
    let (east_tcp, server) = tcp_pair().await;
    let west = tokio::spawn(copy(Leg::Tcp(west_tcp.into()), Leg::Stream(west), Bytes::new(), elsewhere));
    let east = tokio::spawn(copy(Leg::Stream(east), Leg::Tcp(east_tcp.into()), Bytes::new(), None));
    Way { pair, client, server, west, east }
}

impl Way {
    async fn ends(self) -> (Transfer, Transfer) {
        (
            soon("west's end", self.west).await.expect("no panic"),
            soon("east's end", self.east).await.expect("no panic"),
        )
    }
}

async fn read_all(tcp: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    soon("a clean end", tcp.read_to_end(&mut bytes)).await.expect("a FIN and no reset");
    bytes
}

async fn sees_reset(tcp: &mut TcpStream) {
    let mut bytes = [0; 1_024];
    loop {
        match soon("a reset", tcp.read(&mut bytes)).await {
            Ok(0) => panic!("a FIN where a reset was due"),
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                return;
            }
        }
    }
}

fn reset(tcp: TcpStream) {
    tcp.set_zero_linger().expect("open");
    drop(tcp);
}

#[tokio::test]
async fn a_fin_of_the_client_reaches_the_server_and_the_answer_still_comes() {
    let mut way = way().await;
    way.client.write_all(b"question").await.expect("writes");
    way.client.shutdown().await.expect("ends");
    assert_eq!(read_all(&mut way.server).await, b"question");
    way.server.write_all(b"answer").await.expect("writes");
    way.server.shutdown().await.expect("ends");
    assert_eq!(read_all(&mut way.client).await, b"answer");
    let (west, east) = way.ends().await;
    assert_eq!(west, Transfer { forward: 8, backward: 6, end: End::Closed });
    assert_eq!(east, west);
}

#[tokio::test]
async fn a_server_may_speak_and_end_first() {
    let mut way = way().await;
    way.server.write_all(b"220 ready").await.expect("writes");
    way.server.shutdown().await.expect("ends");
    assert_eq!(read_all(&mut way.client).await, b"220 ready");
    way.client.write_all(b"late words").await.expect("writes");
    way.client.shutdown().await.expect("ends");
    assert_eq!(read_all(&mut way.server).await, b"late words");
    let (west, east) = way.ends().await;
    assert_eq!((west.end, east.end), (End::Closed, End::Closed));
}

#[tokio::test]
async fn a_stream_is_counted_from_its_opening_to_its_end_and_how_that_was() {
    let way = way().await;
    let (west, east) = (way.pair.west.tunnel.clone(), way.pair.east.tunnel.clone());
    let (here, there) = (west.counters(), east.counters());
    assert_eq!((here.streams_opened, here.streams_taken, here.streams_open()), (1, 0, 1));
    assert_eq!((there.streams_opened, there.streams_taken, there.streams_open()), (0, 1, 1));
    assert_eq!((here.streams_accepted, there.streams_accepted), (0, 1));
    assert!(here.streams_reset.values().all(|count| *count == 0), "{here:?}");
    reset(way.client);
    soon("west's end", way.west).await.expect("no panic");
    soon("east's end", way.east).await.expect("no panic");
    for tunnel in [west, east] {
        let counters = tunnel.counters();
        assert_eq!(counters.streams_open(), 0);
        assert_eq!(counters.streams_reset[&StreamCode::TcpReset], 1);
        assert_eq!(counters.streams_reset.values().sum::<u64>(), 1, "{counters:?}");
    }
}

#[tokio::test]
async fn a_reset_of_the_client_resets_the_server() {
    let mut way = way().await;
    way.client.write_all(b"half a").await.expect("writes");
    let mut got = [0; 6];
    soon("the bytes", way.server.read_exact(&mut got)).await.expect("reads");
    reset(way.client);
    sees_reset(&mut way.server).await;
    let west = soon("west's end", way.west).await.expect("no panic");
    let east = soon("east's end", way.east).await.expect("no panic");
    assert_eq!(west.end, End::FirstReset(StreamCode::TcpReset));
    assert_eq!(east.end, End::FirstReset(StreamCode::TcpReset));
}

#[tokio::test]
async fn a_reset_of_the_server_resets_the_client() {
    let mut way = way().await;
    reset(way.server);
    sees_reset(&mut way.client).await;
    let west = soon("west's end", way.west).await.expect("no panic");
    assert_eq!(west.end, End::SecondReset(StreamCode::TcpReset));
}

#[tokio::test]
async fn a_client_that_resets_after_its_fin_resets_the_server() {
    let mut way = way().await;
    way.client.shutdown().await.expect("ends");
    assert_eq!(read_all(&mut way.server).await, b"");
    reset(way.client);
    // The server neither reads nor writes; only a write or an error queue would tell, so it writes until it is told.
    soon("a reset", async {
        while way.server.write_all(b"x").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(
        soon("east's end", way.east).await.expect("no panic").end,
        End::FirstReset(StreamCode::TcpReset)
    );
}

#[tokio::test]
async fn a_client_that_resets_while_nobody_reads_from_it_is_noticed() {
    let mut way = way().await;
    // Fill everything between client and server, which does not read.
    let block = vec![7; 1 << 20];
    let filled = tokio::time::timeout(std::time::Duration::from_millis(700), async {
        loop {
            way.client.write_all(&block).await.expect("writes");
        }
    });
    filled.await.expect_err("the way must fill");
    reset(way.client);
    let west = soon("west's end", way.west).await.expect("no panic");
    assert_eq!(west.end, End::FirstReset(StreamCode::TcpReset));
    sees_reset(&mut way.server).await;
}

#[tokio::test]
async fn a_lost_connection_resets_both_ends() {
    let mut way = way().await;
    way.pair.dialled.close(CloseCode::Done, "");
    sees_reset(&mut way.client).await;
    sees_reset(&mut way.server).await;
    let (west, east) = way.ends().await;
    assert_eq!((west.end, east.end), (End::SecondLost, End::FirstLost));
}

#[tokio::test]
async fn a_copy_that_is_dropped_resets_both_ends() {
    let mut way = way().await;
    way.west.abort();
    sees_reset(&mut way.client).await;
    sees_reset(&mut way.server).await;
}

#[tokio::test]
async fn a_side_that_does_not_read_stops_the_other_and_loses_nothing() {
    let mut way = way().await;
    let total = 64 << 20;
    let sent = Arc::new(AtomicBool::new(false));
    let all_sent = Arc::clone(&sent);
    let writer = tokio::spawn(async move {
        let block: Vec<u8> = (0..1 << 20).map(|at| (at % 251) as u8).collect();
        for _ in 0..total / block.len() {
            way.client.write_all(&block).await.expect("writes");
        }
        all_sent.store(true, Ordering::SeqCst);
        way.client.shutdown().await.expect("ends");
        way.client
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!sent.load(Ordering::SeqCst), "64 MiB were taken without a reader");
    let bytes = read_all(&mut way.server).await;
    assert_eq!(bytes.len(), total);
    assert!(
        bytes.chunks(1 << 20).all(|block| block.iter().enumerate().all(|(at, b)| *b == (at % 251) as u8))
    );
    drop(writer.await.expect("no panic"));
}

#[tokio::test]
async fn two_streams_are_copied_like_a_connection() {
    let (first, second) = (pair().await, pair().await);
    let (mut client, relay_in) = accepted_stream(&first).await;
    let (relay_out, mut server) = accepted_stream(&second).await;
    let ahead = Bytes::from_static(b"ahead ");
    let relay = tokio::spawn(copy(Leg::Stream(relay_in), Leg::Stream(relay_out), ahead, None));
    client.write_all(b"there").await.expect("writes");
    client.shutdown().await.expect("ends");
    let mut text = String::new();
    soon("the bytes", server.read_to_string(&mut text)).await.expect("reads");
    assert_eq!(text, "ahead there");
    server.write_all(b"back").await.expect("writes");
    drop(server);
    soon("the reset", client.read_to_string(&mut text)).await.expect_err("reset");
    let relay = soon("the relay's end", relay).await.expect("no panic");
    assert_eq!((relay.forward, relay.end), (11, End::SecondReset(StreamCode::Dropped)));
}

#[tokio::test]
async fn two_tcp_connections_are_copied_too() {
    let (mut client, near) = tcp_pair().await;
    let (far, mut server) = tcp_pair().await;
    let task =
        tokio::spawn(copy(Leg::Tcp(near.into()), Leg::Tcp(far.into()), Bytes::from_static(b"ahead "), None));
    client.write_all(b"there").await.expect("writes");
    client.shutdown().await.expect("ends");
    assert_eq!(read_all(&mut server).await, b"ahead there");
    reset(server);
    sees_reset(&mut client).await;
    assert_eq!(task.await.expect("no panic").end, End::SecondReset(StreamCode::TcpReset));
}

#[tokio::test]
async fn an_idle_copy_holds_no_buffer() {
    let pair = pair().await;
    let (stream, _east) = accepted_stream(&pair).await;
    let (_client, tcp) = tcp_pair().await;
    let future = copy(Leg::Tcp(tcp.into()), Leg::Stream(stream), Bytes::new(), None);
    // All that a copy keeps while it waits is in its future: no read puts bytes anywhere else before they are there.
    let size = std::mem::size_of_val(&*future);
    assert!(size <= 2_048, "{size} bytes");
}
