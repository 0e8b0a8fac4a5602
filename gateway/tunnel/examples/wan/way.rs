//! Two tunnels of two sites with a relay between them, and the streams over them.

use crate::Fallible;
use crate::narrow::{Narrow, Rate};
use bytes::Bytes;
use gateway_core::path::Load;
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
use model::tunnel::{Answer, ServiceStream, StreamHeader, StreamKind, Target};
use relay::{Direction, Link, Loss, Relay, Shape, Source};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tunnel::{Accepted, Config, Congestion, Connection, IncomingStream, Roles, State, Stream, Tunnel};

/// Bytes of a small request, and of its answer.
const SMALL: usize = 64;
/// Most that a bulk sender hands over at once.
const BLOCK: usize = 64 << 10;
/// Fixes which datagrams the relay loses.
const SEED: u64 = 7;

/// What lies between the two sites, and what they do about it.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub rtt: Duration,
    /// Each way, 0 to 1.
    pub loss: f64,
    pub congestion: Congestion,
    /// None: as fast as the relay goes.
    pub rate: Option<Rate>,
    /// Between the two gateways.
    pub connections: usize,
}

/// What both ends have seen.
#[derive(Default)]
struct Seen {
    /// Bytes that east's end of each bulk stream has read.
    bulk_bytes: Mutex<Vec<Arc<AtomicU64>>>,
    /// Times that a connection was found suspect or dead, at either end.
    suspects: AtomicU32,
}

/// West, the way, and east.
pub struct Way {
    west: Arc<West>,
    seen: Arc<Seen>,
    bulk: JoinSet<Fallible<()>>,
    narrow: Option<Arc<Narrow>>,
    _tunnels: [Tunnel; 2],
    _relay: Relay,
}

/// Who opens streams.
struct West {
    pool: Vec<Connection>,
    streams: AtomicU64,
}

/// What became of the small requests.
#[derive(Debug, Default)]
pub struct Small {
    /// From when each was due, sorted.
    pub times: Vec<Duration>,
    pub failed: usize,
}

impl Small {
    pub fn quantile(&self, share: f64) -> Duration {
        let at = (self.times.len() as f64 * share) as usize;
        self.times.get(at.min(self.times.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

impl Way {
    /// One way.
    pub async fn open(case: Case) -> Fallible<Self> {
        Self::open_all(&[case]).await?.pop().ok_or_else(|| "one was asked for".into())
    }

    /// Several ways, all through the narrow place of the first.
    pub async fn open_all(cases: &[Case]) -> Fallible<Vec<Self>> {
        let mut ways = Vec::new();
        for &case in cases {
            ways.push(Self::between(case).await?);
        }
        let relays: Vec<_> = ways.iter().map(|(_, relay, _, _)| relay.address()).collect();
        let rate = cases.first().and_then(|case| case.rate);
        let narrow = rate.map(|rate| Narrow::start(&relays, rate)).transpose()?.map(Arc::new);
        let mut opened = Vec::new();
        for (at, (case, (tunnels, relay, trust, domain))) in cases.iter().zip(ways).enumerate() {
            let address = narrow.as_ref().map_or(relays[at], |narrow| narrow.addresses[at]);
            let [west, east] = &tunnels;
            let seen = Arc::<Seen>::default();
            let mut pool = Vec::new();
            for _ in 0..case.connections {
                let expect = Expect::trusted(&trust, domain.clone(), RoleKind::Gateway);
                let (dialled, accepted) = tokio::join!(west.connect(address, expect), east.accept());
                let Some(Accepted::Mesh(accepted)) = accepted else { return Err("nobody came in".into()) };
                let dialled = dialled?;
                tokio::spawn(watch(dialled.clone(), Arc::clone(&seen)));
                tokio::spawn(watch(accepted.clone(), Arc::clone(&seen)));
                tokio::spawn(serve(accepted, Arc::clone(&seen)));
                pool.push(dialled);
            }
            opened.push(Self {
                west: Arc::new(West { pool, streams: AtomicU64::new(0) }),
                seen,
                bulk: JoinSet::new(),
                narrow: narrow.clone(),
                _tunnels: tunnels,
                _relay: relay,
            });
        }
        Ok(opened)
    }

    /// Both gateways, and the relay in front of east.
    async fn between(case: Case) -> Fallible<([Tunnel; 2], Relay, TrustStore, TrustDomain)> {
        let (west_domain, east_domain): (TrustDomain, TrustDomain) =
            ("west.mesh".parse()?, "east.mesh".parse()?);
        let now = runtime::clock::unix_ms();
        let (west_ca, east_ca) = (Ca::generate(&west_domain, now)?, Ca::generate(&east_domain, now)?);
        let bind = |own: &Ca, other: &Ca| -> Fallible<(Tunnel, TrustStore)> {
            let key = NodeKey::generate()?;
            let id: SpiffeId = format!("spiffe://{}/gateway/gw-0", own.trust_domain()).parse()?;
            let chain = own.issue(&key.csr_der(), &id, INFRASTRUCTURE_LIFETIME, now)?;
            let credentials = LiveCredentials::new(Credentials::new(chain, &key)?);
            let trust = TrustStore::new(own.bundle(1))?;
            trust.set_linked(vec![other.bundle(1)])?;
            let config = Config { congestion: case.congestion, ..Config::wan() };
            let config = config.accepting(Roles::of_gateway());
            Ok((Tunnel::bind("127.0.0.1:0".parse()?, credentials, &trust, config)?, trust))
        };
        let (west, trust) = bind(&west_ca, &east_ca)?;
        let (east, _) = bind(&east_ca, &west_ca)?;
        let shape = Shape { delay: case.rtt / 2, loss: Loss::uniform(case.loss), ..Shape::default() };
        let link = Link::new("west-east", [shape; 2], SEED);
        let source = Source { address: "127.0.0.1".parse()?, link, direction: Direction::Forth };
        let (listen, target) = ("127.0.0.1:0".parse()?, east.local_address());
        let relay = Relay::bind(relay::Config { listen, target, sources: vec![source] }).await?;
        Ok(([west, east], relay, trust, east_domain))
    }

    /// Starts streams that send without end.
    pub async fn start_bulk(&mut self, streams: usize) -> Fallible<()> {
        for _ in 0..streams {
            let mut opened =
                self.west.place()?.open(&self.west.header("shop/bulk", false)?, Bytes::new()).await?;
            accepted(opened.answer().await?)?;
            let mut stream = opened.into_stream();
            self.bulk.spawn(async move {
                let block = vec![1; BLOCK];
                loop {
                    stream.write_all(&block).await?;
                }
            });
        }
        Ok(())
    }

    /// Bits per second that east reads of each bulk stream, over `time` by its clock.
    pub async fn goodput(&self, time: Duration) -> Vec<f64> {
        let (began, before) = (Instant::now(), self.seen.read());
        tokio::time::sleep(time).await;
        let (after, time) = (self.seen.read(), began.elapsed().as_secs_f64());
        let before = before.into_iter().chain(std::iter::repeat(0));
        after.iter().zip(before).map(|(after, before)| (after - before) as f64 * 8.0 / time).collect()
    }

    /// Small requests by a constant schedule, whatever became of those before: a new stream, its bytes ahead of the
    /// answer, the answer, and the bytes back.
    pub async fn small(&self, every: Duration, time: Duration) -> Small {
        let mut asks = JoinSet::new();
        let began = Instant::now();
        let mut due = began;
        while due < began + time {
            tokio::time::sleep_until(due.into()).await;
            let west = Arc::clone(&self.west);
            asks.spawn(async move { west.ask().await.map(|()| due.elapsed()) });
            due += every;
        }
        let mut small = Small::default();
        while let Some(asked) = asks.join_next().await {
            match asked {
                Ok(Ok(time)) => small.times.push(time),
                Ok(Err(_)) | Err(_) => small.failed += 1,
            }
        }
        small.times.sort_unstable();
        small
    }

    /// Times that a connection was found suspect or dead, at either end.
    pub fn suspects(&self) -> u32 {
        self.seen.suspects.load(Ordering::Relaxed)
    }

    /// Smoothed round trip of the probes now, the longest of the connections.
    pub fn round_trip(&self) -> Duration {
        self.west.pool.iter().filter_map(|connection| connection.health().rtt).max().unwrap_or_default()
    }

    /// Bytes that were offered to the narrow place, and those that found its queue full.
    pub fn narrowed(&self) -> (u64, u64) {
        self.narrow.as_ref().map_or((0, 0), |narrow| narrow.counted())
    }
}

impl West {
    /// The connection for a new stream, as gateways place them.
    fn place(&self) -> Fallible<Connection> {
        let live = self.pool.iter().filter(|connection| connection.health().state == State::Live);
        let placed = live.min_by_key(|connection| Load::from(connection.load()));
        Ok(placed.ok_or("no connection is live")?.clone())
    }

    fn header(&self, service: &str, bytes_ahead: bool) -> Fallible<StreamHeader> {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.streams.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let caller = Caller {
            identity: None,
            proof: Proof::Host,
            site: "west".parse()?,
            locality: Locality::default(),
            affinity: None,
        };
        let service = ServiceStream {
            service: service.parse()?,
            port: PortKey::tcp(8080),
            caller,
            target: Target::Site("east".parse()?),
            bytes_ahead,
        };
        let kind = StreamKind::Service(service);
        Ok(StreamHeader { kind, stream: StreamId(id), hops: 0, traceparent: String::new() })
    }

    async fn ask(&self) -> Fallible<()> {
        let sent = [7; SMALL];
        let header = self.header("shop/echo", true)?;
        let mut opened = self.place()?.open(&header, Bytes::copy_from_slice(&sent)).await?;
        accepted(opened.answer().await?)?;
        let mut stream = opened.into_stream();
        let mut got = [0; SMALL];
        stream.read_exact(&mut got).await?;
        stream.shutdown().await?;
        if got == sent { Ok(()) } else { Err("another answer".into()) }
    }
}

impl Seen {
    fn read(&self) -> Vec<u64> {
        let streams = self.bulk_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        streams.iter().map(|bytes| bytes.load(Ordering::Relaxed)).collect()
    }

    fn count(&self) -> Arc<AtomicU64> {
        let bytes = Arc::<AtomicU64>::default();
        self.bulk_bytes.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&bytes));
        bytes
    }
}

fn accepted(answer: Answer) -> Fallible<()> {
    match answer {
        Answer::Accepted { .. } => Ok(()),
        Answer::Refused(refusal) => Err(refusal.detail.into()),
    }
}

async fn watch(connection: Connection, seen: Arc<Seen>) {
    let mut states = connection.states();
    drop(connection);
    while states.changed().await.is_ok() {
        if *states.borrow_and_update() != State::Live {
            seen.suspects.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// East's end of all streams of a connection.
async fn serve(connection: Connection, seen: Arc<Seen>) {
    while let Ok(incoming) = connection.accept_stream().await {
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            // A stream that its opener gives up is how bulk ends.
            let _ = answer(incoming, &seen).await;
        });
    }
}

async fn answer(incoming: IncomingStream, seen: &Seen) -> Fallible<()> {
    let bulk = match &incoming.header().kind {
        StreamKind::Service(service) => service.service == "shop/bulk".parse()?,
        _ => return Err("not a service".into()),
    };
    let mut stream: Stream = incoming.accept("vm-1".parse()?, Locality::default()).await?;
    if bulk {
        let (mut block, bytes) = (vec![0; BLOCK], seen.count());
        loop {
            let n = stream.read(&mut block).await?;
            if n == 0 {
                return Ok(());
            }
            bytes.fetch_add(n as u64, Ordering::Relaxed);
        }
    }
    let mut bytes = [0; SMALL];
    stream.read_exact(&mut bytes).await?;
    stream.write_all(&bytes).await?;
    stream.shutdown().await?;
    Ok(())
}
