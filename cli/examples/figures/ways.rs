//! What the way through two gateways costs against a direct connection to the same server.
//!
//! Every kind of work runs on each way in turn, and again in the next round, so that a machine that becomes slower is
//! slower for all of them; a ratio is that of the medians over the rounds. Another way, such as that through a pair of
//! another gateway, is named by `--way NAME=ADDRESS`: whoever measures has it lead to the server, whose address
//! `--serve` fixes.

use crate::machine::Watch;
use crate::pair::Pair;
use crate::routed::Spread;
use crate::stage::Setting;
use bench::raw;
use meshfed::failure::{Failure, OrFail};
use meshfed::output::Ui;
use serde::Serialize;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// Goals of the design, where there is one.
const BULK_GOAL_GBIT: f64 = 2.0;
const CONNECT_GOAL: f64 = 4.0;
const BESIDE_GOAL: f64 = 5.0;
const IDLE_GOAL_KIB: f64 = 8.0;
/// Before bulk is counted.
const WARM_UP: Duration = Duration::from_millis(500);
/// Before memory is read: what is freed and what is probed comes to rest.
const REST: Duration = Duration::from_millis(1500);

/// How much is measured.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often everything is measured, on each way in turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub rounds: u32,
    /// How long bulk, and small requests, run each time.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub seconds: u32,
    /// New connections of one round.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=20_000))]
    pub connections: u32,
    /// Connections that stand idle for the row of memory.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(100..=10_000))]
    pub idle: u32,
    /// Where the server listens. Default: a free port.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub serve: SocketAddr,
    /// One more way to the server, that somebody else has made.
    #[arg(long, value_name = "NAME=ADDRESS")]
    pub way: Vec<Way>,
}

/// A way to the server.
#[derive(Debug, Clone)]
pub struct Way {
    name: String,
    address: SocketAddr,
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text.split_once('=').ok_or("it must be NAME=ADDRESS")?;
        let address = address.parse().map_err(|_| format!("`{address}` is no address with a port"))?;
        Ok(Self { name: name.to_owned(), address })
    }
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Numbers {
    /// By way; the first is direct, the second meshfed.
    pub ways: Vec<Measured>,
    /// Resident memory that an idle connection takes in each gateway, KiB: east's, then west's.
    pub idle_kib: Vec<f64>,
    /// How many connections stood idle for that.
    pub idle: u32,
}

/// One way: medians over the rounds.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// Its name.
    pub way: String,
    /// One connection, as fast as it takes, by the receiver's clock.
    pub bulk_gbit_per_s: f64,
    /// 64 bytes there and back, over one connection.
    pub round_trip: Spread,
    /// The same beside one bulk connection.
    pub beside_bulk: Spread,
    /// From a connect to the first byte of the server.
    pub connect: Spread,
}

/// A bound, and what was measured for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// Of what.
    pub what: &'static str,
    /// Measured.
    pub measured: f64,
    /// Bound.
    pub bound: f64,
    /// Whether more is better.
    pub at_least: bool,
}

impl Goal {
    /// Whether it was held.
    pub fn held(&self) -> bool {
        if self.at_least { self.measured >= self.bound } else { self.measured <= self.bound }
    }
}

impl Numbers {
    /// The goals, in the order of the table.
    pub fn goals(&self) -> Vec<Goal> {
        let [direct, meshfed, ..] = self.ways.as_slice() else { return Vec::new() };
        let ratio = |a: f64, b: f64| a / b.max(f64::MIN_POSITIVE);
        vec![
            Goal {
                what: "bulk, Gbit/s",
                measured: meshfed.bulk_gbit_per_s,
                bound: BULK_GOAL_GBIT,
                at_least: true,
            },
            Goal {
                what: "new connection, p50, against direct",
                measured: ratio(meshfed.connect.p50_ms, direct.connect.p50_ms),
                bound: CONNECT_GOAL,
                at_least: false,
            },
            Goal {
                what: "small requests beside bulk, p99, against quiet",
                measured: ratio(meshfed.beside_bulk.p99_ms, meshfed.round_trip.p99_ms),
                bound: BESIDE_GOAL,
                at_least: false,
            },
            Goal {
                what: "idle connection, KiB in a gateway",
                measured: self.idle_kib.iter().copied().fold(0.0, f64::max),
                bound: IDLE_GOAL_KIB,
                at_least: false,
            },
        ]
    }
}

/// Measures.
///
/// # Errors
/// Something did not start, or a connection failed.
pub async fn measure(args: &Args, setting: &Setting, ui: &Ui) -> Result<(Numbers, Watch), Failure> {
    let listener =
        TcpListener::bind(args.serve).await.or_fail(|| format!("{} cannot be listened on", args.serve))?;
    let server = listener.local_addr().or_fail(|| "the server has no address".to_owned())?;
    tokio::spawn(raw::serve(listener));
    let (pair, served) = Pair::start(setting, server).await?;
    ui.progress(format!("two sites of one process each; {} in west leads to {server} in east", served.entry));
    let mut ways = vec![
        Way { name: "direct".to_owned(), address: server },
        Way { name: "meshfed".to_owned(), address: served.entry },
    ];
    ways.extend(args.way.iter().cloned());
    let measured = run(args, &pair, &ways, ui).await;
    pair.end(measured).await
}

/// What was seen on one way, a value for each round.
#[derive(Default)]
struct Seen {
    bulk: Vec<f64>,
    round_trip: Vec<Spread>,
    beside_bulk: Vec<Spread>,
    connect: Vec<Spread>,
}

async fn run(args: &Args, pair: &Pair, ways: &[Way], ui: &Ui) -> Result<(Numbers, Watch), Failure> {
    let mut watch = Watch::begin();
    let lasting = Duration::from_secs(args.seconds.into());
    let mut seen: Vec<Seen> = ways.iter().map(|_| Seen::default()).collect();
    for round in 1..=args.rounds {
        for (way, seen) in ways.iter().zip(&mut seen) {
            let failed = || format!("the way `{}` ({}) fails", way.name, way.address);
            let spread = |times: Vec<Duration>| Spread::of(&times);
            seen.bulk.push(raw::bulk(way.address, WARM_UP, lasting).await.or_fail(failed)?.gbit_per_s());
            seen.round_trip.push(raw::round_trips(way.address, lasting).await.map(spread).or_fail(failed)?);
            let bulk = tokio::spawn(raw::bulk(way.address, Duration::ZERO, lasting + WARM_UP * 2));
            tokio::time::sleep(WARM_UP).await;
            seen.beside_bulk.push(raw::round_trips(way.address, lasting).await.map(spread).or_fail(failed)?);
            bulk.await.or_fail(|| "bulk has panicked".to_owned())?.or_fail(failed)?;
            let count = args.connections as usize;
            seen.connect.push(raw::connections(way.address, count).await.map(spread).or_fail(failed)?);
        }
        ui.progress(format!("  round {round} of {}", args.rounds));
    }
    let idle_kib = idle(args.idle, pair, ways[1].address).await?;
    watch.end();
    let ways = ways.iter().zip(seen).map(|(way, seen)| seen.median(way.name.clone())).collect();
    Ok((Numbers { ways, idle_kib, idle: args.idle }, watch))
}

impl Seen {
    fn median(self, way: String) -> Measured {
        Measured {
            way,
            bulk_gbit_per_s: median(self.bulk),
            round_trip: middle(&self.round_trip),
            beside_bulk: middle(&self.beside_bulk),
            connect: middle(&self.connect),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn middle(rounds: &[Spread]) -> Spread {
    let of = |value: fn(&Spread) -> f64| median(rounds.iter().map(value).collect());
    Spread { p50_ms: of(|s| s.p50_ms), p99_ms: of(|s| s.p99_ms), max_ms: of(|s| s.max_ms) }
}

/// Memory that the gateways take for each connection that stands idle. Those of a first batch stay open, so that what
/// a process takes once is not counted.
async fn idle(count: u32, pair: &Pair, way: SocketAddr) -> Result<Vec<f64>, Failure> {
    let batch = async |count: u32| -> Result<Vec<TcpStream>, Failure> {
        let mut held = Vec::new();
        for _ in 0..count {
            held.push(raw::hold(way).await.or_fail(|| format!("an idle connection to {way} fails"))?);
        }
        tokio::time::sleep(REST).await;
        Ok(held)
    };
    let _first = batch(count / 10).await?;
    let before = pair.memory();
    let _rest = batch(count).await?;
    let kib = |(after, before): (u64, u64)| after.saturating_sub(before) as f64 / 1024.0 / f64::from(count);
    Ok(pair.memory().into_iter().zip(before).map(kib).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_has_a_name_and_an_address() {
        let way: Way = "envoy=127.0.0.1:9000".parse().expect("valid");
        assert_eq!((way.name.as_str(), way.address.port()), ("envoy", 9000));
        assert!("envoy".parse::<Way>().is_err());
        assert!("envoy=somewhere".parse::<Way>().is_err());
    }

    #[test]
    fn goals_are_ratios_of_medians_and_each_can_be_missed() {
        let spread = |ms: f64| Spread { p50_ms: ms, p99_ms: ms * 2.0, max_ms: ms * 3.0 };
        let way = |ms: f64, gbit: f64| Measured {
            way: String::new(),
            bulk_gbit_per_s: gbit,
            round_trip: spread(ms),
            beside_bulk: spread(ms * 6.0),
            connect: spread(ms),
        };
        let numbers = Numbers { ways: vec![way(1.0, 9.0), way(3.0, 1.5)], idle_kib: vec![3.0, 9.0], idle: 1 };
        let goals: Vec<(f64, bool)> = numbers.goals().iter().map(|g| (g.measured, g.held())).collect();
        assert_eq!(goals, [(1.5, false), (3.0, true), (6.0, false), (9.0, false)]);
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
