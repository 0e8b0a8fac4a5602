//! Readers of bulk that take next to nothing: at the default windows the others of their connection go on, and what they
//! leave unread is bounded for the whole process.

use crate::support::{Pair, accepted_stream, header, incoming, locality, pair_with, soon};
use bytes::Bytes;
use model::tunnel::Answer;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tunnel::{Config, Stream, StreamCode, splice};

const SLOW: usize = 50;

/// A TCP connection with small buffers: its near end, and the one of a reader.
async fn small_tcp() -> (TcpStream, TcpStream) {
    let socket = || {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_send_buffer_size(32 << 10).expect("sets");
        socket.set_recv_buffer_size(32 << 10).expect("sets");
        socket
    };
    let listening = socket();
    listening.bind("127.0.0.1:0".parse().expect("valid")).expect("binds");
    let listener = listening.listen(1).expect("listens");
    let reader = socket().connect(listener.local_addr().expect("bound"));
    let (reader, accepted) = tokio::join!(reader, listener.accept());
    (accepted.expect("accepts").0, reader.expect("connects"))
}

/// Begins to send so many bytes over a stream to a reader that does not take them yet.
async fn slow_reader(
    (mut near, far): (Stream, Stream),
    bytes: usize,
) -> (TcpStream, JoinHandle<Option<Stream>>) {
    let (tcp, reader) = small_tcp().await;
    tokio::spawn(splice::splice(tcp, far, Bytes::new(), None));
    let sending = tokio::spawn(async move {
        let block = vec![7; 64 << 10];
        for _ in 0..bytes / block.len() {
            if near.write_all(&block).await.is_err() {
                return None;
            }
        }
        // Dropped, it would tell the other side that nobody listens.
        near.shutdown().await.ok().map(|()| near)
    });
    (reader, sending)
}

/// Streams on which nothing was sent yet.
async fn streams(pair: &Pair, many: usize) -> Vec<(Stream, Stream)> {
    let mut streams = Vec::new();
    for _ in 0..many {
        streams.push(accepted_stream(pair).await);
    }
    streams
}

/// Small exchanges over new streams, one after the other, until the task is ended; each has to succeed. Nobody else may
/// open streams meanwhile.
fn others(pair: &Pair) -> JoinHandle<()> {
    let (dialled, accepted) = (pair.dialled.clone(), pair.accepted.clone());
    tokio::spawn(async move {
        loop {
            let mut opened = dialled.open(&header(), Bytes::from_static(b"ask")).await.expect("opens");
            let far = incoming(&accepted).await.accept("vm-1".parse().expect("valid"), locality("eu")).await;
            assert!(matches!(soon("an answer", opened.answer()).await, Ok(Answer::Accepted { .. })));
            let (mut near, mut far) = (opened.into_stream(), far.expect("accepts"));
            let mut three = [0; 3];
            soon("the question", far.read_exact(&mut three)).await.expect("reads");
            soon("the answer", far.write_all(&three)).await.expect("writes");
            soon("its bytes", near.read_exact(&mut three)).await.expect("reads");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}

/// Waits until nothing moves any more on bulk streams. The pair's bounds are looked at meanwhile.
async fn comes_to_rest(pair: &Pair, unread_max: u64) {
    soon("a standstill", async {
        let mut before = 0;
        let mut same = 0;
        while same < 8 {
            let counters = pair.east.tunnel.counters();
            assert!(counters.buffer_bytes <= counters.buffer_max, "{counters:?}");
            let (sent, taken) = (pair.dialled.load().bytes_sent, pair.accepted.load().bytes_received);
            // What was reset is neither under way nor taken.
            if counters.streams_reset[&StreamCode::SlowReader] == 0 {
                assert!(sent - taken <= unread_max, "{} bytes are under way", sent - taken);
            }
            // The small exchanges move a few bytes.
            same = if sent - before < 64 << 10 { same + 1 } else { 0 };
            before = sent;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    })
    .await;
}

/// How many bytes each reader gets from when it reads as fast as it can; none: it was reset.
async fn read_all(slow: Vec<(TcpStream, JoinHandle<Option<Stream>>)>) -> Vec<Option<usize>> {
    let mut reading = JoinSet::new();
    for (mut reader, sending) in slow {
        reading.spawn(async move {
            let mut all = Vec::new();
            let read = reader.read_to_end(&mut all).await;
            drop(sending);
            read.ok().map(|_| all.len())
        });
    }
    soon("all bytes", reading.join_all()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_slow_readers_at_the_default_windows_of_a_lan_stop_nobody_and_lose_nothing() {
    const BYTES: usize = 4 << 20;
    let pair = pair_with(Config::lan()).await;
    let streams = streams(&pair, SLOW).await;
    let others = others(&pair);
    let mut slow = Vec::new();
    for stream in streams {
        slow.push(slow_reader(stream, BYTES).await);
    }
    comes_to_rest(&pair, 256 << 20).await;
    let counters = pair.east.tunnel.counters();
    assert_eq!(counters.streams_stuck, SLOW as u64);
    assert_eq!(counters.streams_reset[&StreamCode::SlowReader], 0);
    assert!(!others.is_finished(), "others are stopped: {:?}", others.await);
    assert_eq!(read_all(slow).await, vec![Some(BYTES); SLOW]);
    assert!(!others.is_finished());
    assert_eq!(pair.east.tunnel.counters().streams_stuck, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_at_the_default_windows_of_a_wan_fill_no_more_than_a_peer_may_and_pay_for_the_others() {
    const BYTES: usize = 32 << 20;
    let config = Config::wan();
    // What the peer may fill, what each connection may anyway, and what the sender keeps.
    let unread_max = config.buffer_per_peer_max + (1 << 20) + config.send_window + (4 << 20);
    let pair = pair_with(config).await;
    let (mut fast, mut fast_far) = accepted_stream(&pair).await;
    let streams = streams(&pair, SLOW).await;
    let others = others(&pair);
    let mut fast_ends = JoinSet::new();
    fast_ends.spawn(async move {
        let block = vec![1; 64 << 10];
        // At a moderate rate, so that a standstill of the others shows.
        while fast.write_all(&block[..4 << 10]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    fast_ends.spawn(async move { drop(tokio::io::copy(&mut fast_far, &mut tokio::io::sink()).await) });
    let mut slow = Vec::new();
    for stream in streams {
        slow.push(slow_reader(stream, BYTES).await);
    }
    comes_to_rest(&pair, unread_max).await;
    let counters = pair.east.tunnel.counters();
    let paid = counters.streams_reset[&StreamCode::SlowReader] as usize;
    assert!((1..SLOW).contains(&paid), "{counters:?}");
    assert_eq!(counters.streams_stuck as usize, SLOW - paid);
    assert!(!others.is_finished(), "others are stopped: {:?}", others.await);
    assert!(fast_ends.try_join_next().is_none(), "a fast one was reset");
    let read = read_all(slow).await;
    assert_eq!(read.iter().flatten().count(), SLOW - paid, "who was not reset loses nothing: {read:?}");
    assert!(read.iter().flatten().all(|bytes| *bytes == BYTES), "{read:?}");
    assert!(!others.is_finished());
}
