//! What the relay carries by itself, so that its limit is not taken for one of the tunnel.

use crate::Fallible;
use relay::{Direction, Link, Relay, Shape, Source};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;

const SIZE: usize = 1_452;
/// Datagrams under way at most: fewer than the relay's socket holds, so that none is lost.
const UNDER_WAY: u64 = 48;
const TIME: Duration = Duration::from_secs(2);

/// Bits per second of one plain flow through a relay without delay and loss.
pub async fn of_relay() -> Fallible<f64> {
    let sink = UdpSocket::bind("127.0.0.1:0").await?;
    let link = Link::new("ceiling", [Shape::default(); 2], 1);
    let source = Source { address: "127.0.0.1".parse()?, link, direction: Direction::Forth };
    let config =
        relay::Config { listen: "127.0.0.1:0".parse()?, target: sink.local_addr()?, sources: vec![source] };
    let relay = Relay::bind(config).await?;
    let got = Arc::new(AtomicU64::new(0));
    let reader = {
        let got = Arc::clone(&got);
        tokio::spawn(async move {
            let mut buffer = [0; SIZE];
            while sink.recv(&mut buffer).await.is_ok() {
                got.fetch_add(1, Ordering::Release);
            }
        })
    };
    let flow = UdpSocket::bind("127.0.0.1:0").await?;
    flow.connect(relay.address()).await?;
    let (began, mut sent) = (Instant::now(), 0);
    while began.elapsed() < TIME {
        if sent - got.load(Ordering::Acquire) >= UNDER_WAY {
            tokio::task::yield_now().await;
            continue;
        }
        flow.send(&[0; SIZE]).await?;
        sent += 1;
    }
    let bits = got.load(Ordering::Acquire) as f64 * SIZE as f64 * 8.0 / began.elapsed().as_secs_f64();
    reader.abort();
    Ok(bits)
}
