//! Callers of the proxy and of DNS that send anything, in any pieces, and close either half at any byte: each handshake
//! ends, with what was asked for or with a reason, and the others are served.

mod callers;

use callers::*;
use hickory_server::proto::op::Message;
use hostile::{any_bytes, chain, changed, changes};
use local::proxy::{HandshakeError, ProxyLimits, handshake};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::Union;
use proptest::test_runner::{TestCaseError, TestRunner};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts")
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let changed = (any::<Index>(), any::<Index>(), changes()).prop_map(|(valid, other, changes)| {
        let requests = requests();
        changed(valid.get::<Vec<u8>>(&requests), other.get::<Vec<u8>>(&requests), &changes)
    });
    prop_oneof![1 => any_bytes(), 4 => changed]
}

#[test]
fn whatever_a_caller_of_the_proxy_sends_it_is_served_or_told_why_not() {
    let runtime = runtime();
    let test = |bytes: Vec<u8>| {
        drop(runtime.block_on(call(&[&bytes])));
        Ok(())
    };
    runner(400).run(&hostile(), test).unwrap_or_else(|failure| panic!("{failure}"));
}

/// Where a request is cut into pieces changes nothing.
#[test]
fn one_byte_at_a_time_asks_for_the_same() {
    let runtime = runtime();
    let same = |bytes: &[u8]| {
        let whole = runtime.block_on(call(&[bytes]));
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let single = runtime.block_on(call(&single));
        let shown = |outcome: &Outcome| match outcome {
            Ok(service) => service.clone(),
            // That the connection was cut while the caller still sent is seen sooner or later.
            Err(HandshakeError::Gone { .. }) => "gone".to_owned(),
            Err(error) => chain(error).split_once(' ').map(|(_, why)| why.to_owned()).unwrap_or_default(),
        };
        assert_eq!(shown(&whole.0), shown(&single.0), "{bytes:?}");
    };
    for request in requests() {
        same(&request);
        let (outcome, _) = runtime.block_on(call(&[&request]));
        assert_eq!(outcome.expect("served"), "shop/cart");
    }
    let test = |bytes: Vec<u8>| {
        same(&bytes[..bytes.len().min(200)]);
        Ok(())
    };
    runner(60).run(&hostile(), test).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_caller_that_closes_its_half_after_any_byte_does_not_hold_its_place() {
    let runtime = runtime();
    for request in requests() {
        for end in 0..request.len() {
            let (outcome, _) = runtime.block_on(call(&[&request[..end]]));
            assert!(matches!(outcome, Err(HandshakeError::Gone { .. })), "{end} of {request:?}: {outcome:?}");
        }
        // Half closed behind the whole request is how a caller says that it has no more to send.
        let (outcome, told) = runtime.block_on(call(&[&request]));
        assert_eq!(outcome.expect("served"), "shop/cart");
        assert!(told.ends_with(&[0, 0, 0, 0, 0, 0]) || told.starts_with(b"HTTP/1.1 200 "), "{told:?}");
    }
}

#[tokio::test]
async fn slow_writers_are_let_go_at_the_end_of_their_time_and_others_are_served_meanwhile() {
    let limits = ProxyLimits { handshake_timeout: Duration::from_millis(500), ..ProxyLimits::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let mut slow = tokio::task::JoinSet::new();
    for number in 0..40 {
        let request = requests().swap_remove(number % requests().len());
        let mut client = TcpStream::connect(address).await.expect("listens");
        let (stream, _) = listener.accept().await.expect("accepts");
        slow.spawn(async move { handshake(stream, &names(true), &limits).await.map(drop) });
        tokio::spawn(async move {
            // One byte in a tenth of a second: longer in all than the time that there is.
            for byte in request {
                if client.write_all(&[byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
    let (outcome, _) = call(&[&requests()[0]]).await;
    assert_eq!(outcome.expect("served"), "shop/cart");
    while let Some(ended) = soon("the end of a slow handshake", slow.join_next()).await {
        let ended = ended.expect("no panic");
        assert!(matches!(ended, Err(HandshakeError::TimedOut { .. })), "{ended:?}");
    }
}

/// DNS messages of strangers: random, or nearly right.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let valid = Union::new(questions().into_iter().map(Just));
    let changed = (valid.clone(), valid, changes()).prop_map(|(valid, other, changes)| {
        let mut bytes = changed(&valid, &other, &changes);
        // See `Server::serves`.
        if let Some(first) = bytes.first_mut() {
            *first &= 0x7f;
        }
        bytes
    });
    prop_oneof![1 => any_bytes().prop_map(|mut bytes| {
        if let Some(first) = bytes.first_mut() {
            *first &= 0x7f;
        }
        bytes
    }), 4 => changed]
}

#[test]
fn whatever_is_asked_over_udp_the_server_goes_on() {
    let runtime = runtime();
    let server = std::cell::RefCell::new(runtime.block_on(Server::start()));
    let test = |bytes: Vec<u8>| {
        let mut server = server.borrow_mut();
        runtime.block_on(async {
            server.socket.send(&bytes).await.expect("sends");
            server.serves().await;
        });
        Ok::<_, TestCaseError>(())
    };
    runner(500).run(&messages(), test).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn whatever_is_asked_over_tcp_the_server_goes_on() {
    let runtime = runtime();
    let server = std::cell::RefCell::new(runtime.block_on(Server::start()));
    // The length before a message is right, or any.
    let input = (messages(), proptest::option::of(any::<u16>()), any::<bool>());
    let test = |(bytes, length, slow): (Vec<u8>, Option<u16>, bool)| {
        let mut server = server.borrow_mut();
        runtime.block_on(async {
            let mut stream = TcpStream::connect(server.address).await.expect("listens");
            let length = length.unwrap_or(bytes.len() as u16).to_be_bytes();
            let whole = [&length[..], &bytes].concat();
            for piece in whole.chunks(if slow { 1 } else { whole.len() }) {
                if stream.write_all(piece).await.is_err() {
                    break;
                }
            }
            // Closed, with an answer unread or a message half sent.
            drop(stream);
            server.serves().await;
        });
        Ok::<_, TestCaseError>(())
    };
    runner(150).run(&input, test).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_name_whose_labels_have_dots_in_them_is_not_ours() {
    let runtime = runtime();
    let mut server = runtime.block_on(Server::start());
    // The labels `x.clusterset` and `local`: another name than `x.clusterset.local`, which is ours.
    let message =
        b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x0cx.clusterset\x05local\x00\x00\x01\x00\x01";
    runtime.block_on(async {
        server.socket.send(message).await.expect("sends");
        let mut buffer = [0; 4_096];
        let length = soon("an answer", server.socket.recv(&mut buffer)).await.expect("a datagram");
        let answer = Message::from_vec(&buffer[..length]).expect("a message");
        assert!(!answer.metadata.authoritative, "{answer}");
        server.serves().await;
    });
}
