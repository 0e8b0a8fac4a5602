//! The proxy on loopback, spoken to byte by byte.

mod callers;

use callers::names;
use local::proxy::{HandshakeError, Pending, ProxyLimits, handshake};
use model::decision::{Refusal, RefusalCode};
use model::service::PortKey;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// A client, and the handshake of the other side with it.
async fn dial(limits: ProxyLimits) -> (TcpStream, JoinHandle<Result<Pending, HandshakeError>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("listens");
    let (stream, _) = listener.accept().await.expect("accepts");
    (client, tokio::spawn(async move { handshake(stream, &names(true), &limits).await }))
}

async fn heard(task: JoinHandle<Result<Pending, HandshakeError>>) -> Result<Pending, HandshakeError> {
    timeout(PATIENCE, task).await.expect("in time").expect("no panic")
}

async fn read(client: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    timeout(PATIENCE, client.read_exact(&mut bytes)).await.expect("in time").expect("there is more");
    bytes
}

async fn read_to_end(client: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut bytes)).await.expect("in time").expect("ends in order");
    String::from_utf8(bytes).expect("text")
}

fn socks_name(host: &str, port: u16) -> Vec<u8> {
    let mut bytes = vec![5, 1, 0, 3, u8::try_from(host.len()).expect("short")];
    bytes.extend_from_slice(host.as_bytes());
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes
}

fn refusal(code: RefusalCode) -> Refusal {
    Refusal { code, retryable: false, detail: "no healthy endpoint in 3 sites".to_owned() }
}

#[tokio::test]
async fn socks5_grants_when_somebody_serves_and_not_before() {
    let (mut client, task) = dial(ProxyLimits::default()).await;
    client.write_all(&[5, 2, 0, 2]).await.expect("open");
    assert_eq!(read(&mut client, 2).await, [5, 0]);
    client.write_all(&socks_name("cart.shop.svc.clusterset.local", 8080)).await.expect("open");
    let pending = heard(task).await.expect("a request");
    assert_eq!(pending.target().service.to_string(), "shop/cart");
    assert_eq!(pending.target().port, PortKey::tcp(8080));
    let early = timeout(Duration::from_millis(100), client.read_u8()).await;
    assert!(early.is_err(), "nothing is said before it is granted");
    let mut stream = pending.granted().await.expect("open");
    assert_eq!(read(&mut client, 10).await, [5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    stream.write_all(b"hello").await.expect("open");
    assert_eq!(read(&mut client, 5).await, b"hello");
}

#[tokio::test]
async fn socks5_takes_virtual_ips_and_a_request_in_one_piece_with_the_first_bytes() {
    let (mut client, task) = dial(ProxyLimits::default()).await;
    client.write_all(&[5, 1, 0, 5, 1, 0, 1, 127, 64, 0, 2, 0x1f, 0x90, b'x', b'y']).await.expect("open");
    let pending = heard(task).await.expect("a request");
    assert_eq!(pending.target().service.to_string(), "shop/cart");
    let mut stream = pending.granted().await.expect("open");
    let mut rest = [0; 2];
    stream.read_exact(&mut rest).await.expect("the first bytes follow");
    assert_eq!(&rest, b"xy");
}

#[tokio::test]
async fn socks5_refuses_with_the_code_that_fits() {
    let name = |host| socks_name(host, 80);
    for (request, code) in [
        (name("example.com"), 2),
        (name("east.cart.shop.svc.clusterset.local"), 4),
        (vec![5, 1, 0, 1, 127, 64, 9, 9, 0, 80], 4),
        (vec![5, 1, 0, 1, 10, 0, 0, 1, 0, 80], 2),
        ([vec![5, 1, 0, 4], vec![0; 18]].concat(), 8),
        (vec![5, 1, 0, 9, 0, 0], 8),
        ([vec![5, 2, 0, 1], vec![127, 64, 0, 2, 0, 80]].concat(), 7),
        (vec![4, 1, 0, 1, 127, 64, 0, 2, 0, 80], 1),
    ] {
        let (mut client, task) = dial(ProxyLimits::default()).await;
        client.write_all(&[5, 1, 0]).await.expect("open");
        read(&mut client, 2).await;
        client.write_all(&request).await.expect("open");
        let reply = read(&mut client, 10).await;
        assert_eq!((reply[0], reply[1]), (5, code), "{request:?}");
        drop(client);
        assert!(heard(task).await.is_err());
    }
    for (code, expected) in [
        (RefusalCode::Denied, 2),
        (RefusalCode::NoPath, 3),
        (RefusalCode::UnknownService, 4),
        (RefusalCode::NoEndpoint, 5),
        (RefusalCode::Overloaded, 1),
    ] {
        let (mut client, task) = dial(ProxyLimits::default()).await;
        client.write_all(&[5, 1, 0]).await.expect("open");
        client.write_all(&name("cart.shop.svc.clusterset.local")).await.expect("open");
        let pending = heard(task).await.expect("a request");
        let told = tokio::spawn(async move { pending.refused(&refusal(code)).await });
        assert_eq!(read(&mut client, 12).await[3], expected);
        assert_eq!(client.read(&mut [0]).await.expect("ends in order"), 0);
        drop(client);
        told.await.expect("no panic").expect("told");
    }
}

#[tokio::test]
async fn socks_clients_that_want_more_than_there_is_are_told() {
    let (mut client, task) = dial(ProxyLimits::default()).await;
    client.write_all(&[5, 1, 2]).await.expect("open");
    assert_eq!(read(&mut client, 2).await, [5, 0xff]);
    drop(client);
    assert!(heard(task).await.expect_err("no method").to_string().contains("authentication"));

    let (mut client, task) = dial(ProxyLimits::default()).await;
    client.write_all(&[4, 1, 0, 80, 127, 64, 0, 2, 0]).await.expect("open");
    assert_eq!(read(&mut client, 2).await, [0, 0x5b]);
    drop(client);
    assert!(heard(task).await.expect_err("version 4").to_string().contains("SOCKS5"));
}

#[tokio::test]
async fn http_connect_grants_and_leaves_what_follows_unread() {
    let (mut client, task) = dial(ProxyLimits::default()).await;
    // In pieces, with the end of the head split, and the first bytes of the service behind it.
    for piece in ["CONN", "ECT cart.shop.svc.clusterset.local:8080 HTTP/1.1\r\nHost: x\r\n\r", "\nhello"] {
        client.write_all(piece.as_bytes()).await.expect("open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pending = heard(task).await.expect("a request");
    assert_eq!(pending.target().service.to_string(), "shop/cart");
    let (mut stream, replies) = pending.into_parts();
    stream.write_all(&replies.granted()).await.expect("open");
    assert_eq!(read(&mut client, 39).await, b"HTTP/1.1 200 Connection Established\r\n\r\n");
    let mut first = [0; 5];
    stream.read_exact(&mut first).await.expect("the first bytes follow");
    assert_eq!(&first, b"hello");
}

#[tokio::test]
async fn http_connect_refuses_with_a_status_and_the_reason() {
    for (request, status) in [
        ("CONNECT example.com:443 HTTP/1.1", "403"),
        ("CONNECT cart.shop.svc.clusterset.local HTTP/1.1", "400"),
        ("CONNECT 127.64.9.9:80 HTTP/1.1", "502"),
        ("GET http://cart.shop.svc.clusterset.local:8080/ HTTP/1.1", "405"),
    ] {
        let (mut client, task) = dial(ProxyLimits::default()).await;
        client.write_all(format!("{request}\r\n\r\n").as_bytes()).await.expect("open");
        let reply = read_to_end(&mut client).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {reply}");
        assert!(reply.contains("meshfed: "), "{reply}");
        drop(client);
        assert!(heard(task).await.is_err());
    }
    let (mut client, task) = dial(ProxyLimits::default()).await;
    client.write_all(b"CONNECT cart.shop.svc.clusterset.local:8080 HTTP/1.1\r\n\r\n").await.expect("open");
    let pending = heard(task).await.expect("a request");
    let told = tokio::spawn(async move { pending.refused(&refusal(RefusalCode::NoEndpoint)).await });
    let reply = read_to_end(&mut client).await;
    assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
    assert!(reply.ends_with("meshfed: no endpoint: no healthy endpoint in 3 sites\n"), "{reply}");
    drop(client);
    told.await.expect("no panic").expect("told");
}

#[tokio::test]
async fn sizes_and_times_are_bounded() {
    let (mut client, task) = dial(ProxyLimits::default()).await;
    let long = format!("CONNECT a:1 HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    client.write_all(long.as_bytes()).await.expect("open");
    let reply = read_to_end(&mut client).await;
    assert!(reply.starts_with("HTTP/1.1 431 "), "{reply}");
    drop(client);
    assert!(matches!(heard(task).await, Err(HandshakeError::Protocol { .. })));

    let limits = ProxyLimits { handshake_timeout: Duration::from_millis(50), ..ProxyLimits::default() };
    for begun in [b"".as_slice(), b"\x05", b"\x05\x01\x00\x05", b"CONNECT a"] {
        let (mut client, task) = dial(limits).await;
        client.write_all(begun).await.expect("open");
        assert!(matches!(heard(task).await, Err(HandshakeError::TimedOut { .. })), "{begun:?}");
    }
}

#[tokio::test]
async fn what_is_no_proxy_protocol_is_refused_whatever_it_is() {
    for bytes in [vec![0; 100], vec![0x16, 3, 1], b"hello".to_vec(), vec![255; 100_000]] {
        let (client, task) = dial(ProxyLimits::default()).await;
        let (mut reader, mut writer) = client.into_split();
        let send = tokio::spawn(async move {
            // It may be cut off while it still sends.
            let _ = writer.write_all(&bytes).await;
            writer
        });
        assert!(matches!(heard(task).await, Err(HandshakeError::Protocol { .. })));
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, reader.read_to_end(&mut rest)).await.expect("in time");
        assert!(rest.is_empty());
        send.await.expect("no panic");
    }
    let (client, task) = dial(ProxyLimits::default()).await;
    drop(client);
    assert!(matches!(heard(task).await, Err(HandshakeError::Gone { .. })));
}
