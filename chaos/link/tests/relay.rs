//! Real sockets through a relay.

use relay::{Config, Direction, Link, Profile, Relay, Source};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(10);
/// Long enough to be nearly sure that nothing comes; only used where nothing should.
const SILENCE: Duration = Duration::from_millis(150);

/// A target that sends every datagram back to where it came from.
async fn mirror() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..length], from).await;
        }
    });
    address
}

async fn client(ip: &str, relay: &Relay) -> UdpSocket {
    let socket = UdpSocket::bind(format!("{ip}:0")).await.expect("a free port");
    socket.connect(relay.address()).await.expect("no connection is made");
    socket
}

async fn through(target: SocketAddr, link: &Link) -> Relay {
    let source = Source {
        address: "127.0.0.1".parse().expect("valid"),
        link: link.clone(),
        direction: Direction::Forth,
    };
    let config = Config { listen: "127.0.0.1:0".parse().expect("valid"), target, sources: vec![source] };
    Relay::bind(config).await.expect("a free port")
}

async fn round_trip(socket: &UdpSocket, text: &[u8]) -> Duration {
    let begin = Instant::now();
    socket.send(text).await.expect("sent");
    let mut buffer = [0; 2048];
    let length = timeout(LONG, socket.recv(&mut buffer)).await.expect("in time").expect("received");
    assert_eq!(&buffer[..length], text);
    begin.elapsed()
}

async fn is_silent(socket: &UdpSocket, text: &[u8]) -> bool {
    socket.send(text).await.expect("sent");
    let mut buffer = [0; 2048];
    timeout(SILENCE, socket.recv(&mut buffer)).await.is_err()
}

#[tokio::test]
async fn datagrams_go_there_and_back_after_the_delay() {
    let link = Link::new("a-b", Profile { rtt: Duration::from_millis(60), loss: 0.0 }, 1);
    let relay = through(mirror().await, &link).await;
    let socket = client("127.0.0.1", &relay).await;
    assert!(round_trip(&socket, b"one").await >= Duration::from_millis(58));
    link.set_profile(Profile::default());
    round_trip(&socket, b"two").await;
    assert_eq!(link.count(Direction::Forth).passed, 2);
    assert_eq!(link.count(Direction::Back).passed, 2);
}

#[tokio::test]
async fn a_round_trip_takes_as_long_as_was_asked() {
    let rtt = Duration::from_millis(50);
    let link = Link::new("a-b", Profile { rtt, loss: 0.0 }, 1);
    let relay = through(mirror().await, &link).await;
    let socket = client("127.0.0.1", &relay).await;
    let mut taken = Vec::new();
    for _ in 0..20 {
        taken.push(round_trip(&socket, b"one").await);
    }
    // A busy machine makes some of them late, and not all.
    let nearest = taken.iter().map(|taken| taken.abs_diff(rtt)).min().expect("there are twenty");
    assert!(nearest <= Duration::from_millis(1), "{taken:?}");
}

#[tokio::test]
async fn order_is_kept_when_the_delay_shrinks() {
    let link = Link::new("a-b", Profile { rtt: Duration::from_millis(100), loss: 0.0 }, 1);
    let relay = through(mirror().await, &link).await;
    let socket = client("127.0.0.1", &relay).await;
    socket.send(&[0]).await.expect("sent");
    // The relay must have taken the first one in before the delay changes.
    tokio::time::sleep(Duration::from_millis(20)).await;
    link.set_profile(Profile::default());
    for n in 1..10u8 {
        socket.send(&[n]).await.expect("sent");
    }
    let mut buffer = [0; 8];
    for n in 0..10u8 {
        timeout(LONG, socket.recv(&mut buffer)).await.expect("in time").expect("received");
        assert_eq!(buffer[0], n);
    }
}

#[tokio::test]
async fn a_cut_stops_both_ways_and_heals() {
    let link = Link::new("a-b", Profile::default(), 1);
    let relay = through(mirror().await, &link).await;
    let socket = client("127.0.0.1", &relay).await;
    round_trip(&socket, b"before").await;
    link.cut();
    assert!(is_silent(&socket, b"lost").await);
    link.heal();
    round_trip(&socket, b"after").await;
}

#[tokio::test]
async fn a_one_way_cut_stops_one_way() {
    let link = Link::new("a-b", Profile::default(), 1);
    let relay = through(mirror().await, &link).await;
    let socket = client("127.0.0.1", &relay).await;
    link.cut_one_way(Direction::Back);
    assert!(is_silent(&socket, b"there").await);
    assert_eq!(link.count(Direction::Forth).passed, 1);
    assert_eq!(link.count(Direction::Back).dropped, 1);
}

#[tokio::test]
async fn each_source_has_a_link_and_a_socket_of_its_own() {
    let target = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let [ab, ac] = ["a-b", "a-c"].map(|name| Link::new(name, Profile::default(), 1));
    let source = |ip: &str, link: &Link| Source {
        address: ip.parse().expect("valid"),
        link: link.clone(),
        direction: Direction::Back,
    };
    let relay = Relay::bind(Config {
        listen: "127.0.0.1:0".parse().expect("valid"),
        target: target.local_addr().expect("bound"),
        sources: vec![source("127.0.0.2", &ab), source("127.0.0.3", &ac)],
    })
    .await
    .expect("a free port");
    ab.cut();
    let (b, c, same_site) = (
        client("127.0.0.2", &relay).await,
        client("127.0.0.3", &relay).await,
        client("127.0.0.4", &relay).await,
    );
    b.send(b"b").await.expect("sent");
    c.send(b"c").await.expect("sent");
    same_site.send(b"s").await.expect("sent");
    let mut seen = Vec::new();
    let mut buffer = [0; 8];
    for _ in 0..2 {
        let (length, from) =
            timeout(LONG, target.recv_from(&mut buffer)).await.expect("in time").expect("received");
        assert!(!seen.iter().any(|(_, other)| *other == from), "two sources share a socket");
        seen.push((buffer[..length].to_vec(), from));
    }
    seen.sort();
    assert_eq!(seen.iter().map(|(text, _)| text.as_slice()).collect::<Vec<_>>(), [b"c", b"s"]);
    assert_eq!(ab.count(Direction::Back).dropped, 1);
    assert_eq!(ac.count(Direction::Back).passed, 1);
}

#[tokio::test]
async fn a_target_may_die_and_come_back() {
    let target = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let address = target.local_addr().expect("bound");
    let link = Link::new("a-b", Profile::default(), 1);
    let relay = through(address, &link).await;
    let socket = client("127.0.0.1", &relay).await;
    drop(target);
    for _ in 0..5 {
        assert!(is_silent(&socket, b"nobody is there").await);
    }
    let target = UdpSocket::bind(address).await.expect("free again");
    let mut buffer = [0; 64];
    socket.send(b"back").await.expect("sent");
    let (length, from) =
        timeout(LONG, target.recv_from(&mut buffer)).await.expect("in time").expect("received");
    assert_eq!(&buffer[..length], b"back");
    target.send_to(b"yes", from).await.expect("sent");
    let length = timeout(LONG, socket.recv(&mut buffer)).await.expect("in time").expect("received");
    assert_eq!(&buffer[..length], b"yes");
}

#[tokio::test]
async fn no_socket_of_a_link_refuses_a_stranger() {
    let target = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let relay = through(target.local_addr().expect("bound"), &Link::new("a-b", Profile::default(), 1)).await;
    let socket = client("127.0.0.1", &relay).await;
    socket.send(b"x").await.expect("sent");
    let mut buffer = [0; 64];
    let (_, towards_target) =
        timeout(LONG, target.recv_from(&mut buffer)).await.expect("in time").expect("received");
    let stranger = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    stranger.connect(towards_target).await.expect("no connection is made");
    // A refusal would be an error of this socket, and what the stranger sends must not reach the source.
    assert!(is_silent(&stranger, b"is anybody there?").await);
    assert!(timeout(SILENCE, socket.recv(&mut buffer)).await.is_err());
}

#[tokio::test]
async fn a_closed_relay_frees_its_address() {
    let relay = through(mirror().await, &Link::new("a-b", Profile::default(), 1)).await;
    let address = relay.address();
    let taken = Relay::bind(Config { listen: address, target: address, sources: vec![] }).await;
    assert!(taken.expect_err("taken").to_string().contains("is the address free?"));
    let socket = client("127.0.0.1", &relay).await;
    round_trip(&socket, b"x").await;
    relay.close().await;
    let mut tries = 0;
    // The tasks of its flows hold the socket a moment longer.
    while UdpSocket::bind(address).await.is_err() {
        tries += 1;
        assert!(tries < 500, "still taken");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
