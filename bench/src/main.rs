//! `meshfed-bench`: one load against one address, and its numbers as JSON.

use anyhow::Context;
use bench::http1::Target;
use bench::load::{OpenLoop, closed_loop};
use bench::report::{Phase, report};
use clap::Parser;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Sends GET requests and prints what became of them, as JSON.
#[derive(Debug, Parser)]
#[command(version, before_help = "Example: meshfed-bench http://127.64.0.7:8080/ --rate 200 --seconds 10")]
struct Args {
    /// Where to: `http://IP:PORT/PATH`.
    url: String,
    /// Open loop: requests per second, by a constant schedule.
    #[arg(long, conflicts_with = "workers")]
    rate: Option<f64>,
    /// Closed loop: how many requests are open at once.
    #[arg(long)]
    workers: Option<usize>,
    /// How long.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Use connections again.
    #[arg(long)]
    keepalive: bool,
    /// From the beginning of a request to the end of its answer.
    #[arg(long, default_value_t = 2000)]
    timeout_ms: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut target = Target::from_url(&args.url).map_err(anyhow::Error::msg)?;
    target.keepalive = args.keepalive;
    target.timeout = Duration::from_millis(args.timeout_ms);
    let duration = Duration::from_secs(args.seconds.into());
    let samples = match args.workers {
        Some(workers) => closed_loop(target, workers, duration, CancellationToken::new()).await?,
        None => {
            let run = OpenLoop::start(target, args.rate.unwrap_or(100.0))?;
            tokio::select! {
                () = tokio::time::sleep(duration) => {}
                interrupted = tokio::signal::ctrl_c() => interrupted.context("waiting for Ctrl-C")?,
            }
            run.finish().await
        }
    };
    let all = Phase { name: "all".into(), requests: 0..u64::MAX };
    let result = report(&samples, &[all], &[]);
    println!("{}", serde_json::to_string_pretty(&result).context("writing the result as JSON")?);
    Ok(())
}
