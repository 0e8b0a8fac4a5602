//! Streams: opened, accepted, refused.

use crate::support::{Node, Site, accepted_stream, header, incoming, lan, locality, pair, raw_peer, soon};
use bytes::Bytes;
use model::decision::{Refusal, RefusalCode};
use model::tunnel::{ALPN, Answer, HEADER_MAX};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tunnel::{OpenError, Roles, StreamCode};

#[tokio::test]
async fn a_stream_is_opened_accepted_and_carries_bytes_both_ways() {
    let pair = pair().await;
    let sent = header();
    let mut opened = pair.dialled.open(&sent, Bytes::from_static(b"ahead ")).await.expect("opens");
    let incoming = incoming(&pair.accepted).await;
    assert_eq!(incoming.header(), &sent);
    let mut east =
        incoming.accept("vm-1".parse().expect("valid"), locality("eu/fra")).await.expect("accepts");
    let answer = soon("an answer", opened.answer()).await.expect("answers");
    let expected =
        Answer::Accepted { endpoint: "vm-1".parse().expect("valid"), locality: locality("eu/fra") };
    assert_eq!(answer, expected);
    let mut west = opened.into_stream();
    assert_eq!((pair.dialled.load().streams, pair.accepted.load().streams), (1, 1));
    west.write_all(b"and behind").await.expect("writes");
    west.shutdown().await.expect("ends");
    let mut text = String::new();
    east.read_to_string(&mut text).await.expect("reads");
    assert_eq!(text, "ahead and behind");
    east.write_all(b"back").await.expect("writes");
    east.shutdown().await.expect("ends");
    let mut text = String::new();
    west.read_to_string(&mut text).await.expect("reads");
    assert_eq!(text, "back");
    drop((west, east));
    assert_eq!((pair.dialled.load().streams, pair.accepted.load().streams), (0, 0));
}

#[tokio::test]
async fn a_refusal_arrives_with_its_reason() {
    let pair = pair().await;
    let mut opened = pair.dialled.open(&header(), Bytes::from_static(b"x")).await.expect("opens");
    let refusal =
        Refusal { code: RefusalCode::NoEndpoint, retryable: true, detail: "none is healthy".to_owned() };
    incoming(&pair.accepted).await.refuse(refusal.clone()).await;
    assert_eq!(soon("an answer", opened.answer()).await, Ok(Answer::Refused(refusal)));
}

#[tokio::test]
async fn a_stream_that_is_dropped_unanswered_is_given_up_not_ended() {
    let pair = pair().await;
    let mut opened = pair.dialled.open(&header(), Bytes::new()).await.expect("opens");
    drop(incoming(&pair.accepted).await);
    assert_eq!(soon("an answer", opened.answer()).await, Err(OpenError::GivenUp(StreamCode::Dropped)));
}

#[tokio::test]
async fn an_opener_that_gives_up_is_noticed() {
    let pair = pair().await;
    let opened = pair.dialled.open(&header(), Bytes::new()).await.expect("opens");
    let incoming = incoming(&pair.accepted).await;
    opened.cancel();
    let mut east = match incoming.accept("vm-1".parse().expect("valid"), locality("eu")).await {
        Ok(stream) => stream,
        Err(_) => return,
    };
    soon("the reset", east.read(&mut [0; 8])).await.expect_err("reset");
}

#[tokio::test]
async fn a_dropped_stream_is_reset_so_that_it_does_not_look_whole() {
    let pair = pair().await;
    let (mut west, mut east) = accepted_stream(&pair).await;
    west.write_all(b"half").await.expect("writes");
    drop(west);
    let mut bytes = Vec::new();
    soon("the reset", east.read_to_end(&mut bytes)).await.expect_err("no clean end");
    drop(east);
    for node in [&pair.west, &pair.east] {
        let reset = &node.tunnel.counters().streams_reset;
        assert_eq!(reset[&StreamCode::Dropped], 1, "each side counts it: {reset:?}");
    }
}

/// A gateway that takes streams and refuses none that has a header, and a peer that can send it anything.
async fn raw_pair(config: tunnel::Config) -> (Node, tunnel::Connection, quinn::Connection) {
    let (west, east) = (Site::new("west"), Site::new("east"));
    let config = config.accepting(Roles::of_gateway());
    let node = Node::new(east.credentials("gateway/gw-0"), east.trust(&[&west]), config);
    let raw = raw_peer(Some(west.credentials("gateway/gw-0")), &node, &east, ALPN).await.expect("connects");
    let accepted = node.accept().await;
    (node, accepted, raw)
}

async fn answer_to(raw: &quinn::Connection, bytes: &[u8], end: bool) -> Answer {
    let (mut send, mut recv) = raw.open_bi().await.expect("opens");
    send.write_all(bytes).await.expect("writes");
    if end {
        send.finish().expect("ends");
    }
    let answer = soon("the answer", recv.read_to_end(2_000)).await.expect("an answer and a clean end");
    wire::frame::decode_answer(&answer[2..]).expect("an answer")
}

#[tokio::test]
async fn a_header_that_cannot_be_is_refused_with_the_reason() {
    let (_node, accepted, raw) = raw_pair(lan()).await;
    let too_long = (HEADER_MAX as u16 + 1).to_be_bytes();
    let cases: [(&[u8], &str); 6] = [
        (&[], "ended after 0 bytes"),
        (&[0], "ended after 1 bytes"),
        (&[0, 9, 1, 2, 3], "ended after 5 bytes"),
        (&too_long, "1025 bytes"),
        (&[0, 0], "stream header"),
        (&[0, 3, 0xff, 0xff, 0xff], "stream header"),
    ];
    for (bytes, reason) in cases {
        let Answer::Refused(refusal) = answer_to(&raw, bytes, true).await else { panic!("took {bytes:?}") };
        assert_eq!(refusal.code, RefusalCode::BadHeader);
        assert!(!refusal.retryable && refusal.detail.contains(reason), "{bytes:?}: {}", refusal.detail);
    }
    // The connection is none the worse for it.
    let (mut send, _recv) = raw.open_bi().await.expect("opens");
    send.write_all(&wire::frame::encode_header(&header()).expect("fits")).await.expect("writes");
    incoming(&accepted).await;
}

#[tokio::test]
async fn a_header_that_is_too_slow_is_refused_and_holds_up_nobody() {
    let config = tunnel::Config { header_timeout: Duration::from_millis(500), ..lan() };
    let (_node, accepted, raw) = raw_pair(config).await;
    let slow = tokio::spawn({
        let raw = raw.clone();
        async move { answer_to(&raw, &[0], false).await }
    });
    let (mut send, _recv) = raw.open_bi().await.expect("opens");
    send.write_all(&wire::frame::encode_header(&header()).expect("fits")).await.expect("writes");
    incoming(&accepted).await;
    let Answer::Refused(refusal) = slow.await.expect("ends") else { panic!("took it") };
    assert!(refusal.detail.contains("in time"), "{}", refusal.detail);
}

#[tokio::test]
async fn foreign_datagrams_are_ignored() {
    let (_node, accepted, raw) = raw_pair(lan()).await;
    for datagram in [&[][..], &[1], &[1; 29], &[2; 30], &[0; 1_000]] {
        raw.send_datagram(Bytes::copy_from_slice(datagram)).expect("sends");
    }
    let (mut send, _recv) = raw.open_bi().await.expect("opens");
    send.write_all(&wire::frame::encode_header(&header()).expect("fits")).await.expect("writes");
    incoming(&accepted).await;
}

#[tokio::test]
async fn a_draining_peer_says_so() {
    let pair = pair().await;
    pair.accepted.set_draining(true);
    let mut health = pair.dialled.watch();
    soon("draining", health.wait_for(|health| health.peer_draining)).await.expect("still there");
    pair.accepted.set_draining(false);
    soon("taking again", health.wait_for(|health| !health.peer_draining)).await.expect("still there");
}
