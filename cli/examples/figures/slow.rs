//! Small requests over many open connections, without and with some beside them that read bulk slowly.
//!
//! All go through the same two gateways. Requests are sent by a constant schedule, one connection after the other, and
//! each takes from the moment when it was due: what waits behind a late one is late itself. One that has no answer in
//! time counts as having taken all of that time, and its connection is not used again.

use crate::machine::Watch;
use crate::pair::Pair;
use crate::routed::Spread;
use crate::stage::Setting;
use bench::raw;
use meshfed::failure::{Failure, OrFail};
use meshfed::output::Ui;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

/// Goal: p99 beside slow readers against the quiet one.
pub const GOAL: f64 = 2.0;
/// Connections that are made at a time.
const AT_ONCE: usize = 64;
/// How long one request is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// What a slow reader takes at a time, and how often: 160 kB/s.
const SIP: usize = 16 * 1024;
const SIP_EVERY: Duration = Duration::from_millis(100);
/// Slow readers run so long before requests are counted, so that everything on their way is full; and so long after
/// they have ended the next round begins.
const SETTLE: Duration = Duration::from_secs(3);
/// Descriptors that this program and a site need beside those of the connections.
const OTHER_FILES: u64 = 512;

/// How much is measured.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Connections that are open, slow readers included.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(100..=20_000))]
    pub streams: u32,
    /// Those that read bulk slowly.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub slow: u32,
    /// Small requests a second, over all connections together.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(10..=5_000))]
    pub rate: u32,
    /// How long they are sent each time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=120))]
    pub seconds: u32,
    /// How often it is measured, without and with the slow ones in turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub rounds: u32,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Numbers {
    /// Connections.
    pub streams: u32,
    /// Slow readers among them.
    pub slow: u32,
    /// Most files that a process might have open; none: no limit.
    pub open_files: Option<u64>,
    /// Round by round.
    pub rounds: Vec<Round>,
}

/// Without, then with.
#[derive(Debug, Serialize)]
pub struct Round {
    /// Without slow readers.
    pub quiet: Seen,
    /// Beside them.
    pub beside: Seen,
    /// Bytes that slow readers took meanwhile, all together, and how many of them took nothing.
    pub sipped: u64,
    /// See `sipped`.
    pub starved: u32,
    /// Resident memory of east's and west's process meanwhile.
    pub memory: Vec<u64>,
}

/// Small requests of one stretch of time.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Seen {
    /// How many.
    pub requests: u32,
    /// Those without an answer in time; they count as 2 s.
    pub failed: u32,
    /// How long they took.
    pub took: Spread,
}

impl Numbers {
    /// Median over the rounds of p99 beside slow readers against p99 without.
    pub fn ratio(&self) -> f64 {
        let of = |round: &Round| round.beside.took.p99_ms / round.quiet.took.p99_ms.max(f64::MIN_POSITIVE);
        let mut ratios: Vec<f64> = self.rounds.iter().map(of).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Whether the goal was held: nothing failed, and the ratio is within it.
    pub fn held(&self) -> bool {
        self.rounds.iter().all(|round| round.quiet.failed + round.beside.failed == 0) && self.ratio() <= GOAL
    }
}

/// Measures.
///
/// # Errors
/// Something did not start, there are too few file descriptors, a connection cannot be opened, or requests fail with
/// nothing beside them.
pub async fn measure(args: &Args, setting: &Setting, ui: &Ui) -> Result<(Numbers, Watch), Failure> {
    if args.slow >= args.streams {
        return Err(Failure::usage("--slow must be less than --streams"));
    }
    let open_files =
        live::open_files::raise().or_fail(|| "the limit of open files is not known".to_owned())?;
    // This program has both ends of each connection, and a site process one.
    let needed = u64::from(args.streams) * 2 + OTHER_FILES;
    if open_files.is_some_and(|limit| limit < needed) {
        let limit = open_files.unwrap_or_default();
        return Err(Failure::new(format!(
            "{} connections need {needed} open files, and {limit} are allowed",
            args.streams
        ))
        .fix("raise the hard limit (`ulimit -Hn`), or measure fewer with --streams"));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.or_fail(|| "no port is free".to_owned())?;
    let server = listener.local_addr().or_fail(|| "the server has no address".to_owned())?;
    tokio::spawn(raw::serve(listener));
    let (pair, served) = Pair::start(setting, server).await?;
    ui.progress(format!("two sites of one process each; {} in west leads to {server} in east", served.entry));
    let rounds = run(args, &pair, served.entry, ui).await;
    let (rounds, watch) = pair.end(rounds).await?;
    Ok((Numbers { streams: args.streams, slow: args.slow, open_files, rounds }, watch))
}

async fn run(args: &Args, pair: &Pair, entry: SocketAddr, ui: &Ui) -> Result<(Vec<Round>, Watch), Failure> {
    let small = open(args.streams - args.slow, entry).await?;
    ui.progress(format!("  {} connections are open", small.len()));
    tokio::time::sleep(SETTLE).await;
    let mut watch = Watch::begin();
    let mut rounds = Vec::new();
    for number in 1..=args.rounds {
        let quiet = requests(&small, args).await?;
        if quiet.failed > 0 {
            let seen = format!(
                "{} of {} had no answer in {} s",
                quiet.failed,
                quiet.requests,
                ANSWER_LIMIT.as_secs()
            );
            return Err(Failure::new(
                "requests fail with nothing beside them, so there is nothing to compare with",
            )
            .seen(seen));
        }
        let readers = Readers::start(args.slow, entry).await?;
        tokio::time::sleep(SETTLE).await;
        readers.sipped.iter().for_each(|sipped| sipped.store(0, Ordering::Relaxed));
        let beside = requests(&small, args).await?;
        let sipped: Vec<u64> = readers.sipped.iter().map(|sipped| sipped.load(Ordering::Relaxed)).collect();
        let memory = pair.memory();
        drop(readers);
        let starved = u32::try_from(sipped.iter().filter(|bytes| **bytes == 0).count()).unwrap_or(u32::MAX);
        rounds.push(Round { quiet, beside, sipped: sipped.iter().sum(), starved, memory });
        ui.progress(format!(
            "  round {number} of {}: p99 {} ms without, {} ms beside slow readers, {} failed",
            args.rounds, quiet.took.p99_ms, beside.took.p99_ms, beside.failed
        ));
        if beside.failed > 0 {
            // Their connections are in doubt, and so would be every later round.
            break;
        }
        tokio::time::sleep(SETTLE).await;
    }
    watch.end();
    Ok((rounds, watch))
}

/// A connection that waits for its turn.
type Small = Arc<Mutex<TcpStream>>;

async fn open(count: u32, entry: SocketAddr) -> Result<Vec<Small>, Failure> {
    let mut opening = JoinSet::new();
    let mut open = Vec::new();
    let mut left = count;
    while left > 0 || !opening.is_empty() {
        if left > 0 && opening.len() < AT_ONCE {
            opening.spawn(raw::echo(entry));
            left -= 1;
            continue;
        }
        let Some(echo) = opening.join_next().await else { break };
        let echo = echo.or_fail(|| "a connection has panicked".to_owned())?;
        let which = open.len() + 1;
        open.push(Arc::new(Mutex::new(
            echo.or_fail(|| format!("connection {which} of {count} to {entry} fails"))?,
        )));
    }
    Ok(open)
}

/// Sends small requests by the schedule, one connection after the other.
async fn requests(small: &[Small], args: &Args) -> Result<Seen, Failure> {
    let total = args.rate * args.seconds;
    let interval = Duration::from_secs(1) / args.rate;
    let (start, mut sent) = (Instant::now(), JoinSet::new());
    for (number, connection) in (0..total).zip(small.iter().cycle()) {
        let due = start + interval * number;
        tokio::time::sleep_until(due).await;
        let connection = Arc::clone(connection);
        sent.spawn(async move {
            let mut stream = connection.lock().await;
            match timeout(ANSWER_LIMIT, raw::round_trip(&mut stream)).await {
                Ok(Ok(())) => Some(due.elapsed()),
                Ok(Err(_)) | Err(_) => None,
            }
        });
    }
    let (mut times, mut failed) = (Vec::with_capacity(total as usize), 0);
    while let Some(took) = sent.join_next().await {
        let took = took.or_fail(|| "a request has panicked".to_owned())?;
        failed += u32::from(took.is_none());
        times.push(took.unwrap_or(ANSWER_LIMIT));
    }
    Ok(Seen { requests: total, failed, took: Spread::of(&times) })
}

/// Slow readers; they end when this is dropped.
struct Readers {
    sipped: Vec<Arc<AtomicU64>>,
    tasks: Vec<AbortHandle>,
}

impl Readers {
    async fn start(count: u32, entry: SocketAddr) -> Result<Self, Failure> {
        let mut readers = Self { sipped: Vec::new(), tasks: Vec::new() };
        for number in 1..=count {
            let mut stream = raw::source(entry)
                .await
                .or_fail(|| format!("slow reader {number} of {count} does not come to {entry}"))?;
            let sipped = Arc::new(AtomicU64::new(0));
            readers.sipped.push(Arc::clone(&sipped));
            let task = tokio::spawn(async move {
                let mut sip = vec![0; SIP];
                loop {
                    tokio::time::sleep(SIP_EVERY).await;
                    match stream.read(&mut sip).await {
                        Ok(0) | Err(_) => return,
                        Ok(read) => sipped.fetch_add(read as u64, Ordering::Relaxed),
                    };
                }
            });
            readers.tasks.push(task.abort_handle());
        }
        Ok(readers)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}
