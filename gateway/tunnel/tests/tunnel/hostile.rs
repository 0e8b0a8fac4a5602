//! A peer that is who it says and sends anything: first frames and datagrams of any content. Each stream is answered or
//! ended, the connection goes on, and other peers are served.

use crate::support::{Node, Site, connect, header, incoming, lan, locality, raw_peer, soon};
use ::hostile::{any_bytes, changed, changes, is_readable};
use bytes::Bytes;
use model::decision::{Refusal, RefusalCode};
use model::tunnel::{ALPN, Answer, HEADER_MAX, Probe};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use tunnel::{Config, Connection, Roles};

/// East, which takes gateways of west; and a gateway of west that speaks as it likes, with what east sees of it.
struct Stage {
    east: Node,
    raw: quinn::Connection,
    /// Another gateway of west, which keeps to the protocol.
    other: (Connection, Connection),
    _other: Node,
    seen: Connection,
}

async fn stage() -> Stage {
    let (west, east_site) = (Site::new("west"), Site::new("east"));
    let config = Config { header_timeout: std::time::Duration::from_secs(2), ..lan() };
    let config = config.accepting(Roles::of_gateway());
    let east = Node::new(east_site.credentials("gateway/gw-0"), east_site.trust(&[&west]), config);
    let (raw, seen) = tokio::join!(
        raw_peer(Some(west.credentials("gateway/gw-1")), &east, &east_site, ALPN),
        east.accept()
    );
    let node = west.gateway(&[&east_site]);
    let other = connect(&node, &east_site, &east, east.address()).await;
    Stage { east, raw: raw.expect("connects"), other, _other: node, seen }
}

impl Stage {
    /// The peer that keeps to the protocol is served, over a connection that nothing has closed.
    async fn serves(&self) {
        let (dialled, accepted) = &self.other;
        let mut opened = soon("an open", dialled.open(&header(), Bytes::new())).await.expect("opens");
        let stream = incoming(accepted).await.accept("vm-1".parse().expect("valid"), locality("eu")).await;
        assert!(matches!(soon("an answer", opened.answer()).await, Ok(Answer::Accepted { .. })));
        drop(stream);
    }
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("starts")
}

/// First frames: random bytes, a changed header, and lengths that lie.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let valid = || wire::frame::encode_header(&header()).expect("it fits");
    let lying =
        (any::<u16>(), any_bytes()).prop_map(|(length, body)| [&length.to_be_bytes()[..], &body].concat());
    prop_oneof![
        1 => any_bytes(),
        2 => lying,
        1 => Just(((HEADER_MAX + 1) as u16).to_be_bytes().to_vec()),
        4 => changes().prop_map(move |changes| changed(&valid(), &valid(), &changes)),
    ]
}

/// What east answers to the first frame, with its half closed behind it or not.
async fn answer_to(stage: &Stage, frame: &[u8], ends: bool) -> Option<Answer> {
    let (mut send, mut recv) = soon("a stream", stage.raw.open_bi()).await.expect("opens");
    // It may be stopped while it still sends.
    let _ = send.write_all(frame).await;
    if ends {
        let _ = send.finish();
    }
    let answered = soon("an answer or an end", recv.read_to_end(2 + HEADER_MAX)).await.ok()?;
    let (length, body) = answered.split_first_chunk()?;
    assert_eq!(wire::frame::short_length(*length), Ok(body.len()));
    Some(wire::frame::decode_answer(body).expect("what it sends is an answer"))
}

#[test]
fn whatever_stands_in_a_first_frame_the_stream_is_answered_and_the_others_go_on() {
    let runtime = runtime();
    let stage = runtime.block_on(stage());
    let seen = stage.seen.clone();
    runtime.spawn(async move {
        // What is a header after all goes to the one who accepts; who refuses it here.
        while let Ok(stream) = seen.accept_stream().await {
            let detail = "read as a header".to_owned();
            let refusal = Refusal { code: RefusalCode::UnknownService, retryable: false, detail };
            tokio::spawn(stream.refuse(refusal));
        }
    });
    let test = |frame: Vec<u8>| {
        runtime.block_on(async {
            match answer_to(&stage, &frame, true).await {
                Some(Answer::Refused(refusal)) => {
                    let code = refusal.code;
                    assert!(matches!(code, RefusalCode::BadHeader | RefusalCode::UnknownService), "{code:?}");
                    is_readable(&refusal.detail);
                }
                Some(accepted) => panic!("{accepted:?}"),
                None => panic!("no answer to {frame:?}"),
            }
        });
        Ok::<_, TestCaseError>(())
    };
    runner(200).run(&frames(), test).unwrap_or_else(|failure| panic!("{failure}"));
    runtime.block_on(stage.serves());
    assert!(stage.seen.close_reason().is_none());
    let refused = stage.east.tunnel.counters().streams_refused;
    assert!(refused.get(&RefusalCode::BadHeader).is_some_and(|count| *count > 0), "{refused:?}");
}

#[tokio::test]
async fn a_frame_that_is_cut_off_too_long_or_never_ends_is_refused_with_its_fault() {
    let stage = stage().await;
    let whole = wire::frame::encode_header(&header()).expect("it fits");
    let too_long = ((HEADER_MAX + 1) as u16).to_be_bytes();
    for (frame, ends, why) in [
        (&whole[..whole.len() - 1], true, "the stream ended after"),
        (&whole[..1], true, "the stream ended after 1 bytes"),
        (&[][..], true, "the stream ended after 0 bytes"),
        (&too_long[..], false, "1025 bytes, at most 1024"),
        (&[0xff; 3_000][..], false, "65535 bytes, at most 1024"),
        (&[0, 0][..], false, "kind"),
        (&[0, 2, 0xff, 0xff][..], false, "the bytes are not such a message"),
        (&whole[..1], false, "not complete in time"),
    ] {
        match answer_to(&stage, frame, ends).await {
            Some(Answer::Refused(refusal)) => {
                assert!(refusal.detail.contains(why), "{why}: {}", refusal.detail)
            }
            other => panic!("{why}: {other:?}"),
        }
    }
    stage.serves().await;
}

#[test]
fn whatever_datagrams_a_peer_sends_its_connection_and_the_others_go_on() {
    let runtime = runtime();
    let stage = runtime.block_on(stage());
    let probe = || (any::<u64>(), any::<u64>(), any::<u32>(), any::<u64>(), any::<(bool, bool)>());
    let probe = probe().prop_map(|(sequence, heard, held_us, heard_count, (draining, asks))| {
        wire::probe::encode(&Probe { sequence, heard, held_us, heard_count, draining, asks }, 0).to_vec()
    });
    let datagram = prop_oneof![
        1 => any_bytes(),
        2 => probe.clone(),
        2 => (probe, changes()).prop_map(|(valid, changes)| changed(&valid, &[0xff; 40], &changes)),
    ];
    let test = |datagram: Vec<u8>| {
        runtime.block_on(async {
            // Longer ones than fit a packet are not sent.
            let _ = stage.raw.send_datagram(datagram.into());
            tokio::task::yield_now().await;
        });
        Ok::<_, TestCaseError>(())
    };
    runner(600).run(&datagram, test).unwrap_or_else(|failure| panic!("{failure}"));
    runtime.block_on(async {
        soon("a count", async {
            while stage.east.tunnel.counters().datagrams_dropped == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
        stage.serves().await;
        assert!(stage.seen.close_reason().is_none());
        // The one who sent them is served as well.
        let (mut send, _recv) = soon("a stream", stage.raw.open_bi()).await.expect("opens");
        send.write_all(&wire::frame::encode_header(&header()).expect("it fits")).await.expect("writes");
        assert_eq!(incoming(&stage.seen).await.header().hops, 0);
    });
}
