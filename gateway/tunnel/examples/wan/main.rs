//! Measures a tunnel between two sites over the user-space relay, for each controller of the sending rate in turn:
//! goodput of bulk streams, small requests alone and beside bulk, what a narrow place drops, and who gets how much of it.
//!
//! `cargo run --release -p meshfed-tunnel --example wan [rate=MBIT] [queue=MS] [rtt=MS] [rounds=N]`
//!
//! First without a narrow place: the way is as fast as the relay goes, so the CPU is its limit. Then with one (`rate`,
//! default 100, and a queue of `queue`, default 50 ms) in front of the relay. One round takes about 2 minutes.
//! Everything runs in one process and shares its CPUs: compare rows, not machines.

mod ceiling;
mod narrow;
mod way;

use narrow::Rate;
use std::error::Error;
use std::time::Duration;
use tunnel::Congestion;
use way::{Case, Small, Way};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

const CONTROLLERS: [Congestion; 3] = [Congestion::Cubic, Congestion::QuinnBbr, Congestion::Bbr];
/// Bulk runs so long before it is counted.
const WARM_UP: Duration = Duration::from_secs(1);
const COUNTED: Duration = Duration::from_secs(2);
/// Two connections have so long to find their shares.
const SETTLE: Duration = Duration::from_secs(3);
const FIGHT: Duration = Duration::from_secs(7);
/// Bulk streams beside small requests, and those of which the fairness is measured.
const BESIDE: usize = 8;
const MANY: usize = 16;
const ASK_EVERY: Duration = Duration::from_millis(10);
const ALONE: Duration = Duration::from_secs(2);
const TOGETHER: Duration = Duration::from_secs(4);
/// As gateways have them.
const CONNECTIONS: usize = 2;

struct Words {
    rate: Rate,
    rtt: Duration,
    rounds: u32,
}

impl Words {
    fn read(words: impl Iterator<Item = String>) -> Fallible<Self> {
        let rate = Rate { bits_per_second: 100_000_000, queue: Duration::from_millis(50) };
        let mut read = Self { rate, rtt: Duration::from_millis(50), rounds: 1 };
        for word in words {
            match word.split_once('=').unwrap_or((&word, "")) {
                ("rate", value) => read.rate.bits_per_second = value.parse::<u64>()? * 1_000_000,
                ("queue", value) => read.rate.queue = Duration::from_millis(value.parse()?),
                ("rtt", value) => read.rtt = Duration::from_millis(value.parse()?),
                ("rounds", value) => read.rounds = value.parse()?,
                _ => return Err(format!("{word}: know rate=, queue=, rtt= and rounds=").into()),
            }
        }
        Ok(read)
    }

    fn case(&self, congestion: Congestion) -> Case {
        Case { rtt: self.rtt, loss: 0.0, congestion, rate: None, connections: CONNECTIONS }
    }
}

#[tokio::main]
async fn main() -> Fallible<()> {
    let words = Words::read(std::env::args().skip(1))?;
    let ceiling = ceiling::of_relay().await?;
    println!("profile {}, load {}", if cfg!(debug_assertions) { "dev" } else { "release" }, load());
    println!("the relay alone, one plain UDP flow of 1452 bytes: {:.0} Mbit/s", ceiling / 1e6);
    for _ in 0..words.rounds {
        for loss in [0.0, 0.01] {
            for congestion in CONTROLLERS {
                wide(Case { loss, ..words.case(congestion) }).await?;
            }
        }
        for congestion in CONTROLLERS {
            shared(Case { rate: Some(words.rate), ..words.case(congestion) }).await?;
        }
        for congestion in CONTROLLERS {
            fight(Case { rate: Some(words.rate), connections: 1, ..words.case(congestion) }).await?;
        }
    }
    Ok(())
}

/// Without a narrow place: small requests alone, one bulk stream, and both together.
async fn wide(case: Case) -> Fallible<()> {
    let mut way = Way::open(case).await?;
    let alone = way.small(ASK_EVERY, ALONE).await;
    way.start_bulk(1).await?;
    tokio::time::sleep(WARM_UP).await;
    let one = sum(&way.goodput(COUNTED).await);
    way.start_bulk(BESIDE - 1).await?;
    tokio::time::sleep(WARM_UP).await;
    let (beside, bulk) = tokio::join!(way.small(ASK_EVERY, TOGETHER), way.goodput(TOGETHER));
    println!(
        "{}, no narrow place: 1 bulk {one:.0}, {BESIDE} bulk {:.0} Mbit/s; small alone {}; beside {BESIDE} bulk {}; \
         probes' rtt {:.0} ms, suspects {}; load {}",
        name(case),
        sum(&bulk),
        times(&alone),
        times(&beside),
        ms(way.round_trip()),
        way.suspects(),
        load()
    );
    Ok(())
}

/// Many streams at the narrow place.
async fn shared(case: Case) -> Fallible<()> {
    let mut way = Way::open(case).await?;
    way.start_bulk(MANY).await?;
    tokio::time::sleep(WARM_UP).await;
    let (beside, bulk) = tokio::join!(way.small(ASK_EVERY, TOGETHER), way.goodput(TOGETHER));
    println!(
        "{}, narrow place: {MANY} bulk {:.1} Mbit/s, {:.2} % of sent bytes dropped from the first on, Jain {:.3}; \
         small beside {}; suspects {}; load {}",
        name(case),
        sum(&bulk),
        dropped_pct(&way),
        jain(&bulk),
        times(&beside),
        way.suspects(),
        load()
    );
    Ok(())
}

/// One connection with this controller against one with Cubic.
async fn fight(case: Case) -> Fallible<()> {
    let mut ways = Way::open_all(&[case, Case { congestion: Congestion::Cubic, ..case }]).await?;
    for way in &mut ways {
        way.start_bulk(1).await?;
    }
    tokio::time::sleep(SETTLE).await;
    let [this, cubic] = &ways[..] else { return Err("two were asked for".into()) };
    let (own, other) = tokio::join!(this.goodput(FIGHT), cubic.goodput(FIGHT));
    println!(
        "{}, narrow place, one connection against one of cubic: {:.1} to {:.1} Mbit/s, {:.2} % dropped; load {}",
        name(case),
        sum(&own),
        sum(&other),
        dropped_pct(this),
        load()
    );
    Ok(())
}

fn name(case: Case) -> String {
    format!("{:>9} {} ms {} %", case.congestion.to_string(), case.rtt.as_millis(), case.loss * 100.0)
}

fn sum(bits: &[f64]) -> f64 {
    bits.iter().sum::<f64>() / 1e6
}

/// 1: all get the same; 1/n: one gets all.
fn jain(shares: &[f64]) -> f64 {
    let (sum, squares): (f64, f64) = (shares.iter().sum(), shares.iter().map(|share| share * share).sum());
    if squares > 0.0 { sum * sum / (shares.len() as f64 * squares) } else { 0.0 }
}

fn dropped_pct(way: &Way) -> f64 {
    let (offered, dropped) = way.narrowed();
    100.0 * dropped as f64 / offered.max(1) as f64
}

fn times(small: &Small) -> String {
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| ms(small.quantile(share)));
    format!("p50 {p50:.1} p99 {p99:.1} max {max:.1} ms, {} failed of {}", small.failed, small.times.len())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Load of the machine over the last minute.
fn load() -> String {
    let all = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    all.split(' ').next().unwrap_or("?").to_owned()
}
