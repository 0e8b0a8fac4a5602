//! Arguments of `chaos`.

use super::FilePath;
use api::text::Span;
use clap::{Args, Subcommand};
use experiment::schema::End;
use topologies::quantity::{Delay, Rate, Share};

/// `chaos`
#[derive(Debug, Args)]
pub struct ChaosArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ChaosCommand,
}

/// What `chaos` does.
#[derive(Debug, Subcommand)]
pub enum ChaosCommand {
    /// Run experiments: real processes on this host, under load, with faults; exit code 1 when one is broken
    #[command(
        before_help = "Example: meshfed chaos run one-way-cut\n         All of them: meshfed chaos run --all"
    )]
    Run(ChaosRunArgs),
    /// Inject a fault into what `meshfed up` runs
    #[command(
        before_help = "Example: meshfed chaos inject cut --from aws --to gcp --one-way --for 10s\n         \
                             meshfed chaos inject kill gateway aws/gw-0 --for 5s"
    )]
    Inject(ChaosInjectArgs),
    /// End every fault that was injected into what `meshfed up` runs
    #[command(before_help = "Example: meshfed chaos heal")]
    Heal(ChaosHealArgs),
    /// List the experiments that are shipped
    #[command(before_help = "Example: meshfed chaos list")]
    List,
    /// Show an experiment: its topology, its faults on a line of time, and what it expects
    #[command(before_help = "Example: meshfed chaos show partition")]
    Show(ChaosShowArgs),
    /// Show a report again, from the JSON that a run has written, or make its page
    #[command(before_help = "Example: meshfed chaos report partition.json --page partition.html")]
    Report(ChaosReportArgs),
}

/// `chaos run`
#[derive(Debug, Args)]
pub struct ChaosRunArgs {
    /// Names of shipped experiments, or files.
    #[arg(value_name = "EXPERIMENT", required_unless_present = "all")]
    pub experiments: Vec<String>,
    /// Run every experiment that is shipped, one after the other.
    #[arg(long, conflicts_with = "experiments")]
    pub all: bool,
    /// Stretch every bound of time, for a machine that is busy; counts stay exact.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = slack)]
    pub slack: f64,
    /// Where the page is written. With several experiments the name of each is put before the ending.
    #[arg(long, value_name = "FILE", default_value = "chaos-report.html")]
    pub page: FilePath,
    /// Write each report as JSON too, into this directory, as NAME.json.
    #[arg(long, value_name = "DIR")]
    pub to: Option<FilePath>,
    /// Write a table of all results, as Markdown.
    #[arg(long, value_name = "FILE")]
    pub table: Option<FilePath>,
    /// Keep logs and site directories here. Default: a temporary directory that is removed when all held.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<FilePath>,
}

fn slack(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(slack) if (1.0..=100.0).contains(&slack) => Ok(slack),
        _ => Err("write a factor from 1 to 100".to_owned()),
    }
}

/// `chaos show`
#[derive(Debug, Args)]
pub struct ChaosShowArgs {
    /// Name of a shipped experiment, or a file.
    #[arg(value_name = "EXPERIMENT")]
    pub experiment: String,
}

/// `chaos report`
#[derive(Debug, Args)]
pub struct ChaosReportArgs {
    /// The report as JSON.
    #[arg(value_name = "FILE")]
    pub file: FilePath,
    /// Write the page here.
    #[arg(long, value_name = "FILE")]
    pub page: Option<FilePath>,
}

/// `chaos inject`
#[derive(Debug, Args)]
pub struct ChaosInjectArgs {
    /// What happens.
    #[command(subcommand)]
    pub fault: FaultArg,
    /// How long. Without it the fault stays until `chaos heal`.
    #[arg(long = "for", value_name = "TIME", global = true)]
    pub lasts: Option<Span>,
    /// Directory of the mesh. Default: that of the contexts file (`MESHFED_CONFIG`).
    #[arg(long, value_name = "DIR", global = true)]
    pub dir: Option<FilePath>,
}

/// `chaos heal`
#[derive(Debug, Args)]
pub struct ChaosHealArgs {
    /// Directory of the mesh. Default: that of the contexts file (`MESHFED_CONFIG`).
    #[arg(long, value_name = "DIR")]
    pub dir: Option<FilePath>,
}

/// A fault.
#[derive(Debug, Subcommand)]
pub enum FaultArg {
    /// Nothing passes between two sites, or two gateways
    #[command(before_help = "Example: meshfed chaos inject cut --from aws --to gcp --one-way --for 10s")]
    Cut(WayArgs),
    /// The way between two sites, or two gateways, becomes worse
    #[command(before_help = "Example: meshfed chaos inject impair --from aws --loss 5% --delay 80ms")]
    Impair(ImpairArgs),
    /// Kill processes (SIGKILL); they are started again at the end
    #[command(before_help = "Example: meshfed chaos inject kill gateway aws/gw-0 --for 5s")]
    Kill(TargetArgs),
    /// Let processes stand still (SIGSTOP); they go on at the end
    #[command(before_help = "Example: meshfed chaos inject freeze gateway aws/gw-0 --for 5s")]
    Freeze(TargetArgs),
    /// Restart processes one after the other; those that drain do
    #[command(before_help = "Example: meshfed chaos inject restart gateways aws")]
    Restart(TargetArgs),
}

/// Where a fault of the network is.
#[derive(Debug, Args)]
pub struct WayArgs {
    /// A site, or one of its gateways: `aws`, `aws/gw-0`.
    #[arg(long, value_name = "END")]
    pub from: End,
    /// The other end. Default: every other site.
    #[arg(long, value_name = "END")]
    pub to: Option<End>,
    /// What is sent from the first to the second alone.
    #[arg(long)]
    pub one_way: bool,
}

/// How a way becomes worse.
#[derive(Debug, Args)]
pub struct ImpairArgs {
    /// Where.
    #[command(flatten)]
    pub way: WayArgs,
    /// Delay each way.
    #[arg(long, value_name = "TIME")]
    pub delay: Option<Delay>,
    /// How much the delay differs, either way.
    #[arg(long, value_name = "TIME")]
    pub jitter: Option<Delay>,
    /// Share of packets that are lost: `2%`.
    #[arg(long, value_name = "SHARE")]
    pub loss: Option<Share>,
    /// How fast packets go: `20Mbit`.
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Rate>,
    /// Largest packet that passes, in bytes; larger ones vanish.
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<u16>,
    /// Share of packets that arrive twice.
    #[arg(long, value_name = "SHARE")]
    pub duplicate: Option<Share>,
    /// Share of packets that are overtaken.
    #[arg(long, value_name = "SHARE")]
    pub reorder: Option<Share>,
}

/// Which processes.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// `gateway SITE/NAME`, `gateways SITE`, `agent SITE/HOST`, `federation SITE`, `federations`, `workload INSTANCE`,
    /// `workloads SITE` or `site SITE`.
    #[arg(value_name = "PROCESS", required = true, num_args = 1..=2)]
    pub target: Vec<String>,
}
