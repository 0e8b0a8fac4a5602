//! Measures a tunnel between two endpoints of one process, on loopback: streams per second, round trips, bulk, and the
//! memory of idle connections. The numbers compare builds on one machine, nothing else: both ends share its CPUs.
//!
//! `cargo run --release -p meshfed-tunnel --example loopback`

use bytes::Bytes;
use identity::ca::{Ca, INFRASTRUCTURE_LIFETIME};
use identity::credentials::Credentials;
use identity::key::NodeKey;
use identity::live::LiveCredentials;
use identity::peer::RoleKind;
use identity::tls::Expect;
use identity::trust::TrustStore;
use model::identity::{Proof, SpiffeId, TrustDomain};
use model::ids::StreamId;
use model::locality::Locality;
use model::routing::Caller;
use model::service::PortKey;
use model::tunnel::{ServiceStream, StreamHeader, StreamKind, Target};
use std::error::Error;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tunnel::splice::{Leg, copy};
use tunnel::{Accepted, Config, Connection, Roles, Stream, Tunnel};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

const IDLE: usize = 1_500;
const BULK: usize = 1 << 30;

#[tokio::main]
async fn main() -> Fallible<()> {
    let (dialled, accepted, _ends) = connect().await?;
    println!("open, accept, close, one at a time: {:.0}/s", opens(&dialled, &accepted).await?);
    let (p50, p99) = round_trips(&dialled, &accepted).await?;
    println!("round trip of 64 bytes: p50 {p50:?}, p99 {p99:?}");
    let (gbits, cpu) = bulk(&dialled, &accepted).await?;
    println!("one copied TCP connection, bulk: {gbits:.2} Gbit/s, {cpu:.2} CPU-s/GB, all ends together");
    println!("idle copied connection, both ends: {:.1} KiB", idle(&dialled, &accepted).await?);
    Ok(())
}

async fn connect() -> Fallible<(Connection, Connection, [Tunnel; 2])> {
    let (west, east): (TrustDomain, TrustDomain) = ("west.mesh".parse()?, "east.mesh".parse()?);
    let now = runtime::clock::unix_ms();
    let (west_ca, east_ca) = (Ca::generate(&west, now)?, Ca::generate(&east, now)?);
    let bind = |own: &Ca, other: &Ca| -> Fallible<(Tunnel, TrustStore)> {
        let key = NodeKey::generate()?;
        let id: SpiffeId = format!("spiffe://{}/gateway/gw-0", own.trust_domain()).parse()?;
        let chain = own.issue(&key.csr_der(), &id, INFRASTRUCTURE_LIFETIME, now)?;
        let credentials = LiveCredentials::new(Credentials::new(chain, &key)?);
        let trust = TrustStore::new(own.bundle(1))?;
        trust.set_linked(vec![other.bundle(1)])?;
        let config = Config::lan().accepting(Roles::of_gateway());
        Ok((Tunnel::bind("127.0.0.1:0".parse()?, credentials, &trust, config)?, trust))
    };
    let (from, trust) = bind(&west_ca, &east_ca)?;
    let (to, _) = bind(&east_ca, &west_ca)?;
    let expect = Expect::trusted(&trust, east, RoleKind::Gateway);
    let (dialled, accepted) = tokio::join!(from.connect(to.local_address(), expect), to.accept());
    let Some(Accepted::Mesh(accepted)) = accepted else { return Err("nobody came in".into()) };
    Ok((dialled?, accepted, [from, to]))
}

fn header(number: u64) -> Fallible<StreamHeader> {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let caller = Caller {
        identity: None,
        proof: Proof::Host,
        site: "west".parse()?,
        locality: Locality::default(),
        affinity: None,
    };
    let service = ServiceStream {
        service: "shop/cart".parse()?,
        port: PortKey::tcp(8080),
        caller,
        target: Target::Site("east".parse()?),
        bytes_ahead: false,
    };
    let kind = StreamKind::Service(service);
    Ok(StreamHeader { kind, stream: StreamId(id), hops: 0, traceparent: String::new() })
}

async fn stream(dialled: &Connection, accepted: &Connection, number: u64) -> Fallible<(Stream, Stream)> {
    let mut opened = dialled.open(&header(number)?, Bytes::new()).await?;
    let incoming = accepted.accept_stream().await?;
    let east = incoming.accept("vm-1".parse()?, Locality::default()).await?;
    opened.answer().await?;
    Ok((opened.into_stream(), east))
}

async fn opens(dialled: &Connection, accepted: &Connection) -> Fallible<f64> {
    const COUNT: u64 = 5_000;
    let began = Instant::now();
    for number in 0..COUNT {
        drop(stream(dialled, accepted, number).await?);
    }
    Ok(COUNT as f64 / began.elapsed().as_secs_f64())
}

async fn round_trips(dialled: &Connection, accepted: &Connection) -> Fallible<(Duration, Duration)> {
    let (mut west, mut east) = stream(dialled, accepted, 0).await?;
    tokio::spawn(async move {
        let mut bytes = [0; 64];
        while east.read_exact(&mut bytes).await.is_ok() && east.write_all(&bytes).await.is_ok() {}
    });
    let mut times = Vec::new();
    let mut bytes = [0; 64];
    for _ in 0..20_000 {
        let began = Instant::now();
        west.write_all(&bytes).await?;
        west.read_exact(&mut bytes).await?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}

/// client - copy - tunnel - copy - server.
async fn way(dialled: &Connection, accepted: &Connection, number: u64) -> Fallible<(TcpStream, TcpStream)> {
    let (west, east) = stream(dialled, accepted, number).await?;
    let (client, near) = tcp_pair().await?;
    let (far, server) = tcp_pair().await?;
    tokio::spawn(copy(Leg::Tcp(near.into()), Leg::Stream(west), Bytes::new(), None));
    tokio::spawn(copy(Leg::Stream(east), Leg::Tcp(far.into()), Bytes::new(), None));
    Ok((client, server))
}

async fn tcp_pair() -> Fallible<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (dialled, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    Ok((dialled?, accepted?.0))
}

async fn bulk(dialled: &Connection, accepted: &Connection) -> Fallible<(f64, f64)> {
    let (mut client, mut server) = way(dialled, accepted, 0).await?;
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    let reader = tokio::spawn(async move {
        let mut bytes = vec![0; 256 << 10];
        while server.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
    });
    let block = vec![1; 256 << 10];
    for _ in 0..BULK / block.len() {
        client.write_all(&block).await?;
    }
    client.shutdown().await?;
    reader.await?;
    let gbits = BULK as f64 * 8.0 / began.elapsed().as_secs_f64() / 1e9;
    Ok((gbits, (cpu_seconds()? - cpu) * 1e9 / BULK as f64))
}

async fn idle(dialled: &Connection, accepted: &Connection) -> Fallible<f64> {
    let mut held = JoinSet::new();
    let before = resident_kib()?;
    for number in 0..IDLE {
        let (mut client, mut server) = way(dialled, accepted, number as u64).await?;
        // Each has carried something and has been idle since.
        client.write_all(b"ping").await?;
        server.read_exact(&mut [0; 4]).await?;
        held.spawn(async move {
            std::future::pending::<()>().await;
            drop((client, server));
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok((resident_kib()? - before) / IDLE as f64)
}

fn resident_kib() -> Fallible<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// User and system time of this process; the clock of /proc ticks 100 times a second.
fn cpu_seconds() -> Fallible<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().ok_or("no stat")?;
    let mut ticks = 0.0;
    for field in after_name.split_whitespace().skip(11).take(2) {
        ticks += field.parse::<f64>()?;
    }
    Ok(ticks / 100.0)
}
