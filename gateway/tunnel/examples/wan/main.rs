//! Measures a tunnel between two sites over the user-space relay: goodput of bulk streams, and small requests alone and
//! beside bulk, for each controller of the sending rate.
//!
//! `cargo run --release -p meshfed-tunnel --example wan [rate=MBIT] [queue=MS] [rtt=MS] [loss=PCT] [cc=NAME]`
//!
//! Without `rate` the way is as fast as the relay goes, so the CPU is its narrow place, and the queue there is what
//! sockets hold. With one, a queue of 50 ms (or `queue`) stands at a narrow place in front of the relay. The other
//! words pick cases. Everything runs in one process and shares its CPUs: compare columns, not machines.

mod ceiling;
mod narrow;
mod way;

use narrow::Rate;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tunnel::Congestion;
use way::{Case, Small, Way};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Bulk runs so long before it is counted.
const WARM_UP: Duration = Duration::from_secs(1);
const COUNTED: Duration = Duration::from_secs(4);
const MANY: usize = 16;
const BESIDE: usize = 4;
const ASK_EVERY: Duration = Duration::from_millis(20);
const ALONE: Duration = Duration::from_secs(3);
const TOGETHER: Duration = Duration::from_secs(5);

struct Words {
    rate: Option<Rate>,
    rtts_ms: Vec<u64>,
    losses_pct: Vec<f64>,
    controllers: Vec<Congestion>,
}

impl Words {
    fn read(words: impl Iterator<Item = String>) -> Fallible<Self> {
        let mut read = Self {
            rate: None,
            rtts_ms: vec![2, 50],
            losses_pct: vec![0.0, 1.0],
            controllers: vec![Congestion::Bbr, Congestion::Cubic],
        };
        let (mut rate, mut queue_ms) = (None, 50);
        for word in words {
            match word.split_once('=').unwrap_or((&word, "")) {
                ("rate", value) => rate = Some(value.parse::<u64>()? * 1_000_000),
                ("queue", value) => queue_ms = value.parse()?,
                ("rtt", value) => read.rtts_ms = vec![value.parse()?],
                ("loss", value) => read.losses_pct = vec![value.parse()?],
                ("cc", value) => read.controllers = vec![value.parse()?],
                _ => return Err(format!("{word}: know rate=, queue=, rtt=, loss= and cc=").into()),
            }
        }
        let queue = Duration::from_millis(queue_ms);
        read.rate = rate.map(|bits_per_second| Rate { bits_per_second, queue });
        Ok(read)
    }
}

struct Measured {
    one_mbit: f64,
    many_mbit: f64,
    alone: Small,
    beside: Small,
    /// Of bulk while there were small requests.
    beside_mbit: f64,
    round_trip: Duration,
    suspects: u32,
    dropped: u64,
}

#[tokio::main]
async fn main() -> Fallible<()> {
    let words = Words::read(std::env::args().skip(1))?;
    let ceiling = ceiling::of_relay().await?;
    println!("profile {}, load {}", if cfg!(debug_assertions) { "dev" } else { "release" }, load());
    println!("the relay alone, one plain UDP flow of 1452 bytes: {:.0} Mbit/s", ceiling / 1e6);
    println!("times in ms; `rtt` is that of the probes beside 4 bulk streams; `sus` are suspects\n");
    println!(
        "{:>4} {:>5} {:>6} | {:>8} {:>8} | {:>7} {:>7} | {:>7} {:>7} {:>7} {:>4} {:>8} {:>6} {:>4} {:>6} | load",
        "rtt", "loss", "cc", "1 bulk", "16 bulk", "p50", "p99", "p50 +4", "p99 +4", "max +4", "fail", "bulk +4", "rtt +4", "sus", "drops"
    );
    let mut rows = Vec::new();
    for &rtt_ms in &words.rtts_ms {
        for &loss_pct in &words.losses_pct {
            for &congestion in &words.controllers {
                let rtt = Duration::from_millis(rtt_ms);
                let case = Case { rtt, loss: loss_pct / 100.0, congestion, rate: words.rate };
                let measured = measure(case).await?;
                print(case, &measured);
                rows.push(json(case, &measured));
            }
        }
    }
    let rate = words.rate.map(|rate| rate.bits_per_second / 1_000_000);
    println!("\n{}", serde_json::json!({ "relay_mbit": ceiling / 1e6, "rate_mbit": rate, "cases": rows }));
    Ok(())
}

async fn measure(case: Case) -> Fallible<Measured> {
    let mut way = Way::open(case).await?;
    way.start_bulk(1).await?;
    tokio::time::sleep(WARM_UP).await;
    let one_mbit = way.goodput(COUNTED).await / 1e6;
    let (mut suspects, mut dropped) = (way.suspects(), way.dropped());
    drop(way);

    let mut way = Way::open(case).await?;
    way.start_bulk(MANY).await?;
    tokio::time::sleep(WARM_UP).await;
    let many_mbit = way.goodput(COUNTED).await / 1e6;
    suspects += way.suspects();
    dropped += way.dropped();
    drop(way);

    let way = Arc::new(Way::open(case).await?);
    let alone = way.small(ASK_EVERY, ALONE).await;
    suspects += way.suspects();
    drop(way);

    let mut way = Way::open(case).await?;
    way.start_bulk(BESIDE).await?;
    tokio::time::sleep(WARM_UP).await;
    let way = Arc::new(way);
    let (beside, beside_bits) = tokio::join!(way.small(ASK_EVERY, TOGETHER), way.goodput(TOGETHER));
    suspects += way.suspects();
    dropped += way.dropped();
    let round_trip = way.round_trip();
    let beside_mbit = beside_bits / 1e6;
    Ok(Measured { one_mbit, many_mbit, alone, beside, beside_mbit, round_trip, suspects, dropped })
}

fn print(case: Case, measured: &Measured) {
    let Measured { alone, beside, .. } = measured;
    println!(
        "{:>4} {:>4}% {:>6} | {:>8.1} {:>8.1} | {:>7.1} {:>7.1} | {:>7.1} {:>7.1} {:>7.1} {:>4} {:>8.1} {:>6.1} {:>4} {:>6} | {}",
        case.rtt.as_millis(),
        case.loss * 100.0,
        case.congestion,
        measured.one_mbit,
        measured.many_mbit,
        ms(alone.quantile(0.5)),
        ms(alone.quantile(0.99)),
        ms(beside.quantile(0.5)),
        ms(beside.quantile(0.99)),
        ms(beside.quantile(1.0)),
        alone.failed + beside.failed,
        measured.beside_mbit,
        ms(measured.round_trip),
        measured.suspects,
        measured.dropped,
        load(),
    );
}

fn json(case: Case, measured: &Measured) -> serde_json::Value {
    let small = |small: &Small| {
        serde_json::json!({
            "p50_ms": ms(small.quantile(0.5)),
            "p99_ms": ms(small.quantile(0.99)),
            "max_ms": ms(small.quantile(1.0)),
            "answered": small.times.len(),
            "failed": small.failed,
        })
    };
    serde_json::json!({
        "rtt_ms": ms(case.rtt),
        "loss": case.loss,
        "congestion": case.congestion.to_string(),
        "bulk_1_mbit": measured.one_mbit,
        "bulk_16_mbit": measured.many_mbit,
        "small_alone": small(&measured.alone),
        "small_beside_4_bulk": small(&measured.beside),
        "bulk_4_mbit": measured.beside_mbit,
        "probe_rtt_beside_ms": ms(measured.round_trip),
        "suspects": measured.suspects,
        "queue_drops": measured.dropped,
        "load": load(),
    })
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Load of the machine over the last minute.
fn load() -> String {
    let all = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    all.split(' ').next().unwrap_or("?").to_owned()
}
