//! Real sockets through a relay.

use relay::{Config, Direction, HEADERS, Link, Loss, Rate, Relay, Reorder, Shape, Source};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::Interest;
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

/// A link that does nothing.
fn unharmed(name: &str) -> Link {
    Link::new(name, [Shape::default(); 2], 1)
}

fn delayed(delay: Duration) -> Link {
    Link::new("a-b", [Shape { delay, ..Shape::default() }; 2], 1)
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

async fn next(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let length = timeout(LONG, socket.recv(&mut buffer)).await.expect("in time").expect("received");
    buffer[..length].to_vec()
}

async fn is_silent(socket: &UdpSocket, text: &[u8]) -> bool {
    socket.send(text).await.expect("sent");
    let mut buffer = [0; 2048];
    timeout(SILENCE, socket.recv(&mut buffer)).await.is_err()
}

#[tokio::test]
async fn a_round_trip_takes_as_long_as_was_asked() {
    let (delay, wanted) = (Duration::from_millis(25), Duration::from_millis(50));
    let relay = through(mirror().await, &delayed(delay)).await;
    let socket = client("127.0.0.1", &relay).await;
    let mut taken = Vec::new();
    for _ in 0..40 {
        taken.push(round_trip(&socket, b"one").await);
    }
    taken.sort();
    assert!(taken[0] + Duration::from_millis(1) >= wanted, "one was early: {taken:?}");
    // A busy machine makes some of them late, and the median by far less than this.
    assert!(taken[20] <= wanted + Duration::from_millis(20), "{taken:?}");
}

#[tokio::test]
async fn each_way_is_changed_by_itself_while_it_runs() {
    let link = unharmed("a-b");
    let relay = through(mirror().await, &link).await;
    let socket = client("127.0.0.1", &relay).await;
    round_trip(&socket, b"one").await;
    let slow = Shape { delay: Duration::from_millis(80), ..Shape::default() };
    link.set_shape(Direction::Back, slow);
    assert!(round_trip(&socket, b"two").await >= Duration::from_millis(79));
    assert_eq!(link.set_shape(Direction::Back, Shape::default()), slow);
    round_trip(&socket, b"three").await;
    for direction in Direction::BOTH {
        let count = link.count(direction);
        assert_eq!((count.passed, count.bytes, count.dropped()), (3, 11, 0));
    }
}

#[tokio::test]
async fn order_is_kept_when_the_delay_shrinks() {
    let link = delayed(Duration::from_millis(50));
    let relay = through(mirror().await, &link).await;
    let socket = client("127.0.0.1", &relay).await;
    socket.send(&[0]).await.expect("sent");
    // The relay must have taken the first one in before the delay changes.
    tokio::time::sleep(Duration::from_millis(20)).await;
    for way in Direction::BOTH {
        link.set_shape(way, Shape::default());
    }
    for n in 1..10u8 {
        socket.send(&[n]).await.expect("sent");
    }
    for n in 0..10u8 {
        assert_eq!(next(&socket).await, [n]);
    }
}

/// Sends one after the other, and waits for each to be counted, so that no buffer of the host is full.
async fn send_counted(socket: &UdpSocket, link: &Link, sent: u64) {
    for n in 0..sent {
        socket.send(b"x").await.expect("sent");
        let begin = Instant::now();
        while n % 32 == 31 && offered(link) <= n {
            assert!(begin.elapsed() < LONG, "{} of {n}", offered(link));
            tokio::task::yield_now().await;
        }
    }
    let begin = Instant::now();
    while offered(link) < sent {
        assert!(begin.elapsed() < LONG, "{} of {sent}", offered(link));
        tokio::task::yield_now().await;
    }
}

fn offered(link: &Link) -> u64 {
    let count = link.count(Direction::Forth);
    count.passed + count.dropped()
}

#[tokio::test]
async fn a_relay_loses_within_four_sigma_of_what_was_asked() {
    let (sent, share) = (5_000, 0.3);
    let link = Link::new("a-b", [Shape { loss: Loss::uniform(share), ..Shape::default() }; 2], 1);
    let sink = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let relay = through(sink.local_addr().expect("bound"), &link).await;
    send_counted(&client("127.0.0.1", &relay).await, &link, sent).await;
    let count = link.count(Direction::Forth);
    assert_eq!((count.passed + count.loss, count.dropped() - count.loss), (sent, 0));
    let (wanted, sigma) = (sent as f64 * share, (sent as f64 * share * (1.0 - share)).sqrt());
    assert!((count.loss as f64 - wanted).abs() <= 4.0 * sigma, "{} of {sent}", count.loss);
}

/// Sends datagrams of 100 bytes, and a last one of 40, in one call where the host can; each begins with its number.
async fn send_together(socket: &UdpSocket, to: SocketAddr, first: u8, count: u8) {
    let mut bytes: Vec<u8> = (first..first + count).flat_map(|n| [n; 100]).collect();
    bytes.truncate(bytes.len() - 60);
    let state = quinn_udp::UdpSocketState::new(socket.into()).expect("a socket of the host");
    for train in bytes.chunks(100 * state.max_gso_segments().min(usize::from(count))) {
        let segment_size = Some(100);
        let transmit =
            quinn_udp::Transmit { destination: to, ecn: None, contents: train, segment_size, src_ip: None };
        socket.writable().await.expect("it can be sent from");
        let sent = socket.try_io(Interest::WRITABLE, || state.try_send(socket.into(), &transmit));
        sent.expect("sent");
    }
}

#[tokio::test]
async fn datagrams_that_come_in_together_are_judged_and_sent_one_by_one() {
    let uniform = Shape { loss: Loss::uniform(0.3), ..Shape::default() };
    let delayed = Shape { delay: Duration::from_millis(5), ..uniform };
    let doubled = Shape { duplicate: 0.3, ..uniform };
    for shape in [Shape::default(), uniform, delayed, doubled] {
        let target = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let link = Link::new("a-b", [shape, Shape::default()], 3);
        let relay = through(target.local_addr().expect("bound"), &link).await;
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        send_together(&socket, relay.address(), 0, 30).await;
        send_together(&socket, relay.address(), 30, 30).await;
        let begin = Instant::now();
        while offered(&link) < 60 {
            assert!(begin.elapsed() < LONG, "{:?}", link.count(Direction::Forth));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let count = link.count(Direction::Forth);
        let mut numbers = Vec::new();
        for _ in 0..count.passed + count.copies {
            let datagram = next(&target).await;
            let number = datagram[0];
            let length = if number == 29 || number == 59 { 40 } else { 100 };
            assert_eq!(datagram, vec![number; length], "{shape:?}");
            numbers.push(number);
        }
        assert!(numbers.is_sorted(), "{shape:?}: {numbers:?}");
        numbers.dedup();
        assert_eq!(numbers.len() as u64, count.passed, "{shape:?}: {count:?}");
        assert_eq!(count.passed + count.loss, 60, "{shape:?}: {count:?}");
        assert_eq!(count.loss > 0, shape.loss.share > 0.0);
        assert_eq!(count.copies > 0, shape.duplicate > 0.0);
    }
}

#[tokio::test]
async fn an_empty_datagram_is_a_datagram() {
    let link = unharmed("a-b");
    let relay = through(mirror().await, &link).await;
    let socket = client("127.0.0.1", &relay).await;
    round_trip(&socket, b"").await;
    link.set_shape(Direction::Forth, Shape { delay: Duration::from_millis(1), ..Shape::default() });
    round_trip(&socket, b"").await;
    assert_eq!((link.count(Direction::Forth).passed, link.count(Direction::Back).passed), (2, 2));
}

#[tokio::test]
async fn a_longer_packet_than_the_mtu_vanishes_without_a_word() {
    let shape = Shape { mtu: Some(1_300), ..Shape::default() };
    let link = Link::new("a-b", [shape, Shape::default()], 1);
    let relay = through(mirror().await, &link).await;
    let socket = client("127.0.0.1", &relay).await;
    // 20 bytes of IPv4 and 8 of UDP come to it.
    round_trip(&socket, &[1; 1_272]).await;
    assert!(is_silent(&socket, &[1; 1_273]).await);
    assert_eq!((link.count(Direction::Forth).mtu, link.count(Direction::Forth).passed), (1, 1));
}

#[tokio::test]
async fn copies_arrive_and_packets_held_back_are_overtaken() {
    let link = unharmed("a-b");
    let relay = through(mirror().await, &link).await;
    let socket = client("127.0.0.1", &relay).await;
    let twice = link.impose(Direction::Forth, |shape| shape.duplicate = 1.0);
    socket.send(b"twice").await.expect("sent");
    assert_eq!([next(&socket).await, next(&socket).await], [b"twice", b"twice"]);
    assert_eq!((link.count(Direction::Forth).passed, link.count(Direction::Forth).copies), (1, 1));
    drop(twice);
    let by = Duration::from_secs(1);
    let held = link.impose(Direction::Back, move |shape| shape.reorder = Reorder { share: 1.0, by });
    socket.send(b"first").await.expect("sent");
    let begin = Instant::now();
    // It has come to the way back: it passed the way there.
    while link.count(Direction::Forth).passed < 2 || begin.elapsed() < Duration::from_millis(100) {
        assert!(begin.elapsed() < LONG);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(held);
    socket.send(b"second").await.expect("sent");
    assert_eq!([next(&socket).await, next(&socket).await], [b"second".to_vec(), b"first".to_vec()]);
}

#[tokio::test]
async fn a_narrow_place_drops_what_finds_it_full_and_empties_at_once_when_it_widens() {
    let size = 1_000;
    // A datagram takes 8 s, and five may be there.
    let narrow = Rate { bits_per_second: relay::shape::RATE_MIN, queue_bytes: 5 * size };
    let link = Link::new("a-b", [Shape { rate: Some(narrow), ..Shape::default() }, Shape::default()], 1);
    let relay = through(mirror().await, &link).await;
    let socket = client("127.0.0.1", &relay).await;
    for n in 0..20 {
        socket.send(&vec![n; size - HEADERS]).await.expect("sent");
    }
    let begin = Instant::now();
    while link.count(Direction::Forth).queue < 15 {
        assert!(begin.elapsed() < LONG, "{:?}", link.count(Direction::Forth));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut buffer = [0; 2048];
    assert!(timeout(SILENCE, socket.recv(&mut buffer)).await.is_err(), "nothing has left yet");
    link.set_shape(Direction::Forth, Shape::default());
    for n in 0..5 {
        assert_eq!(next(&socket).await, vec![n; size - HEADERS]);
    }
    assert_eq!((link.count(Direction::Forth).passed, link.count(Direction::Forth).queue), (5, 15));
}

#[tokio::test]
async fn a_cut_stops_both_ways_and_heals() {
    let link = unharmed("a-b");
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
    let link = unharmed("a-b");
    let relay = through(mirror().await, &link).await;
    let socket = client("127.0.0.1", &relay).await;
    link.cut_one_way(Direction::Back);
    assert!(is_silent(&socket, b"there").await);
    assert_eq!(link.count(Direction::Forth).passed, 1);
    assert_eq!((link.count(Direction::Back).cut, link.count(Direction::Back).dropped()), (1, 1));
}

#[tokio::test]
async fn each_source_has_a_link_and_a_socket_of_its_own() {
    let target = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let [ab, ac] = ["a-b", "a-c"].map(unharmed);
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
    assert_eq!(ab.count(Direction::Back).cut, 1);
    assert_eq!(ac.count(Direction::Back).passed, 1);
}

#[tokio::test]
async fn a_target_may_die_and_come_back() {
    let target = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let address = target.local_addr().expect("bound");
    let link = unharmed("a-b");
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
    let relay = through(target.local_addr().expect("bound"), &unharmed("a-b")).await;
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
    let relay = through(mirror().await, &unharmed("a-b")).await;
    let address = relay.address();
    let taken = Relay::bind(Config { listen: address, target: address, sources: vec![] }).await;
    assert!(taken.expect_err("taken").to_string().contains("is the address free?"));
    let socket = client("127.0.0.1", &relay).await;
    round_trip(&socket, b"x").await;
    relay.close().await;
    UdpSocket::bind(address).await.expect("free at once");
}
