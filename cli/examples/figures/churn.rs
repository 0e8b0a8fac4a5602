//! Memory after many connections have come and gone through two gateways.
//!
//! They come in batches: all of a batch are open at a time, then all of them end. What counts as before is taken after a
//! first batch, so that what a process takes once for a batch of that size is in it.

use crate::machine::Watch;
use crate::pair::Pair;
use crate::scrape::Scrape;
use crate::stage::Setting;
use bench::raw;
use meshfed::failure::{Failure, OrFail};
use meshfed::output::Ui;
use serde::Serialize;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Goal: memory afterwards against before.
pub const GOAL: f64 = 1.3;
/// Connections that are made at a time.
const AT_ONCE: usize = 64;
/// How long streams may take to be gone once their clients are.
const END_LIMIT: Duration = Duration::from_secs(30);
/// Before memory is read, once everything is gone.
const REST: Duration = Duration::from_secs(2);

/// How much is measured.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many connections come and go, beside those of the first batch.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=200_000))]
    pub connections: u32,
    /// How many are open at a time.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub batch: u32,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Numbers {
    /// Connections that came and went between the two readings.
    pub connections: u32,
    /// Those that were open at a time.
    pub batch: u32,
    /// Each process.
    pub memory: Vec<Memory>,
}

/// Resident memory of one process.
#[derive(Debug, Serialize)]
pub struct Memory {
    /// Of whom.
    pub process: String,
    /// Bytes before.
    pub before: u64,
    /// Bytes after.
    pub after: u64,
}

impl Numbers {
    /// The worst ratio of after to before.
    pub fn ratio(&self) -> f64 {
        self.memory.iter().map(Memory::ratio).fold(0.0, f64::max)
    }
}

impl Memory {
    /// After against before.
    pub fn ratio(&self) -> f64 {
        self.after as f64 / self.before.max(1) as f64
    }
}

/// Measures.
///
/// # Errors
/// Something did not start, a connection failed, or streams stay open when their clients are gone.
pub async fn measure(args: &Args, setting: &Setting, ui: &Ui) -> Result<(Numbers, Watch), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await.or_fail(|| "no port is free".to_owned())?;
    let server = listener.local_addr().or_fail(|| "the server has no address".to_owned())?;
    tokio::spawn(raw::serve(listener));
    let (pair, served) = Pair::start(setting, server).await?;
    ui.progress(format!("two sites of one process each; {} in west leads to {server} in east", served.entry));
    let measured = run(args, &pair, served.entry, ui).await;
    pair.end(measured).await
}

async fn run(args: &Args, pair: &Pair, entry: SocketAddr, ui: &Ui) -> Result<(Numbers, Watch), Failure> {
    let mut watch = Watch::begin();
    batch(args.batch, entry).await?;
    all_gone(pair).await?;
    let before = pair.memory();
    let (mut left, mut told) = (args.connections, 0);
    while left > 0 {
        let count = args.batch.min(left);
        batch(count, entry).await?;
        left -= count;
        if (args.connections - left) / 2_000 > told {
            told = (args.connections - left) / 2_000;
            ui.progress(format!("  {} of {} connections", args.connections - left, args.connections));
        }
    }
    all_gone(pair).await?;
    watch.end();
    let after = pair.memory();
    let names = ["site east", "site west"];
    let memory: Vec<Memory> = names
        .into_iter()
        .zip(before.into_iter().zip(after))
        .map(|(process, (before, after))| Memory { process: process.to_owned(), before, after })
        .collect();
    if memory.len() != names.len() || memory.iter().any(|memory| memory.before == 0 || memory.after == 0) {
        return Err(Failure::new("the memory of the processes cannot be read").seen(format!("{memory:?}")));
    }
    Ok((Numbers { connections: args.connections, batch: args.batch, memory }, watch))
}

/// Opens so many connections, each from end to end, and closes all of them.
async fn batch(count: u32, entry: SocketAddr) -> Result<(), Failure> {
    let mut opening = JoinSet::new();
    let mut open: Vec<TcpStream> = Vec::new();
    for number in 0..count {
        opening.spawn(raw::hold(entry));
        if opening.len() >= AT_ONCE || number + 1 == count {
            while opening.len() >= AT_ONCE || (number + 1 == count && !opening.is_empty()) {
                let held = opening.join_next().await.expect("it is not empty");
                let held = held.or_fail(|| "a connection has panicked".to_owned())?;
                open.push(held.or_fail(|| format!("a connection to {entry} fails"))?);
            }
        }
    }
    Ok(())
}

/// Waits until no stream and no client is left, and then a moment longer.
async fn all_gone(pair: &Pair) -> Result<(), Failure> {
    let begin = Instant::now();
    loop {
        let mut open = 0.0;
        for address in pair.health() {
            let scrape = Scrape::of(address).await?;
            open += scrape.sum("meshfed_clients_open", &[]);
            // The federations have one or two streams of their own.
            open += (scrape.sum("meshfed_streams_open", &[]) - 4.0).max(0.0);
        }
        if open <= 0.0 {
            tokio::time::sleep(REST).await;
            return Ok(());
        }
        if begin.elapsed() > END_LIMIT {
            return Err(Failure::new("streams stay open although their clients are gone")
                .seen(format!("{open} after {} s", END_LIMIT.as_secs())));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
