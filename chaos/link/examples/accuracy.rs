//! What is asked of a relay, and what it does: `cargo run -p meshfed-relay --example accuracy`.
//!
//! Everything runs in this process, on loopback: a sender, the relay, and a receiver or mirror. Loss and rate are
//! counted at the receiver; the sender keeps fewer datagrams under way than the sockets hold, so that the host drops none.

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use relay::{Config, Direction, HEADERS, Link, Loss, Rate, Relay, Shape, Source};
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{sleep_until, timeout};

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const SEED: u64 = 7;
/// Round trips measured for each delay, one every 5 ms.
const ROUND_TRIPS: usize = 400;
const PAUSE: Duration = Duration::from_millis(5);
/// Datagrams sent for each loss.
const LOSSES: u64 = 50_000;
/// Datagrams under way at most, while throughput is measured.
const UNDER_WAY: u64 = 256;
const TIME: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Fallible<()> {
    println!("round trip: asked · p50 · p99 of {ROUND_TRIPS}");
    for delay_ms in [0, 5, 25, 150] {
        let delay = Duration::from_millis(delay_ms);
        let mut times = round_trips(Shape { delay, ..Shape::default() }).await?;
        times.sort_unstable();
        let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
        println!("  {} ms · {:.2} ms · {:.2} ms", 2 * delay_ms, at(50), at(99));
    }
    println!("loss of {LOSSES}: asked · received less · in standard deviations");
    for (share, burst) in [(0.01, 1.0), (0.1, 1.0), (0.3, 1.0), (0.1, 8.0)] {
        let lost = losses(Shape { loss: Loss { share, burst }, ..Shape::default() }).await?;
        let sent = LOSSES as f64;
        let memory: f64 = if burst > 1.0 { 1.0 - 1.0 / burst - share / ((1.0 - share) * burst) } else { 0.0 };
        let sigma = (sent * share * (1.0 - share) * (1.0 + memory) / (1.0 - memory)).sqrt();
        let off = (lost - sent * share) / sigma;
        println!("  {} % in bursts of {burst} · {:.2} % · {off:+.1}", share * 100.0, lost / sent * 100.0);
    }
    println!("rate, with datagrams of 1452 bytes: asked · measured");
    for mbits in [1, 10, 100, 300] {
        let rate = Rate { bits_per_second: mbits * 1_000_000, queue_bytes: 1 << 20 };
        let bits = throughput(Shape { rate: Some(rate), ..Shape::default() }, 1_452, 1).await?;
        println!("  {mbits} Mbit/s · {:.2} Mbit/s", bits / 1e6);
    }
    println!(
        "throughput without limits, one flow one way: datagrams · without delay · with 1 ms, {UNDER_WAY} under way"
    );
    let slow = Shape { delay: Duration::from_millis(1), ..Shape::default() };
    for (size, train) in [(1_200, 1), (1_452, 1), (1_200, 10), (1_452, 10)] {
        let fast = throughput(Shape::default(), size, train).await? / 1e6;
        let slow = throughput(slow, size, train).await? / 1e6;
        println!("  {size} bytes, {train} in one call · {fast:.0} Mbit/s · {slow:.0} Mbit/s");
    }
    Ok(())
}

async fn through(shape: Shape, target: SocketAddr) -> Fallible<(Relay, Link, UdpSocket)> {
    let link = Link::new("measured", [shape; 2], SEED);
    let source = Source { address: "127.0.0.1".parse()?, link: link.clone(), direction: Direction::Forth };
    let relay = Relay::bind(Config { listen: "127.0.0.1:0".parse()?, target, sources: vec![source] }).await?;
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(relay.address()).await?;
    Ok((relay, link, socket))
}

async fn round_trips(shape: Shape) -> Fallible<Vec<Duration>> {
    let mirror = UdpSocket::bind("127.0.0.1:0").await?;
    let (_relay, _, socket) = through(shape, mirror.local_addr()?).await?;
    let mirroring = tokio::spawn(async move {
        let mut buffer = [0; 16];
        while let Ok((length, from)) = mirror.recv_from(&mut buffer).await {
            let _ = mirror.send_to(&buffer[..length], from).await;
        }
    });
    let socket = Arc::new(socket);
    let sending = Arc::clone(&socket);
    let began = Instant::now();
    tokio::spawn(async move {
        for n in 0..u32::try_from(ROUND_TRIPS).unwrap_or(u32::MAX) {
            sleep_until((began + PAUSE * n).into()).await;
            let at = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let _ = sending.send(&at.to_be_bytes()).await;
        }
    });
    let mut times = Vec::new();
    let mut at = [0; 8];
    while times.len() < ROUND_TRIPS {
        timeout(Duration::from_secs(10), socket.recv(&mut at)).await??;
        times.push(began.elapsed().saturating_sub(Duration::from_nanos(u64::from_be_bytes(at))));
    }
    mirroring.abort();
    Ok(times)
}

/// What a receiver did not get.
async fn losses(shape: Shape) -> Fallible<f64> {
    let sink = UdpSocket::bind("127.0.0.1:0").await?;
    let (_relay, link, socket) = through(shape, sink.local_addr()?).await?;
    let got = counting(sink)?;
    for sent in 0..LOSSES {
        socket.send(&[0; 100]).await?;
        while sent + 1 >= settled(&got, 100, &link) + UNDER_WAY {
            tokio::task::yield_now().await;
        }
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while settled(&got, 100, &link) < LOSSES {
        if Instant::now() > deadline {
            return Err("the host dropped datagrams".into());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok((LOSSES - got.load(Ordering::Acquire) / 100) as f64)
}

/// Bits of IP packets per second that a receiver gets, when so many are sent in one call, as QUIC does.
async fn throughput(shape: Shape, size: usize, train: usize) -> Fallible<f64> {
    let sink = UdpSocket::bind("127.0.0.1:0").await?;
    let (_relay, link, socket) = through(shape, sink.local_addr()?).await?;
    let (relay, state) = (socket.peer_addr()?, UdpSocketState::new((&socket).into())?);
    let got = counting(sink)?;
    let (began, mut sent) = (Instant::now(), 0);
    let packets = vec![0; size * train];
    let transmit = Transmit {
        destination: relay,
        ecn: None,
        contents: &packets,
        segment_size: (train > 1).then_some(size),
        src_ip: None,
    };
    while began.elapsed() < TIME {
        if sent - settled(&got, size, &link) >= UNDER_WAY {
            tokio::time::sleep(Duration::from_micros(1)).await;
            continue;
        }
        socket.writable().await?;
        if socket.try_io(Interest::WRITABLE, || state.try_send((&socket).into(), &transmit)).is_ok() {
            sent += train as u64;
        }
    }
    let packets = got.load(Ordering::Acquire) / size as u64;
    Ok(packets as f64 * (size + HEADERS) as f64 * 8.0 / began.elapsed().as_secs_f64())
}

/// Datagrams that have arrived or were dropped by the link.
fn settled(got: &AtomicU64, size: usize, link: &Link) -> u64 {
    got.load(Ordering::Acquire) / size as u64 + link.count(Direction::Forth).dropped()
}

/// Counts the bytes that come in.
fn counting(sink: UdpSocket) -> Fallible<Arc<AtomicU64>> {
    let state = UdpSocketState::new((&sink).into())?;
    state.set_recv_buffer_size((&sink).into(), 4 << 20)?;
    let got = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&got);
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        while sink.readable().await.is_ok() {
            let mut meta = [RecvMeta::default()];
            let into = &mut [IoSliceMut::new(&mut buffer)];
            let took = sink.try_io(Interest::READABLE, || state.recv((&sink).into(), into, &mut meta));
            if took.is_ok() {
                counted.fetch_add(meta[0].len as u64, Ordering::Release);
            }
        }
    });
    Ok(got)
}
