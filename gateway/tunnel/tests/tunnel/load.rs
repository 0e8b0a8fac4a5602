//! Many streams, and large ones beside small ones.

use crate::support::{accepted_stream, header, incoming, locality, pair, relayed, soon};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_are_open_at_a_time() {
    const STREAMS: usize = 1_000;
    let pair = pair().await;
    let accepted = pair.accepted.clone();
    let server = tokio::spawn(async move {
        let mut echoes = JoinSet::new();
        for _ in 0..STREAMS {
            let incoming = incoming(&accepted).await;
            let stream =
                incoming.accept("vm-1".parse().expect("valid"), locality("eu")).await.expect("accepts");
            echoes.spawn(async move {
                let (mut read, mut write) = tokio::io::split(stream);
                tokio::io::copy(&mut read, &mut write).await.expect("copies");
                write.shutdown().await.expect("ends");
            });
        }
        while let Some(ended) = echoes.join_next().await {
            ended.expect("no panic");
        }
    });
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut opened = pair.dialled.open(&header(), Bytes::new()).await.expect("opens");
        soon("an answer", opened.answer()).await.expect("an answer");
        streams.push(opened.into_stream());
    }
    assert_eq!(pair.dialled.load().streams, STREAMS as u32);
    let mut asks = JoinSet::new();
    for (at, mut stream) in streams.into_iter().enumerate() {
        asks.spawn(async move {
            let sent = format!("stream {at}");
            stream.write_all(sent.as_bytes()).await.expect("writes");
            stream.shutdown().await.expect("ends");
            let mut got = String::new();
            stream.read_to_string(&mut got).await.expect("reads");
            assert_eq!(got, sent);
        });
    }
    while let Some(ended) = soon("an echo", asks.join_next()).await {
        ended.expect("no panic");
    }
    soon("the server's end", server).await.expect("no panic");
    assert_eq!(pair.dialled.load().streams, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_exchange_finishes_beside_a_large_one_that_does_not() {
    let pair = pair().await;
    let (mut bulk, bulk_sink) = accepted_stream(&pair).await;
    let sink = tokio::spawn(async move {
        let mut bulk_sink = bulk_sink;
        tokio::io::copy(&mut bulk_sink, &mut tokio::io::sink()).await
    });
    let source = tokio::spawn(async move {
        let block = vec![1; 64 << 10];
        while bulk.write_all(&block).await.is_ok() {}
    });
    soon("a bulk stream", async {
        while pair.dialled.load().bulk == 0 || pair.accepted.load().bulk == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    for _ in 0..20 {
        let (mut west, mut east) = accepted_stream(&pair).await;
        west.write_all(b"ping").await.expect("writes");
        let mut four = [0; 4];
        soon("ping", east.read_exact(&mut four)).await.expect("reads");
        east.write_all(b"pong").await.expect("writes");
        soon("pong", west.read_exact(&mut four)).await.expect("reads");
    }
    assert_eq!(pair.dialled.load().bulk, 1);
    source.abort();
    let _ = source.await;
    soon("the sink's end", sink).await.expect("no panic").expect_err("reset");
    assert_eq!(pair.dialled.load().bulk, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_stream_goes_before_all_the_bulk_that_waits() {
    const BULK: usize = 250;
    /// Without its priority it would wait for a packet of each: 300 KB.
    const BEFORE_MAX: u64 = 100_000;
    let (_from, _to, relay, dialled, accepted) = relayed().await;
    let mut streams = Vec::new();
    let mut sinks = JoinSet::new();
    for _ in 0..BULK {
        let mut opened = dialled.open(&header(), Bytes::new()).await.expect("opens");
        let far = incoming(&accepted).await.accept("vm-1".parse().expect("valid"), locality("eu")).await;
        soon("an answer", opened.answer()).await.expect("an answer");
        let mut far = far.expect("accepts");
        sinks.spawn(async move { drop(tokio::io::copy(&mut far, &mut tokio::io::sink()).await) });
        streams.push(opened.into_stream());
    }
    // Each becomes a bulk one.
    let block = vec![1; tunnel::stream::BULK_ABOVE as usize + 1];
    for stream in &mut streams {
        soon("a block", stream.write_all(&block)).await.expect("writes");
    }
    assert_eq!(dialled.load().bulk, BULK as u32);
    let sent = dialled.load().bytes_sent;
    soon("all of it", async {
        while accepted.load().bytes_received < sent {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    // From here nothing arrives. Each of them has something to send, and then the small one.
    relay.cut();
    for stream in &mut streams {
        soon("room", stream.write_all(&block[..4 << 10])).await.expect("writes");
    }
    soon("all that the way takes", relay.exhausts()).await;
    let opening = header();
    let _opened = dialled.open(&opening, Bytes::from_static(b"small")).await.expect("finds room");
    // Some 600 KB/s: on a busy machine the look at what has come may be a tenth of a second late.
    relay.pace(2);
    relay.mend();
    let _small = incoming(&accepted).await;
    let before = accepted.load().bytes_received - sent;
    assert!(before < BEFORE_MAX, "{before} bytes of bulk came before the small stream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interactive_stream_never_waits_behind_bulk_that_fills_the_send_window() {
    const BULK: usize = 4;
    let (_from, _to, relay, dialled, accepted) = relayed().await;
    let mut bulk = JoinSet::new();
    for _ in 0..BULK {
        let mut opened = dialled.open(&header(), Bytes::new()).await.expect("opens");
        let far = incoming(&accepted).await.accept("vm-1".parse().expect("valid"), locality("eu")).await;
        soon("an answer", opened.answer()).await.expect("an answer");
        let (mut near, mut far) = (opened.into_stream(), far.expect("accepts"));
        bulk.spawn(async move {
            let block = vec![1; 64 << 10];
            while near.write_all(&block).await.is_ok() {}
        });
        bulk.spawn(async move { drop(tokio::io::copy(&mut far, &mut tokio::io::sink()).await) });
    }
    soon("bulk", async {
        while dialled.load().bulk < BULK as u32 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    // From here nothing is acknowledged, so that soon nothing more fits.
    relay.cut();
    soon("a full window", async {
        let mut before = None;
        while before != Some(dialled.load().bytes_sent) {
            before = Some(dialled.load().bytes_sent);
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    })
    .await;
    let mut opened = dialled.open(&header(), Bytes::from_static(b"ahead")).await.expect("finds room");
    relay.mend();
    let far = accepted.clone();
    let answered = tokio::spawn(async move {
        let incoming = incoming(&far).await;
        let mut stream =
            incoming.accept("vm-1".parse().expect("valid"), locality("eu")).await.expect("accepts");
        let mut five = [0; 5];
        stream.read_exact(&mut five).await.expect("reads");
        // Dropped, it would be reset, and its answer with it.
        (five, stream)
    });
    soon("an answer", opened.answer()).await.expect("an answer");
    let (five, _stream) = soon("the bytes", answered).await.expect("no panic");
    assert_eq!(&five, b"ahead");
    bulk.abort_all();
}
